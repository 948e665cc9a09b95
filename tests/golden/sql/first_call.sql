SELECT start_time AS first
FROM spans
WHERE project_id = {project:String}
ORDER BY start_time
LIMIT 1;
