SELECT
    toStartOfHour(at, 'UTC') AS hour,
    sumIf(duration_ns > {limit_ms:Float64} * 1e6, is_answer) AS amount,
    countIf(is_answer) AS num
FROM (
    SELECT
        start_time AS at,
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
      AND NOT startsWith(environment, 'evaluation:')
      AND (is_answer OR operation != '')
)
GROUP BY hour;
