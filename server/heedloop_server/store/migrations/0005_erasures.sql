-- erased_traces: traces that were erased; spans of theirs that come later are refused, and the deletions name them by this table, so that
-- no person's id stays behind in a mutation's text.
CREATE TABLE IF NOT EXISTS {db}.erased_traces{local} {on_cluster} (
    project_id LowCardinality(String),
    trace_id FixedString(16),
    erasure_id String,
    at DateTime64(6, 'UTC')
) ENGINE = {R}ReplacingMergeTree(at)
ORDER BY (project_id, trace_id)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: erased_traces cityHash64(trace_id)

CREATE TABLE IF NOT EXISTS {db}.erased_feedback{local} {on_cluster} (
    project_id LowCardinality(String),
    feedback_id UUID,
    erasure_id String,
    at DateTime64(6, 'UTC')
) ENGINE = {R}ReplacingMergeTree(at)
ORDER BY (project_id, feedback_id)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: erased_feedback cityHash64(feedback_id)

-- What a deletion rewrote stays on disk as an inactive part for this long (seconds); the default is eight minutes.
ALTER TABLE {db}.spans{local} {on_cluster} MODIFY SETTING old_parts_lifetime = 30;
ALTER TABLE {db}.feedback{local} {on_cluster} MODIFY SETTING old_parts_lifetime = 30;
ALTER TABLE {db}.feedback_history{local} {on_cluster} MODIFY SETTING old_parts_lifetime = 30;
