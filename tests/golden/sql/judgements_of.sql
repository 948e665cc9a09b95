SELECT
    lower(hex(trace_id)) AS trace, lower(hex(span_id)) AS span,
    count() AS num_feedback,
    if(countIf(is_thumb AND name = 'thumb' AND author_kind = 'end_user') > 0, argMaxIf(score, (version, feedback_id), is_thumb AND name = 'thumb' AND author_kind = 'end_user'), NULL) AS thumb,
    arraySort(groupUniqArrayIf(label, kind = 'flag')) AS flags,
    countIf(kind = 'correction') > 0 AS has_correction
FROM feedback FINAL
WHERE project_id = {project:String}
  AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))
GROUP BY
    trace,
    span;
