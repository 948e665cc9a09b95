-- Log records that hold a call's content, until and after they joined their call (heedloop_server.normalise.LogContent as JSON).
-- They may come before the span, so that they are kept; the same record again is the same row.
CREATE TABLE IF NOT EXISTS {db}.contents{local} {on_cluster} (
    project_id LowCardinality(String),
    trace_id FixedString(16),
    span_id FixedString(8),
    record_hash FixedString(16),
    record String CODEC(ZSTD(1)),
    at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    ingested_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1))
) ENGINE = {R}ReplacingMergeTree(ingested_at)
ORDER BY (project_id, trace_id, span_id, record_hash)
SETTINGS index_granularity = 1024, {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: contents cityHash64(trace_id)
