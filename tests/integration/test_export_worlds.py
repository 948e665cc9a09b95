"""Exports of a random world against its records: every odd value, versions, erased calls, filters, both engines' interfaces."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pytest
from temporary_stores import temporary_store

import heedloop_server.store.datasets.exports as exports
from heedloop.schema import (
    THUMB,
    Author,
    Call,
    Feedback,
    Message,
    Target,
    ToolCall,
    ToolDefinition,
    Usage,
    to_json,
)
from heedloop_server.filters import CallFilters
from heedloop_server.ingest.feedback_writer import FeedbackWriter
from heedloop_server.routes.export_formats import write_calls
from heedloop_server.store.admin.erasure import hide
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.quality.summaries import judgements_of
from heedloop_server.store.spans import insert_calls, list_calls

AT = datetime(2026, 11, 1, 10, tzinfo=timezone.utc)
TEXTS = ["", "a", 'ü\n"\\/\t\r\b\f', "\u2028", "\\u2028", "😀\x00\x1f\x7f", '{"a":1}', "日本語", "x" * 2000]
PERIOD = {"since": AT - timedelta(days=1), "until": AT + timedelta(days=30)}
NESTED = ("params", "input_messages", "output_messages", "tool_definitions")


def _world(rng: random.Random, num: int) -> list[Call]:
    def text() -> str:
        return rng.choice(TEXTS)

    def maybe() -> str | None:
        return rng.choice(TEXTS) or None

    def texts() -> tuple[str, ...]:
        return tuple(text() for _ in range(rng.choice([0, 0, 2])))

    def message() -> Message:
        tools = tuple(ToolCall(text(), text(), maybe()) for _ in range(rng.choice([0, 0, 2])))
        return Message(rng.choice(["user", "assistant"]), text(), maybe(), tools, maybe(), texts())

    return [
        Call(
            trace_id=f"{rng.randrange(1, 2**128):032x}",
            span_id=f"{rng.randrange(1, 2**64):016x}",
            parent_span_id=rng.choice([None, "ab" * 8]),
            start_time=AT + timedelta(microseconds=i // 3),
            duration_ns=rng.choice([0, 2**62]),
            name=text(),
            service=text(),
            environment=rng.choice(["production", "evaluation"]),
            is_answer=rng.random() < 0.7,
            provider=maybe(),
            model_requested=maybe(),
            model_answered=rng.choice(["m1", None]),
            params=rng.choice([{}, {"t": 0.5, "n": 1e5, "x": [None, {"a": text()}], "i": 10**30}]),
            input_messages=tuple(message() for _ in range(rng.randrange(3))),
            output_messages=rng.choice([(), (Message("assistant", text()),), (message(), message())]),
            tool_definitions=rng.choice([(), (ToolDefinition(text(), text(), text(), "mcp"),)]),
            finish_reasons=texts(),
            usage=rng.choice([Usage(), Usage(1, 0), Usage(None, 5, 2**32 - 1, 0, 7)]),
            cost=rng.choice([None, 0.0, 1.0, 1e-7, 0.1 + 0.2, 1e22, 1e300, -0.5]),
            status=rng.choice(["ok", "error"]),
            error_message=maybe(),
            http_status=rng.choice([None, 500, 65535]),
            response_id=maybe(),
            stream=rng.random() < 0.5,
            embedding_inputs=texts(),
            prompt_name=maybe(),
            prompt_version=maybe(),
            session_id=maybe(),
            user_id=rng.choice([None, "u1", "ü"]),
            tags=texts(),
            sampling_probability=rng.choice([1.0, 1 / 3, 1e-5]),
            attributes={f"{text()}{k}": text() for k in range(rng.randrange(3))}
            | rng.choice([{}, {"heedloop.metadata.k": "v", "heedloop.truncated": "1"}]),
        )
        for i in range(num)
    ]


def _said(rng: random.Random, calls: list[Call]) -> list[Feedback]:
    kinds = [
        {"kind": "rating", "value": 0.0, "scale": THUMB},
        {"kind": "rating", "value": 1.0, "scale": THUMB},
        {"kind": "flag", "category": "wrong"},
        {"kind": "correction", "correction": "better"},
    ]
    return [
        Feedback(target=Target(trace_id=c.trace_id, span_id=c.span_id), author=Author("end_user", f"{k}"), **rng.choice(kinds))
        for c in rng.sample(calls, len(calls) // 3)
        for k in range(rng.choice([1, 3]))
    ]  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[ProjectStore, dict[tuple[str, str], Call]]]:
    """A project with calls in two versions, feedback and an erasure that is not removed yet, beside another of the same calls."""
    rng = random.Random(7)
    calls = _world(rng, 150)
    with temporary_store() as store:
        writer = FeedbackWriter(store)
        writer.start()
        for name in ("p", "other"):
            insert_calls(store.project(name), calls, received_at=AT)
            writer.submit(name, _said(rng, calls)).result()
        writer.stop()
        later = [replace(c, model_answered="m3") for c in rng.sample(calls, 20)]
        insert_calls(store.project("p"), later, received_at=AT + timedelta(hours=1))
        hide(store.project("p"), "user_id", "ü", erasure_id="e'1")
        yield store.project("p"), {(c.trace_id, c.span_id): c for c in [*calls, *later]}


@pytest.mark.parametrize(
    "chosen",
    [
        {}, {"answers_only": False}, {"rating": "up"}, {"rating": "none"}, {"has": "correction"}, {"flag": "wrong"}, {"user_id": "u1"},
        {"user": "new"}, {"model": "m3"}, {"model": "m1"}, {"text": "日本語"}, {"environment": "evaluation"}, {"metadata": {"k": "v"}},
    ],
)  # fmt: skip
def test_an_export_holds_the_records_of_its_filters(world, monkeypatch, chosen):
    project, calls = world
    monkeypatch.setattr(exports, "MAX_CALLS", 40)
    filters = CallFilters(**PERIOD, **chosen)
    rows = list_calls(project, filters, limit=1_000, after=None)
    keys = [(r["trace_id_hex"], r["span_id_hex"]) for r in rows]
    judged = judgements_of(project, keys)
    expected = [to_json(calls[k]) | judged[k] for k in keys]
    assert _lines(project, filters) == expected
    assert keys
    middle = len(keys) // 2
    last = calls[keys[middle]]
    assert _lines(project, filters, (last.start_time, last.trace_id, last.span_id)) == expected[middle + 1 :]
    table = b"".join(write_calls(exports.blocks_of_calls(project, filters), "arrow"))
    found = pa.ipc.open_stream(table).read_all().to_pylist()
    assert [_readable(r) for r in found] == [_row(calls[k]) | judged[k] for k in keys]


def _lines(project, filters, after=None):
    blocks = exports.blocks_of_calls(project, filters, columns="line", after=after)
    return [json.loads(line) for line in b"".join(write_calls(blocks, "jsonl")).split(b"\n")[:-1]]


def _readable(row):
    return row | {n: row[n] and json.loads(row[n]) for n in NESTED} | {"attributes": dict(row["attributes"])}


def _row(call):
    usage = {f"{n}_tokens": getattr(call.usage, n) for n in Usage.__dataclass_fields__}
    lists = {n: list(getattr(call, n)) for n in ("finish_reasons", "embedding_inputs", "tags")}
    plain = {n: getattr(call, n) for n in exports.CALLS.names if hasattr(call, n)}
    return plain | usage | lists | {n: to_json(call).get(n) for n in NESTED}
