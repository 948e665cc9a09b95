-- One row per span. `model` is the model that answered, else the one asked. `question` is the last user message's text and `answer`
-- the answer's text, both plain, for search and previews; the messages themselves are JSON (records of heedloop.schema.Message);
-- output_messages is '' where the answer is one assistant message of nothing but `answer`.
-- Ids are bytes; a missing id is all zeros; a missing text is ''. Tokens and cost are NULL where nobody said them.
CREATE TABLE IF NOT EXISTS {db}.spans{local} {on_cluster} (
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
) ENGINE = {R}ReplacingMergeTree(ingested_at)
PARTITION BY toYYYYMM(start_time)
ORDER BY (project_id, start_time, trace_id, span_id)
SETTINGS index_granularity = 1024, {dedup}, fsync_after_insert = 1, fsync_part_directory = 1;

-- distributed: spans cityHash64(trace_id)
