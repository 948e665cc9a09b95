SELECT
    pair.1 AS field,
    pair.2 AS value,
    min(earliest) AS first_seen
FROM (
    SELECT
        earliest,
        arrayJoin([('prompt_version', toString(prompt_version)), ('model', toString(model))]) AS pair
    FROM (
        SELECT
            prompt_version,
            model,
            min(at) AS earliest
        FROM (
            SELECT
                at,
                model,
                prompt_version,
                num,
                toFloat64(num) AS sum_w,
                toFloat64(num) AS sum_w2
            FROM (
                SELECT
                    at,
                    model,
                    prompt_version,
                    b_num AS num,
                    b_num_up AS num_up,
                    b_sum_w AS sum_w,
                    b_sum_w2 AS sum_w2,
                    b_sum_wy AS sum_wy,
                    b_sum_w2y AS sum_w2y,
                    0. AS extra_w,
                    0. AS extra_w2
                FROM (
                    SELECT
                        at,
                        model,
                        prompt_version,
                        num AS b_num,
                        num_up AS b_num_up,
                        sum_w AS b_sum_w,
                        sum_w2 AS b_sum_w2,
                        sum_wy AS b_sum_wy,
                        sum_w2y AS b_sum_w2y,
                        extra_w AS b_extra_w,
                        extra_w2 AS b_extra_w2
                    FROM (
                        SELECT
                            toDateTime64(start, 6, 'UTC') AS at,
                            model,
                            prompt_version,
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
                                cell_model,
                                cell_prompt_version,
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
                              AND (grain = 'hour' AND toUnixTimestamp(start) IN {feedback_hours:Array(UInt32)})
                        )
                        ARRAY JOIN
                            cell_what AS what,
                            cell_model AS model,
                            cell_prompt_version AS prompt_version,
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
                            model,
                            prompt_version,
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
                                any(model) AS model,
                                any(prompt_version) AS prompt_version
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
                                    model,
                                    prompt_version
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
                WHERE b_num > 0
            )
        )
        GROUP BY
            prompt_version,
            model
    )
)
WHERE value != ''
GROUP BY
    field,
    value
ORDER BY
    first_seen,
    field;
