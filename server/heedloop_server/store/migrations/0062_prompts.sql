-- prompts: versions, `record` (heedloop.schema.Prompt) as JSON; one never changes. Of two that were stored under one number at once the
-- earlier stays (`version` falls with time), and the other's sender takes the next number.
CREATE TABLE IF NOT EXISTS {db}.prompts{local} {on_cluster} (
    project_id LowCardinality(String),
    name String,
    number UInt32,
    record String CODEC(ZSTD(3)),
    note String CODEC(ZSTD(3)),
    created_by String,
    created_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, name, number)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: prompts cityHash64(name)

-- prompt_labels: which version a label names now; 0 where it was taken off.
CREATE TABLE IF NOT EXISTS {db}.prompt_labels{local} {on_cluster} (
    project_id LowCardinality(String),
    name String,
    label String,
    number UInt32,
    set_by String,
    set_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, name, label)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: prompt_labels cityHash64(name)
