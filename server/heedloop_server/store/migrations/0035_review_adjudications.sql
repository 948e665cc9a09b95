-- What a reviewer settled: the newest word on each item of a review queue. Every word, with its reason, is also feedback.
-- answers: JSON {question: answer}, lists and indices in the order of the item's trace_ids. revision counts the changes; version is it.
CREATE TABLE IF NOT EXISTS {db}.review_adjudications{local} {on_cluster} (
    project_id LowCardinality(String),
    queue_id String,
    item_id String,
    reviewer String CODEC(ZSTD(1)),
    answers String CODEC(ZSTD(1)),
    reason String CODEC(ZSTD(1)),
    guideline UInt32,
    judged_at DateTime64(6, 'UTC'),
    trace_ids Array(FixedString(16)),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, queue_id, item_id)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 30;

-- distributed: review_adjudications cityHash64(queue_id)
