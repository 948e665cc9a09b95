SELECT
    lower(hex(trace_id)) AS trace, lower(hex(span_id)) AS span,
    start_time,
    substringUTF8(question, 1, 4000) AS question_text,
    substringUTF8(answer, 1, 4000) AS answer_text
FROM spans FINAL
WHERE project_id = {project:String}
  AND start_time >= {since:DateTime64(6,'UTC')}
  AND start_time < {until:DateTime64(6,'UTC')}
  AND (question_search LIKE {word_0:String} OR question_search LIKE {word_1:String})
  AND (trace_id, span_id) IN (
    SELECT
        trace,
        span
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
    WHERE up
)
  AND (lower(hex(trace_id)), lower(hex(span_id))) != ({own_trace:String}, {own_span:String})
ORDER BY start_time DESC
LIMIT {limit:UInt32};
