-- What a project chose for itself, as a JSON object (heedloop_server.project_settings); what is missing follows the server's settings.
CREATE TABLE IF NOT EXISTS {db}.project_settings{local} {on_cluster} (
    project_id String,
    record String,
    version UInt64
) ENGINE = {R}ReplacingMergeTree(version)
ORDER BY project_id
SETTINGS {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: project_settings cityHash64(project_id)
