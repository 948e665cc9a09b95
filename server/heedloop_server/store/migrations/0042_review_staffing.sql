-- priority: items with a greater one come first. assigned: annotators, or group:NAME, who alone are offered the item; empty for all.
-- language: of the answer's call, where its queue hands answers out by language.
-- Two statements per column set: on a cluster the local table and the distributed one over it, else twice the same, harmlessly.
ALTER TABLE {db}.review_items{local} {on_cluster}
    ADD COLUMN IF NOT EXISTS priority Int16 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS assigned Array(String) DEFAULT [],
    ADD COLUMN IF NOT EXISTS language LowCardinality(String) DEFAULT '';

ALTER TABLE {db}.review_items {on_cluster}
    ADD COLUMN IF NOT EXISTS priority Int16 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS assigned Array(String) DEFAULT [],
    ADD COLUMN IF NOT EXISTS language LowCardinality(String) DEFAULT '';

-- The people who review: their groups and languages.
CREATE TABLE IF NOT EXISTS {db}.review_team{local} {on_cluster} (
    project_id LowCardinality(String),
    author_id String,
    groups Array(String),
    languages Array(String),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY (project_id, author_id)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: review_team cityHash64(author_id)
