-- Clusters of low-rated answers as they were found once: their words (summary) and their calls, so that a cluster can be listed, reviewed
-- and frozen by its id. Nothing but ids and single words is kept, for two weeks.
CREATE TABLE IF NOT EXISTS {db}.clusterings{local} {on_cluster} (
    project_id LowCardinality(String),
    view_key String CODEC(ZSTD(1)),
    made_at DateTime64(6, 'UTC'),
    since DateTime64(6, 'UTC'),
    until DateTime64(6, 'UTC'),
    summary String CODEC(ZSTD(3)),
    trace_ids Array(FixedString(16)) CODEC(ZSTD(1)),
    span_ids Array(FixedString(8)) CODEC(ZSTD(1)),
    cluster_ids Array(LowCardinality(String)) CODEC(ZSTD(1))
) ENGINE = {R}ReplacingMergeTree(made_at)
ORDER BY (project_id, view_key, made_at)
TTL toDateTime(made_at) + INTERVAL 14 DAY
SETTINGS index_granularity = 16, {dedup};

-- distributed: clusterings cityHash64(project_id, view_key)
