-- jobs: long work behind a request; the newest version of a row counts. `request` is what a server needs to run it again, emptied when it
-- is over; `beat_at` (the store's clock) is when `holder` last said that it runs.
CREATE TABLE IF NOT EXISTS {db}.jobs{local} {on_cluster} (
    project_id LowCardinality(String),
    job_id String CODEC(ZSTD(1)),
    kind LowCardinality(String),
    key_id LowCardinality(String),
    key_name String CODEC(ZSTD(1)),
    author_id String CODEC(ZSTD(1)),
    state LowCardinality(String),
    request String CODEC(ZSTD(3)),
    done UInt64,
    total UInt64,
    unit LowCardinality(String),
    result String CODEC(ZSTD(3)),
    error String CODEC(ZSTD(3)),
    attempt UInt8,
    holder LowCardinality(String),
    created_at DateTime64(6, 'UTC'),
    started_at Nullable(DateTime64(6, 'UTC')),
    ended_at Nullable(DateTime64(6, 'UTC')),
    beat_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, job_id)
TTL toDateTime(created_at) + INTERVAL 90 DAY
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: jobs cityHash64(job_id)

-- job_cancels: which jobs are to end; apart from `jobs`, whose rows only their holder writes.
CREATE TABLE IF NOT EXISTS {db}.job_cancels{local} {on_cluster} (
    project_id LowCardinality(String),
    job_id String CODEC(ZSTD(1)),
    at DateTime64(6, 'UTC')
) ENGINE = {R}ReplacingMergeTree(at)
ORDER BY (project_id, job_id)
TTL toDateTime(at) + INTERVAL 90 DAY
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: job_cancels cityHash64(job_id)
