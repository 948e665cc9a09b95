SELECT question, start_time
FROM spans FINAL
WHERE project_id = {project:String} AND trace_id = unhex({trace_id:String}) AND span_id = unhex({span_id:String})
LIMIT 1;
