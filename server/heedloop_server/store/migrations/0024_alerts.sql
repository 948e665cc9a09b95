-- Alerts: what is watched (rule as JSON; secret signs the webhook), where it stands (state as JSON), and every change with its delivery.
-- Append and take the newest. A change's id is made from its alert and its moment, so that two servers write one row.
CREATE TABLE IF NOT EXISTS {db}.alert_rules{local} {on_cluster} (
    project_id LowCardinality(String),
    alert_id String,
    rule String CODEC(ZSTD(1)),
    secret String,
    created_at DateTime64(6, 'UTC'),
    started_at DateTime64(6, 'UTC'),
    version UInt64,
    is_deleted UInt8
) ENGINE = {R}ReplacingMergeTree(version, is_deleted)
ORDER BY (project_id, alert_id)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: alert_rules cityHash64(alert_id)

CREATE TABLE IF NOT EXISTS {db}.alert_states{local} {on_cluster} (
    project_id LowCardinality(String),
    alert_id String,
    state String CODEC(ZSTD(1)),
    version UInt64,
    is_deleted UInt8
) ENGINE = {R}ReplacingMergeTree(version, is_deleted)
ORDER BY (project_id, alert_id)
SETTINGS {dedup};

-- distributed: alert_states cityHash64(alert_id)

CREATE TABLE IF NOT EXISTS {db}.alert_history{local} {on_cluster} (
    project_id LowCardinality(String),
    alert_id String,
    change_id String,
    at DateTime64(6, 'UTC'),
    change String CODEC(ZSTD(1)),
    delivery_status LowCardinality(String),
    attempts UInt8,
    next_at DateTime64(6, 'UTC'),
    delivery_error String CODEC(ZSTD(1)),
    delivery_at DateTime64(6, 'UTC'),
    version UInt64,
    is_deleted UInt8
) ENGINE = {R}ReplacingMergeTree(version, is_deleted)
ORDER BY (project_id, alert_id, change_id)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: alert_history cityHash64(alert_id)

-- Which of several servers does what only one should: the one that said so first and still says so.
CREATE TABLE IF NOT EXISTS {db}.duties{local} {on_cluster} (
    duty LowCardinality(String),
    holder String,
    first_at DateTime64(6, 'UTC'),
    beat_at DateTime64(6, 'UTC')
) ENGINE = {R}ReplacingMergeTree(beat_at)
ORDER BY (duty, holder)
TTL toDateTime(beat_at) + INTERVAL 1 DAY
SETTINGS {dedup};

-- distributed: duties cityHash64(duty)
