SELECT
    name,
    sum(num) AS total
FROM (
    SELECT
        any(at) AS at,
        name,
        if(startsWith(name, 'flag '), uniqExact(answer), count()) AS num
    FROM (
        SELECT
            at,
            cityHash64(trace_id, span_id) AS answer,
            arrayJoin(if(kind = 'flag', ['kind flag', concat('flag ', label)], [concat('kind ', kind)])) AS name
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
              AND NOT startsWith(environment, 'evaluation:') AND call_is_answer AND (trace_id, span_id) IN (SELECT trace_id, span_id FROM feedback FINAL WHERE project_id = {project:String} AND call_time >= {since:DateTime64(6,'UTC')} AND call_time < {until:DateTime64(6,'UTC')} AND kind = 'flag' AND label = {flag:String})
              AND 1
        )
    )
    GROUP BY name
)
GROUP BY name
ORDER BY
    startsWith(name, 'kind ') DESC,
    total DESC,
    name
LIMIT {limit:UInt32};
