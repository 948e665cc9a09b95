-- Review. Append and take the newest everywhere. `record` columns are JSON of the classes in heedloop_server.review.
-- changed_at is the store's own clock, so that several servers can ask what changed since they last looked.
CREATE TABLE IF NOT EXISTS {db}.review_queues{local} {on_cluster} (
    project_id LowCardinality(String),
    queue_id String,
    record String CODEC(ZSTD(3)),
    changed_at DateTime64(6, 'UTC') DEFAULT now64(6),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, queue_id)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: review_queues cityHash64(queue_id)

CREATE TABLE IF NOT EXISTS {db}.review_guidelines{local} {on_cluster} (
    project_id LowCardinality(String),
    queue_id String,
    number UInt32,
    text String CODEC(ZSTD(3)),
    examples String CODEC(ZSTD(3)),
    send_back Bool,
    created_by String,
    created_at DateTime64(6, 'UTC')
) ENGINE = {R}ReplacingMergeTree(created_at)
ORDER BY (project_id, queue_id, number)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: review_guidelines cityHash64(queue_id)

-- review_items: one answer, or several to one prompt. item_id is a hash of queue and targets, so that adding one twice is harmless.
-- call_times are the answers' start times, which the content is read by. sampling_probability is NULL where the item was not drawn.
-- gold: '' (an ordinary item), 'gold' or 'training'; expected: JSON {question: answer}, answers in the order of trace_ids.
-- reason: JSON, why a source took it. position orders the items of a queue.
CREATE TABLE IF NOT EXISTS {db}.review_items{local} {on_cluster} (
    project_id LowCardinality(String),
    queue_id String,
    item_id String,
    trace_ids Array(FixedString(16)),
    span_ids Array(FixedString(8)),
    call_times Array(DateTime64(6, 'UTC')),
    source LowCardinality(String),
    reason String CODEC(ZSTD(1)),
    sampling_probability Nullable(Float64),
    gold LowCardinality(String),
    expected String CODEC(ZSTD(1)),
    expected_why String CODEC(ZSTD(1)),
    position UInt64,
    changed_at DateTime64(6, 'UTC') DEFAULT now64(6),
    version UInt64,
    is_deleted UInt8,
    INDEX idx_item item_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_changed changed_at TYPE minmax GRANULARITY 1
) ENGINE = {R}ReplacingMergeTree(version, is_deleted)
ORDER BY (project_id, queue_id, item_id)
SETTINGS index_granularity = 1024, {dedup}, fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 30;

-- distributed: review_items cityHash64(queue_id)

-- review_assignments: one annotator's work on one item, as it stands now; the judgements are those with state 'done'.
-- state: claimed (asked for, by a server that has not seen yet whether it was first), withdrawn (it was not), leased, done, skipped.
-- answers: JSON {question: answer} of a judgement, lists and indices in the order of the item's trace_ids; draft: JSON in the order shown
-- (indices into trace_ids: shown_order). feedback_ids: the Feedback that the judgement became. revision counts its changes.
-- version: step * 2^44 + milliseconds; every change of state is a step, so that a late draft can never undo a submission.
CREATE TABLE IF NOT EXISTS {db}.review_assignments{local} {on_cluster} (
    project_id LowCardinality(String),
    queue_id String,
    item_id String,
    annotator String CODEC(ZSTD(1)),
    assignment_id UUID,
    state LowCardinality(String),
    leased_at DateTime64(6, 'UTC'),
    expires_at DateTime64(6, 'UTC'),
    guideline UInt32,
    shown_order Array(UInt8),
    answers String CODEC(ZSTD(1)),
    draft String CODEC(ZSTD(1)),
    reason String CODEC(ZSTD(1)),
    revision UInt32,
    judged_at DateTime64(6, 'UTC'),
    duration_ms UInt32,
    feedback_ids Array(UUID),
    trace_ids Array(FixedString(16)),
    key_id LowCardinality(String),
    changed_at DateTime64(6, 'UTC') DEFAULT now64(6),
    version UInt64,
    INDEX idx_assignment assignment_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_changed changed_at TYPE minmax GRANULARITY 1
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, queue_id, item_id, annotator)
SETTINGS index_granularity = 1024, {dedup}, fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 30;

-- distributed: review_assignments cityHash64(queue_id)
