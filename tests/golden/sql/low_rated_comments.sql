SELECT
    lower(hex(trace)) AS trace,
    lower(hex(span)) AS span,
    at,
    count() OVER () AS num
FROM (
    SELECT
        any(at) AS at,
        assumeNotNull(argMax(ifNull(score, 0) > 0.5, (version, feedback_id))) AS up,
        argMax(1 / ifNull(sampling_probability, 1), (version, feedback_id)) AS w,
        any(call_probability) AS p,
        any(trace_id) AS trace,
        any(span_id) AS span
    FROM (
        SELECT
            trace_id,
            span_id,
            feedback_id,
            kind,
            label,
            score,
            version,
            sampling_probability,
            call_probability,
            call_time AS at,
            record
        FROM feedback FINAL
        WHERE project_id = {project:String}
          AND call_time >= {since:DateTime64(6,'UTC')}
          AND call_time < {until:DateTime64(6,'UTC')}
          AND NOT startsWith(environment, 'evaluation:') AND call_is_answer
          AND is_thumb AND name = 'thumb' AND author_kind = {thumb_kind:String}
    )
    GROUP BY cityHash64(trace_id, span_id)
    HAVING isNotNull(argMax(ifNull(score, 0) > 0.5, (version, feedback_id)))
)
WHERE NOT up
ORDER BY
    at DESC,
    trace,
    span
LIMIT {limit:UInt32};

SELECT
    lower(hex(trace_id)) AS trace, lower(hex(span_id)) AS span,
    arrayStringConcat(groupArray(JSONExtractString(record, 'comment')), '
        ') AS text
FROM (
    SELECT
        trace_id,
        span_id,
        record
    FROM feedback FINAL
    WHERE project_id = {project:String}
      AND call_time >= {since:DateTime64(6,'UTC')}
      AND call_time < {until:DateTime64(6,'UTC')}
      AND NOT startsWith(environment, 'evaluation:') AND call_is_answer
      AND has_comment
    ORDER BY created_at DESC
    LIMIT {limit:UInt32}
)
GROUP BY
    trace_id,
    span_id;
