"""Short ways to write calls and judgements down in the tests of curate."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from heedloop.schema import THUMB, Author, Call, Feedback, Message, Ranking, Target
from heedloop_server.curate import Judgement

START = datetime(2026, 3, 1, tzinfo=timezone.utc)


def call(
    n: int, question: str = "How long does delivery take?", answer: str = "Two days.", **fields: Any
) -> Call:
    messages = fields.pop("messages", (Message("user", question),))
    return Call(
        trace_id=f"{n:032x}",
        span_id=f"{n:016x}",
        start_time=fields.pop("start_time", START + timedelta(minutes=n)),
        input_messages=messages,
        output_messages=fields.pop("output_messages", (Message("assistant", answer),)),
        **fields,
    )


def target(n: int) -> Target:
    return Target(trace_id=f"{n:032x}", span_id=f"{n:016x}")


def stored(feedback: Feedback) -> Judgement:
    return Judgement(str(feedback.identity("p")), 1, feedback)


def thumb(n: int, up: bool, author: str | None = "u1", **fields: Any) -> Judgement:
    return stored(
        Feedback(
            "rating", target(n), value=float(up), scale=THUMB, author=Author("end_user", author), **fields
        )
    )


def correction(n: int, text: str, author: str | None = "u1") -> Judgement:
    return stored(Feedback("correction", target(n), correction=text, author=Author("annotator", author)))


def flag(n: int, category: str, author: str = "u1", kind: str = "end_user") -> Judgement:
    return stored(Feedback("flag", target(n), category=category, author=Author(kind, author)))  # type: ignore[arg-type]


def ranking(ns: list[int], ranks: list[int], author: str | None = "a1", **fields: Any) -> Judgement:
    of_feedback = ("sampling_probability", "solicited", "queue_item", "metadata")
    asked = {k: fields.pop(k) for k in of_feedback if k in fields}
    ranked = Ranking(tuple(target(n) for n in ns), tuple(ranks), **fields)
    return stored(
        Feedback("comparison", target(ns[0]), ranking=ranked, author=Author("annotator", author), **asked)
    )
