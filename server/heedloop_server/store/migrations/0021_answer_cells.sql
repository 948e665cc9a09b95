-- What the quality pages count, counted before: one row per hour (and per day) of a project, holding arrays of cells, so that it is
-- replaced whole. store/rollup.py writes it, store/cells.py reads it.
--
-- A row is good for as long as the two prints in it are those of the hour's rows now: a print is the sum of a hash over every row of an
-- hour, kept by a projection within the parts themselves. So it follows inserts, resends, merges, deletions and crashes without any code
-- of ours, and what is not good is counted from the rows.
--
-- cell_what: 'answer' (recorded calls), 'thumb <author kind>' (answers by their newest thumb), 'kind <kind>' (pieces of feedback),
-- 'flag <category>' (answers flagged with it). dropped: metadata keys with too many values to be part of a cell.
CREATE TABLE IF NOT EXISTS {db}.answer_cells{local} {on_cluster} (
    project_id LowCardinality(String),
    grain LowCardinality(String),
    start DateTime('UTC'),
    span_print UInt64,
    feedback_print UInt64,
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
ORDER BY (project_id, grain, start)
SETTINGS index_granularity = 64, {dedup};

-- distributed: answer_cells cityHash64(project_id, start)

ALTER TABLE {db}.spans{local} {on_cluster} MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';
ALTER TABLE {db}.spans{local} {on_cluster} ADD PROJECTION IF NOT EXISTS hours (
    SELECT
        project_id,
        toStartOfHour(start_time, 'UTC'),
        sum(cityHash64(trace_id, span_id, ingested_at, is_answer, status, model, prompt_name, prompt_version, service, environment, tags, sampling_probability))
    GROUP BY
        project_id,
        toStartOfHour(start_time, 'UTC')
);
ALTER TABLE {db}.spans{local} {on_cluster} MATERIALIZE PROJECTION hours;

ALTER TABLE {db}.feedback{local} {on_cluster} MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';
ALTER TABLE {db}.feedback{local} {on_cluster} ADD PROJECTION IF NOT EXISTS hours (
    SELECT
        project_id,
        toStartOfHour(call_time, 'UTC'),
        sum(cityHash64(feedback_id, version, is_deleted, received_at, call_is_answer, call_status, model, prompt_name, prompt_version, service, environment, call_tags, call_probability))
    GROUP BY
        project_id,
        toStartOfHour(call_time, 'UTC')
);
ALTER TABLE {db}.feedback{local} {on_cluster} MATERIALIZE PROJECTION hours;

-- The feedback of a few hours, without reading all of it: the table's own key is the feedback's id.
ALTER TABLE {db}.feedback{local} {on_cluster} ADD PROJECTION IF NOT EXISTS by_call (
    SELECT
        project_id,
        call_time,
        feedback_id,
        trace_id,
        span_id,
        kind,
        name,
        score,
        label,
        is_thumb,
        has_comment,
        author_kind,
        sampling_probability,
        model,
        prompt_name,
        prompt_version,
        service,
        environment,
        user_id,
        session_id,
        received_at,
        version,
        is_deleted,
        call_is_answer,
        call_status,
        call_tags,
        call_metadata,
        call_answer_chars,
        call_probability
    ORDER BY
        project_id,
        call_time
);
ALTER TABLE {db}.feedback{local} {on_cluster} MATERIALIZE PROJECTION by_call;
