SELECT
    'spans' AS part,
    toStartOfHour(start_time, 'UTC') AS hour,
    sum(cityHash64(trace_id, span_id, ingested_at, is_answer, status, model, prompt_name, prompt_version, service, environment, tags, sampling_probability)) AS print,
    toUInt64(0) AS other,
    emptyArrayString() AS dropped
FROM spans
WHERE project_id = {project:String}
  AND toStartOfHour(start_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfHour(start_time, 'UTC') <= toDateTime({last:UInt32}, 'UTC')
GROUP BY hour
UNION ALL
SELECT
    'feedback',
    toStartOfHour(call_time, 'UTC') AS hour,
    sum(cityHash64(feedback_id, version, is_deleted, received_at, call_is_answer, call_status, model, prompt_name, prompt_version, service, environment, call_tags, call_probability)),
    toUInt64(0),
    emptyArrayString()
FROM feedback
WHERE project_id = {project:String}
  AND toStartOfHour(call_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfHour(call_time, 'UTC') <= toDateTime({last:UInt32}, 'UTC')
GROUP BY hour
UNION ALL
SELECT
    toString(grain),
    start,
    span_print,
    feedback_print,
    dropped
FROM answer_cells FINAL
WHERE project_id = {project:String}
  AND start >= toDateTime({first:UInt32}, 'UTC') AND start <= toDateTime({last:UInt32}, 'UTC');

SELECT
    key,
    uniq(metadata[key]) AS num_values
FROM (
    SELECT
        metadata,
        arrayJoin(mapKeys(metadata)) AS key
    FROM (
        SELECT metadata FROM spans WHERE project_id = {project:String} AND (start_time >= {from0:DateTime64(6,'UTC')} AND start_time < {to0:DateTime64(6,'UTC')})
        UNION ALL
        SELECT call_metadata FROM feedback WHERE project_id = {project:String} AND (call_time >= {from0:DateTime64(6,'UTC')} AND call_time < {to0:DateTime64(6,'UTC')})
    )
)
GROUP BY key
ORDER BY
    num_values,
    key;

INSERT INTO answer_cells (project_id,
        grain,
        start,
        span_print,
        feedback_print,
        dropped,
        cell_what,
        cell_model,
        cell_prompt_name,
        cell_prompt_version,
        cell_service,
        cell_environment,
        cell_is_answer,
        cell_status,
        cell_answer_chars,
        cell_user,
        cell_tags,
        cell_metadata,
        cell_num,
        cell_num_up,
        cell_sum_w,
        cell_sum_w2,
        cell_sum_wy,
        cell_sum_w2y,
        cell_extra_w,
        cell_extra_w2,
        made_at)
SELECT
    {project:String},
    'hour',
    hour,
    {span_prints:Array(UInt64)}[indexOf({hours:Array(UInt32)}, toUnixTimestamp(hour))],
    {feedback_prints:Array(UInt64)}[indexOf({hours:Array(UInt32)}, toUnixTimestamp(hour))],
    {dropped:Array(String)},
    groupArray(what),
    groupArray(model),
    groupArray(prompt_name),
    groupArray(prompt_version),
    groupArray(service),
    groupArray(environment),
    groupArray(is_answer),
    groupArray(status),
    groupArray(answer_chars),
    groupArray(user),
    groupArray(tags),
    groupArray(metadata),
    groupArray(num),
    groupArray(num_up),
    groupArray(sum_w),
    groupArray(sum_w2),
    groupArray(sum_wy),
    groupArray(sum_w2y),
    groupArray(extra_w),
    groupArray(extra_w2),
    now64(6)
FROM (
    SELECT
        hour,
        'answer' AS what,
        d_model AS model,
        d_prompt_name AS prompt_name,
        d_prompt_version AS prompt_version,
        d_service AS service,
        d_environment AS environment,
        d_is_answer AS is_answer,
        d_status AS status,
        d_answer_chars AS answer_chars,
        d_user AS user,
        d_tags AS tags,
        d_metadata AS metadata,
        count() AS num,
        toUInt64(0) AS num_up,
        sum(1 / p) AS sum_w,
        sum(1 / (p * p)) AS sum_w2,
        0. AS sum_wy,
        0. AS sum_w2y,
        0. AS extra_w,
        0. AS extra_w2
    FROM (
        SELECT
            toStartOfHour(start_time, 'UTC') AS hour,
            sampling_probability AS p,
            model AS d_model,
            prompt_name AS d_prompt_name,
            prompt_version AS d_prompt_version,
            service AS d_service,
            environment AS d_environment,
            is_answer AS d_is_answer,
            status AS d_status,
            multiIf(lengthUTF8(answer) = 0, 'none', lengthUTF8(answer) <= 200, 'up to 200', lengthUTF8(answer) <= 1000, '201 to 1,000', 'over 1,000') AS d_answer_chars,
            multiIf(user_id = '', '', (user_id, toDate(start_time, 'UTC')) IN (
                SELECT user_id, min(toDate(start_time, 'UTC'))
                FROM spans
                WHERE project_id = {project:String}
                GROUP BY user_id), 'new', 'returning') AS d_user,
            tags AS d_tags,
            mapFilter((k, v) -> has({kept:Array(String)}, k), metadata) AS d_metadata
        FROM spans FINAL
        WHERE project_id = {project:String}
          AND (start_time >= {from0:DateTime64(6,'UTC')} AND start_time < {to0:DateTime64(6,'UTC')})
    )
    GROUP BY
        hour,
        d_model,
        d_prompt_name,
        d_prompt_version,
        d_service,
        d_environment,
        d_is_answer,
        d_status,
        d_answer_chars,
        d_user,
        d_tags,
        d_metadata
    UNION ALL
    SELECT
        hour,
        concat('thumb ', author_kind) AS what,
        d_model AS model,
        d_prompt_name AS prompt_name,
        d_prompt_version AS prompt_version,
        d_service AS service,
        d_environment AS environment,
        d_is_answer AS is_answer,
        d_status AS status,
        d_answer_chars AS answer_chars,
        d_user AS user,
        d_tags AS tags,
        d_metadata AS metadata,
        count() AS num,
        sum(up) AS num_up,
        sum(w) AS sum_w,
        sum(w * w) AS sum_w2,
        sum(w * up) AS sum_wy,
        sum(w * w * up) AS sum_w2y,
        sum(1 / p - 1) AS extra_w,
        sum(1 / (p * p) - 1) AS extra_w2
    FROM (
        SELECT
            any(hour) AS hour,
            author_kind,
            argMax(ifNull(score, 0) > 0.5, (version, feedback_id)) AS up,
            argMax(1 / ifNull(sampling_probability, 1), (version, feedback_id)) AS w,
            any(call_probability) AS p,
            any(d_model) AS d_model,
            any(d_prompt_name) AS d_prompt_name,
            any(d_prompt_version) AS d_prompt_version,
            any(d_service) AS d_service,
            any(d_environment) AS d_environment,
            any(d_is_answer) AS d_is_answer,
            any(d_status) AS d_status,
            any(d_answer_chars) AS d_answer_chars,
            any(d_user) AS d_user,
            any(d_tags) AS d_tags,
            any(d_metadata) AS d_metadata
        FROM (
            SELECT
                toStartOfHour(call_time, 'UTC') AS hour,
                trace_id,
                span_id,
                feedback_id,
                kind,
                label,
                author_kind,
                score,
                version,
                sampling_probability,
                call_probability,
                model AS d_model,
                prompt_name AS d_prompt_name,
                prompt_version AS d_prompt_version,
                service AS d_service,
                environment AS d_environment,
                call_is_answer AS d_is_answer,
                call_status AS d_status,
                multiIf(call_answer_chars = 0, 'none', call_answer_chars <= 200, 'up to 200', call_answer_chars <= 1000, '201 to 1,000', 'over 1,000') AS d_answer_chars,
                multiIf(user_id = '', '', (user_id, toDate(call_time, 'UTC')) IN (
                    SELECT user_id, min(toDate(start_time, 'UTC'))
                    FROM spans
                    WHERE project_id = {project:String}
                    GROUP BY user_id), 'new', 'returning') AS d_user,
                call_tags AS d_tags,
                mapFilter((k, v) -> has({kept:Array(String)}, k), call_metadata) AS d_metadata
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
                  AND (call_time >= {from0:DateTime64(6,'UTC')} AND call_time < {to0:DateTime64(6,'UTC')})
                ORDER BY
                    version DESC,
                    received_at DESC
                LIMIT 1 BY feedback_id
            )
            WHERE NOT is_deleted
              AND is_thumb AND name = 'thumb'
        )
        GROUP BY
            author_kind,
            cityHash64(trace_id, span_id)
    )
    GROUP BY
        hour,
        author_kind,
        d_model,
        d_prompt_name,
        d_prompt_version,
        d_service,
        d_environment,
        d_is_answer,
        d_status,
        d_answer_chars,
        d_user,
        d_tags,
        d_metadata
    UNION ALL
    SELECT
        hour,
        concat('kind ', kind) AS what,
        d_model AS model,
        d_prompt_name AS prompt_name,
        d_prompt_version AS prompt_version,
        d_service AS service,
        d_environment AS environment,
        d_is_answer AS is_answer,
        d_status AS status,
        d_answer_chars AS answer_chars,
        d_user AS user,
        d_tags AS tags,
        d_metadata AS metadata,
        count() AS num,
        toUInt64(0) AS num_up,
        0. AS sum_w,
        0. AS sum_w2,
        0. AS sum_wy,
        0. AS sum_w2y,
        0. AS extra_w,
        0. AS extra_w2
    FROM (
        SELECT
            toStartOfHour(call_time, 'UTC') AS hour,
            trace_id,
            span_id,
            feedback_id,
            kind,
            label,
            author_kind,
            score,
            version,
            sampling_probability,
            call_probability,
            model AS d_model,
            prompt_name AS d_prompt_name,
            prompt_version AS d_prompt_version,
            service AS d_service,
            environment AS d_environment,
            call_is_answer AS d_is_answer,
            call_status AS d_status,
            multiIf(call_answer_chars = 0, 'none', call_answer_chars <= 200, 'up to 200', call_answer_chars <= 1000, '201 to 1,000', 'over 1,000') AS d_answer_chars,
            multiIf(user_id = '', '', (user_id, toDate(call_time, 'UTC')) IN (
                SELECT user_id, min(toDate(start_time, 'UTC'))
                FROM spans
                WHERE project_id = {project:String}
                GROUP BY user_id), 'new', 'returning') AS d_user,
            call_tags AS d_tags,
            mapFilter((k, v) -> has({kept:Array(String)}, k), call_metadata) AS d_metadata
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
              AND (call_time >= {from0:DateTime64(6,'UTC')} AND call_time < {to0:DateTime64(6,'UTC')})
            ORDER BY
                version DESC,
                received_at DESC
            LIMIT 1 BY feedback_id
        )
        WHERE NOT is_deleted
          AND 1
    )
    GROUP BY
        hour,
        kind,
        d_model,
        d_prompt_name,
        d_prompt_version,
        d_service,
        d_environment,
        d_is_answer,
        d_status,
        d_answer_chars,
        d_user,
        d_tags,
        d_metadata
    UNION ALL
    SELECT
        hour,
        concat('flag ', label) AS what,
        d_model AS model,
        d_prompt_name AS prompt_name,
        d_prompt_version AS prompt_version,
        d_service AS service,
        d_environment AS environment,
        d_is_answer AS is_answer,
        d_status AS status,
        d_answer_chars AS answer_chars,
        d_user AS user,
        d_tags AS tags,
        d_metadata AS metadata,
        count() AS num,
        toUInt64(0) AS num_up,
        0. AS sum_w,
        0. AS sum_w2,
        0. AS sum_wy,
        0. AS sum_w2y,
        0. AS extra_w,
        0. AS extra_w2
    FROM (
        SELECT
            any(hour) AS hour,
            label,
            any(d_model) AS d_model,
            any(d_prompt_name) AS d_prompt_name,
            any(d_prompt_version) AS d_prompt_version,
            any(d_service) AS d_service,
            any(d_environment) AS d_environment,
            any(d_is_answer) AS d_is_answer,
            any(d_status) AS d_status,
            any(d_answer_chars) AS d_answer_chars,
            any(d_user) AS d_user,
            any(d_tags) AS d_tags,
            any(d_metadata) AS d_metadata
        FROM (
            SELECT
                toStartOfHour(call_time, 'UTC') AS hour,
                trace_id,
                span_id,
                feedback_id,
                kind,
                label,
                author_kind,
                score,
                version,
                sampling_probability,
                call_probability,
                model AS d_model,
                prompt_name AS d_prompt_name,
                prompt_version AS d_prompt_version,
                service AS d_service,
                environment AS d_environment,
                call_is_answer AS d_is_answer,
                call_status AS d_status,
                multiIf(call_answer_chars = 0, 'none', call_answer_chars <= 200, 'up to 200', call_answer_chars <= 1000, '201 to 1,000', 'over 1,000') AS d_answer_chars,
                multiIf(user_id = '', '', (user_id, toDate(call_time, 'UTC')) IN (
                    SELECT user_id, min(toDate(start_time, 'UTC'))
                    FROM spans
                    WHERE project_id = {project:String}
                    GROUP BY user_id), 'new', 'returning') AS d_user,
                call_tags AS d_tags,
                mapFilter((k, v) -> has({kept:Array(String)}, k), call_metadata) AS d_metadata
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
                  AND (call_time >= {from0:DateTime64(6,'UTC')} AND call_time < {to0:DateTime64(6,'UTC')})
                ORDER BY
                    version DESC,
                    received_at DESC
                LIMIT 1 BY feedback_id
            )
            WHERE NOT is_deleted
              AND kind = 'flag'
        )
        GROUP BY
            label,
            cityHash64(trace_id, span_id)
    )
    GROUP BY
        hour,
        label,
        d_model,
        d_prompt_name,
        d_prompt_version,
        d_service,
        d_environment,
        d_is_answer,
        d_status,
        d_answer_chars,
        d_user,
        d_tags,
        d_metadata
)
GROUP BY hour;

INSERT INTO answer_cells (project_id,
        grain,
        start,
        span_print,
        feedback_print,
        dropped,
        cell_what,
        cell_model,
        cell_prompt_name,
        cell_prompt_version,
        cell_service,
        cell_environment,
        cell_is_answer,
        cell_status,
        cell_answer_chars,
        cell_user,
        cell_tags,
        cell_metadata,
        cell_num,
        cell_num_up,
        cell_sum_w,
        cell_sum_w2,
        cell_sum_wy,
        cell_sum_w2y,
        cell_extra_w,
        cell_extra_w2,
        made_at)
WITH (
    SELECT (sum(span_print), sum(feedback_print), arraySort(groupUniqArrayArray(dropped)))
    FROM answer_cells FINAL
    WHERE project_id = {project:String}
      AND grain = 'hour'
      AND (span_print, feedback_print) != (0, 0)
      AND start >= toDateTime({day:UInt32}, 'UTC') AND start < toDateTime({day:UInt32} + 86400, 'UTC')
) AS of_day
SELECT
    {project:String},
    'day',
    toDateTime({day:UInt32}, 'UTC'),
    of_day.1,
    of_day.2,
    of_day.3,
    groupArray(what),
    groupArray(d_model),
    groupArray(d_prompt_name),
    groupArray(d_prompt_version),
    groupArray(d_service),
    groupArray(d_environment),
    groupArray(d_is_answer),
    groupArray(d_status),
    groupArray(d_answer_chars),
    groupArray(d_user),
    groupArray(d_tags),
    groupArray(d_metadata),
    groupArray(s_num),
    groupArray(s_num_up),
    groupArray(s_sum_w),
    groupArray(s_sum_w2),
    groupArray(s_sum_wy),
    groupArray(s_sum_w2y),
    groupArray(s_extra_w),
    groupArray(s_extra_w2),
    now64(6)
FROM (
    SELECT
        what,
        model AS d_model,
        prompt_name AS d_prompt_name,
        prompt_version AS d_prompt_version,
        service AS d_service,
        environment AS d_environment,
        is_answer AS d_is_answer,
        status AS d_status,
        answer_chars AS d_answer_chars,
        user AS d_user,
        tags AS d_tags,
        mapFilter((k, v) -> NOT has(unknown, k), metadata) AS d_metadata,
        sum(num) AS s_num,
        sum(num_up) AS s_num_up,
        sum(sum_w) AS s_sum_w,
        sum(sum_w2) AS s_sum_w2,
        sum(sum_wy) AS s_sum_wy,
        sum(sum_w2y) AS s_sum_w2y,
        sum(extra_w) AS s_extra_w,
        sum(extra_w2) AS s_extra_w2
    FROM (
        SELECT
            of_day.3 AS unknown,
            *
        FROM answer_cells FINAL
        WHERE project_id = {project:String}
          AND grain = 'hour'
          AND (span_print, feedback_print) != (0, 0)
          AND start >= toDateTime({day:UInt32}, 'UTC') AND start < toDateTime({day:UInt32} + 86400, 'UTC')
    )
    ARRAY JOIN
        cell_what AS what,
        cell_model AS model,
        cell_prompt_name AS prompt_name,
        cell_prompt_version AS prompt_version,
        cell_service AS service,
        cell_environment AS environment,
        cell_is_answer AS is_answer,
        cell_status AS status,
        cell_answer_chars AS answer_chars,
        cell_user AS user,
        cell_tags AS tags,
        cell_metadata AS metadata,
        cell_num AS num,
        cell_num_up AS num_up,
        cell_sum_w AS sum_w,
        cell_sum_w2 AS sum_w2,
        cell_sum_wy AS sum_wy,
        cell_sum_w2y AS sum_w2y,
        cell_extra_w AS extra_w,
        cell_extra_w2 AS extra_w2
    GROUP BY
        what,
        d_model,
        d_prompt_name,
        d_prompt_version,
        d_service,
        d_environment,
        d_is_answer,
        d_status,
        d_answer_chars,
        d_user,
        d_tags,
        d_metadata
)
HAVING count() > 0;
