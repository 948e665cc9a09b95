-- judges: `record` (heedloop.schema.JudgeSpec) as JSON; it never changes, since judge_id is its name and its hash.
CREATE TABLE IF NOT EXISTS {db}.judges{local} {on_cluster} (
    project_id LowCardinality(String),
    judge_id String,
    record String CODEC(ZSTD(3)),
    created_by String,
    created_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, judge_id)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: judges cityHash64(judge_id)

-- judge_calls: what a judge did with each item (a hash of the answers it was asked about): the newest word counts.
-- status: judged, unparsable, failed; same and changed of a judged item that was asked again. error is a kind, never a text.
-- num_calls, tokens, cost (in the currency of the prices that the worker was given) and latency are of all attempts together.
CREATE TABLE IF NOT EXISTS {db}.judge_calls{local} {on_cluster} (
    project_id LowCardinality(String),
    judge_id LowCardinality(String),
    item String,
    status LowCardinality(String),
    error LowCardinality(String),
    num_calls UInt32,
    input_tokens UInt64,
    output_tokens UInt64,
    cost Float64,
    latency_ms Float64,
    at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, judge_id, item)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: judge_calls cityHash64(item)
