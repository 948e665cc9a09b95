SELECT
    toString(toUnixTimestamp(toStartOfDay(at, 'UTC'))) AS place,
    number,
    category,
    count() AS num,
    sum(ratings) AS num_ratings
FROM (
    SELECT
        any(call_time) AS at,
        round({low:Float64} + avg(if(score IS NULL, NULL, (score - JSONExtractFloat(record, 'scale', 'min'))
                    / nullIf(JSONExtractFloat(record, 'scale', 'max') - JSONExtractFloat(record, 'scale', 'min'), 0))) * ({high:Float64} - {low:Float64}), 6) AS number,
        topKIf(1)(label, label != '')[1] AS category,
        count() AS ratings
    FROM feedback FINAL
    WHERE project_id = {project:String}
      AND call_time >= {since:DateTime64(6,'UTC')}
      AND call_time < {until:DateTime64(6,'UTC')}
      AND NOT startsWith(environment, 'evaluation:') AND call_is_answer
      AND kind = 'rating'
      AND name = {named:String}
      AND (author_kind != 'model' OR name NOT IN (
            SELECT name
            FROM feedback
            WHERE project_id = {project:String} AND kind = 'rating' AND author_kind IN ('end_user', 'annotator')))
    GROUP BY
        trace_id,
        span_id
)
GROUP BY
    place,
    number,
    category
LIMIT {limit:UInt32};
