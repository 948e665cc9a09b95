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
        toStartOfHour(toStartOfMinute(start_time, 'UTC'), 'UTC') AS start,
        sum(cityHash64(trace_id, span_id, ingested_at, is_answer, status, model, prompt_name, prompt_version, service, environment, tags, sampling_probability)) AS print,
        emptyArrayString() AS dropped
    FROM spans
    WHERE project_id = {project:String}
      AND toStartOfMinute(start_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfMinute(start_time, 'UTC') <= toDateTime({last:UInt32}, 'UTC')
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
      AND toStartOfMinute(call_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfMinute(call_time, 'UTC') <= toDateTime({last:UInt32}, 'UTC')
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
      AND toStartOfMinute(call_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfMinute(call_time, 'UTC') <= toDateTime({last:UInt32}, 'UTC')
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
      AND toStartOfMinute(call_time, 'UTC') >= toDateTime({first:UInt32}, 'UTC') AND toStartOfMinute(call_time, 'UTC') <= toDateTime({last:UInt32}, 'UTC')
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
      AND grain IN ('hour', 'day')
      AND start >= toDateTime({first:UInt32}, 'UTC') AND start <= toDateTime({last:UInt32}, 'UTC')
);

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
    toString(arrayJoin(tags)) AS value,
    sum(num) AS count
FROM (
    SELECT
        start_time AS at,
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
        1 / sampling_probability AS sum_w,
        1 / (sampling_probability * sampling_probability) AS sum_w2
    FROM spans FINAL
    WHERE project_id = {project:String}
      AND start_time >= {since:DateTime64(6,'UTC')}
      AND start_time < {until:DateTime64(6,'UTC')}
      AND NOT startsWith(environment, 'evaluation:')
      AND is_answer
      AND (start_time >= {from0:DateTime64(6,'UTC')} AND start_time < {to0:DateTime64(6,'UTC')})
)
GROUP BY value
HAVING value != ''
ORDER BY count DESC, value
LIMIT {max:UInt32};
