SELECT
    lower(hex(trace_id)) AS trace, lower(hex(span_id)) AS span,
    count() AS num_feedback,
    if(countIf(is_thumb AND name = 'thumb' AND author_kind = 'end_user') > 0, argMaxIf(score, (version, feedback_id), is_thumb AND name = 'thumb' AND author_kind = 'end_user'), NULL) AS thumb,
    arraySort(groupUniqArrayIf(label, kind = 'flag')) AS flags,
    countIf(kind = 'correction') > 0 AS has_correction
FROM (
    SELECT *
    FROM (
        SELECT
            project_id,
            call_time,
            feedback_id,
            trace_id,
            span_id,
            kind,
            name,
            score,
            label,
            is_thumb,
            has_comment,
            author_kind,
            sampling_probability,
            model,
            prompt_name,
            prompt_version,
            service,
            environment,
            user_id,
            session_id,
            received_at,
            version,
            is_deleted,
            call_is_answer,
            call_status,
            call_tags,
            call_metadata,
            call_answer_chars,
            call_probability
        FROM feedback
        WHERE project_id = {project:String}
          AND call_time IN {times:Array(DateTime64(6,'UTC'))}
        ORDER BY
            version DESC,
            received_at DESC
        LIMIT 1 BY feedback_id
    )
    WHERE NOT is_deleted
)
WHERE project_id = {project:String}
  AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))
GROUP BY
    trace,
    span;
