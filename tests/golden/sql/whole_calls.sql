SELECT
    lower(hex(trace_id)) AS trace_id_hex,
    lower(hex(span_id)) AS span_id_hex,
    start_time,
    duration_ns,
    name,
    service,
    environment,
    model,
    provider,
    prompt_name,
    prompt_version,
    user_id,
    session_id,
    arrayDistinct(arrayConcat(tags, arrayFilter(t -> t != '', splitByChar(char(0), transform(cityHash64(trace_id, span_id), (
                        SELECT (groupArray(tagged), groupArray(tags))
                        FROM (
                            SELECT
                                cityHash64(trace_id, span_id) AS tagged,
                                arrayStringConcat(arraySort(groupArray(tag)), char(0)) AS tags
                            FROM added_tags FINAL
                            WHERE project_id = {project:String} AND NOT is_removed
                            GROUP BY tagged
                    )).1, (
                        SELECT (groupArray(tagged), groupArray(tags))
                        FROM (
                            SELECT
                                cityHash64(trace_id, span_id) AS tagged,
                                arrayStringConcat(arraySort(groupArray(tag)), char(0)) AS tags
                            FROM added_tags FINAL
                            WHERE project_id = {project:String} AND NOT is_removed
                            GROUP BY tagged
                    )).2, ''))))) AS tags,
    status,
    error_message,
    input_tokens,
    output_tokens,
    cost,
    substringUTF8(question, 1, 200) AS input_preview,
    substringUTF8(answer, 1, 200) AS output_preview
    ,
    substringUTF8(question, 1, 4000) AS question_text,
    substringUTF8(answer, 1, 4000) AS answer_text
FROM spans FINAL
WHERE project_id = {project:String}
  AND start_time IN {times:Array(DateTime64(6,'UTC'))}
  AND (lower(hex(trace_id)), lower(hex(span_id))) IN (
    SELECT arrayJoin(arrayZip({traces:Array(String)}, {spans:Array(String)}))
);

SELECT
    lower(hex(trace_id)) AS trace, lower(hex(span_id)) AS span,
    argMax(JSONExtractString(record, 'comment'), created_at) AS comment
FROM feedback FINAL
WHERE project_id = {project:String}
  AND has_comment
  AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))
GROUP BY
    trace,
    span;
