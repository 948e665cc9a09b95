SELECT
    value,
    min(at) AS first
FROM (
    SELECT
        toString(model) AS value,
        start_time AS at
    FROM spans
    WHERE project_id = {project:String}
      AND start_time >= {since:DateTime64(6,'UTC')}
      AND start_time < {until:DateTime64(6,'UTC')}
      AND NOT startsWith(environment, 'evaluation:')
      AND is_answer
      AND (start_time >= {from0:DateTime64(6,'UTC')} AND start_time < {to0:DateTime64(6,'UTC')})
)
WHERE value IN {values:Array(String)}
GROUP BY value;
