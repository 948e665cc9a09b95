SELECT
    'spans' AS part,
    toStartOfHour(start_time, 'UTC') AS hour,
    sum(cityHash64(trace_id, span_id, ingested_at, is_answer, status, model, prompt_name, prompt_version, service, environment, tags, sampling_probability)) AS print,
    toUInt64(0) AS other,
    emptyArrayString() AS dropped
FROM spans
WHERE project_id = {project:String}
  AND toStartOfHour(start_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfHour(start_time, 'UTC') <= toDateTime({last:UInt32}, 'UTC')
GROUP BY hour
UNION ALL
SELECT
    'feedback',
    toStartOfHour(call_time, 'UTC') AS hour,
    sum(cityHash64(feedback_id, version, is_deleted, received_at, call_is_answer, call_status, model, prompt_name, prompt_version, service, environment, call_tags, call_probability)),
    toUInt64(0),
    emptyArrayString()
FROM feedback
WHERE project_id = {project:String}
  AND toStartOfHour(call_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfHour(call_time, 'UTC') <= toDateTime({last:UInt32}, 'UTC')
GROUP BY hour
UNION ALL
SELECT
    toString(grain),
    start,
    span_print,
    feedback_print,
    dropped
FROM answer_cells FINAL
WHERE project_id = {project:String}
  AND start >= toDateTime({first:UInt32}, 'UTC') AND start <= toDateTime({last:UInt32}, 'UTC');

SELECT
    toString(arrayJoin(tags)) AS value,
    sum(num) AS count
FROM (
    SELECT
        start_time AS at,
        tags,
        toUInt64(1) AS num,
        1 / sampling_probability AS sum_w,
        1 / (sampling_probability * sampling_probability) AS sum_w2
    FROM spans FINAL
    WHERE project_id = {project:String}
      AND start_time >= {since:DateTime64(6,'UTC')}
      AND start_time < {until:DateTime64(6,'UTC')}
      AND is_answer
      AND (start_time >= {from0:DateTime64(6,'UTC')} AND start_time < {to0:DateTime64(6,'UTC')})
)
GROUP BY value
HAVING value != ''
ORDER BY count DESC, value
LIMIT {max:UInt32};
