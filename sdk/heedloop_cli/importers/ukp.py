"""UKPConvArg1 (Habernal and Gurevych 2016): arguments of debate sites with their visitors' votes, and crowd judgements on pairs.

A line of arguments is a call whose prompt is the question and the side to take; a line of pairs brings the judgements, one
comparison per worker. Both give an argument the same ids.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import THUMB, Author, Call, Feedback, Message, Ranking
from heedloop_cli.importers.record import (
    JudgementReader,
    Line,
    Source,
    Wrong,
    clipped,
    number_of,
    sequence_of,
    target_of,
    text_of,
    time_of,
)

MAX_VOTES = 100_000

_RANKS = {"a1": (1, 2), "a2": (2, 1), "equal": (1, 1)}


class Ukp(JudgementReader):
    """Arguments or pairs."""

    service = "ukpconvarg1"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._arguments: dict[tuple[str, str], Mapping[str, Any]] | None = None
        self._calls: dict[tuple[str, str], Call] = {}

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        return {"topic", "a1", "a2", "judgments"} <= row.keys() or {"topic", "arg", "text"} <= row.keys()

    def take(self, number: int, row: Mapping[str, Any]) -> Iterator[Line]:
        yield self._pair(number, row) if "judgments" in row else self._argument(number, row)

    def _argument(self, number: int, row: Mapping[str, Any]) -> Line:
        call = self._call(row)
        votes = [(f"{side}{i}", float(side == "up")) for side, n in _votes(row).items() for i in range(n)]
        # Visitors of the site have no names, and nobody asked them.
        shared: dict[str, Any] = {"scale": THUMB, "created_at": self.source.time, "solicited": False}
        shared["metadata"] = {"topic": text_of(row, "topic"), **self.source.assumed(None)}
        feedback = [
            self.feedback(("visitor", call.trace_id, n), "rating", target_of(call), value=value, **shared)
            for n, value in votes
        ]
        return Line(number, (call,), tuple(feedback))

    def _call(self, row: Mapping[str, Any]) -> Call:
        topic, name = text_of(row, "topic"), text_of(row, "arg")
        ask = f"{text_of(row, 'question')}\nGive one argument for this side: {text_of(row, 'stance')}"
        labels = clipped({"topic": topic, "argument": name, "rank": row.get("rank")})
        labels |= self.source.assumed(None)
        labels |= clipped({"up": row.get("up"), "down": row.get("down")})
        prompt = (Message("user", ask),)
        fields: dict[str, Any] = {"name": "argument", "tags": (f"topic:{topic}",)}
        return self.call((topic, name), self.source.time, prompt, text_of(row, "text"), labels, **fields)

    def _pair(self, number: int, row: Mapping[str, Any]) -> Line:
        topic, pair = text_of(row, "topic"), text_of(row, "pair")
        calls = tuple(self._known(topic, text_of(row, side)) for side in ("a1", "a2"))
        labels = {"topic": topic, "pair": pair, "gold": row.get("gold"), "strict": row.get("strict")}
        targets = (target_of(calls[0]), target_of(calls[1]))
        rankings = {v: Ranking(targets, ranks) for v, ranks in _RANKS.items()}
        feedback: list[Feedback] = []
        for i, judgement in enumerate(sequence_of(row, "judgments")):
            where = f"judgments[{i}]"
            if not isinstance(judgement, Mapping) or judgement.get("v") not in _RANKS:
                raise Wrong(where, f"v must be a1, a2 or equal, not {judgement!r:.60}")
            worker = text_of(judgement, "w")
            own = {"competence": judgement.get("c"), "own_stance": judgement.get("s")}
            feedback.append(
                self.feedback(
                    (topic, pair, worker),
                    "comparison",
                    targets[0],
                    name="convincing",
                    ranking=rankings[judgement["v"]],
                    comment=judgement.get("r") or None,
                    author=Author("annotator", worker),
                    created_at=time_of(judgement.get("t"), f"{where}.t"),
                    solicited=True,
                    metadata=clipped({**labels, **own}),
                )
            )
        return Line(number, calls, tuple(feedback))

    def _known(self, topic: str, name: str) -> Call:
        if self._arguments is None:
            self._arguments = _arguments(self.source)
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
