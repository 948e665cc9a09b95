SELECT
    toString(model) AS place,
    count() AS num_answers,
    sum(chars) AS num_chars,
    sumMap(mapFromArrays(marks, arrayMap(m -> toUInt64(1), marks))) AS num_having,
    sumMap(mapFromArrays(marks, arrayMap(m -> toUInt64(countEqual(every, m)), marks))) AS num_marks
FROM (
    SELECT
        any(call_answer_chars) AS chars,
        groupArrayIf(concat(name, '', label), kind = 'flag') AS every,
        arrayDistinct(every) AS marks,
        any(model) AS model
    FROM feedback FINAL
    WHERE project_id = {project:String}
      AND call_time >= {since:DateTime64(6,'UTC')}
      AND call_time < {until:DateTime64(6,'UTC')}
      AND NOT startsWith(environment, 'evaluation:') AND call_is_answer
      AND author_kind IN {by:Array(String)}
    GROUP BY
        trace_id,
        span_id
)
GROUP BY place
ORDER BY
    num_answers DESC,
    place
LIMIT 500;
