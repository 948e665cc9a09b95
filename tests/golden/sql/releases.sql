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
                toDateTime64(start, 6, 'UTC') AS at,
                model,
                prompt_version,
                num,
                sum_w,
                sum_w2
            FROM (
                SELECT
                    start,
                    cell_what,
                    cell_model,
                    cell_prompt_version,
                    cell_num,
                    cell_sum_w,
                    cell_sum_w2,
                    cell_is_answer
                FROM answer_aggregates FINAL
                WHERE project_id = {project:String}
                  AND part IN ('answers')
                  AND (grain = 'hour' AND toUnixTimestamp(start) IN {hours:Array(UInt32)} OR grain = 'minute' AND toUnixTimestamp(start) IN {minutes:Array(UInt32)})
            )
            ARRAY JOIN
                cell_what AS what,
                cell_model AS model,
                cell_prompt_version AS prompt_version,
                cell_num AS num,
                cell_sum_w AS sum_w,
                cell_sum_w2 AS sum_w2,
                cell_is_answer AS is_answer
            WHERE what = 'answer' AND 1 AND is_answer
            UNION ALL
            SELECT
                start_time AS at,
                model,
                prompt_version,
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
