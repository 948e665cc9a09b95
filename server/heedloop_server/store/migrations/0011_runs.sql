-- runs: one row per training or evaluation run; `record` (heedloop.schema.Run) as JSON is the truth, the newest version counts.
CREATE TABLE IF NOT EXISTS {db}.runs{local} {on_cluster} (
    project_id LowCardinality(String),
    run_id String CODEC(ZSTD(1)),
    snapshot_id String CODEC(ZSTD(1)),
    record String CODEC(ZSTD(3)),
    started_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, run_id)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: runs cityHash64(run_id)

-- run_history: live metrics. A step sent twice (a resumed run repeats some) keeps the last word.
CREATE TABLE IF NOT EXISTS {db}.run_history{local} {on_cluster} (
    project_id LowCardinality(String),
    run_id String CODEC(ZSTD(1)),
    step UInt64 CODEC(Delta(8), ZSTD(1)),
    name LowCardinality(String),
    value Float64 CODEC(ZSTD(1)),
    received_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1))
) ENGINE = {R}ReplacingMergeTree(received_at)
ORDER BY (project_id, run_id, step, name)
SETTINGS {dedup};

-- distributed: run_history cityHash64(run_id)
