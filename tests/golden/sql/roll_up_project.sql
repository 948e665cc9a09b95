SELECT
    project_id,
    part,
    start,
    sumIf(print, grain = 'rows') AS rows_print
FROM (
    SELECT
        'answers' AS part,
        'rows' AS grain,
        project_id,
        toStartOfHour(toStartOfMinute(start_time, 'UTC'), 'UTC') AS start,
        sum(cityHash64(trace_id, span_id, ingested_at, is_answer, status, model, prompt_name, prompt_version, service, environment, tags, sampling_probability)) AS print,
        emptyArrayString() AS dropped
    FROM spans
    WHERE project_id = {project:String}
      AND toStartOfMinute(start_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfMinute(start_time, 'UTC') < toDateTime({last:UInt32}, 'UTC')
    GROUP BY
        project_id,
        start
    UNION ALL
    SELECT
        'feedback' AS part,
        'rows' AS grain,
        project_id,
        toStartOfHour(toStartOfMinute(call_time, 'UTC'), 'UTC') AS start,
        sum(cityHash64(feedback_id, version, is_deleted, received_at, call_is_answer, call_status, model, prompt_name, prompt_version, service, environment, call_tags, call_probability)) AS print,
        emptyArrayString() AS dropped
    FROM feedback
    WHERE project_id = {project:String}
      AND toStartOfMinute(call_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfMinute(call_time, 'UTC') < toDateTime({last:UInt32}, 'UTC')
    GROUP BY
        project_id,
        start
    UNION ALL
    SELECT
        'answers' AS part,
        'rows' AS grain,
        project_id,
        toStartOfHour(toStartOfMinute(call_time, 'UTC'), 'UTC') AS start,
        sum(cityHash64(trace_id, span_id, tag, version)) AS print,
        emptyArrayString() AS dropped
    FROM added_tags FINAL
    WHERE project_id = {project:String}
      AND toStartOfMinute(call_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfMinute(call_time, 'UTC') < toDateTime({last:UInt32}, 'UTC')
    GROUP BY
        project_id,
        start
    UNION ALL
    SELECT
        'feedback' AS part,
        'rows' AS grain,
        project_id,
        toStartOfHour(toStartOfMinute(call_time, 'UTC'), 'UTC') AS start,
        sum(cityHash64(trace_id, span_id, tag, version)) AS print,
        emptyArrayString() AS dropped
    FROM added_tags FINAL
    WHERE project_id = {project:String}
      AND toStartOfMinute(call_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfMinute(call_time, 'UTC') < toDateTime({last:UInt32}, 'UTC')
    GROUP BY
        project_id,
        start
    UNION ALL
    SELECT
        toString(part),
        toString(grain),
        project_id,
        start,
        print,
        dropped
    FROM answer_aggregates FINAL
    WHERE project_id = {project:String}
      AND grain IN ('hour')
      AND start >= toDateTime({first:UInt32}, 'UTC') AND start < toDateTime({last:UInt32}, 'UTC')
)
GROUP BY
    project_id,
    part,
    start
HAVING rows_print != sumIf(print, grain != 'rows') OR countIf(grain != 'rows') = 0;

SELECT
    project_id,
    part,
    start,
    sumIf(print, grain = 'rows') AS rows_print
FROM (
    SELECT
        'answers' AS part,
        'rows' AS grain,
        project_id,
        toStartOfDay(toStartOfMinute(start_time, 'UTC'), 'UTC') AS start,
        sum(cityHash64(trace_id, span_id, ingested_at, is_answer, status, model, prompt_name, prompt_version, service, environment, tags, sampling_probability)) AS print,
        emptyArrayString() AS dropped
    FROM spans
    WHERE project_id = {project:String}
      AND toStartOfMinute(start_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfMinute(start_time, 'UTC') < toDateTime({last:UInt32}, 'UTC')
    GROUP BY
        project_id,
        start
    UNION ALL
    SELECT
        'feedback' AS part,
        'rows' AS grain,
        project_id,
        toStartOfDay(toStartOfMinute(call_time, 'UTC'), 'UTC') AS start,
        sum(cityHash64(feedback_id, version, is_deleted, received_at, call_is_answer, call_status, model, prompt_name, prompt_version, service, environment, call_tags, call_probability)) AS print,
        emptyArrayString() AS dropped
    FROM feedback
    WHERE project_id = {project:String}
      AND toStartOfMinute(call_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfMinute(call_time, 'UTC') < toDateTime({last:UInt32}, 'UTC')
    GROUP BY
        project_id,
        start
    UNION ALL
    SELECT
        'answers' AS part,
        'rows' AS grain,
        project_id,
        toStartOfDay(toStartOfMinute(call_time, 'UTC'), 'UTC') AS start,
        sum(cityHash64(trace_id, span_id, tag, version)) AS print,
        emptyArrayString() AS dropped
    FROM added_tags FINAL
    WHERE project_id = {project:String}
      AND toStartOfMinute(call_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfMinute(call_time, 'UTC') < toDateTime({last:UInt32}, 'UTC')
    GROUP BY
        project_id,
        start
    UNION ALL
    SELECT
        'feedback' AS part,
        'rows' AS grain,
        project_id,
        toStartOfDay(toStartOfMinute(call_time, 'UTC'), 'UTC') AS start,
        sum(cityHash64(trace_id, span_id, tag, version)) AS print,
        emptyArrayString() AS dropped
    FROM added_tags FINAL
    WHERE project_id = {project:String}
      AND toStartOfMinute(call_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfMinute(call_time, 'UTC') < toDateTime({last:UInt32}, 'UTC')
    GROUP BY
        project_id,
        start
    UNION ALL
    SELECT
        toString(part),
        toString(grain),
        project_id,
        start,
        print,
        dropped
    FROM answer_aggregates FINAL
    WHERE project_id = {project:String}
      AND grain IN ('day')
      AND start >= toDateTime({first:UInt32}, 'UTC') AND start < toDateTime({last:UInt32}, 'UTC')
)
GROUP BY
    project_id,
    part,
    start
HAVING rows_print != sumIf(print, grain != 'rows') OR countIf(grain != 'rows') = 0;

SELECT
    part,
    grain,
    start,
    print,
    dropped
FROM (
    SELECT
        'answers' AS part,
        'rows' AS grain,
        project_id,
        toStartOfMinute(start_time, 'UTC') AS start,
        sum(cityHash64(trace_id, span_id, ingested_at, is_answer, status, model, prompt_name, prompt_version, service, environment, tags, sampling_probability)) AS print,
        emptyArrayString() AS dropped
    FROM spans
    WHERE project_id = {project:String}
      AND toStartOfHour(toStartOfMinute(start_time, 'UTC'), 'UTC') IN (SELECT toDateTime(arrayJoin({hours:Array(UInt32)}), 'UTC'))
    GROUP BY
        project_id,
        start
    UNION ALL
    SELECT
        'feedback' AS part,
        'rows' AS grain,
        project_id,
        toStartOfMinute(call_time, 'UTC') AS start,
        sum(cityHash64(feedback_id, version, is_deleted, received_at, call_is_answer, call_status, model, prompt_name, prompt_version, service, environment, call_tags, call_probability)) AS print,
        emptyArrayString() AS dropped
    FROM feedback
    WHERE project_id = {project:String}
      AND toStartOfHour(toStartOfMinute(call_time, 'UTC'), 'UTC') IN (SELECT toDateTime(arrayJoin({hours:Array(UInt32)}), 'UTC'))
    GROUP BY
        project_id,
        start
    UNION ALL
    SELECT
        'answers' AS part,
        'rows' AS grain,
        project_id,
        toStartOfMinute(call_time, 'UTC') AS start,
        sum(cityHash64(trace_id, span_id, tag, version)) AS print,
        emptyArrayString() AS dropped
    FROM added_tags FINAL
    WHERE project_id = {project:String}
      AND toStartOfHour(toStartOfMinute(call_time, 'UTC'), 'UTC') IN (SELECT toDateTime(arrayJoin({hours:Array(UInt32)}), 'UTC'))
    GROUP BY
        project_id,
        start
    UNION ALL
    SELECT
        'feedback' AS part,
        'rows' AS grain,
        project_id,
        toStartOfMinute(call_time, 'UTC') AS start,
        sum(cityHash64(trace_id, span_id, tag, version)) AS print,
        emptyArrayString() AS dropped
    FROM added_tags FINAL
    WHERE project_id = {project:String}
      AND toStartOfHour(toStartOfMinute(call_time, 'UTC'), 'UTC') IN (SELECT toDateTime(arrayJoin({hours:Array(UInt32)}), 'UTC'))
    GROUP BY
        project_id,
        start
    UNION ALL
    SELECT
        toString(part),
        toString(grain),
        project_id,
        start,
        print,
        dropped
    FROM answer_aggregates FINAL
    WHERE project_id = {project:String}
      AND grain IN ('minute')
      AND toStartOfHour(start, 'UTC') IN (SELECT toDateTime(arrayJoin({hours:Array(UInt32)}), 'UTC'))
);

SELECT
    key,
    uniq(metadata[key]) AS num_values
FROM (
    SELECT
        metadata,
        arrayJoin(mapKeys(metadata)) AS key
    FROM spans
    WHERE project_id = {project:String}
      AND NOT startsWith(environment, 'evaluation:')
      AND (start_time >= {from0:DateTime64(6,'UTC')} AND start_time < {to0:DateTime64(6,'UTC')})
)
GROUP BY key
ORDER BY
    num_values,
    key;

INSERT INTO answer_aggregates (project_id,
        part,
        grain,
        start,
        print,
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
    'answers',
    'hour',
    start,
    {prints:Array(UInt64)}[indexOf({starts:Array(UInt32)}, toUnixTimestamp(start))],
    {dropped:Array(String)},
    array_what,
    array_model,
    array_prompt_name,
    array_prompt_version,
    array_service,
    array_environment,
    array_is_answer,
    array_status,
    array_answer_chars,
    array_user,
    array_tags,
    array_metadata,
    array_num,
    array_num_up,
    array_sum_w,
    array_sum_w2,
    array_sum_wy,
    array_sum_w2y,
    array_extra_w,
    array_extra_w2,
    now64(6)
FROM (SELECT toDateTime(arrayJoin({starts:Array(UInt32)}), 'UTC') AS start) AS wanted
LEFT JOIN (
    SELECT
        start,
        groupArray(what) AS array_what,
        groupArray(model) AS array_model,
        groupArray(prompt_name) AS array_prompt_name,
        groupArray(prompt_version) AS array_prompt_version,
        groupArray(service) AS array_service,
        groupArray(environment) AS array_environment,
        groupArray(is_answer) AS array_is_answer,
        groupArray(status) AS array_status,
        groupArray(answer_chars) AS array_answer_chars,
        groupArray(user) AS array_user,
        groupArray(tags) AS array_tags,
        groupArray(metadata) AS array_metadata,
        groupArray(num) AS array_num,
        groupArray(num_up) AS array_num_up,
        groupArray(sum_w) AS array_sum_w,
        groupArray(sum_w2) AS array_sum_w2,
        groupArray(sum_wy) AS array_sum_wy,
        groupArray(sum_w2y) AS array_sum_w2y,
        groupArray(extra_w) AS array_extra_w,
        groupArray(extra_w2) AS array_extra_w2
    FROM (
        SELECT
            start,
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
                toStartOfHour(start_time, 'UTC') AS start,
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
                                )).2, ''))))) AS d_tags,
                mapFilter((k, v) -> has({kept:Array(String)}, k), metadata) AS d_metadata
            FROM spans FINAL
            WHERE project_id = {project:String}
              AND NOT startsWith(environment, 'evaluation:')
              AND (start_time >= {from0:DateTime64(6,'UTC')} AND start_time < {to0:DateTime64(6,'UTC')})
        )
        GROUP BY
            start,
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
    GROUP BY start
) AS counted USING (start);

INSERT INTO answer_aggregates (project_id,
        part,
        grain,
        start,
        print,
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
    SELECT (sum(print), arraySort(groupUniqArrayArray(dropped)))
    FROM answer_aggregates FINAL
    WHERE project_id = {project:String}
      AND part = 'answers'
      AND grain = 'hour'
      AND print != 0
      AND start >= toDateTime({first:UInt32}, 'UTC') AND start < toDateTime({last:UInt32}, 'UTC')
) AS whole
SELECT
    {project:String},
    'answers',
    'day',
    toDateTime({first:UInt32}, 'UTC'),
    whole.1,
    whole.2,
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
            whole.2 AS unknown,
            *
        FROM answer_aggregates FINAL
        WHERE project_id = {project:String}
          AND part = 'answers'
          AND grain = 'hour'
          AND print != 0
          AND start >= toDateTime({first:UInt32}, 'UTC') AND start < toDateTime({last:UInt32}, 'UTC')
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
);
