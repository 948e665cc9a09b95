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
        arrayJoin(arrayConcat(arrayFlatten(arrayMap(a -> arrayMap(b -> ('groups', [a, b]), [metadata[{key1:String}]]), arrayMap(t -> toString(t), tags))))) AS place
    FROM (
        SELECT
            toDateTime64(start, 6, 'UTC') AS at,
            what != 'answer' AS rated,
            metadata,
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
                cell_metadata,
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
              AND part IN ('answers')
              AND (grain = 'day' AND toUnixTimestamp(start) IN {days:Array(UInt32)} OR grain = 'hour' AND toUnixTimestamp(start) IN {hours:Array(UInt32)} OR grain = 'minute' AND toUnixTimestamp(start) IN {minutes:Array(UInt32)})
        )
        ARRAY JOIN
            cell_what AS what,
            cell_metadata AS metadata,
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
        WHERE what IN ('answer', {rated:String}) AND 1 AND is_answer AND multiIf(metadata['language'] != '', metadata['language'], metadata['lang'] != '', metadata['lang'], metadata['locale']) = {language:String}
        UNION ALL
        SELECT
            toDateTime64(start, 6, 'UTC') AS at,
            what != 'answer' AS rated,
            metadata,
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
                cell_metadata,
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
            cell_metadata AS metadata,
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
        WHERE what IN ('answer', {rated:String}) AND 1 AND is_answer AND multiIf(metadata['language'] != '', metadata['language'], metadata['lang'] != '', metadata['lang'], metadata['locale']) = {language:String}
        UNION ALL
        SELECT
            start_time AS at,
            false AS rated,
            metadata,
            arrayDistinct(arrayConcat(tags, arrayFilter(t -> t != '', splitByChar(char(0), transform(cityHash64(trace_id, span_id), (
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
          AND multiIf(metadata['language'] != '', metadata['language'], metadata['lang'] != '', metadata['lang'], metadata['locale']) = {language:String}
          AND (start_time >= {from0:DateTime64(6,'UTC')} AND start_time < {to0:DateTime64(6,'UTC')})
        UNION ALL
        SELECT
            at,
            true AS rated,
            metadata,
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
                any(metadata) AS metadata,
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
                    call_metadata AS metadata,
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
                  AND NOT startsWith(environment, 'evaluation:') AND call_is_answer AND multiIf(call_metadata['language'] != '', call_metadata['language'], call_metadata['lang'] != '', call_metadata['lang'], call_metadata['locale']) = {language:String}
                  AND is_thumb AND name = 'thumb' AND author_kind = {thumb_kind:String}
            )
            GROUP BY cityHash64(trace_id, span_id)
            HAVING isNotNull(argMax(ifNull(score, 0) > 0.5, (version, feedback_id)))
        )
    )
)
WHERE place.2[1] IN {values:Array(String)}
GROUP BY place
HAVING given OR total
ORDER BY
    given DESC,
    total DESC,
    key
LIMIT {limit:UInt32} BY name;
