SELECT
    place.1 AS name,
    place.2 AS key,
    sumIf(num, NOT rated) AS given,
    sumIf(sum_w, NOT rated) AS given_w,
    sumIf(sum_w2, NOT rated) AS given_w2,
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
        arrayJoin(arrayConcat([('total', emptyArrayString())])) AS place
    FROM (
        SELECT
            start_time AS at,
            false AS rated,
            toUInt64(1) AS num,
            toUInt64(0) AS num_up,
            1 / sampling_probability AS sum_w,
            1 / (sampling_probability * sampling_probability) AS sum_w2,
            0. AS sum_wy,
            0. AS sum_w2y,
            0. AS extra_w,
            0. AS extra_w2
        FROM spans FINAL
        WHERE project_id = {project:String}
          AND start_time >= {since:DateTime64(6,'UTC')}
          AND start_time < {until:DateTime64(6,'UTC')}
          AND NOT startsWith(environment, 'evaluation:')
          AND is_answer
          AND (has(tags, {tag_0:String}) OR (trace_id, span_id) IN (
                SELECT
                    trace_id,
                    span_id
                FROM added_tags FINAL
                WHERE project_id = {project:String} AND tag = {tag_0:String} AND NOT is_removed
        ))
          AND ((answer_search LIKE {text_0:String}) OR (question_search LIKE {text_0:String}))
          AND (start_time >= {from0:DateTime64(6,'UTC')} AND start_time < {to0:DateTime64(6,'UTC')})
        UNION ALL
        SELECT
            at,
            true AS rated,
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
                  AND (trace_id, span_id) IN (SELECT trace_id, span_id FROM spans WHERE project_id = {project:String}
                      AND start_time >= {since:DateTime64(6,'UTC')}
                      AND start_time < {until:DateTime64(6,'UTC')}
                      AND NOT startsWith(environment, 'evaluation:')
                      AND is_answer
                      AND (has(tags, {tag_0:String}) OR (trace_id, span_id) IN (
                            SELECT
                                trace_id,
                                span_id
                            FROM added_tags FINAL
                            WHERE project_id = {project:String} AND tag = {tag_0:String} AND NOT is_removed
                    ))
                      AND ((answer_search LIKE {text_0:String}) OR (question_search LIKE {text_0:String})))
                  AND is_thumb AND name = 'thumb' AND author_kind = {thumb_kind:String}
            )
            GROUP BY cityHash64(trace_id, span_id)
            HAVING isNotNull(argMax(ifNull(score, 0) > 0.5, (version, feedback_id)))
        )
    )
)
GROUP BY place
HAVING given OR total
ORDER BY
    given DESC,
    total DESC,
    key
LIMIT {limit:UInt32} BY name;
