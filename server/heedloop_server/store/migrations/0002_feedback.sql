-- feedback: the newest word of each identity (heedloop.schema.Feedback.identity); read it with FINAL, which also hides retractions.
-- feedback_history: everything that was ever said, by the sender's own id, so that sending the same id again changes nothing.
-- `record` is the whole Feedback as JSON and the truth; the other columns are there to filter, join and count.
-- call_* and the columns after them are copied from the judged call; call_time is 1970 where the call is not known (yet).
-- score: a rating's number; label: a rating's category or a flag's category; is_thumb: a rating of 0 or 1 on the scale 0 to 1.
-- target_*: what the sender named; trace_id, span_id: the call it was found to mean (zeros until then). Sort key: target_hash, not
-- trace_id, because feedback on a session or a response gets its trace later and the key must not change.
CREATE TABLE IF NOT EXISTS {db}.feedback{local} {on_cluster} (
    project_id LowCardinality(String),
    feedback_id UUID,
    trace_id FixedString(16),
    span_id FixedString(8),
    target_trace_id FixedString(16),
    target_span_id FixedString(8),
    target_session_id String CODEC(ZSTD(1)),
    target_response_id String CODEC(ZSTD(1)),
    kind LowCardinality(String),
    name LowCardinality(String),
    score Nullable(Float64) CODEC(ZSTD(1)),
    label LowCardinality(String),
    is_thumb Bool,
    severity LowCardinality(String),
    has_comment Bool,
    author_kind LowCardinality(String),
    author_id String CODEC(ZSTD(1)),
    queue_item String CODEC(ZSTD(1)),
    guideline LowCardinality(String),
    sampling_probability Nullable(Float64) CODEC(ZSTD(1)),
    solicited Nullable(Bool),
    other_trace_ids Array(FixedString(16)),
    call_time DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    model LowCardinality(String),
    prompt_name LowCardinality(String),
    prompt_version LowCardinality(String),
    service LowCardinality(String),
    environment LowCardinality(String),
    user_id String CODEC(ZSTD(1)),
    session_id String CODEC(ZSTD(1)),
    record String CODEC(ZSTD(3)),
    created_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    received_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    version UInt64 CODEC(Delta(8), ZSTD(1)),
    is_deleted UInt8,
    INDEX idx_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_created created_at TYPE minmax GRANULARITY 1
) ENGINE = {R}ReplacingMergeTree(version, is_deleted)
ORDER BY (project_id, feedback_id)
SETTINGS index_granularity = 1024, {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: feedback cityHash64(feedback_id)

CREATE TABLE IF NOT EXISTS {db}.feedback_history{local} {on_cluster} (
    project_id LowCardinality(String),
    client_id String CODEC(ZSTD(1)),
    feedback_id UUID,
    key_id LowCardinality(String),
    record String CODEC(ZSTD(3)),
    created_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    received_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    version UInt64 CODEC(Delta(8), ZSTD(1)),
    is_deleted UInt8,
    INDEX idx_feedback feedback_id TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = {R}ReplacingMergeTree(received_at)
ORDER BY (project_id, client_id)
SETTINGS index_granularity = 1024, {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: feedback_history cityHash64(client_id)
