SELECT
    min(sampling_probability) AS least,
    max(sampling_probability) AS most
FROM feedback
WHERE project_id = {project:String} AND sampling_probability > 0
  AND NOT startsWith(environment, 'evaluation:');
