-- Fingerprints by minute in place of those by hour: an hour's is the sum of its minutes', so that one projection serves every grain.
ALTER TABLE {db}.spans{local} {on_cluster} ADD PROJECTION IF NOT EXISTS minutes (
    SELECT
        project_id,
        toStartOfMinute(start_time, 'UTC'),
        sum(cityHash64(trace_id, span_id, ingested_at, is_answer, status, model, prompt_name, prompt_version, service, environment, tags, sampling_probability))
    GROUP BY
        project_id,
        toStartOfMinute(start_time, 'UTC')
);
ALTER TABLE {db}.spans{local} {on_cluster} MATERIALIZE PROJECTION minutes;
ALTER TABLE {db}.spans{local} {on_cluster} DROP PROJECTION IF EXISTS hours;

ALTER TABLE {db}.feedback{local} {on_cluster} ADD PROJECTION IF NOT EXISTS minutes (
    SELECT
        project_id,
        toStartOfMinute(call_time, 'UTC'),
        sum(cityHash64(feedback_id, version, is_deleted, received_at, call_is_answer, call_status, model, prompt_name, prompt_version, service, environment, call_tags, call_probability))
    GROUP BY
        project_id,
        toStartOfMinute(call_time, 'UTC')
);
ALTER TABLE {db}.feedback{local} {on_cluster} MATERIALIZE PROJECTION minutes;
ALTER TABLE {db}.feedback{local} {on_cluster} DROP PROJECTION IF EXISTS hours;

-- Aggregates of answers and of feedback are rows of their own, so that a thumb on an old answer makes no answer be counted again.
-- `part` is 'answers' or 'feedback'; `grain` is 'minute', 'hour' or 'day'. What is in it is counted from the rows again.
DROP TABLE IF EXISTS {db}.answer_cells {on_cluster} SYNC;
DROP TABLE IF EXISTS {db}.answer_cells{local} {on_cluster} SYNC;
CREATE TABLE IF NOT EXISTS {db}.answer_aggregates{local} {on_cluster} (
    project_id LowCardinality(String),
    part LowCardinality(String),
    grain LowCardinality(String),
    start DateTime('UTC'),
    print UInt64,
    dropped Array(String),
    cell_what Array(LowCardinality(String)),
    cell_is_answer Array(Bool),
    cell_model Array(LowCardinality(String)),
    cell_prompt_name Array(LowCardinality(String)),
    cell_prompt_version Array(LowCardinality(String)),
    cell_service Array(LowCardinality(String)),
    cell_environment Array(LowCardinality(String)),
    cell_status Array(LowCardinality(String)),
    cell_answer_chars Array(LowCardinality(String)),
    cell_user Array(LowCardinality(String)),
    cell_tags Array(Array(LowCardinality(String))),
    cell_metadata Array(Map(LowCardinality(String), String)),
    cell_num Array(UInt64),
    cell_num_up Array(UInt64),
    cell_sum_w Array(Float64),
    cell_sum_w2 Array(Float64),
    cell_sum_wy Array(Float64),
    cell_sum_w2y Array(Float64),
    cell_extra_w Array(Float64),
    cell_extra_w2 Array(Float64),
    made_at DateTime64(6, 'UTC')
) ENGINE = {R}ReplacingMergeTree(made_at)
ORDER BY (project_id, part, grain, start)
TTL start + toIntervalDay(62) DELETE WHERE grain = 'minute'
SETTINGS index_granularity = 64, {dedup};

-- distributed: answer_aggregates cityHash64(project_id, start)
