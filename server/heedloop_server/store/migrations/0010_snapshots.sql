-- snapshots: one row per frozen dataset, `record` (heedloop.schema.Snapshot) and `report` as JSON. Written after its rows, so that a
-- snapshot that can be read is whole.
CREATE TABLE IF NOT EXISTS {db}.snapshots{local} {on_cluster} (
    project_id LowCardinality(String),
    snapshot_id String CODEC(ZSTD(1)),
    record String CODEC(ZSTD(3)),
    report String CODEC(ZSTD(3)),
    num_erased UInt64,
    created_at DateTime64(6, 'UTC'),
    version UInt64,
    is_deleted UInt8
) ENGINE = {R}ReplacingMergeTree(version, is_deleted)
ORDER BY (project_id, snapshot_id)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: snapshots cityHash64(snapshot_id)

-- snapshot_rows: the rows themselves, `position` from 0 within a form. The id is made from the rows, so writing one twice is harmless.
CREATE TABLE IF NOT EXISTS {db}.snapshot_rows{local} {on_cluster} (
    project_id LowCardinality(String),
    snapshot_id String CODEC(ZSTD(1)),
    form LowCardinality(String),
    position UInt32 CODEC(Delta(4), ZSTD(1)),
    split LowCardinality(String),
    feedback_ids Array(UUID) CODEC(ZSTD(1)),
    trace_ids Array(FixedString(16)) CODEC(ZSTD(1)),
    row String CODEC(ZSTD(3))
) ENGINE = {R}ReplacingMergeTree
ORDER BY (project_id, snapshot_id, form, position)
SETTINGS index_granularity = 1024, {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: snapshot_rows cityHash64(snapshot_id)

-- snapshot_sources: from a feedback or a trace to the snapshots that used it.
CREATE TABLE IF NOT EXISTS {db}.snapshot_sources{local} {on_cluster} (
    project_id LowCardinality(String),
    kind LowCardinality(String),
    source_id String CODEC(ZSTD(1)),
    snapshot_id String CODEC(ZSTD(1))
) ENGINE = {R}ReplacingMergeTree
ORDER BY (project_id, kind, source_id, snapshot_id)
SETTINGS index_granularity = 1024, {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: snapshot_sources cityHash64(source_id)
