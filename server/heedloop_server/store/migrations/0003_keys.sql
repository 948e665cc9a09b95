-- Append and take the newest: a key or project is changed by inserting its row again with a higher version.
-- secret_hash: SHA-256 (hex) over the whole key text; the text itself is never stored.
CREATE TABLE IF NOT EXISTS {db}.projects{local} {on_cluster} (
    project_id String,
    created_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY project_id
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: projects cityHash64(project_id)

CREATE TABLE IF NOT EXISTS {db}.keys{local} {on_cluster} (
    key_id String,
    project_id String,
    name String,
    scopes Array(String),
    secret_hash String,
    created_at DateTime64(6, 'UTC'),
    expires_at Nullable(DateTime64(6, 'UTC')),
    revoked_at Nullable(DateTime64(6, 'UTC')),
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY key_id
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: keys cityHash64(key_id)

CREATE TABLE IF NOT EXISTS {db}.key_uses{local} {on_cluster} (
    key_id String,
    used_at DateTime64(6, 'UTC')
) ENGINE = {R}ReplacingMergeTree(used_at)
ORDER BY key_id
SETTINGS {dedup};

-- distributed: key_uses cityHash64(key_id)

CREATE TABLE IF NOT EXISTS {db}.audit{local} {on_cluster} (
    project_id String,
    at DateTime64(6, 'UTC'),
    key_id String,
    action LowCardinality(String),
    subject String,
    details String CODEC(ZSTD(1))
) ENGINE = {R}MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (project_id, at)
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: audit cityHash64(project_id)
