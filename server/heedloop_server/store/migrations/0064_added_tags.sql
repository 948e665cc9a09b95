-- added_tags: tags that users gave calls later, one row per call and tag, the newest counts; spans are never rewritten.
-- `call_time` is when the call started: its hour is counted again.
CREATE TABLE IF NOT EXISTS {db}.added_tags{local} {on_cluster} (
    project_id LowCardinality(String),
    trace_id FixedString(16),
    span_id FixedString(8),
    tag String CODEC(ZSTD(1)),
    call_time DateTime64(6, 'UTC'),
    is_removed Bool,
    author_id String CODEC(ZSTD(1)),
    at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, trace_id, span_id, tag)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: added_tags cityHash64(trace_id)
