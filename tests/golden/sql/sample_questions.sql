SELECT substringUTF8(question, 1, 1000) AS question_text
FROM spans
WHERE project_id = {project:String}
  AND start_time < {until:DateTime64(6,'UTC')}
  AND is_answer
  AND NOT startsWith(environment, 'evaluation:')
ORDER BY start_time DESC
LIMIT {limit:UInt32};
