"""Spans of known names with any values at all: nothing raises, and what comes out is a record the store can take."""

import json
import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heedloop.schema import to_json
from heedloop_server.normalise import LogContent, merge, normalise_request, normalise_traces
from heedloop_server.normalise.duplicates import fold

KEYS = [
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.system",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.response.id",
    "gen_ai.response.finish_reasons",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.prompt",
    "gen_ai.completion",
    "gen_ai.prompt.0.role",
    "gen_ai.prompt.0.content",
    "gen_ai.prompt.1.tool_calls.0.name",
    "gen_ai.completion.0.role",
    "gen_ai.request.temperature",
    "gen_ai.output.type",
    "gen_ai.request.stop_sequences",
    "llm.request.type",
    "openinference.span.kind",
    "llm.invocation_parameters",
    "llm.model_name",
    "input.value",
    "output.value",
    "llm.input_messages.0.message.role",
    "llm.input_messages.0.message.contents.0.message_content.type",
    "llm.output_messages.0.message.content",
    "llm.token_count.prompt",
    "embedding.embeddings.0.embedding.text",
    "metadata",
    "langfuse.observation.type",
    "langfuse.observation.input",
    "langfuse.observation.output",
    "langfuse.observation.usage_details",
    "langfuse.observation.model.parameters",
    "langfuse.observation.level",
    "mlflow.spanType",
    "mlflow.spanInputs",
    "mlflow.spanOutputs",
    "mlflow.chat.tokenUsage",
    "mlflow.linkedPrompts",
    "model",
    "temperature",
    "langsmith.span.kind",
    "langsmith.metadata.usage_metadata",
    "langsmith.span.tags",
    "ai.operationId",
    "ai.prompt.messages",
    "ai.response.toolCalls",
    "ai.values",
    "request_data",
    "response_data",
    "logfire.span_type",
    "logfire.feedback.name",
    "duration",
    "model_request_parameters",
    "heedloop.answer",
    "heedloop.tags",
    "heedloop.sampling.probability",
    "heedloop.input",
    "error.type",
    "http.response.status_code",
    "user.id",
    "session.id",
    "annotations.0.annotation.name",
    "annotations.0.annotation.score",
    "session.evaluations.0.evaluation.label",
]
WORDS = [
    "chat",
    "embeddings",
    "LLM",
    "EMBEDDING",
    "generation",
    '"CHAT_MODEL"',
    "llm",
    "ai.generateText.doGenerate",
    "ERROR",
    "annotation",
    "log",
    "true",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "parts",
                    "type",
                    "text",
                    "messages",
                    "choices",
                    "message",
                    "tool_calls",
                    "function",
                    "name",
                    "arguments",
                    "usage",
                    "id",
                    "model",
                    "generations",
                    "kwargs",
                    "finish_reason",
                    "input",
                    "output",
                    "contents",
                    "candidates",
                    "stream",
                    "config",
                    "data",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
TEXTS = st.one_of(
    st.sampled_from(WORDS),
    st.text(max_size=8),
    JSON.map(json.dumps),
    JSON.map(repr),
    JSON.map(lambda v: json.dumps(v)[:-3]),
    JSON.map(lambda v: json.dumps(json.dumps(v))),
)
VALUES = (
    TEXTS
    | st.integers(-(2**62), 2**62)
    | st.floats()
    | st.booleans()
    | st.none()
    | st.binary(max_size=4)
    | st.lists(TEXTS, max_size=3)
)
ATTRIBUTES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=12)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "exception",
                "gen_ai.choice",
                "gen_ai.user.message",
                "gen_ai.evaluation.result",
                "gen_ai.client.inference.operation.details",
            ]
        ),
        st.dictionaries(
            st.sampled_from(
                [
                    "content",
                    "message",
                    "finish_reason",
                    "exception.message",
                    "gen_ai.evaluation.name",
                    *KEYS[:12],
                ]
            ),
            VALUES,
            max_size=3,
        ),
    ),
    max_size=3,
)
# HEEDLOOP_FUZZ=20000 for a longer run
FUZZ = settings(
    max_examples=int(os.environ.get("HEEDLOOP_FUZZ", "60")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@FUZZ
@given(st.lists(st.tuples(ATTRIBUTES, EVENTS, st.integers(0, 2)), min_size=1, max_size=3))
def test_any_span_becomes_a_record(span: Any, request_of: Any, given_spans: list[Any]) -> None:
    spans = [
        span(
            attributes,
            ids=(1, i + 1, parent),
            events=tuple((n, a) for n, a in events),
            status=(i % 3, ""),
        )
        for i, (attributes, events, parent) in enumerate(given_spans)
    ]
    request = request_of(*spans, scope="litellm")
    calls = normalise_request(request)
    assert len(calls) == len(spans)
    for call in [*calls, *fold(calls)]:
        json.dumps(to_json(call), ensure_ascii=False).encode()
        assert call.operation or not (call.output_messages or call.usage.input)
    for feedback in normalise_traces(request).feedback:
        json.dumps(to_json(feedback)).encode()


@FUZZ
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "gen_ai.choice",
                    "gen_ai.system.message",
                    "gen_ai.tool.message",
                    "gen_ai.client.inference.operation.details",
                    "x",
                ]
            ),
            st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4),
            JSON,
        ),
        max_size=4,
    )
)
def test_any_log_content_merges(call: Any, contents: list[Any]) -> None:
    asked = call({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"})
    told = [
        LogContent(asked.trace_id, asked.span_id, event, i, 0, attributes, body)
        for i, (event, attributes, body) in enumerate(contents)
    ]
    merged = merge(asked, told)
    json.dumps(to_json(merged))
    assert merge(merged, told) == merged == merge(asked, [LogContent.from_json(c.to_json()) for c in told])
