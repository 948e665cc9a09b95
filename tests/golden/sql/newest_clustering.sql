SELECT made_at, since, until, summary
FROM clusterings FINAL
WHERE project_id = {project:String} AND view_key = {view_key:String}
ORDER BY made_at DESC
LIMIT 1;
