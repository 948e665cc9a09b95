SELECT
    name,
    sum(num) AS total
FROM (
    SELECT
        toDateTime64(start, 6, 'UTC') AS at,
        what AS name,
        num
    FROM (
        SELECT
            start,
            cell_what,
            cell_num,
            cell_is_answer
        FROM answer_aggregates FINAL
        WHERE project_id = {project:String}
          AND part IN ('feedback')
          AND (grain = 'day' AND toUnixTimestamp(start) IN {feedback_days:Array(UInt32)} OR grain = 'hour' AND toUnixTimestamp(start) IN {feedback_hours:Array(UInt32)})
    )
    ARRAY JOIN
        cell_what AS what,
        cell_num AS num,
        cell_is_answer AS is_answer
    WHERE (startsWith(what, 'kind ') OR startsWith(what, 'flag ')) AND 1 AND is_answer
    UNION ALL
    SELECT
        any(at) AS at,
        name,
        if(startsWith(name, 'flag '), uniqExact(answer), count()) AS num
    FROM (
        SELECT
            at,
            cityHash64(trace_id, span_id) AS answer,
            arrayJoin(if(kind = 'flag', ['kind flag', concat('flag ', label)], [concat('kind ', kind)])) AS name
        FROM (
            SELECT
                trace_id,
                span_id,
                feedback_id,
                kind,
                label,
                score,
                version,
                sampling_probability,
                call_probability,
                call_time AS at
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
                  AND (call_time >= {feedback_from0:DateTime64(6,'UTC')} AND call_time < {feedback_to0:DateTime64(6,'UTC')})
                ORDER BY
                    version DESC,
                    received_at DESC
                LIMIT 1 BY feedback_id
            )
            WHERE NOT is_deleted
              AND project_id = {project:String}
              AND NOT startsWith(environment, 'evaluation:') AND call_is_answer
              AND 1
        )
    )
    GROUP BY name
)
GROUP BY name
ORDER BY
    startsWith(name, 'kind ') DESC,
    total DESC,
    name
LIMIT {limit:UInt32};
