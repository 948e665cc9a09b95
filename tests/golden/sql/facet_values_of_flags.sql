SELECT
    label AS value,
    count() AS count
FROM feedback FINAL
WHERE project_id = {project:String} AND kind = 'flag'
  AND (trace_id, span_id) IN (SELECT trace_id, span_id FROM spans WHERE project_id = {project:String}
      AND start_time >= {since:DateTime64(6,'UTC')}
      AND start_time < {until:DateTime64(6,'UTC')}
      AND NOT startsWith(environment, 'evaluation:')
      AND is_answer)
GROUP BY value
ORDER BY count DESC, value
LIMIT {max:UInt32};
