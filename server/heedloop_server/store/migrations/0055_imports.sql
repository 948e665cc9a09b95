-- imports: one row per import; `record` (heedloop.responses.Import) as JSON is the truth, the newest version counts.
CREATE TABLE IF NOT EXISTS {db}.imports{local} {on_cluster} (
    project_id LowCardinality(String),
    import_id String CODEC(ZSTD(1)),
    record String CODEC(ZSTD(3)),
    started_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, import_id)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: imports cityHash64(import_id)
