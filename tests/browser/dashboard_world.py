"""A small world with a planted story, posted through the public doors: OTLP for calls, the typed client for everything else.

Twenty days of a support bot. Version v2 comes half-way and answers refunds badly; everything else stays as it was. One
user changes their mind, an annotator marks a range, corrects an answer and retracts a flag; a snapshot and two runs follow.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import requests

from heedloop.client import Client
from heedloop.schema import Author, CharRange, Feedback, Run, Target, answer_hash

DAYS = 20
ANSWERS_PER_DAY = 30
TOPICS = ("account", "billing", "refunds", "shipping")
ANSWER = "Refunds are issued within 30 days. The refund was sent to your card yesterday."
BETTER = "Refunds are issued within 14 days. The refund is due on Friday."


@dataclass(frozen=True)
class World:
    """Ids that tests follow.

    Attributes:
        trace_id: the newest thumbs-down: with a tool span, flags, a correction and a changed mind.
    """

    trace_id: str
    span_id: str
    thumb_id: str
    snapshot_id: str
    run_id: str


def hexid(name: str, digits: int) -> str:
    """A stable id."""
    return hashlib.sha256(name.encode()).hexdigest()[:digits]


def span(
    name: str, at: datetime, took_ms: int, *, trace: str, id: str, parent: str = "", **attributes: Any
) -> dict[str, Any]:
    """One OTLP/JSON span."""
    start = int(at.timestamp() * 1e9)
    return {
        "traceId": trace,
        "spanId": id,
        "parentSpanId": parent,
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + took_ms * 1_000_000),
        "attributes": [{"key": k, "value": _value(v)} for k, v in attributes.items()],
        "status": {},
    }


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, (list, tuple)):
        return {"arrayValue": {"values": [_value(v) for v in value]}}
    return {"stringValue": value}


def messages(role: str, text: str) -> str:
    """Messages as the GenAI conventions write them."""
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


def answer_span(
    at: datetime,
    *,
    trace: str,
    id: str,
    question: str,
    answer: str,
    model: str,
    version: str,
    topic: str,
    **more: Any,
) -> dict[str, Any]:
    """An answer of the bot."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "gen_ai.provider.name": "local",
        "gen_ai.prompt.name": "support",
        "gen_ai.prompt.version": version,
        "gen_ai.input.messages": messages("user", question),
        "gen_ai.output.messages": messages("assistant", answer),
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 30,
        "heedloop.answer": True,
        "heedloop.tags": [topic],
        "heedloop.metadata.language": "en",
        "user.id": f"user-{id[:2]}",
        **more,
    }
    return span("answer", at, 1200, trace=trace, id=id, **attributes)


def post(url: str, key: str, spans: list[dict[str, Any]]) -> None:
    """Send spans as one OTLP/JSON request."""
    resource = {
        "attributes": [
            {"key": "service.name", "value": {"stringValue": "support-bot"}},
            {"key": "deployment.environment.name", "value": {"stringValue": "production"}},
        ]
    }
    body = {
        "resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "test"}, "spans": spans}]}]
    }
    answer = requests.post(
        f"{url}/v1/traces", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=30
    )
    answer.raise_for_status()


def planting_time() -> datetime:
    """The last past full hour of the day `HEEDLOOP_TEST_HOUR` (12) in UTC: worlds end there at whatever hour the tests run."""
    now = datetime.now(timezone.utc)
    chosen = now.replace(
        hour=int(os.environ.get("HEEDLOOP_TEST_HOUR", "12")), minute=0, second=0, microsecond=0
    )
    return chosen if chosen <= now else chosen - timedelta(days=1)


def build(url: str, key: str) -> World:
    """Post the world; returns when the server has answered for all of it."""
    random_ = random.Random(5)
    now = planting_time()
    client = Client(url, key)
    spans: list[dict[str, Any]] = []
    feedback: list[Feedback] = []
    for day in range(DAYS):
        for i in range(ANSWERS_PER_DAY):
            at = now - timedelta(days=DAYS - 1 - day, hours=1, seconds=40 * i)
            spans.append(_answer(random_, day, i, at, feedback))
    world = _newest_thumb_down(now - timedelta(minutes=5), spans, feedback)
    post(url, key, spans)
    for start in range(0, len(feedback), 200):
        client.send_feedback(feedback[start : start + 200])
    client.send_feedback(
        [
            _thumb(
                world.trace_id, world.span_id, 0, now - timedelta(minutes=2), "user-412", "It never arrived."
            )
        ]
    )
    wait_until(
        lambda: _stored(client, len(spans), len(feedback) + 1),
        "everything that was acknowledged is in the store",
    )
    return _train(client, world, now)


def _stored(client: Client, spans: int, feedback: int) -> bool:
    ledger = client.ledger()
    return ledger.stored >= spans and ledger.feedback.stored + ledger.feedback.duplicate >= feedback


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 240) -> None:
    """Ask again until it is so; fails after `timeout_s` with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


def _answer(
    random_: random.Random, day: int, i: int, at: datetime, feedback: list[Feedback]
) -> dict[str, Any]:
    trace, id = hexid(f"trace {day} {i}", 32), hexid(f"span {day} {i}", 16)
    topic, version = TOPICS[i % 4], "v2" if day >= DAYS // 2 else "v1"
    model = ("large-2", "small-2")[i // 4 % 2]
    bad = topic == "refunds" and version == "v2"
    if i % 2 == 0 or bad:
        up = random_.random() < (0.2 if bad else 0.75)
        feedback.append(_thumb(trace, id, int(up), at + timedelta(seconds=30), f"user-{id[:4]}"))
    return answer_span(
        at,
        trace=trace,
        id=id,
        question=f"A question about {topic}, number {day}.{i}",
        answer=f"An answer about {topic}.",
        model=model,
        version=version,
        topic=topic,
    )


def _thumb(
    trace: str, id: str, value: int, at: datetime, author: str, comment: str | None = None
) -> Feedback:
    return Feedback(
        kind="rating",
        target=Target(trace_id=trace, span_id=id),
        value=value,
        comment=comment,
        author=Author("end_user", author),
        created_at=at,
        id=hexid(f"thumb {trace} {value}", 32),
    )


def _newest_thumb_down(at: datetime, spans: list[dict[str, Any]], feedback: list[Feedback]) -> World:
    trace, id = hexid("the trace", 32), hexid("the span", 16)
    spans.append(
        answer_span(
            at,
            trace=trace,
            id=id,
            question="Where is my refund of order 88213?",
            answer=ANSWER,
            model="large-2",
            version="v2",
            topic="refunds",
        )
    )
    spans.append(
        span(
            "refund_lookup",
            at + timedelta(milliseconds=50),
            300,
            trace=trace,
            id=hexid("tool", 16),
            parent=id,
            **{"gen_ai.operation.name": "execute_tool"},
        )
    )
    target = Target(trace_id=trace, span_id=id)
    ana = Author("annotator", "ana")
    marked = Target(trace_id=trace, span_id=id, range=CharRange(0, 33, answer_hash(ANSWER)))
    feedback += [
        _thumb(trace, id, 1, at + timedelta(minutes=1), "user-412"),
        Feedback(
            kind="flag", target=marked, category="inaccurate", severity="high", author=ana, created_at=at
        ),
        Feedback(kind="correction", target=target, correction=BETTER, author=ana, created_at=at),
    ]
    return World(trace, id, "", "", "")


def _train(client: Client, world: World, now: datetime) -> World:
    thumbs = client.feedback(trace_id=world.trace_id, kind="rating").feedback
    snapshot = client.create_snapshot("november")
    first = Run(
        id="run-sft-1",
        method="sft",
        status="finished",
        snapshot_id=snapshot.id,
        model_name="support-sft-1",
        started_at=now - timedelta(minutes=3),
    )
    second = Run(
        id="run-ppo-1",
        method="ppo",
        snapshot_id=snapshot.id,
        parent="run-sft-1",
        model_name="support-ppo-1",
        config={"kl_coef": 0.05},
        started_at=now - timedelta(minutes=1),
    )
    for run in (first, second):
        client.create_run(run)
    client.add_run_history(
        "run-ppo-1",
        [{"step": s, "objective/kl": s / 10, "objective/scores": 1 - 1 / (s + 1)} for s in range(20)],
    )
    return World(world.trace_id, world.span_id, thumbs[0].feedback_id, snapshot.id, "run-ppo-1")
