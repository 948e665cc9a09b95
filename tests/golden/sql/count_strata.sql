SELECT
    place.1 AS name,
    place.2 AS stratum,
    has_b,
    sum(num) AS total,
    sum(num_up) AS total_up
FROM (
    SELECT
        has([toString(prompt_version)], {a:String}) AS has_a,
        hasAny([toString(prompt_version)], {b:Array(String)}) AS has_b,
        toDate(at, 'UTC') AS day,
        num,
        num_up,
        arrayJoin([(0, arrayConcat(arraySort(arrayMap(t -> toString(t), tags)), [toString(day)])), (1, arrayConcat(arraySort([toString(user_id)]), [toString(day)]))]) AS place
    FROM (
        SELECT
            at,
            prompt_version,
            tags,
            user_id,
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
                any(prompt_version) AS prompt_version,
                any(tags) AS tags,
                any(user_id) AS user_id
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
                    prompt_version,
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
                                    )).2, ''))))) AS tags,
                    user_id,
                    record
                FROM feedback FINAL
                WHERE project_id = {project:String}
                  AND call_time >= {since:DateTime64(6,'UTC')}
                  AND call_time < {until:DateTime64(6,'UTC')}
                  AND NOT startsWith(environment, 'evaluation:') AND call_is_answer
                  AND is_thumb AND name = 'thumb' AND author_kind = {thumb_kind:String}
            )
            GROUP BY cityHash64(trace_id, span_id)
            HAVING isNotNull(argMax(ifNull(score, 0) > 0.5, (version, feedback_id)))
        )
    )
)
WHERE has_a != has_b
  AND has(if(has_a, {days_a:Array(Date)}, {days_b:Array(Date)}), day)
GROUP BY
    name,
    stratum,
    has_b
ORDER BY total DESC
LIMIT {limit:UInt32} BY name;
