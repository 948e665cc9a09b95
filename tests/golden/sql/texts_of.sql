SELECT
    lower(hex(trace_id)) AS trace, lower(hex(span_id)) AS span, substringUTF8(question, 1, 4000) AS text
FROM spans FINAL
WHERE project_id = {project:String}
  AND start_time IN {times:Array(DateTime64(6,'UTC'))}
  AND (lower(hex(trace_id)), lower(hex(span_id))) IN (
    SELECT arrayJoin(arrayZip({traces:Array(String)}, {spans:Array(String)}))
);
