-- evaluations: `record` (heedloop.responses.Evaluation) as JSON is the truth, the newest version counts.
CREATE TABLE IF NOT EXISTS {db}.evaluations{local} {on_cluster} (
    project_id LowCardinality(String),
    name String,
    record String CODEC(ZSTD(3)),
    created_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, name)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: evaluations cityHash64(name)

-- evaluation_rows: one per answered case, `record` (heedloop.responses.EvaluationRow) as JSON: ids and numbers, no words.
CREATE TABLE IF NOT EXISTS {db}.evaluation_rows{local} {on_cluster} (
    project_id LowCardinality(String),
    name String,
    case_id String,
    record String CODEC(ZSTD(3)),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, name, case_id)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: evaluation_rows cityHash64(name)

-- case_sets: a row per version of a named set, `record` (heedloop.schema.CaseSet) as JSON: a query and counts, no words.
CREATE TABLE IF NOT EXISTS {db}.case_sets{local} {on_cluster} (
    project_id LowCardinality(String),
    name String,
    set_version UInt32,
    record String CODEC(ZSTD(3)),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, name, set_version)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: case_sets cityHash64(name)
