SELECT
    sumIf(num, rated) AS total,
    sum(num_up) AS total_up,
    sumIf(sum_w, rated) AS w,
    sumIf(sum_w2, rated) AS w2,
    sum(sum_wy) AS wy,
    sum(sum_w2y) AS w2y,
    sum(extra_w) AS more,
    sum(extra_w2) AS more2
FROM (
    SELECT
        *,
        true AS rated
    FROM (
        SELECT
            at,
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
                any(call_probability) AS p
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
                    record
                FROM feedback FINAL
                WHERE project_id = {project:String}
                  AND call_time >= {since:DateTime64(6,'UTC')}
                  AND call_time < {until:DateTime64(6,'UTC')}
                  AND NOT startsWith(environment, 'evaluation:') AND call_is_answer
                  AND is_thumb AND name = 'thumb' AND author_kind = {thumb_kind:String} AND sampling_probability IS NOT NULL
            )
            GROUP BY cityHash64(trace_id, span_id)
            HAVING isNotNull(argMax(ifNull(score, 0) > 0.5, (version, feedback_id)))
        )
    )
);
