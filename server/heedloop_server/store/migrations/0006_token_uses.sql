-- What each feedback token was used for, so that it cannot be used again by somebody else (docs/api.md, "Feedback tokens").
-- token: SHA-256 of the token's signed part. link: SHA-256 of the proof a use came with, empty for the first. digest: of what was posted.
-- next: SHA-256 of the proof that the next use must bring, empty where there shall be none. Kept for a day after the token expired.
CREATE TABLE IF NOT EXISTS {db}.token_uses{local} {on_cluster} (
    project_id LowCardinality(String),
    token String,
    link String,
    digest String,
    next String,
    expires_at DateTime('UTC'),
    at DateTime64(6, 'UTC')
) ENGINE = {R}ReplacingMergeTree(at)
ORDER BY (project_id, token, link, digest)
TTL expires_at + INTERVAL 1 DAY
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: token_uses cityHash64(token)
