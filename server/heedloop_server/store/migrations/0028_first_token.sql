-- Nanoseconds from a streamed call's start to its first token, from the attributes that say it (seconds in the GenAI conventions,
-- milliseconds elsewhere); 0 where none does. Computed by the engine, so that old rows have it as well.
-- Two statements: on a cluster the local table and the distributed one over it, else twice the same, harmlessly.
ALTER TABLE {db}.spans{local} {on_cluster}
    ADD COLUMN IF NOT EXISTS first_token_ns UInt64 MATERIALIZED toUInt64(greatest(0, coalesce(
        toFloat64OrNull(attributes['gen_ai.response.time_to_first_chunk']) * 1e9,
        toFloat64OrNull(attributes['ai.response.msToFirstChunk']) * 1e6,
        toFloat64OrNull(attributes['ai.stream.msToFirstChunk']) * 1e6,
        toFloat64OrNull(attributes['ttft_ms']) * 1e6,
        0))) CODEC(T64, ZSTD(1));

ALTER TABLE {db}.spans {on_cluster}
    ADD COLUMN IF NOT EXISTS first_token_ns UInt64 MATERIALIZED toUInt64(greatest(0, coalesce(
        toFloat64OrNull(attributes['gen_ai.response.time_to_first_chunk']) * 1e9,
        toFloat64OrNull(attributes['ai.response.msToFirstChunk']) * 1e6,
        toFloat64OrNull(attributes['ai.stream.msToFirstChunk']) * 1e6,
        toFloat64OrNull(attributes['ttft_ms']) * 1e6,
        0))) CODEC(T64, ZSTD(1));
