"""UKPConvArg1 (Habernal and Gurevych 2016): arguments of debate sites with their visitors' votes, and crowd judgements on pairs.

A line of arguments is a call whose prompt is the question and the side to take; a line of pairs brings the judgements, one
comparison per worker. Both give an argument the same ids.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from heedloop.attributes import METADATA_PREFIX
from heedloop.schema import THUMB, Author, Call, Feedback, Message, Ranking
from heedloop_cli.importers.record import (
    BadLine,
    Line,
    Source,
    Wrong,
    clipped,
    content_id,
    ids_of,
    number_of,
    sequence_of,
    target_of,
    text_of,
    time_of,
)

__all__ = ["reader"]

SERVICE = "ukpconvarg1"
WRITTEN = datetime(2016, 1, 1, tzinfo=timezone.utc)
"""The arguments carry no time; the crowd judged them from January 2016 on."""

MAX_VOTES = 100_000

_RANKS = {"a1": (1, 2), "a2": (2, 1), "equal": (1, 1)}


def reader(source: Source) -> _Reader:
    """A reader of arguments or pairs."""
    return _Reader(source)


class _Reader:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._time = source.default_time or WRITTEN
        self._arguments: dict[tuple[str, str], Mapping[str, Any]] | None = None
        self._calls: dict[tuple[str, str], Call] = {}

    def take(self, number: int, row: Mapping[str, Any]) -> Iterator[Line | BadLine]:
        yield self._pair(number, row) if "judgments" in row else self._argument(number, row)

    def finish(self) -> Iterator[Line | BadLine]:
        return iter(())

    def _argument(self, number: int, row: Mapping[str, Any]) -> Line:
        call = self._call(row)
        votes = [(f"{side}{i}", float(side == "up")) for side, n in _votes(row).items() for i in range(n)]
        # Visitors of the site have no names, and nobody asked them.
        feedback = tuple(
            Feedback(
                "rating",
                target_of(call),
                value=value,
                scale=THUMB,
                created_at=self._time,
                id=content_id(SERVICE, "visitor", call.trace_id, n)[:32],
                solicited=False,
                metadata={"topic": text_of(row, "topic")},
            )
            for n, value in votes
        )
        return Line(number, (call,), feedback)

    def _call(self, row: Mapping[str, Any]) -> Call:
        topic, name = text_of(row, "topic"), text_of(row, "arg")
        trace_id, span_id = ids_of(SERVICE, topic, name)
        ask = f"{text_of(row, 'question')}\nGive one argument for this side: {text_of(row, 'stance')}"
        metadata = clipped({"topic": topic, "argument": name, "rank": row.get("rank")})
        metadata |= clipped({"up": row.get("up"), "down": row.get("down")})
        return Call(
            trace_id=trace_id,
            span_id=span_id,
            start_time=self._time,
            name="argument",
            service=SERVICE,
            input_messages=(Message("user", ask),),
            output_messages=(Message("assistant", text_of(row, "text")),),
            tags=(f"topic:{topic}",),
            attributes={METADATA_PREFIX + k: v for k, v in metadata.items()},
        )

    def _pair(self, number: int, row: Mapping[str, Any]) -> Line:
        topic, pair = text_of(row, "topic"), text_of(row, "pair")
        calls = tuple(self._known(topic, text_of(row, side)) for side in ("a1", "a2"))
        labels = {"topic": topic, "pair": pair, "gold": row.get("gold"), "strict": row.get("strict")}
        rankings = {
            v: Ranking((target_of(calls[0]), target_of(calls[1])), ranks) for v, ranks in _RANKS.items()
        }
        feedback: list[Feedback] = []
        for i, judgement in enumerate(sequence_of(row, "judgments")):
            where = f"judgments[{i}]"
            if not isinstance(judgement, Mapping) or judgement.get("v") not in _RANKS:
                raise Wrong(where, f"v must be a1, a2 or equal, not {judgement!r:.60}")
            worker = text_of(judgement, "w")
            feedback.append(
                Feedback(
                    "comparison",
                    target_of(calls[0]),
                    "convincing",
                    ranking=rankings[judgement["v"]],
                    comment=judgement.get("r") or None,
                    author=Author("annotator", worker),
                    created_at=time_of(judgement.get("t"), f"{where}.t"),
                    id=content_id(SERVICE, topic, pair, worker)[:32],
                    solicited=True,
                    metadata=clipped(
                        {**labels, "competence": judgement.get("c"), "own_stance": judgement.get("s")}
                    ),
                )
            )
        return Line(number, calls, tuple(feedback))

    def _known(self, topic: str, name: str) -> Call:
        if self._arguments is None:
            self._arguments = _arguments(self._source)
        row = self._arguments.get((topic, name))
        if row is None:
            raise Wrong("a1", f"the file of arguments has no {name!r} under the topic {topic!r}")
        if (topic, name) not in self._calls:
            self._calls[topic, name] = self._call(row)
        return self._calls[topic, name]


def _votes(row: Mapping[str, Any]) -> dict[str, int]:
    """Votes up and down. Sites that show one net number have it under `up`; below zero it is that many more down."""
    up, down = (number_of(row, name, 0) for name in ("up", "down"))
    for name, value in (("up", up), ("down", down)):
        if value != int(value) or abs(value) > MAX_VOTES:
            raise Wrong(name, f"{value!r} is no count of votes")
    if down < 0:
        raise Wrong("down", f"{down:g} is below zero")
    return {"up": int(max(up, 0)), "down": int(down + max(-up, 0))}


def _arguments(source: Source) -> dict[tuple[str, str], Mapping[str, Any]]:
    """All arguments by topic and name, from the file the caller named or the one beside the pairs."""
    path = source.answers or source.path.with_name(source.path.name.replace("pairs", "args"))
    if path == source.path or not path.exists():
        raise FileNotFoundError(
            f"the texts of these pairs are in another file, which is not at {path}; name it with --answers"
        )
    arguments: dict[tuple[str, str], Mapping[str, Any]] = {}
    packed = path.read_bytes()
    text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode()
    for line in text.split("\n"):  # splitlines would also cut at separators inside the texts
        if line.strip():
            row = json.loads(line)
            arguments[row["topic"], row["arg"]] = row
    return arguments
