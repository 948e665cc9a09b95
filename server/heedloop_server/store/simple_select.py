"""The query that reads logged protobuf and computes rows of `spans` from it, for spans of heedloop's own SDK in their simple form.

`is_simple` is true only where the row is known to be what the Python normaliser makes of the span; `simple_spans` stages such rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from heedloop_server.normalise.aliases import NO_NAMES

__all__ = ["KNOWN_ROOTS", "READING", "quoted", "select_simple"]

_SCHEMA = Path(__file__).with_name("simple_spans.proto")
"""A file, because the engine would write a schema given as text into the working directory, which may be read-only."""

_KINDS = "Enum8(\\'none\\'=0,\\'string_value\\'=1,\\'bool_value\\'=2,\\'int_value\\'=3,\\'double_value\\'=4,\\'array_value\\'=5,\\'kvlist_value\\'=6,\\'bytes_value\\'=7)"
_VALUE = (
    "Tuple(string_value String, bool_value Bool, int_value Int64, double_value Float64, "
    f"array_value Tuple(values Array(Tuple(string_value String, value {_KINDS}))), value {_KINDS})"
)
_ATTRIBUTES = f"Array(Tuple(key String, value {_VALUE}))"
_EVENTS = f"Array(Tuple(name String, attributes Array(Tuple(key String, value Tuple(string_value String, value {_KINDS})))))"
_SPAN = (
    "Tuple(trace_id String, span_id String, trace_state String, parent_span_id String, name String, start_time_unix_nano UInt64, "
    f"end_time_unix_nano UInt64, attributes {_ATTRIBUTES}, events {_EVENTS}, links Array(Tuple(trace_id String)), "
    "status Tuple(code Int32, message String))"
)
_STRUCTURE = (
    f"resource_spans Array(Tuple(resource Tuple(attributes {_ATTRIBUTES}), scope_spans Array(Tuple(scope Tuple(name String, version String), "
    f"spans Array({_SPAN}))))), project_id String, received_us Int64, place UInt32"
)

KNOWN_ROOTS = (
    "ai", "annotations", "anthropic", "aws", "az", "azure", "cache_creation_input_tokens", "cache_read", "cache_read_input_tokens",
    "cache_write_input_tokens", "chat", "choice", "completion_details", "completion_tokens_details", "deployment", "duration",
    "embedding", "enduser", "error", "evaluations", "event", "exception", "gcp", "gen_ai", "genkit:input", "genkit:metadata:subtype",
    "genkit:name", "genkit:output", "genkit:state", "heedloop", "http", "ibm", "input", "inputTokenDetails", "inputTokens",
    "input_token_details", "input_tokens_details", "langfuse", "langsmith", "litellm", "llm", "logfire", "metadata", "mlflow", "model",
    "model_request_parameters", "openai", "openinference", "operation", "otel", "output", "outputTokenDetails", "output_token_details",
    "output_tokens_details", "prompt", "prompt_details", "prompt_tokens_details", "reasoning", "request_data", "resource",
    "response_data", "retrieval", "rpc", "service", "session", "session_id", "span", "status_code", "stop_reason", "success", "tag",
    "tags", "text", "thread", "thread_id", "tool", "trace", "traceloop", "url", "usage", "user", "user_id", "vercel",
)  # fmt: skip
"""First words of the attributes that some reader of `normalise` looks at. Attributes under other words are the app's own."""

_NAMES = (
    "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model", "gen_ai.response.id", "gen_ai.prompt.name",
    "gen_ai.prompt.version", "gen_ai.conversation.id", "user.id", "gen_ai.operation.name",
)  # fmt: skip
_COUNTS = (
    "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.reasoning.output_tokens",
)  # fmt: skip
_PARAMS = tuple(
    f"gen_ai.request.{n}"
    for n in (
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "n",
    )
)
_FREE = (
    "heedloop.step",
    "heedloop.truncated",
    "heedloop.sampling.kept",
    "gen_ai.response.time_to_first_chunk",
)
_TEXTS = ("gen_ai.input.messages", "gen_ai.output.messages", "heedloop.input", "heedloop.output")
_PROVIDERS = (
    "openai", "anthropic", "aws.bedrock", "azure.ai.openai", "azure.ai.inference", "gcp.gemini", "gcp.vertex_ai", "gcp.gen_ai",
    "cohere", "deepseek", "groq", "mistral_ai", "moonshot_ai", "perplexity", "x_ai", "ibm.watsonx.ai",
)  # fmt: skip
_OTHER_WORDS = (
    "embeddings", "embedding", "aembedding", "chat_completion", "chat.completions", "message", "messages", "response", "responses",
    "acompletion", "completion",
)  # fmt: skip
"""Operations that the normaliser renames, or reads in a way of their own."""

_NAME = "^(?:[!#-~](?:[ -~]*[!-~])?)?$"
"""Text that stays as it is when it is taken for a name: printable, not quoted, no space around it."""
_ODD = "[\\x0b\\x0e\\x0f\\x1a-\\x1f]|\\xe2\\x80[\\xa8\\xa9]"
"""What the engine and Python write differently as JSON."""


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _list(values: Iterable[str]) -> str:
    return "(" + ", ".join(f"'{v}'" for v in values) + ")"


_NUMBER = """
multiIf(
    d >= 1e-4 OR d = 0, if(position(toString(d), '.') > 0, toString(d), concat(toString(d), '.0')),
    d < 1e-6, replaceRegexpOne(toString(d), 'e-(\\\\d)$', 'e-0\\\\1'),
    concat(
        substring(replaceRegexpOne(toString(d), '^0[.]0+', ''), 1, 1),
        if(length(replaceRegexpOne(toString(d), '^0[.]0+', '')) > 1, '.', ''),
        substring(replaceRegexpOne(toString(d), '^0[.]0+', ''), 2),
        if(d >= 1e-5, 'e-05', 'e-06')
    )
)
"""
"""A double `d` in [0, 1e15) as Python writes it."""

_AS_TEXT = f"""
multiIf(
    t = 'string_value', v,
    t = 'int_value', toString(n),
    t = 'bool_value', if(b, 'true', 'false'),
    t = 'array_value', concat('[', arrayStringConcat(arrayMap(x -> toJSONString(x), a.string_value), ', '), ']'),
    {_NUMBER}
)
"""
_PLAIN = f"""
(t IN ('string_value', 'int_value', 'bool_value')
    OR (t = 'double_value' AND d >= 0 AND d < 1e15)
    OR (t = 'array_value' AND arrayAll(x -> x.value = 'string_value' AND NOT match(x.string_value, '{_ODD}'), a)))
"""
"""A value whose text is known to be the same on both roads."""

_CLAIMED = f"""
multiIf(
    k IN {_list(_NAMES)}, t = 'string_value' AND match(v, '{_NAME}'),
    k IN {_list(_COUNTS)}, t = 'int_value' AND n >= 0,
    k IN {_list(_PARAMS)}, t = 'int_value' OR (t = 'double_value' AND d >= 0 AND d < 1e15),
    k IN ('heedloop.cost', 'heedloop.sampling.probability'), t = 'double_value' AND d >= 0 AND d < 1e15,
    k IN ('heedloop.answer', 'gen_ai.request.stream'), t = 'bool_value',
    k IN {_list(_TEXTS)}, t = 'string_value',
    k IN ('gen_ai.response.finish_reasons', 'heedloop.tags'), t = 'array_value' AND {_PLAIN},
    k IN {_list(_FREE)} OR startsWith(k, 'heedloop.metadata.') OR startsWith(k, 'gen_ai.prompt.variable.')
        OR substringIndex(k, '.', 1) NOT IN {_list(KNOWN_ROOTS)}, {_PLAIN},
    false
)
"""

_MESSAGES = "Array(Tuple(role String, parts Array(Tuple(type String, content String))))"


def _rewritten(messages: str) -> str:
    """The messages as the SDK writes them; equal to what was sent only where nothing else was in it."""
    return (
        'concat(\'[\', arrayStringConcat(arrayMap(m -> concat(\'{"role":"\', m.role, \'","parts":[{"type":"text","content":\', '
        f"toJSONString(m.parts[1].content), '}}]}}'), {messages}), ','), ']')"
    )


def _all_plain(messages: str, text: str, roles: str) -> str:
    return (
        f"notEmpty({messages}) AND arrayAll(m -> m.role IN {roles} AND length(m.parts) = 1 AND m.parts[1].content != '', {messages}) "
        f"AND position({text}, '\\\\u') = 0 AND {_rewritten(messages)} = {text}"
    )


_ROWS = f"""
SELECT
    place,
    project_id,
    trace_id,
    span_id,
    parent_span_id,
    start_time,
    duration_ns,
    name,
    service,
    environment,
    op AS operation,
    if(at_answer = 0, is_call, says_answer) AS is_answer,
    'ok' AS status,
    if(is_call, sent_provider, '') AS provider,
    if(is_call, if(answered_model != '', answered_model, asked_model), '') AS model,
    if(is_call, asked_model, '') AS model_requested,
    if(is_call, answered_model, '') AS model_answered,
    if(is_call, sent_response, '') AS response_id,
    is_call AND if(at_stream > 0, bs[at_stream], has(ks, 'gen_ai.response.time_to_first_chunk')) AS stream,
    if(is_call, arrayFilter(x -> x != '', reasons), []) AS finish_reasons,
    if(is_call AND notEmpty(given), concat('{{', arrayStringConcat(given, ','), '}}'), '') AS params,
    prompt_name,
    prompt_version,
    user_id,
    session_id,
    arrayFilter(x -> x != '', sent_tags) AS tags,
    CAST(
        (
            arrayMap(k -> substring(k, 19), arrayFilter(k -> startsWith(k, 'heedloop.metadata.'), ks)),
            arrayFilter((x, k) -> startsWith(k, 'heedloop.metadata.'), texts, ks)
        ), 'Map(String, String)'
    ) AS metadata,
    if(
        has_usage AND at_tokens_in > 0, least(ns[at_tokens_in] + if(cached > ns[at_tokens_in], cached, 0), 4294967295)::UInt32, NULL
    ) AS input_tokens,
    if(has_usage AND at_tokens_out > 0, least(ns[at_tokens_out], 4294967295)::UInt32, NULL) AS output_tokens,
    if(has_usage AND at_cache_read > 0, least(ns[at_cache_read], 4294967295)::UInt32, NULL) AS cache_read_input_tokens,
    if(has_usage AND at_cache_write > 0, least(ns[at_cache_write], 4294967295)::UInt32, NULL) AS cache_write_input_tokens,
    if(has_usage AND at_reasoning > 0, least(ns[at_reasoning], 4294967295)::UInt32, NULL) AS reasoning_output_tokens,
    if(at_cost > 0, ds[at_cost], NULL) AS cost,
    if(probability > 0 AND probability <= 1, probability, 1.) AS sampling_probability,
    multiIf(
        has_asked, if(
            arrayExists(m -> m.role = 'user', asked), arrayLast(m -> m.role = 'user', asked).parts[1].content, asked[-1].parts[1].content
        ),
        has_input, sent_input,
        ''
    ) AS question,
    multiIf(has_answered, answered[1].parts[1].content, has_output, sent_output, '') AS answer,
    multiIf(
        has_asked, concat(
            '[',
            arrayStringConcat(
                arrayMap(m -> concat('{{"role":"', m.role, '","text":', toJSONString(m.parts[1].content), '}}'), asked), ','
            ),
            ']'
        ),
        has_input, concat('[{{"role":"user","text":', toJSONString(sent_input), '}}]'),
        ''
    ) AS input_messages,
    if(has_output AND sent_output = '', '[{{"role":"assistant","text":""}}]', '') AS output_messages,
    CAST(
        (
            arrayConcat(ks, arrayMap(k -> concat('resource.', k), resource_keys), ['otel.scope.name'], if(version = '', [], ['otel.scope.version'])),
            arrayConcat(texts, resource_texts, ['heedloop'], if(version = '', [], [version]))
        ), 'Map(String, String)'
    ) AS attributes,
    fromUnixTimestamp64Micro(received_us, 'UTC') AS ingested_at,
    is_plain
        AND word NOT IN {_list(_OTHER_WORDS)} AND lower(word) = word
        AND NOT arrayExists(x -> lower(trim(BOTH ' ' FROM x)) IN {_list(sorted(NO_NAMES))}, [asked_model, answered_model, user_id, session_id, prompt_name, prompt_version, sent_provider, sent_response])
        AND NOT arrayExists(x -> lower(x) IN {_list(sorted(NO_NAMES))}, reasons)
        AND (NOT is_call OR sent_provider = '' OR sent_provider IN {_list(_PROVIDERS)})
        AND arrayAll(x -> x = '' OR match(x, '^[a-z][a-z0-9_]*$'), reasons)
        AND (NOT has_asked OR ({_all_plain("asked", "sent_asked", "('system', 'user', 'assistant', 'developer')")}))
        AND (NOT has_answered OR (length(answered) = 1 AND {_all_plain("answered", "sent_answered", "('assistant')")}))
        AND (NOT has_input OR NOT match(sent_input, '{_ODD}'))
    AS is_simple
FROM ({{judged}})
"""  # noqa: S608
_JUDGED = f"""
SELECT
    *,
    is_call AND sent_asked != '' AS has_asked,
    is_call AND sent_answered != '' AS has_answered,
    is_call AND sent_asked = '' AND at_input > 0 AS has_input,
    is_call AND sent_answered = '' AND at_output > 0 AS has_output,
    is_call AND (ns[at_tokens_in] > 0 OR ns[at_tokens_out] > 0) AS has_usage,
    JSONExtract(if(is_call, sent_asked, ''), '{_MESSAGES}') AS asked,
    JSONExtract(if(is_call, sent_answered, ''), '{_MESSAGES}') AS answered
FROM (
    SELECT
        *,
        multiIf(
            at_operation = 0 AND says_answer, 'chat',
            word = '', if(at_tokens_out > 0 AND names_a_model, 'chat', ''),
            word IN ('chat', 'text_completion', 'generate_content') AND names_a_model, word,
            ''
        ) AS op,
        op != '' AS is_call
    FROM (SELECT *, asked_model != '' OR answered_model != '' OR says_answer OR probability > 0 AS names_a_model FROM ({{named}}))
)
"""  # noqa: S608
_NAMED = f"""
SELECT
    *,
    bs[at_answer] AS says_answer,
    ds[indexOf(ks, 'heedloop.sampling.probability')] AS probability,
    vs[at_operation] AS word,
    vs[indexOf(ks, 'gen_ai.request.model')] AS asked_model,
    vs[indexOf(ks, 'gen_ai.response.model')] AS answered_model,
    vs[indexOf(ks, 'gen_ai.provider.name')] AS sent_provider,
    vs[indexOf(ks, 'gen_ai.response.id')] AS sent_response,
    vs[indexOf(ks, 'gen_ai.prompt.name')] AS prompt_name,
    vs[indexOf(ks, 'gen_ai.prompt.version')] AS prompt_version,
    vs[indexOf(ks, 'user.id')] AS user_id,
    vs[indexOf(ks, 'gen_ai.conversation.id')] AS session_id,
    vs[indexOf(ks, 'gen_ai.input.messages')] AS sent_asked,
    vs[indexOf(ks, 'gen_ai.output.messages')] AS sent_answered,
    vs[at_input] AS sent_input,
    vs[at_output] AS sent_output,
    arrays[indexOf(ks, 'gen_ai.response.finish_reasons')].string_value AS reasons,
    arrays[indexOf(ks, 'heedloop.tags')].string_value AS sent_tags,
    ns[at_cache_read] + ns[at_cache_write] AS cached,
    arrayFilter((x, k) -> k IN {_list(_PARAMS)}, arrayMap((k, x) -> concat('"', substring(k, 16), '":', x), ks, texts), ks) AS given
FROM (
    SELECT
        *,
        indexOf(ks, 'heedloop.answer') AS at_answer,
        indexOf(ks, 'gen_ai.operation.name') AS at_operation,
        indexOf(ks, 'heedloop.input') AS at_input,
        indexOf(ks, 'heedloop.output') AS at_output,
        indexOf(ks, 'heedloop.cost') AS at_cost,
        indexOf(ks, 'gen_ai.request.stream') AS at_stream,
        indexOf(ks, 'gen_ai.usage.input_tokens') AS at_tokens_in,
        indexOf(ks, 'gen_ai.usage.output_tokens') AS at_tokens_out,
        indexOf(ks, 'gen_ai.usage.cache_read.input_tokens') AS at_cache_read,
        indexOf(ks, 'gen_ai.usage.cache_write.input_tokens') AS at_cache_write,
        indexOf(ks, 'gen_ai.usage.reasoning.output_tokens') AS at_reasoning,
        arrayMap((k, t, v, n, d, b, a) -> {_AS_TEXT}, ks, ts, vs, ns, ds, bs, arrays) AS texts,
        is_own AND arrayUniq(ks) = length(ks) AND arrayAll((k, t, v, n, d, a) -> {_CLAIMED}, ks, ts, vs, ns, ds, arrays) AS is_plain
    FROM ({{spans}})
)
"""  # noqa: S608
# the eight years before its arrival are fewer months than one insert may touch (ingest.loader.MAX_MONTHS)
_SPANS = """
SELECT
    place,
    project_id,
    received_us,
    version,
    resource_keys,
    resource_texts,
    resource_texts[indexOf(resource_keys, 'service.name')] AS service,
    if(
        resource_texts[indexOf(resource_keys, 'deployment.environment.name')] != '',
        resource_texts[indexOf(resource_keys, 'deployment.environment.name')],
        resource_texts[indexOf(resource_keys, 'deployment.environment')]
    ) AS environment,
    toFixedString(if(length(s.trace_id) = 16, s.trace_id, ''), 16) AS trace_id,
    toFixedString(if(length(s.span_id) = 8, s.span_id, ''), 8) AS span_id,
    toFixedString(if(length(s.parent_span_id) = 8, s.parent_span_id, ''), 8) AS parent_span_id,
    fromUnixTimestamp64Micro(intDiv(s.start_time_unix_nano, 1000)::Int64, 'UTC') AS start_time,
    if(s.end_time_unix_nano > s.start_time_unix_nano, s.end_time_unix_nano - s.start_time_unix_nano, 0) AS duration_ns,
    s.name AS name,
    s.attributes.key AS ks,
    s.attributes.value.value AS ts,
    s.attributes.value.string_value AS vs,
    s.attributes.value.int_value AS ns,
    s.attributes.value.double_value AS ds,
    s.attributes.value.bool_value AS bs,
    s.attributes.value.array_value.values AS arrays,
    is_ours
        AND empty(s.events) AND empty(s.links) AND s.trace_state = '' AND s.status.code IN (0, 1)
        AND length(s.parent_span_id) IN (0, 8)
        AND s.name != 'raw_gen_ai_request'
        AND s.start_time_unix_nano BETWEEN (received_us - 2920 * 86400000000) * 1000 AND (received_us + 86400000000) * 1000
        AND s.end_time_unix_nano < 9000000000000000000
    AS is_own
FROM ({resources})
ARRAY JOIN spans AS s
"""
_RESOURCES = f"""
SELECT
    place,
    project_id,
    received_us,
    ks AS resource_keys,
    arrayMap((k, t, v, n, d, b, a) -> {_AS_TEXT}, ks, ts, vs, ns, ds, bs, arrays) AS resource_texts,
    version,
    ours AND arrayUniq(ks) = length(ks) AND arrayAll(
        (k, t, d, a) -> if(k IN ('service.name', 'deployment.environment.name', 'deployment.environment'), t = 'string_value', {_PLAIN}),
        ks, ts, ds, arrays
    ) AS is_ours,
    spans
FROM (
    SELECT
        place,
        project_id,
        received_us,
        rs.resource.attributes.key AS ks,
        rs.resource.attributes.value.value AS ts,
        rs.resource.attributes.value.string_value AS vs,
        rs.resource.attributes.value.int_value AS ns,
        rs.resource.attributes.value.double_value AS ds,
        rs.resource.attributes.value.bool_value AS bs,
        rs.resource.attributes.value.array_value.values AS arrays,
        ss.scope.version AS version,
        ss.scope.name = 'heedloop' AS ours,
        ss.spans AS spans
    FROM file('{{file}}', 'Protobuf', '{_STRUCTURE}')
    ARRAY JOIN resource_spans AS rs
    ARRAY JOIN rs.scope_spans AS ss
)
"""  # noqa: S608


READING = (
    f"format_schema = {quoted(str(_SCHEMA))}, format_schema_message_name = 'Request', "
    "input_format_protobuf_oneof_presence = 1, output_format_json_escape_forward_slashes = 0, "
    # these two passes take most of the time that the query's analysis takes, and find nothing
    "optimize_and_compare_chain = 0, query_plan_merge_expressions = 0"
)
"""What the engine needs to be told for `select_simple`."""


def select_simple(file: Path) -> str:
    """The rows of a file of requests, layer by layer: one query's aliases would be analysed anew wherever they are used."""
    found = _ROWS
    layers = (("{judged}", _JUDGED), ("{named}", _NAMED), ("{spans}", _SPANS), ("{resources}", _RESOURCES))
    for hole, layer in layers:
        found = found.replace(hole, layer)
    return found.replace("{file}", quoted(str(file))[1:-1])
