-- received = stored + rejected + duplicate for what was loaded; what still waits in a log is added by the server that holds it.
-- One row per log segment, project and signal (`spans` or `feedback`), so that loading a segment again counts nothing twice.
CREATE TABLE IF NOT EXISTS {db}.ledger{local} {on_cluster} (
    project_id LowCardinality(String),
    signal LowCardinality(String),
    source String,
    received UInt64,
    stored UInt64,
    rejected UInt64,
    duplicate UInt64,
    reasons Map(String, UInt64),
    at DateTime64(6, 'UTC')
) ENGINE = {R}ReplacingMergeTree(at)
ORDER BY (project_id, signal, source)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: ledger cityHash64(project_id, source)

-- What each SDK process says of its own deliveries; the newest row of an SDK counts.
CREATE TABLE IF NOT EXISTS {db}.sdk_delivery{local} {on_cluster} (
    project_id LowCardinality(String),
    sdk_id String,
    counts String CODEC(ZSTD(1)),
    at DateTime64(6, 'UTC')
) ENGINE = {R}ReplacingMergeTree(at)
ORDER BY (project_id, sdk_id)
TTL toDateTime(at) + INTERVAL 90 DAY
SETTINGS {dedup};

-- distributed: sdk_delivery cityHash64(sdk_id)
