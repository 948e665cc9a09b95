SELECT
    name,
    argMax(JSONExtract(record, 'scale', 'categories', 'Array(String)'), version) AS categories,
    argMax(JSONExtractFloat(record, 'scale', 'min'), version) AS low,
    argMax(JSONExtractFloat(record, 'scale', 'max'), version) AS high,
    min(is_thumb) AS all_thumbs,
    count() AS num_ratings,
    uniqExact(trace_id, span_id) AS num_answers,
    arraySort(groupUniqArray(toString(author_kind))) AS author_kinds
FROM feedback FINAL
WHERE project_id = {project:String}
  AND call_time >= {since:DateTime64(6,'UTC')}
  AND call_time < {until:DateTime64(6,'UTC')}
  AND NOT startsWith(environment, 'evaluation:') AND call_is_answer
  AND kind = 'rating'
  AND author_kind = {named_by:String}
GROUP BY name
ORDER BY
    num_ratings DESC,
    name
LIMIT {limit:UInt32};
