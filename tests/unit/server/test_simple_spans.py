"""Both roads to equal rows: what the engine claims, it computes as the Python normaliser does, and it never claims too much."""

import ast
import itertools
import json
import random
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

import heedloop_server.normalise
from heedloop_server.ingest.record import TRACES, LoggedRequest
from heedloop_server.normalise import normalise_traces
from heedloop_server.store.simple_select import KNOWN_ROOTS
from heedloop_server.store.simple_spans import SimpleRequest, stage
from heedloop_server.store.spans import calls_to_arrow
from heedloop_server.testing import temporary_store

NOW_US = 1_800_000_000_000_000
NORMALISE = Path(heedloop_server.normalise.__file__).parent


@pytest.fixture(scope="module")
def store():
    with temporary_store() as opened:
        yield opened


def value_of(value: Any) -> AnyValue:
    """A Python value as OTLP has it."""
    sent = AnyValue()
    if isinstance(value, list):
        sent.array_value.values.extend(value_of(v) for v in value)
    elif isinstance(value, dict):
        for k, v in value.items():
            sent.kvlist_value.values.add(key=k).value.CopyFrom(value_of(v))
    elif value is not None:
        kinds = {
            str: "string_value",
            bool: "bool_value",
            int: "int_value",
            float: "double_value",
            bytes: "bytes_value",
        }
        setattr(sent, kinds[type(value)], value)
    return sent  # fmt: skip


def request_of(
    *spans: dict[str, Any],
    scope: str = "heedloop",
    version: str = "1.2",
    resource: dict[str, Any] | None = None,
) -> ExportTraceServiceRequest:
    """Spans (their attributes, with fields of the span under names that start with `_`) as one export."""
    request = ExportTraceServiceRequest()
    found = request.resource_spans.add()
    for k, v in (resource or {"service.name": "shop"}).items():
        found.resource.attributes.add(key=k).value.CopyFrom(value_of(v))
    inner = found.scope_spans.add()
    inner.scope.name, inner.scope.version = scope, version
    for given in spans:
        one = inner.spans.add(
            trace_id=given.get("_trace", uuid.uuid4().bytes),
            span_id=given.get("_span", uuid.uuid4().bytes[:8]),
            parent_span_id=given.get("_parent", b""),
            name=given.get("_name", "answer"),
            start_time_unix_nano=given.get("_start", NOW_US * 1000 - 5_000_000_123),
            end_time_unix_nano=given.get("_end", NOW_US * 1000 - 1_000_000_456),
            trace_state=given.get("_state", ""),
        )
        one.status.code = given.get("_code", 0)
        one.status.message = given.get("_message", "")
        if "_event" in given:
            one.events.add(name=given["_event"])
        for k, v in [*given.items(), *given.get("_more", ())]:
            if not k.startswith("_"):
                one.attributes.add(key=k).value.CopyFrom(value_of(v))
    return request


def messages(*said: tuple[str, str]) -> str:
    """Messages as the SDK writes them."""
    told = [{"role": r, "parts": [{"type": "text", "content": t}]} for r, t in said]
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


PLAIN = {
    "heedloop.answer": True,
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.provider.name": "openai",
    "gen_ai.input.messages": messages(("system", "Be kind."), ("user", 'Wo ist "es"?\n/tmp é 👍')),
    "gen_ai.output.messages": messages(("assistant", "Hier.\tSo.")),
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 3,
    "user.id": "u 1",
}


def claimed_rows(
    store: Any, requests: list[ExportTraceServiceRequest]
) -> tuple[set[int], list[dict[str, Any]], list[dict[str, Any]]]:
    """(places that the engine takes, its rows, the Python road's rows of the same places)."""
    store.command("TRUNCATE TABLE spans")
    given = [
        SimpleRequest(
            i,
            "p",
            NOW_US + i,
            sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans),
            request.SerializeToString(),
        )
        for i, request in enumerate(requests)
    ]
    with stage(store, None, given) as staged:
        staged.refuse_unclear(datetime.now(timezone.utc) + timedelta(days=9_000))
        staged.insert("t")
        places = set(staged.places)
    ours = _rows(store)
    store.command("TRUNCATE TABLE spans")
    entries = [
        ("p", call, LoggedRequest(TRACES, "p", r.received_us, 1, b"").received_at)
        for r in given
        if r.place in places
        for call in normalise_traces(ExportTraceServiceRequest.FromString(r.payload)).calls
    ]
    if entries:
        store.insert_arrow("spans", calls_to_arrow(entries))
    return places, ours, _rows(store)


def _rows(store: Any) -> list[dict[str, Any]]:
    return store.rows(
        "SELECT *, toString(attributes) AS a, toString(metadata) AS m FROM spans ORDER BY ingested_at, trace_id, span_id"
    )


SIMPLE: list[dict[str, Any]] = [
    {},
    PLAIN,
    {"heedloop.step": "retrieve", "app.k": 3},
    {**PLAIN, "heedloop.answer": False, "_parent": b"12345678"},
    {**PLAIN, "heedloop.tags": ["a", "", 'b"é'], "heedloop.metadata.team": "x", "heedloop.metadata.n": "2"},
    {**PLAIN, "gen_ai.request.temperature": 0.7, "gen_ai.request.max_tokens": 100, "gen_ai.request.top_p": 1.0, "gen_ai.request.seed": -4},
    {"heedloop.answer": True, "heedloop.input": '{"a":1}', "heedloop.output": ""},
    {"heedloop.answer": True, "heedloop.input": "", "heedloop.output": "[1, 2]"},
    {**PLAIN, "gen_ai.input.messages": "", "heedloop.input": "x"},
    {**PLAIN, "gen_ai.input.messages": messages(("system", "alone"))},
    {**PLAIN, "gen_ai.usage.cache_read.input_tokens": 5, "gen_ai.usage.cache_write.input_tokens": 50},
    {**PLAIN, "gen_ai.usage.cache_read.input_tokens": 5, "gen_ai.usage.reasoning.output_tokens": 2},
    {**PLAIN, "gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0, "gen_ai.usage.cache_read.input_tokens": 5},
    {**PLAIN, "gen_ai.usage.input_tokens": 2**40},
    {**PLAIN, "gen_ai.request.stream": True, "gen_ai.response.finish_reasons": ["stop", "tool_calls"]},
    {**PLAIN, "gen_ai.response.time_to_first_chunk": 0.25, "gen_ai.response.id": "r-1", "gen_ai.response.model": "gpt-5-x"},
    {**PLAIN, "gen_ai.operation.name": "execute_tool"},
    {"gen_ai.operation.name": "chat"},
    {"gen_ai.usage.output_tokens": 3, "gen_ai.request.model": "m"},
    {**PLAIN, "_end": 0},
    {**PLAIN, "_end": 5, "_code": 1, "_name": "a'b\\c"},
    *({**PLAIN, "heedloop.cost": c} for c in (0.0, 1.0, 0.1 + 0.2, 1e-4, 9.99e-5, 1.2e-5, 1e-5, 1e-6, 1.5e-6, 9e-7, 1e-7, 1.25e-9, 1e-10, 3e-12, 1e14, 123456.5)),
    *({**PLAIN, "heedloop.sampling.probability": p} for p in (0.0, 0.01, 1.0, 1.5)),
    {**PLAIN, "app.list": ["a", "ü/"], "app.flag": False, "app.count": -7, "app.x": 2.5, "gen_ai.prompt.variable.name": "Ann"},
    {**PLAIN, "gen_ai.prompt.name": "p", "gen_ai.prompt.version": "3", "gen_ai.conversation.id": "s"},
]  # fmt: skip
"""Spans that the SDK makes and the engine must claim."""


@pytest.mark.parametrize("part", range(0, len(SIMPLE), 12))
def test_the_sdk_s_simple_spans_are_claimed_and_equal(store, part: int) -> None:
    requests = [request_of(s) for s in SIMPLE[part : part + 12]]
    places, ours, reference = claimed_rows(store, requests)
    assert places == set(range(len(requests)))
    assert ours == reference


NOT_SIMPLE: list[dict[str, Any]] = [
    {**PLAIN, "_event": "exception"},
    {**PLAIN, "_code": 2},
    {**PLAIN, "_state": "a=b"},
    {**PLAIN, "_start": 5},
    {**PLAIN, "_start": NOW_US * 1000 + 400 * 86_400 * 10**9},
    {**PLAIN, "_parent": b"123"},
    {**PLAIN, "_name": "raw_gen_ai_request"},
    {**PLAIN, "_more": [("user.id", "again")]},
    {**PLAIN, "user.id": ' "u"'},
    {**PLAIN, "user.id": "ü"},
    {**PLAIN, "user.id": 4},
    {**PLAIN, "gen_ai.operation.name": "Chat"},
    {**PLAIN, "gen_ai.operation.name": "embeddings"},
    {**PLAIN, "gen_ai.provider.name": "Bedrock"},
    {**PLAIN, "gen_ai.system_instructions": "x"},
    {**PLAIN, "gen_ai.input.messages": "hello"},
    {**PLAIN, "gen_ai.input.messages": "[]"},
    {**PLAIN, "gen_ai.input.messages": messages(("user", "\x0b"))},
    {**PLAIN, "gen_ai.input.messages": messages(("user", "a\u2028b"))},
    {**PLAIN, "gen_ai.input.messages": messages(("user", ""))},
    {**PLAIN, "gen_ai.input.messages": messages(("tool", "x"))},
    {**PLAIN, "gen_ai.input.messages": messages(("user", "x"))[:-1] + " ]"},
    {**PLAIN, "gen_ai.output.messages": messages(("assistant", "a"), ("assistant", "b"))},
    {**PLAIN, "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"a"}],"finish_reason":"stop"}]'},
    {**PLAIN, "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"tool_call","id":"1","name":"f","arguments":"{}"}]}]'},
    {**PLAIN, "gen_ai.response.finish_reasons": ["STOP"]},
    {**PLAIN, "gen_ai.usage.input_tokens": -1},
    {**PLAIN, "gen_ai.usage.input_tokens": "12"},
    {**PLAIN, "gen_ai.usage.total_tokens": 12},
    {**PLAIN, "gen_ai.request.max_completion_tokens": 12},
    {**PLAIN, "gen_ai.request.temperature": float("nan")},
    {**PLAIN, "heedloop.cost": float("inf")},
    {**PLAIN, "heedloop.cost": -0.5},
    {**PLAIN, "heedloop.cost": 1e16},
    {**PLAIN, "heedloop.answer": "true"},
    {**PLAIN, "heedloop.input": "x\x1f", "gen_ai.input.messages": ""},
    {**PLAIN, "app.map": {"a": 1}},
    {**PLAIN, "app.bytes": b"x"},
    {**PLAIN, "app.none": None},
    {**PLAIN, "app.list": [1, "a"]},
    {**PLAIN, "app.list": ["\u2029"]},
    {**PLAIN, "langfuse.observation.type": "span"},
    {**PLAIN, "http.status_code": 500},
    {**PLAIN, "error.type": "E"},
    {**PLAIN, "session_id": "s"},
]  # fmt: skip
"""Spans that the Python road must take."""


def test_other_spans_are_left_to_the_python_road(store) -> None:
    places, _, _ = claimed_rows(
        store, [request_of(s) for s in NOT_SIMPLE] + [request_of(PLAIN, scope="openai")]
    )
    assert places == set()


def test_a_request_is_taken_whole_or_not_at_all(store) -> None:
    places, ours, reference = claimed_rows(
        store, [request_of(PLAIN, NOT_SIMPLE[0]), request_of(PLAIN, PLAIN)]
    )
    assert places == {1}
    assert ours == reference
    assert len(ours) == 2


def test_relatives_are_left_to_the_python_road(store) -> None:
    outer = {**PLAIN, "_trace": b"t" * 16, "_span": b"12345678"}
    inner = {**PLAIN, "_trace": b"t" * 16, "_parent": b"12345678"}
    twice = {**PLAIN, "_trace": b"w" * 16, "_span": b"12345678"}
    answered = {**PLAIN, "gen_ai.response.id": "r"}
    alone = {**inner, "heedloop.answer": False, "_trace": b"u" * 16}
    requests = [request_of(*s) for s in ([outer, inner], [twice], [twice], [answered], [answered], [alone])]
    places, ours, reference = claimed_rows(store, requests)
    assert places == {5}
    assert ours == reference


def test_every_word_that_a_reader_looks_at_is_known() -> None:
    found = {w for path in NORMALISE.glob("*.py") for w in _words(path)}
    assert found - set(KNOWN_ROOTS) == set()


def _words(path: Path) -> Iterator[str]:
    """First words of what looks like an attribute's name in a reader: dotted texts, and plain ones it asks `attrs` for."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            if "." in text and text.replace(".", "").replace("_", "").isalnum() and not text[0].isdigit():
                yield text.partition(".")[0]
        asked = None
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get"
            and node.args
        ):
            asked = (node.func.value, node.args[0])
        elif isinstance(node, ast.Subscript):
            asked = (node.value, node.slice)
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
            asked = (node.comparators[0], node.left)
        if (
            asked
            and "attrs" in ast.unparse(asked[0])
            and isinstance(asked[1], ast.Constant)
            and isinstance(asked[1].value, str)
        ):
            yield asked[1].value.partition(".")[0]


# ------------------------------------------------------------------------------------------------ made at random

_ODD_TEXTS = [
    "",
    "x",
    "é",
    " x ",
    '"q"',
    "a\u2028",
    "\x1f",
    "tab\t/",
    "{}",
    "[",
    "null",
    "1.0",
    "True",
    "🦊",
    "a" * 300,
    "\\u0041",
    "\x00",
]
_ODD_NUMBERS = [
    0,
    1,
    -1,
    2**31,
    2**33,
    2**62,
    0.0,
    -0.0,
    1.0,
    0.5,
    1e-5,
    3e-7,
    1e15,
    1e22,
    2.5e-3,
    float("nan"),
]
_CHANGED = [*PLAIN, "heedloop.input", "heedloop.output", "heedloop.tags", "heedloop.cost", "heedloop.metadata.a", "gen_ai.response.id",
            "gen_ai.response.model", "gen_ai.response.finish_reasons", "gen_ai.request.temperature", "gen_ai.request.max_tokens",
            "gen_ai.request.stop_sequences", "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.reasoning.output_tokens", "app.x", "a",
            "gen_ai.prompt.name", "gen_ai.conversation.id", "heedloop.sampling.probability", "gen_ai.response.time_to_first_chunk"]  # fmt: skip


def _random_value(rng: random.Random) -> Any:
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(_ODD_TEXTS)
    if kind < 0.6:
        return rng.choice(_ODD_NUMBERS)
    if kind < 0.7:
        return rng.random() * 10 ** rng.randint(-12, 17)
    if kind < 0.8:
        return rng.random() < 0.5
    if kind < 0.9:
        return [rng.choice(_ODD_TEXTS) for _ in range(rng.randint(0, 3))]
    said = [
        (rng.choice(("user", "assistant", "system", "tool")), rng.choice(_ODD_TEXTS))
        for _ in range(rng.randint(0, 3))
    ]
    return messages(*said)


def _random_span(rng: random.Random) -> dict[str, Any]:
    one = {k: v for k, v in PLAIN.items() if rng.random() < 0.8}
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        one[rng.choice(_CHANGED)] = _random_value(rng)
    if rng.random() < 0.3:
        one["gen_ai.input.messages"] = messages(
            ("user", rng.choice(_ODD_TEXTS)), ("assistant", "so"), ("user", rng.choice(_ODD_TEXTS))
        )
    entries = list(one.items())
    rng.shuffle(entries)
    return dict(entries)


@pytest.mark.parametrize("seed", range(3))
def test_random_spans_give_equal_rows_on_both_roads(store, seed: int) -> None:
    rng = random.Random(seed)
    requests = [request_of(_random_span(rng)) for _ in range(600)]
    places, ours, reference = claimed_rows(store, requests)
    assert len(places) > 150
    for a, b in itertools.zip_longest(ours, reference):
        assert a == b
