SELECT
    start_time,
    lower(hex(trace_id)) AS trace,
    lower(hex(span_id)) AS span
FROM spans
WHERE project_id = {project:String}
  AND start_time >= {since:DateTime64(6,'UTC')}
  AND start_time < {until:DateTime64(6,'UTC')}
  AND NOT startsWith(environment, 'evaluation:')
  AND is_answer
  AND (trace_id, span_id) IN (
    SELECT
        trace_id,
        span_id
    FROM feedback
    WHERE project_id = {project:String}
      AND call_time >= {since:DateTime64(6,'UTC')}
      AND call_time < {until:DateTime64(6,'UTC')}
      AND is_thumb AND name = 'thumb' AND author_kind = {rated_by:String} AND ifNull(score, 0) <= 0.5
)
  AND (trace_id, span_id) IN (
    SELECT
        trace_id,
        span_id
    FROM feedback
    WHERE project_id = {project:String}
      AND call_time >= {since:DateTime64(6,'UTC')}
      AND call_time < {until:DateTime64(6,'UTC')}
      AND kind = 'flag' AND label = {flag:String}
)
ORDER BY start_time DESC, trace_id DESC, span_id DESC
LIMIT {limit:UInt32};
