SELECT
    arrayJoin(arrayConcat([('total', '')], [('time', toString(toUnixTimestamp(toStartOfDay(at, 'UTC'))))], arrayMap(v -> ('group', v), arrayMap(t -> toString(t), tags)))) AS place,
    sumIf(w, is_answer) AS num_answers,
    sumIf(w, is_answer AND status = 'error') AS num_errors,
    countIf(is_answer) AS recorded,
    countIf(is_answer AND status = 'error') AS recorded_errors,
    sumIf(w, operation != '') AS num_calls,
    quantilesTDigestIf(0.5, 0.95)(duration_ns / 1e6, is_answer) AS latency,
    quantilesTDigestIf(0.5, 0.95)(first_token_ns / 1e6, is_answer AND first_token_ns > 0) AS first_token,
    sumIf(w * ifNull(prompt_tokens, 0), operation != '') AS input_tokens,
    sumIf(w * ifNull(completion_tokens, 0), operation != '') AS output_tokens,
    sumIf(w * ifNull(dollars, 0), operation != '') AS cost,
    sumIf(w, operation != '' AND dollars IS NULL AND prompt_tokens IS NOT NULL) AS num_unpriced
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
        status,
        is_answer,
        operation,
        duration_ns,
        first_token_ns,
        input_tokens AS prompt_tokens,
        output_tokens AS completion_tokens,
        1 / sampling_probability AS w,
        ifNull(cost, if(has({priced_models:Array(String)}, model) AND (input_tokens IS NOT NULL OR output_tokens IS NOT NULL), (greatest(0, toInt64(ifNull(input_tokens, 0)) - ifNull(cache_read_input_tokens, 0)) * transform(model, {priced_models:Array(String)}, {price_input:Array(Float64)}, 0.) + ifNull(cache_read_input_tokens, 0) * transform(model, {priced_models:Array(String)}, {price_cached_input:Array(Float64)}, 0.) + ifNull(output_tokens, 0) * transform(model, {priced_models:Array(String)}, {price_output:Array(Float64)}, 0.)) / 1e6, NULL)) AS dollars
    FROM spans FINAL
    WHERE project_id = {project:String}
      AND start_time >= {since:DateTime64(6,'UTC')}
      AND start_time < {until:DateTime64(6,'UTC')}
      AND status = {status:String}
      AND NOT startsWith(environment, 'evaluation:')
      AND (is_answer OR operation != '')
)
GROUP BY place
ORDER BY
    num_answers DESC,
    num_calls DESC,
    place;
