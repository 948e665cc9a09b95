"""Spans and logs of known names and odd values through the endpoint: nothing is stuck, nothing is lost, the ledger balances.

`HEEDLOOP_FUZZ_RECORDS=100000` sends more; `HEEDLOOP_FUZZ_SEED` others.
"""

import math
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from temporary_stores import temporary_store

from heedloop_server.app import create_app
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.normalise import aliases
from heedloop_server.settings import Settings

NUM_RECORDS = int(os.environ.get("HEEDLOOP_FUZZ_RECORDS", "600"))
SEED = int(os.environ.get("HEEDLOOP_FUZZ_SEED", "1"))
AT_ONCE = 30


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (tuple, frozenset, dict)):
        for inner in value:
            yield from _texts_in(inner)


KNOWN = sorted(
    t for n, v in vars(aliases).items() if n.isupper() for t in _texts_in(v) if "." in t or "_" in t
)
NAMES = [
    *KNOWN,
    *[
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.system",
        "gen_ai.request.model",
        "gen_ai.response.model",
        "gen_ai.response.id",
        "gen_ai.request.id",
        "gen_ai.response.finish_reasons",
        "gen_ai.request.temperature",
        "gen_ai.request.stop_sequences",
        "gen_ai.request.seed",
        "gen_ai.output.type",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.prompt",
        "gen_ai.completion",
        "gen_ai.prompt.0.role",
        "gen_ai.prompt.0.content",
        "gen_ai.prompt.0",
        "gen_ai.prompt.99999999999999999999.role",
        "gen_ai.completion.0.content",
        "gen_ai.completion.0.tool_calls.0.name",
        "llm.request.type",
        "llm.model_name",
        "llm.system",
        "llm.invocation_parameters",
        "llm.finish_reason",
        "llm.input_messages.0.message.role",
        "llm.input_messages.0.message.content",
        "llm.output_messages.0.message.contents.0.message_content.type",
        "llm.output_messages.0.message.function_call_name",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments",
        "llm.token_count.prompt",
        "llm.token_count.completion",
        "llm.token_count.total",
        "llm.token_count.prompt_details.cache_read",
        "openinference.span.kind",
        "input.value",
        "output.value",
        "embedding.model_name",
        "embedding.embeddings.0.embedding.text",
        "metadata",
        "langfuse.observation.type",
        "langfuse.observation.input",
        "langfuse.observation.output",
        "langfuse.observation.usage_details",
        "langfuse.observation.cost_details",
        "langfuse.observation.level",
        "langfuse.observation.model.name",
        "langfuse.observation.model.parameters",
        "mlflow.spanType",
        "mlflow.spanInputs",
        "mlflow.spanOutputs",
        "mlflow.chat.tokenUsage",
        "mlflow.llm.cost",
        "mlflow.linkedPrompts",
        "model",
        "langsmith.span.kind",
        "langsmith.span.tags",
        "langsmith.metadata.usage_metadata",
        "ai.operationId",
        "ai.prompt.messages",
        "ai.response.toolCalls",
        "ai.response.text",
        "ai.usage.inputTokens",
        "ai.values",
        "ai.value",
        "request_data",
        "response_data",
        "logfire.span_type",
        "logfire.feedback.name",
        "logfire.msg_template",
        "duration",
        "model_request_parameters",
        "gcp.vertex.agent.llm_request",
        "gcp.vertex.agent.llm_response",
        "span.type",
        "genkit:metadata:subtype",
        "genkit:input",
        "genkit:output",
        "genkit:name",
        "genkit:state",
        "http.request.method",
        "http.response.status_code",
        "error.type",
        "error.message",
        "exception.message",
        "heedloop.answer",
        "heedloop.input",
        "heedloop.output",
        "heedloop.sampling.probability",
        "heedloop.metadata.a",
        "heedloop.from_logs",
        "heedloop.duplicate_of",
        "annotations.0.annotation.name",
        "annotations.0.annotation.score",
        "annotations.0.annotation.annotator_kind",
        "session.evaluations.0.evaluation.label",
        "gen_ai.evaluation.name",
        "gen_ai.evaluation.score.value",
        "gen_ai.evaluation.score.label",
        "gen_ai.request.choice.count",
    ],
]
EVENTS = [
    *(
        "gen_ai.client.inference.operation.details",
        "gen_ai.user.message",
        "gen_ai.assistant.message",
        "gen_ai.choice",
    ),
    *(
        "gen_ai.evaluation.result",
        "exception",
        "gen_ai.content.prompt",
        "gen_ai.content.completion",
        "",
        "odd",
    ),
]
SCOPES_OF_CLIENTS = [
    *(
        "",
        "heedloop",
        "openinference.instrumentation.openai",
        "logfire.openai",
        "litellm",
        "mlflow.tracing.provider",
        "ai",
    ),
    *("gcp.vertex.agent", "vllm.llm_engine", "opentelemetry.instrumentation.genai.openai"),
]
WORDS = [
    *(
        "chat",
        "embeddings",
        "invoke_agent",
        "realtime_inference",
        "LLM",
        "EMBEDDING",
        "generation",
        '"CHAT_MODEL"',
        "llm",
    ),
    *(
        "ai.generateText.doGenerate",
        "llm_request",
        "model",
        "embedder",
        "ERROR",
        "error",
        "annotation",
        "true",
        "False",
        "none",
    ),
    *(
        "",
        " ",
        "\0",
        "\u2028",
        "\U0001f600",
        "NaN",
        "Infinity",
        "-1",
        "1e999",
        "9" * 30,
        "9" * 5000,
        "0x10",
        "user",
        "USER",
    ),
    *(
        "{",
        "[",
        '"',
        "{'a': 1",
        "[" * 3000,
        '{"a":' * 1500,
        "{(1, 2): 3}",
        "{1, 2}",
        "[0x" + "f" * 5000 + "]",
        "{'a': b'x'}",
        "{'a': 1j}",
    ),
    *(
        '"\\ud800"',
        '{"role": "\\udfff", "content": "\\ud83d"}',
        '[{"role": "user", "parts": [{"type": "text", "content": 1}]}]',
    ),
    *(
        '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
        '{"choices": [{"message": null}, 3]}',
    ),
    *(
        '{"usage": {"prompt_tokens": -1, "completion_tokens": 1e400}}',
        '{"seed": 1' + "0" * 4000 + "}",
        '{"temperature": 1e-400}',
    ),
    *(
        '{"generations": [[{"message": {"kwargs": {"content": []}}}]]}',
        '{"total": 1' + "0" * 400 + "}",
        "x" * 70_000,
    ),
]
NUMBERS = [0, 1, -1, 7, 400, 2**31, 2**32, 2**53 + 1, 2**63 - 1, -(2**63)]
DOUBLES = [0.0, -0.0, 0.5, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf]


def fill(value: AnyValue, rng: random.Random, depth: int = 0) -> None:
    """Any value of any type; sometimes none at all."""
    kind = rng.choice("sssssssidbya k0" if depth < 3 else "sid")
    if kind == "s":
        value.string_value = rng.choice(WORDS)
    elif kind == "i":
        value.int_value = rng.choice(NUMBERS)
    elif kind == "d":
        value.double_value = rng.choice(DOUBLES)
    elif kind == "b":
        value.bool_value = rng.random() < 0.5
    elif kind == "y":
        value.bytes_value = rng.randbytes(rng.choice((0, 1, 40)))
    elif kind == "a":
        value.array_value.SetInParent()
        for _ in range(rng.randint(0, 3)):
            fill(value.array_value.values.add(), rng, depth + 1)
    elif kind == "k":
        value.kvlist_value.SetInParent()
        for _ in range(rng.randint(0, 3)):
            key = rng.choice(
                ("role", "content", "parts", "type", "message", "tool_calls", "", "finish_reason")
            )
            fill(value.kvlist_value.values.add(key=key).value, rng, depth + 1)


def attributes(target: Any, rng: random.Random, most: int = 14) -> None:
    for name in rng.sample(NAMES, rng.randint(0, most)):
        fill(target.add(key=name).value, rng)
    if rng.random() < 0.7:  # most are calls, so that the readers are reached
        target.add(key="gen_ai.operation.name").value.string_value = "chat"
        target.add(key="gen_ai.request.model").value.string_value = "m"


def a_time(rng: random.Random) -> int:
    now = time.time_ns()
    near = now - rng.randint(0, 10**12)
    return rng.choice(
        (near, near, near, 0, 1, 2**63, 2**64 - 1, now - 10**18, now + 10**17, now - rng.randint(0, 10**18))
    )


class Ids:
    """Ids of few traces, so that spans and logs have relatives in other requests."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._traces = [rng.randbytes(16) for _ in range(40)]
        self._num = 0

    def trace(self) -> bytes:
        return self._rng.choice(self._traces) if self._rng.random() < 0.5 else self._rng.randbytes(16)

    def span(self) -> bytes:
        self._num += 1
        return (self._num if self._rng.random() < 0.9 else self._rng.randint(1, self._num)).to_bytes(8, "big")

    def parent(self) -> bytes:
        known = self._rng.randint(1, self._num or 1).to_bytes(8, "big")
        return self._rng.choice((b"", known, known, bytes(8), b"\1", bytes(range(16))))


def traces_of(rng: random.Random, ids: Ids) -> bytes:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    attributes(resource_spans.resource.attributes, rng, 3)
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = rng.choice(SCOPES_OF_CLIENTS)
    trace = ids.trace()
    for _ in range(AT_ONCE):
        span = scope_spans.spans.add(
            trace_id=trace if rng.random() < 0.7 else ids.trace(),
            span_id=ids.span(),
            parent_span_id=ids.parent(),
            name=rng.choice(WORDS)[:100],
            kind=rng.randint(0, 5),
            start_time_unix_nano=a_time(rng),
            end_time_unix_nano=a_time(rng),
            trace_state=rng.choice(("", "ot=th:8", "ot=th:;,=")),
        )
        span.status.code, span.status.message = rng.randint(0, 2), rng.choice(WORDS)
        attributes(span.attributes, rng)
        for _ in range(rng.choice((0, 0, 0, 2))):
            attributes(
                span.events.add(name=rng.choice(EVENTS), time_unix_nano=a_time(rng)).attributes, rng, 5
            )
        if rng.random() < 0.1:
            span.links.add(trace_id=rng.choice((trace, b"", b"\1")), span_id=ids.parent())
    return request.SerializeToString()


def logs_of(rng: random.Random, ids: Ids) -> bytes:
    request = ExportLogsServiceRequest()
    scope_logs = request.resource_logs.add().scope_logs.add()
    for _ in range(AT_ONCE):
        record = scope_logs.log_records.add(
            trace_id=rng.choice((ids.trace(), ids.trace(), b"", b"\1")),
            span_id=ids.parent(),
            time_unix_nano=a_time(rng),
            observed_time_unix_nano=a_time(rng),
            event_name=rng.choice(EVENTS),
        )
        attributes(record.attributes, rng)
        fill(record.body, rng)
    return request.SerializeToString()


@pytest.mark.timeout(600 + NUM_RECORDS / 10)
def test_no_record_of_known_names_stops_the_others(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    ids = Ids(rng)
    settings = Settings(data=tmp_path, decoders=1, seal_after_s=0.05)
    sent = 0
    with temporary_store() as store, TestClient(app := create_app(settings, store=store)) as client:
        key, _ = make_key(store, "p", name="all", scopes=SCOPES)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-protobuf"}
        for number in range(NUM_RECORDS // AT_ONCE):
            path, body = (
                ("/v1/logs", logs_of(rng, ids)) if number % 4 == 3 else ("/v1/traces", traces_of(rng, ids))
            )
            response = client.post(path, content=body, headers=headers)
            assert response.status_code == 200, response.text
            sent += AT_ONCE * (path == "/v1/traces")
        # not by asking the ledger, which would take the loader's time: each block of these spans is of a hundred months
        assert app.state.intake.wait_until_loaded(120 + NUM_RECORDS / 12)
        ledger = client.get("/v1/ledger", headers=headers).json()
        assert ledger["pending"] == 0
        assert client.get("/readyz").status_code == 200
        rows = store.rows("SELECT uniqExact(trace_id, span_id) AS n FROM spans WHERE project_id = 'p'")[0][
            "n"
        ]
    reasons = [(k.reason, k.error) for k in Quarantine(settings.log_folder)]
    assert ledger["rejected_reasons"] == {} and not reasons, reasons
    assert ledger["received"] == sent == ledger["stored"] + ledger["duplicate"]
    assert rows == ledger["stored"]
    feedback = ledger["feedback"]
    assert feedback["received"] == feedback["stored"] + feedback["rejected"] + feedback["duplicate"]
