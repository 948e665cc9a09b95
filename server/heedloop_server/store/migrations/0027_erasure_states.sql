-- Which erasures are noted (`erased_traces`, `erased_feedback`) but not yet removed from the tables: every read hides their rows.
CREATE TABLE IF NOT EXISTS {db}.erasure_states{local} {on_cluster} (
    project_id LowCardinality(String),
    erasure_id String,
    is_removed Bool,
    at DateTime64(6, 'UTC')
) ENGINE = {R}ReplacingMergeTree(at)
ORDER BY (project_id, erasure_id)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: erasure_states cityHash64(erasure_id)
