-- experiments: `record` (heedloop.responses.Experiment) as JSON, the newest state of each round of a name. secret signs what its
-- webhook is sent.
CREATE TABLE IF NOT EXISTS {db}.experiments{local} {on_cluster} (
    project_id LowCardinality(String),
    name String,
    round UInt32,
    record String CODEC(ZSTD(3)),
    secret String,
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, name, round)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: experiments cityHash64(name)

-- experiment_looks: what the server found of a running experiment, the last of each hour; `look` (heedloop.responses.Look) as JSON.
CREATE TABLE IF NOT EXISTS {db}.experiment_looks{local} {on_cluster} (
    project_id LowCardinality(String),
    name String,
    round UInt32,
    hour DateTime('UTC'),
    look String CODEC(ZSTD(3)),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, name, round, hour)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: experiment_looks cityHash64(name)
