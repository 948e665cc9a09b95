SELECT key
FROM (
    SELECT
        num,
        arrayJoin(mapKeys(metadata)) AS key,
        metadata[key] AS value
    FROM (
        SELECT
            toDateTime64(start, 6, 'UTC') AS at,
            answer_chars,
            environment,
            metadata,
            model,
            prompt_name,
            prompt_version,
            service,
            status,
            tags,
            num,
            num_up,
            sum_w,
            sum_w2,
            sum_wy,
            sum_w2y,
            extra_w,
            extra_w2
        FROM (
            SELECT
                start,
                cell_what,
                cell_answer_chars,
                cell_environment,
                cell_metadata,
                cell_model,
                cell_prompt_name,
                cell_prompt_version,
                cell_service,
                cell_status,
                cell_tags,
                cell_num,
                cell_num_up,
                cell_sum_w,
                cell_sum_w2,
                cell_sum_wy,
                cell_sum_w2y,
                cell_extra_w,
                cell_extra_w2,
                cell_is_answer
            FROM answer_aggregates FINAL
            WHERE project_id = {project:String}
              AND part IN ('feedback')
              AND (grain = 'day' AND toUnixTimestamp(start) IN {feedback_days:Array(UInt32)} OR grain = 'hour' AND toUnixTimestamp(start) IN {feedback_hours:Array(UInt32)})
        )
        ARRAY JOIN
            cell_what AS what,
            cell_answer_chars AS answer_chars,
            cell_environment AS environment,
            cell_metadata AS metadata,
            cell_model AS model,
            cell_prompt_name AS prompt_name,
            cell_prompt_version AS prompt_version,
            cell_service AS service,
            cell_status AS status,
            cell_tags AS tags,
            cell_num AS num,
            cell_num_up AS num_up,
            cell_sum_w AS sum_w,
            cell_sum_w2 AS sum_w2,
            cell_sum_wy AS sum_wy,
            cell_sum_w2y AS sum_w2y,
            cell_extra_w AS extra_w,
            cell_extra_w2 AS extra_w2,
            cell_is_answer AS is_answer
        WHERE what = {rated:String} AND 1 AND is_answer
        UNION ALL
        SELECT
            at,
            answer_chars,
            environment,
            metadata,
            model,
            prompt_name,
            prompt_version,
            service,
            status,
            tags,
            toUInt64(1) AS num,
            toUInt64(up) AS num_up,
            w AS sum_w,
            w * w AS sum_w2,
            w * up AS sum_wy,
            w * w * up AS sum_w2y,
            1 / p - 1 AS extra_w,
            1 / (p * p) - 1 AS extra_w2
        FROM (
            SELECT
                any(at) AS at,
                assumeNotNull(argMax(ifNull(score, 0) > 0.5, (version, feedback_id))) AS up,
                argMax(1 / ifNull(sampling_probability, 1), (version, feedback_id)) AS w,
                any(call_probability) AS p,
                any(answer_chars) AS answer_chars,
                any(environment) AS environment,
                any(metadata) AS metadata,
                any(model) AS model,
                any(prompt_name) AS prompt_name,
                any(prompt_version) AS prompt_version,
                any(service) AS service,
                any(status) AS status,
                any(tags) AS tags
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
                    call_time AS at,
                    multiIf(call_answer_chars = 0, 'none', call_answer_chars <= 200, 'up to 200', call_answer_chars <= 1000, '201 to 1,000', 'over 1,000') AS answer_chars,
                    environment,
                    call_metadata AS metadata,
                    model,
                    prompt_name,
                    prompt_version,
                    service,
                    call_status AS status,
                    arrayDistinct(arrayConcat(call_tags, arrayFilter(t -> t != '', splitByChar(char(0), transform(cityHash64(trace_id, span_id), (
                                        SELECT (groupArray(tagged), groupArray(tags))
                                        FROM (
                                            SELECT
                                                cityHash64(trace_id, span_id) AS tagged,
                                                arrayStringConcat(arraySort(groupArray(tag)), char(0)) AS tags
                                            FROM added_tags FINAL
                                            WHERE project_id = {project:String} AND NOT is_removed
                                            GROUP BY tagged
                                    )).1, (
                                        SELECT (groupArray(tagged), groupArray(tags))
                                        FROM (
                                            SELECT
                                                cityHash64(trace_id, span_id) AS tagged,
                                                arrayStringConcat(arraySort(groupArray(tag)), char(0)) AS tags
                                            FROM added_tags FINAL
                                            WHERE project_id = {project:String} AND NOT is_removed
                                            GROUP BY tagged
                                    )).2, ''))))) AS tags
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
                  AND is_thumb AND name = 'thumb' AND author_kind = {thumb_kind:String}
            )
            GROUP BY cityHash64(trace_id, span_id)
            HAVING isNotNull(argMax(ifNull(score, 0) > 0.5, (version, feedback_id)))
        )
    )
)
GROUP BY key
HAVING uniq(value) <= {most:UInt32}
ORDER BY
    sum(num) DESC,
    key
LIMIT {limit:UInt32};

SELECT
    toString(model) AS field_model,
    toString(prompt_name) AS field_prompt_name,
    toString(prompt_version) AS field_prompt_version,
    toString(service) AS field_service,
    toString(environment) AS field_environment,
    toString(status) AS field_status,
    toString(answer_chars) AS field_answer_chars,
    tags AS found_tags,
    arrayMap(k -> metadata[k], {keys:Array(String)}) AS found,
    sum(num) AS total,
    sum(num) - sum(num_up) AS total_bad
FROM (
    SELECT
        toDateTime64(start, 6, 'UTC') AS at,
        answer_chars,
        environment,
        metadata,
        model,
        prompt_name,
        prompt_version,
        service,
        status,
        tags,
        num,
        num_up,
        sum_w,
        sum_w2,
        sum_wy,
        sum_w2y,
        extra_w,
        extra_w2
    FROM (
        SELECT
            start,
            cell_what,
            cell_answer_chars,
            cell_environment,
            cell_metadata,
            cell_model,
            cell_prompt_name,
            cell_prompt_version,
            cell_service,
            cell_status,
            cell_tags,
            cell_num,
            cell_num_up,
            cell_sum_w,
            cell_sum_w2,
            cell_sum_wy,
            cell_sum_w2y,
            cell_extra_w,
            cell_extra_w2,
            cell_is_answer
        FROM answer_aggregates FINAL
        WHERE project_id = {project:String}
          AND part IN ('feedback')
          AND (grain = 'day' AND toUnixTimestamp(start) IN {feedback_days:Array(UInt32)} OR grain = 'hour' AND toUnixTimestamp(start) IN {feedback_hours:Array(UInt32)})
    )
    ARRAY JOIN
        cell_what AS what,
        cell_answer_chars AS answer_chars,
        cell_environment AS environment,
        cell_metadata AS metadata,
        cell_model AS model,
        cell_prompt_name AS prompt_name,
        cell_prompt_version AS prompt_version,
        cell_service AS service,
        cell_status AS status,
        cell_tags AS tags,
        cell_num AS num,
        cell_num_up AS num_up,
        cell_sum_w AS sum_w,
        cell_sum_w2 AS sum_w2,
        cell_sum_wy AS sum_wy,
        cell_sum_w2y AS sum_w2y,
        cell_extra_w AS extra_w,
        cell_extra_w2 AS extra_w2,
        cell_is_answer AS is_answer
    WHERE what = {rated:String} AND 1 AND is_answer
    UNION ALL
    SELECT
        at,
        answer_chars,
        environment,
        metadata,
        model,
        prompt_name,
        prompt_version,
        service,
        status,
        tags,
        toUInt64(1) AS num,
        toUInt64(up) AS num_up,
        w AS sum_w,
        w * w AS sum_w2,
        w * up AS sum_wy,
        w * w * up AS sum_w2y,
        1 / p - 1 AS extra_w,
        1 / (p * p) - 1 AS extra_w2
    FROM (
        SELECT
            any(at) AS at,
            assumeNotNull(argMax(ifNull(score, 0) > 0.5, (version, feedback_id))) AS up,
            argMax(1 / ifNull(sampling_probability, 1), (version, feedback_id)) AS w,
            any(call_probability) AS p,
            any(answer_chars) AS answer_chars,
            any(environment) AS environment,
            any(metadata) AS metadata,
            any(model) AS model,
            any(prompt_name) AS prompt_name,
            any(prompt_version) AS prompt_version,
            any(service) AS service,
            any(status) AS status,
            any(tags) AS tags
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
                call_time AS at,
                multiIf(call_answer_chars = 0, 'none', call_answer_chars <= 200, 'up to 200', call_answer_chars <= 1000, '201 to 1,000', 'over 1,000') AS answer_chars,
                environment,
                call_metadata AS metadata,
                model,
                prompt_name,
                prompt_version,
                service,
                call_status AS status,
                arrayDistinct(arrayConcat(call_tags, arrayFilter(t -> t != '', splitByChar(char(0), transform(cityHash64(trace_id, span_id), (
                                    SELECT (groupArray(tagged), groupArray(tags))
                                    FROM (
                                        SELECT
                                            cityHash64(trace_id, span_id) AS tagged,
                                            arrayStringConcat(arraySort(groupArray(tag)), char(0)) AS tags
                                        FROM added_tags FINAL
                                        WHERE project_id = {project:String} AND NOT is_removed
                                        GROUP BY tagged
                                )).1, (
                                    SELECT (groupArray(tagged), groupArray(tags))
                                    FROM (
                                        SELECT
                                            cityHash64(trace_id, span_id) AS tagged,
                                            arrayStringConcat(arraySort(groupArray(tag)), char(0)) AS tags
                                        FROM added_tags FINAL
                                        WHERE project_id = {project:String} AND NOT is_removed
                                        GROUP BY tagged
                                )).2, ''))))) AS tags
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
              AND is_thumb AND name = 'thumb' AND author_kind = {thumb_kind:String}
        )
        GROUP BY cityHash64(trace_id, span_id)
        HAVING isNotNull(argMax(ifNull(score, 0) > 0.5, (version, feedback_id)))
    )
)
GROUP BY
    field_model,
    field_prompt_name,
    field_prompt_version,
    field_service,
    field_environment,
    field_status,
    field_answer_chars,
    found_tags,
    found
ORDER BY total DESC
LIMIT {limit:UInt32};
