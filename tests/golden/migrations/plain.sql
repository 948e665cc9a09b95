CREATE DATABASE IF NOT EXISTS heedloop  ENGINE = Atomic;

CREATE TABLE IF NOT EXISTS heedloop.spans  (
    project_id LowCardinality(String),
    trace_id FixedString(16),
    span_id FixedString(8),
    parent_span_id FixedString(8),
    start_time DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    duration_ns UInt64 CODEC(T64, ZSTD(1)),
    name LowCardinality(String),
    service LowCardinality(String),
    environment LowCardinality(String),
    operation LowCardinality(String),
    is_answer Bool,
    status LowCardinality(String),
    error_message String CODEC(ZSTD(1)),
    http_status UInt16,
    provider LowCardinality(String),
    model LowCardinality(String),
    model_requested LowCardinality(String),
    model_answered LowCardinality(String),
    response_id String CODEC(ZSTD(1)),
    stream Bool,
    finish_reasons Array(LowCardinality(String)),
    params String CODEC(ZSTD(1)),
    prompt_name LowCardinality(String),
    prompt_version LowCardinality(String),
    user_id String CODEC(ZSTD(1)),
    session_id String CODEC(ZSTD(1)),
    tags Array(LowCardinality(String)),
    metadata Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    input_tokens Nullable(UInt32) CODEC(ZSTD(1)),
    output_tokens Nullable(UInt32) CODEC(ZSTD(1)),
    cache_read_input_tokens Nullable(UInt32) CODEC(ZSTD(1)),
    cache_write_input_tokens Nullable(UInt32) CODEC(ZSTD(1)),
    reasoning_output_tokens Nullable(UInt32) CODEC(ZSTD(1)),
    cost Nullable(Float64) CODEC(ZSTD(1)),
    sampling_probability Float64 CODEC(ZSTD(1)),
    question String CODEC(ZSTD(1)),
    answer String CODEC(ZSTD(1)),
    input_messages String CODEC(ZSTD(1)),
    output_messages String CODEC(ZSTD(1)),
    embedding_inputs Array(String) CODEC(ZSTD(1)),
    attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ingested_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    INDEX idx_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_user user_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_session session_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_response response_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_answer lower(answer) TYPE text(tokenizer = splitByNonAlpha),
    INDEX idx_question lower(question) TYPE text(tokenizer = splitByNonAlpha)
) ENGINE = ReplacingMergeTree(ingested_at)
PARTITION BY toYYYYMM(start_time)
ORDER BY (project_id, start_time, trace_id, span_id)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.feedback  (
    project_id LowCardinality(String),
    feedback_id UUID,
    trace_id FixedString(16),
    span_id FixedString(8),
    target_trace_id FixedString(16),
    target_span_id FixedString(8),
    target_session_id String CODEC(ZSTD(1)),
    target_response_id String CODEC(ZSTD(1)),
    kind LowCardinality(String),
    name LowCardinality(String),
    score Nullable(Float64) CODEC(ZSTD(1)),
    label LowCardinality(String),
    is_thumb Bool,
    severity LowCardinality(String),
    has_comment Bool,
    author_kind LowCardinality(String),
    author_id String CODEC(ZSTD(1)),
    queue_item String CODEC(ZSTD(1)),
    guideline LowCardinality(String),
    sampling_probability Nullable(Float64) CODEC(ZSTD(1)),
    solicited Nullable(Bool),
    other_trace_ids Array(FixedString(16)),
    call_time DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    model LowCardinality(String),
    prompt_name LowCardinality(String),
    prompt_version LowCardinality(String),
    service LowCardinality(String),
    environment LowCardinality(String),
    user_id String CODEC(ZSTD(1)),
    session_id String CODEC(ZSTD(1)),
    record String CODEC(ZSTD(3)),
    created_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    received_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    version UInt64 CODEC(Delta(8), ZSTD(1)),
    is_deleted UInt8,
    INDEX idx_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_created created_at TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (project_id, feedback_id)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.feedback_history  (
    project_id LowCardinality(String),
    client_id String CODEC(ZSTD(1)),
    feedback_id UUID,
    key_id LowCardinality(String),
    record String CODEC(ZSTD(3)),
    created_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    received_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    version UInt64 CODEC(Delta(8), ZSTD(1)),
    is_deleted UInt8,
    INDEX idx_feedback feedback_id TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = ReplacingMergeTree(received_at)
ORDER BY (project_id, client_id)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.projects  (
    project_id String,
    created_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY project_id
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.keys  (
    key_id String,
    project_id String,
    name String,
    scopes Array(String),
    secret_hash String,
    created_at DateTime64(6, 'UTC'),
    expires_at Nullable(DateTime64(6, 'UTC')),
    revoked_at Nullable(DateTime64(6, 'UTC')),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY key_id
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.key_uses  (
    key_id String,
    used_at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(used_at)
ORDER BY key_id
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS heedloop.audit  (
    project_id String,
    at DateTime64(6, 'UTC'),
    key_id String,
    action LowCardinality(String),
    subject String,
    details String CODEC(ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (project_id, at)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.ledger  (
    project_id LowCardinality(String),
    signal LowCardinality(String),
    source String,
    received UInt64,
    stored UInt64,
    rejected UInt64,
    duplicate UInt64,
    reasons Map(String, UInt64),
    at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(at)
ORDER BY (project_id, signal, source)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.sdk_delivery  (
    project_id LowCardinality(String),
    sdk_id String,
    counts String CODEC(ZSTD(1)),
    at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(at)
ORDER BY (project_id, sdk_id)
TTL toDateTime(at) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS heedloop.erased_traces  (
    project_id LowCardinality(String),
    trace_id FixedString(16),
    erasure_id String,
    at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(at)
ORDER BY (project_id, trace_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.erased_feedback  (
    project_id LowCardinality(String),
    feedback_id UUID,
    erasure_id String,
    at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(at)
ORDER BY (project_id, feedback_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

ALTER TABLE heedloop.spans  MODIFY SETTING old_parts_lifetime = 30;

ALTER TABLE heedloop.feedback  MODIFY SETTING old_parts_lifetime = 30;

ALTER TABLE heedloop.feedback_history  MODIFY SETTING old_parts_lifetime = 30;

CREATE TABLE IF NOT EXISTS heedloop.token_uses  (
    project_id LowCardinality(String),
    token String,
    link String,
    digest String,
    next String,
    expires_at DateTime('UTC'),
    at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(at)
ORDER BY (project_id, token, link, digest)
TTL expires_at + INTERVAL 1 DAY
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

ALTER TABLE heedloop.keys  ADD COLUMN IF NOT EXISTS author_id String DEFAULT '';

ALTER TABLE heedloop.keys  ADD COLUMN IF NOT EXISTS author_id String DEFAULT '';

CREATE TABLE IF NOT EXISTS heedloop.contents  (
    project_id LowCardinality(String),
    trace_id FixedString(16),
    span_id FixedString(8),
    record_hash FixedString(16),
    record String CODEC(ZSTD(1)),
    at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    ingested_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1))
) ENGINE = ReplacingMergeTree(ingested_at)
ORDER BY (project_id, trace_id, span_id, record_hash)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.project_settings  (
    project_id String,
    record String,
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY project_id
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.snapshots  (
    project_id LowCardinality(String),
    snapshot_id String CODEC(ZSTD(1)),
    record String CODEC(ZSTD(3)),
    report String CODEC(ZSTD(3)),
    num_erased UInt64,
    created_at DateTime64(6, 'UTC'),
    version UInt64,
    is_deleted UInt8
) ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (project_id, snapshot_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.snapshot_rows  (
    project_id LowCardinality(String),
    snapshot_id String CODEC(ZSTD(1)),
    form LowCardinality(String),
    position UInt32 CODEC(Delta(4), ZSTD(1)),
    split LowCardinality(String),
    feedback_ids Array(UUID) CODEC(ZSTD(1)),
    trace_ids Array(FixedString(16)) CODEC(ZSTD(1)),
    row String CODEC(ZSTD(3))
) ENGINE = ReplacingMergeTree
ORDER BY (project_id, snapshot_id, form, position)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.snapshot_sources  (
    project_id LowCardinality(String),
    kind LowCardinality(String),
    source_id String CODEC(ZSTD(1)),
    snapshot_id String CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree
ORDER BY (project_id, kind, source_id, snapshot_id)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.runs  (
    project_id LowCardinality(String),
    run_id String CODEC(ZSTD(1)),
    snapshot_id String CODEC(ZSTD(1)),
    record String CODEC(ZSTD(3)),
    started_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, run_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.run_history  (
    project_id LowCardinality(String),
    run_id String CODEC(ZSTD(1)),
    step UInt64 CODEC(Delta(8), ZSTD(1)),
    name LowCardinality(String),
    value Float64 CODEC(ZSTD(1)),
    received_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1))
) ENGINE = ReplacingMergeTree(received_at)
ORDER BY (project_id, run_id, step, name)
SETTINGS non_replicated_deduplication_window = 1000;

ALTER TABLE heedloop.feedback 
    ADD COLUMN IF NOT EXISTS call_is_answer Bool DEFAULT true,
    ADD COLUMN IF NOT EXISTS call_status LowCardinality(String) DEFAULT '',
    ADD COLUMN IF NOT EXISTS call_tags Array(LowCardinality(String)) DEFAULT [],
    ADD COLUMN IF NOT EXISTS call_metadata Map(LowCardinality(String), String) DEFAULT map(),
    ADD COLUMN IF NOT EXISTS call_answer_chars UInt32 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS call_probability Float64 DEFAULT 1;

ALTER TABLE heedloop.feedback 
    ADD COLUMN IF NOT EXISTS call_is_answer Bool DEFAULT true,
    ADD COLUMN IF NOT EXISTS call_status LowCardinality(String) DEFAULT '',
    ADD COLUMN IF NOT EXISTS call_tags Array(LowCardinality(String)) DEFAULT [],
    ADD COLUMN IF NOT EXISTS call_metadata Map(LowCardinality(String), String) DEFAULT map(),
    ADD COLUMN IF NOT EXISTS call_answer_chars UInt32 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS call_probability Float64 DEFAULT 1;

CREATE TABLE IF NOT EXISTS heedloop.answer_cells  (
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
) ENGINE = ReplacingMergeTree(made_at)
ORDER BY (project_id, grain, start)
SETTINGS index_granularity = 64, non_replicated_deduplication_window = 1000;

ALTER TABLE heedloop.spans  MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';

ALTER TABLE heedloop.spans  ADD PROJECTION IF NOT EXISTS hours (
    SELECT
        project_id,
        toStartOfHour(start_time, 'UTC'),
        sum(cityHash64(trace_id, span_id, ingested_at, is_answer, status, model, prompt_name, prompt_version, service, environment, tags, sampling_probability))
    GROUP BY
        project_id,
        toStartOfHour(start_time, 'UTC')
);

ALTER TABLE heedloop.spans  MATERIALIZE PROJECTION hours;

ALTER TABLE heedloop.feedback  MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';

ALTER TABLE heedloop.feedback  ADD PROJECTION IF NOT EXISTS hours (
    SELECT
        project_id,
        toStartOfHour(call_time, 'UTC'),
        sum(cityHash64(feedback_id, version, is_deleted, received_at, call_is_answer, call_status, model, prompt_name, prompt_version, service, environment, call_tags, call_probability))
    GROUP BY
        project_id,
        toStartOfHour(call_time, 'UTC')
);

ALTER TABLE heedloop.feedback  MATERIALIZE PROJECTION hours;

ALTER TABLE heedloop.feedback  ADD PROJECTION IF NOT EXISTS by_call (
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

ALTER TABLE heedloop.feedback  MATERIALIZE PROJECTION by_call;

ALTER TABLE heedloop.spans  ADD PROJECTION IF NOT EXISTS users (
    SELECT
        project_id,
        user_id,
        min(toDate(start_time, 'UTC'))
    GROUP BY
        project_id,
        user_id
);

ALTER TABLE heedloop.spans  MATERIALIZE PROJECTION users;

ALTER TABLE heedloop.answer_cells  ADD COLUMN IF NOT EXISTS cell_user Array(LowCardinality(String)) AFTER cell_answer_chars;

ALTER TABLE heedloop.answer_cells  ADD COLUMN IF NOT EXISTS cell_user Array(LowCardinality(String)) AFTER cell_answer_chars;

TRUNCATE TABLE heedloop.answer_cells;

CREATE TABLE IF NOT EXISTS heedloop.clusterings  (
    project_id LowCardinality(String),
    view_key String CODEC(ZSTD(1)),
    made_at DateTime64(6, 'UTC'),
    since DateTime64(6, 'UTC'),
    until DateTime64(6, 'UTC'),
    summary String CODEC(ZSTD(3)),
    trace_ids Array(FixedString(16)) CODEC(ZSTD(1)),
    span_ids Array(FixedString(8)) CODEC(ZSTD(1)),
    cluster_ids Array(LowCardinality(String)) CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree(made_at)
ORDER BY (project_id, view_key, made_at)
TTL toDateTime(made_at) + INTERVAL 14 DAY
SETTINGS index_granularity = 16, non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS heedloop.alert_rules  (
    project_id LowCardinality(String),
    alert_id String,
    rule String CODEC(ZSTD(1)),
    secret String,
    created_at DateTime64(6, 'UTC'),
    started_at DateTime64(6, 'UTC'),
    version UInt64,
    is_deleted UInt8
) ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (project_id, alert_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.alert_states  (
    project_id LowCardinality(String),
    alert_id String,
    state String CODEC(ZSTD(1)),
    version UInt64,
    is_deleted UInt8
) ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (project_id, alert_id)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS heedloop.alert_history  (
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
) ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (project_id, alert_id, change_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.duties  (
    duty LowCardinality(String),
    holder String,
    first_at DateTime64(6, 'UTC'),
    beat_at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(beat_at)
ORDER BY (duty, holder)
TTL toDateTime(beat_at) + INTERVAL 1 DAY
SETTINGS non_replicated_deduplication_window = 1000;

ALTER TABLE heedloop.spans 
    ADD COLUMN IF NOT EXISTS question_search String ALIAS replaceRegexpAll(replaceRegexpAll(concat(' ', if(length(question) = lengthUTF8(question), translate(lower(question), '\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17 … 20ddf4d1781127d3fcb23ed95826eca690e3845e834b9673cac6d38789bfdf37;

ALTER TABLE heedloop.spans 
    ADD COLUMN IF NOT EXISTS question_search String ALIAS replaceRegexpAll(replaceRegexpAll(concat(' ', if(length(question) = lengthUTF8(question), translate(lower(question), '\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17 … 20ddf4d1781127d3fcb23ed95826eca690e3845e834b9673cac6d38789bfdf37;

ALTER TABLE heedloop.spans 
    ADD INDEX IF NOT EXISTS idx_question_search question_search TYPE text(tokenizer = ngrams(3)),
    ADD INDEX IF NOT EXISTS idx_answer_search answer_search TYPE text(tokenizer = ngrams(3));

ALTER TABLE heedloop.spans  DROP INDEX IF EXISTS idx_question;

ALTER TABLE heedloop.spans  DROP INDEX IF EXISTS idx_answer;

ALTER TABLE heedloop.spans  MATERIALIZE INDEX idx_question_search;

ALTER TABLE heedloop.spans  MATERIALIZE INDEX idx_answer_search;

ALTER TABLE heedloop.spans  ADD PROJECTION IF NOT EXISTS minutes (
    SELECT
        project_id,
        toStartOfMinute(start_time, 'UTC'),
        sum(cityHash64(trace_id, span_id, ingested_at, is_answer, status, model, prompt_name, prompt_version, service, environment, tags, sampling_probability))
    GROUP BY
        project_id,
        toStartOfMinute(start_time, 'UTC')
);

ALTER TABLE heedloop.spans  MATERIALIZE PROJECTION minutes;

ALTER TABLE heedloop.spans  DROP PROJECTION IF EXISTS hours;

ALTER TABLE heedloop.feedback  ADD PROJECTION IF NOT EXISTS minutes (
    SELECT
        project_id,
        toStartOfMinute(call_time, 'UTC'),
        sum(cityHash64(feedback_id, version, is_deleted, received_at, call_is_answer, call_status, model, prompt_name, prompt_version, service, environment, call_tags, call_probability))
    GROUP BY
        project_id,
        toStartOfMinute(call_time, 'UTC')
);

ALTER TABLE heedloop.feedback  MATERIALIZE PROJECTION minutes;

ALTER TABLE heedloop.feedback  DROP PROJECTION IF EXISTS hours;

DROP TABLE IF EXISTS heedloop.answer_cells  SYNC;

DROP TABLE IF EXISTS heedloop.answer_cells  SYNC;

CREATE TABLE IF NOT EXISTS heedloop.answer_aggregates  (
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
) ENGINE = ReplacingMergeTree(made_at)
ORDER BY (project_id, part, grain, start)
TTL start + toIntervalDay(62) DELETE WHERE grain = 'minute'
SETTINGS index_granularity = 64, non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS heedloop.erasure_states  (
    project_id LowCardinality(String),
    erasure_id String,
    is_removed Bool,
    at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(at)
ORDER BY (project_id, erasure_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

ALTER TABLE heedloop.spans 
    ADD COLUMN IF NOT EXISTS first_token_ns UInt64 MATERIALIZED toUInt64(greatest(0, coalesce(
        toFloat64OrNull(attributes['gen_ai.response.time_to_first_chunk']) * 1e9,
        toFloat64OrNull(attributes['ai.response.msToFirstChunk']) * 1e6,
        toFloat64OrNull(attributes['ai.stream.msToFirstChunk']) * 1e6,
        toFloat64OrNull(attributes['ttft_ms']) * 1e6,
        0))) CODEC(T64, ZSTD(1));

ALTER TABLE heedloop.spans 
    ADD COLUMN IF NOT EXISTS first_token_ns UInt64 MATERIALIZED toUInt64(greatest(0, coalesce(
        toFloat64OrNull(attributes['gen_ai.response.time_to_first_chunk']) * 1e9,
        toFloat64OrNull(attributes['ai.response.msToFirstChunk']) * 1e6,
        toFloat64OrNull(attributes['ai.stream.msToFirstChunk']) * 1e6,
        toFloat64OrNull(attributes['ttft_ms']) * 1e6,
        0))) CODEC(T64, ZSTD(1));

ALTER TABLE heedloop.feedback  MODIFY SETTING materialize_projections_on_insert = 0, materialize_projections_on_merge = 1;

CREATE TABLE IF NOT EXISTS heedloop.review_queues  (
    project_id LowCardinality(String),
    queue_id String,
    record String CODEC(ZSTD(3)),
    changed_at DateTime64(6, 'UTC') DEFAULT now64(6),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, queue_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.review_guidelines  (
    project_id LowCardinality(String),
    queue_id String,
    number UInt32,
    text String CODEC(ZSTD(3)),
    examples String CODEC(ZSTD(3)),
    send_back Bool,
    created_by String,
    created_at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(created_at)
ORDER BY (project_id, queue_id, number)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.review_items  (
    project_id LowCardinality(String),
    queue_id String,
    item_id String,
    trace_ids Array(FixedString(16)),
    span_ids Array(FixedString(8)),
    call_times Array(DateTime64(6, 'UTC')),
    source LowCardinality(String),
    reason String CODEC(ZSTD(1)),
    sampling_probability Nullable(Float64),
    gold LowCardinality(String),
    expected String CODEC(ZSTD(1)),
    expected_why String CODEC(ZSTD(1)),
    position UInt64,
    changed_at DateTime64(6, 'UTC') DEFAULT now64(6),
    version UInt64,
    is_deleted UInt8,
    INDEX idx_item item_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_changed changed_at TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (project_id, queue_id, item_id)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 30;

CREATE TABLE IF NOT EXISTS heedloop.review_assignments  (
    project_id LowCardinality(String),
    queue_id String,
    item_id String,
    annotator String CODEC(ZSTD(1)),
    assignment_id UUID,
    state LowCardinality(String),
    leased_at DateTime64(6, 'UTC'),
    expires_at DateTime64(6, 'UTC'),
    guideline UInt32,
    shown_order Array(UInt8),
    answers String CODEC(ZSTD(1)),
    draft String CODEC(ZSTD(1)),
    reason String CODEC(ZSTD(1)),
    revision UInt32,
    judged_at DateTime64(6, 'UTC'),
    duration_ms UInt32,
    feedback_ids Array(UUID),
    trace_ids Array(FixedString(16)),
    key_id LowCardinality(String),
    changed_at DateTime64(6, 'UTC') DEFAULT now64(6),
    version UInt64,
    INDEX idx_assignment assignment_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_changed changed_at TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, queue_id, item_id, annotator)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 30;

CREATE TABLE IF NOT EXISTS heedloop.review_adjudications  (
    project_id LowCardinality(String),
    queue_id String,
    item_id String,
    reviewer String CODEC(ZSTD(1)),
    answers String CODEC(ZSTD(1)),
    reason String CODEC(ZSTD(1)),
    guideline UInt32,
    judged_at DateTime64(6, 'UTC'),
    trace_ids Array(FixedString(16)),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, queue_id, item_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 30;

ALTER TABLE heedloop.spans 
    ADD COLUMN IF NOT EXISTS tool_definitions String DEFAULT '' CODEC(ZSTD(1)) AFTER output_messages;

ALTER TABLE heedloop.spans 
    ADD COLUMN IF NOT EXISTS tool_definitions String DEFAULT '' CODEC(ZSTD(1)) AFTER output_messages;

ALTER TABLE heedloop.review_items 
    ADD COLUMN IF NOT EXISTS priority Int16 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS assigned Array(String) DEFAULT [],
    ADD COLUMN IF NOT EXISTS language LowCardinality(String) DEFAULT '';

ALTER TABLE heedloop.review_items 
    ADD COLUMN IF NOT EXISTS priority Int16 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS assigned Array(String) DEFAULT [],
    ADD COLUMN IF NOT EXISTS language LowCardinality(String) DEFAULT '';

CREATE TABLE IF NOT EXISTS heedloop.review_team  (
    project_id LowCardinality(String),
    author_id String,
    groups Array(String),
    languages Array(String),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, author_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.judges  (
    project_id LowCardinality(String),
    judge_id String,
    record String CODEC(ZSTD(3)),
    created_by String,
    created_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, judge_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.judge_calls  (
    project_id LowCardinality(String),
    judge_id LowCardinality(String),
    item String,
    status LowCardinality(String),
    error LowCardinality(String),
    num_calls UInt32,
    input_tokens UInt64,
    output_tokens UInt64,
    cost Float64,
    latency_ms Float64,
    at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, judge_id, item)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.imports  (
    project_id LowCardinality(String),
    import_id String CODEC(ZSTD(1)),
    record String CODEC(ZSTD(3)),
    started_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, import_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.experiments  (
    project_id LowCardinality(String),
    name String,
    round UInt32,
    record String CODEC(ZSTD(3)),
    secret String,
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, name, round)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.experiment_looks  (
    project_id LowCardinality(String),
    name String,
    round UInt32,
    hour DateTime('UTC'),
    look String CODEC(ZSTD(3)),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, name, round, hour)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.evaluations  (
    project_id LowCardinality(String),
    name String,
    record String CODEC(ZSTD(3)),
    created_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, name)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.evaluation_rows  (
    project_id LowCardinality(String),
    name String,
    case_id String,
    record String CODEC(ZSTD(3)),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, name, case_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.case_sets  (
    project_id LowCardinality(String),
    name String,
    set_version UInt32,
    record String CODEC(ZSTD(3)),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, name, set_version)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.prompts  (
    project_id LowCardinality(String),
    name String,
    number UInt32,
    record String CODEC(ZSTD(3)),
    note String CODEC(ZSTD(3)),
    created_by String,
    created_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, name, number)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.prompt_labels  (
    project_id LowCardinality(String),
    name String,
    label String,
    number UInt32,
    set_by String,
    set_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, name, label)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.jobs  (
    project_id LowCardinality(String),
    job_id String CODEC(ZSTD(1)),
    kind LowCardinality(String),
    key_id LowCardinality(String),
    key_name String CODEC(ZSTD(1)),
    author_id String CODEC(ZSTD(1)),
    state LowCardinality(String),
    request String CODEC(ZSTD(3)),
    done UInt64,
    total UInt64,
    unit LowCardinality(String),
    result String CODEC(ZSTD(3)),
    error String CODEC(ZSTD(3)),
    attempt UInt8,
    holder LowCardinality(String),
    created_at DateTime64(6, 'UTC'),
    started_at Nullable(DateTime64(6, 'UTC')),
    ended_at Nullable(DateTime64(6, 'UTC')),
    beat_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, job_id)
TTL toDateTime(created_at) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.job_cancels  (
    project_id LowCardinality(String),
    job_id String CODEC(ZSTD(1)),
    at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(at)
ORDER BY (project_id, job_id)
TTL toDateTime(at) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS heedloop.added_tags  (
    project_id LowCardinality(String),
    trace_id FixedString(16),
    span_id FixedString(8),
    tag String CODEC(ZSTD(1)),
    call_time DateTime64(6, 'UTC'),
    is_removed Bool,
    author_id String CODEC(ZSTD(1)),
    at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, trace_id, span_id, tag)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;
