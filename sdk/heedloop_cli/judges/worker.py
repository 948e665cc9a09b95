"""The judge worker: asks about every item once, within its budget, and sends what it learned as feedback by a model."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from heedloop.client import Client
from heedloop.responses import CallSummary
from heedloop.schema import Author, Feedback, JudgeSpec, Ranking, Target, feedback_from_json, to_json
from heedloop_cli.judges.backends import Backend, BackendError
from heedloop_cli.judges.items import Item, item_id
from heedloop_cli.judges.paid_calls import PaidCalls
from heedloop_cli.judges.parsers import Reply, parse, prompt_of

_AT_ONCE = 200
_SEND_AT_ONCE = 50
_TOO_MUCH = ("too long", "http 400", "http 413", "http 422")
"""Kinds of errors of prompts that the model does not take, however often it is asked."""


@dataclass(slots=True)
class Worker:
    """One judge at work.

    Attributes:
        counts: items by how they ended, in this run.
        reasons: why items failed or could not be read, the newest of each kind.
    """

    client: Client
    spec: JudgeSpec
    backend: Backend
    calls: PaidCalls
    examples: str = ""
    counts: Counter[str] = field(default_factory=Counter[str])
    reasons: dict[str, str] = field(default_factory=dict[str, str])

    def run(self, items: Iterable[Item], shown: Callable[[int], None] = lambda _: None) -> Counter[str]:
        """Judge what is not judged yet. Raises `OverBudget` or a fatal `BackendError` after what was learned is sent."""
        self._send()

        def after() -> None:
            shown(self.counts.total())
            self._send(least=_SEND_AT_ONCE)

        self.calls.run(self._unjudged(items), self._judge, after, self._send)
        return self.counts

    def _unjudged(self, items: Iterable[Item]) -> Iterator[Item]:
        rest, seen = iter(items), set[str]()
        while part := {i.id: i for i in islice(rest, _AT_ONCE)}:
            left = self.client.unjudged(self.spec.id, list(part))
            self.counts["judged before"] += len(part) - len(left)
            yield from (part[i] for i in left if i not in seen)
            seen |= set(left)

    def verdicts(self, items: Iterable[Item], shown: Callable[[int], None]) -> dict[Target, float | None]:
        """What a pointwise judge says of answers, without sending it: None where it takes no such prompt or a reply cannot be read.

        Raises:
            OverBudget, BackendError: one has no reply; those that were paid for are kept for the next time.
        """
        found: dict[Target, float | None] = {}

        def ask(item: Item) -> None:
            try:
                values = parse(self.spec, self._reply(item, swapped=False))
            except BackendError as err:
                if err.kind not in _TOO_MUCH:
                    raise
                values = None
            found[item.targets[0]] = None if values is None else values[self.spec.question]

        self.calls.run(items, ask, lambda: shown(len(found)), lambda: None)
        return found

    def not_judged(self, calls: Iterable[CallSummary]) -> Iterator[CallSummary]:
        """The calls that are not judged yet, before their contents are read."""
        rest = iter(calls)
        while part := {
            item_id(Target(trace_id=c.trace_id, span_id=c.span_id)): c for c in islice(rest, _AT_ONCE)
        }:
            left = self.client.unjudged(self.spec.id, list(part))
            self.counts["judged before"] += len(part) - len(left)
            yield from (part[i] for i in left)

    def recheck(self, items: Iterable[Item], day: str) -> Counter[str]:
        """Ask about items again that were judged: is the judge still the one it was? Its feedback stays as it is.

        An endpoint may serve another model under an old name. A verdict has changed where it is on another side of the middle.

        Args:
            day: names this check; the same day's answers are asked for once.
        """
        for item in items:
            before = self._share_before(item)
            if before is None:
                continue
            key = hashlib.sha256(f"{day}:{item.id}".encode()).hexdigest()[:32]
            try:
                found = [parse(self.spec, self._reply(item, s, key)) for s in self._orders()]
            except BackendError as err:
                if err.fatal:
                    raise
                self.counts["failed"] += 1
                continue
            values = [v for v in found if v is not None]
            now = (
                _share_of(self.spec, feedback_of(self.spec, item, values)[0])
                if len(values) == len(found)
                else None
            )
            status = "same" if now is not None and _side(now) == _side(before) else "changed"
            calls, cost, latency_ms = self.calls.journal.totals(key)
            call = {"item": key, "status": status, "num_calls": calls, "cost": cost, "latency_ms": latency_ms}
            self.calls.journal.keep(key, {"call": call, "feedback": []})
            self.counts[status] += 1
        self._send()
        return self.counts

    def _share_before(self, item: Item) -> float | None:
        target = item.targets[0]
        if target.trace_id is None:
            return None
        wanted = _client_id(self.spec, item, self.spec.names[0])
        found = self.client.iter_feedback(author_id=self.spec.id, trace_id=target.trace_id)
        return next((_share_of(self.spec, f) for f in found if f.id == wanted), None)

    # ------------------------------------------------------------------------------------------------- one item

    def _judge(self, item: Item) -> None:
        status, error, feedback, tokens = "judged", "", list[Feedback](), (0, 0)
        try:
            replies = [self._reply(item, swapped) for swapped in self._orders()]
        except BackendError as err:
            if err.fatal:
                raise
            status, error = "failed", err.kind
            self.reasons[f"failed ({err.kind})"] = str(err)
        else:
            tokens = (sum(r.input_tokens for r in replies), sum(r.output_tokens for r in replies))
            found = [parse(self.spec, r) for r in replies]
            values = [v for v in found if v is not None]
            if len(values) < len(found):
                status = "unparsable"
                self.reasons["unparsable"] = next(
                    f"such as {r.text[-200:]!r}" for r, f in zip(replies, found, strict=True) if f is None
                )
            else:
                feedback = feedback_of(self.spec, item, values)
        num_calls, cost, latency_ms = self.calls.journal.totals(item.id)
        call = {
            "item": item.id,
            "status": status,
            "error": error,
            "num_calls": num_calls,
            "input_tokens": tokens[0],
            "output_tokens": tokens[1],
            "cost": cost,
            "latency_ms": latency_ms,
        }
        self.calls.journal.keep(item.id, {"call": call, "feedback": [to_json(f) for f in feedback]})
        self.counts[status] += 1

    def _orders(self) -> tuple[bool, ...]:
        """A pair is asked about in both orders, but of a reward model, which sees one answer at a time."""
        both = self.spec.form == "pairwise" and self.spec.backend != "reward"
        return (False, True) if both else (False,)

    def _reply(self, item: Item, swapped: bool, key: str = "") -> Reply:
        """The reply about an item, under its own id or that of a recheck; one that was paid for is not asked for again."""
        key, part = key or item.id, "swapped" if swapped else "first"
        prompt = prompt_of(self.spec, item, self.examples, swapped=swapped)
        return self.calls.reply(key, part, prompt, lambda: self.backend.ask(item, prompt, swapped=swapped))

    # -------------------------------------------------------------------------------------------------- sending

    def _send(self, least: int = 1) -> None:
        """Send what waits, feedback first: what is counted as judged has its feedback stored."""
        while len(waiting := self.calls.journal.unsent(_SEND_AT_ONCE)) >= least:
            entries = [feedback_from_json(f) for body in waiting.values() for f in body["feedback"]]
            results = self.client.send_feedback(entries)
            self.counts["refused by the server"] += results.rejected
            self.client.add_judge_calls(self.spec.id, [body["call"] for body in waiting.values()])
            self.calls.journal.mark_sent(list(waiting))


def _share_of(spec: JudgeSpec, feedback: Feedback) -> float:
    """A judgement on 0 to 1; of a pair 1 where the first of the sorted answers wins."""
    if feedback.ranking is None:
        return spec.share(float(feedback.value or 0.0))
    sides = sorted(zip((a.key for a in feedback.ranking.answers), feedback.ranking.ranks, strict=True))
    return 0.5 + ((sides[0][1] < sides[1][1]) - (sides[0][1] > sides[1][1])) / 2


def _side(share: float) -> int:
    return (share > 0.5) - (share < 0.5)


def feedback_of(spec: JudgeSpec, item: Item, values: list[dict[str, float]]) -> list[Feedback]:
    """The feedback of an item's values, one per order that a pair was shown in; the same for the same, ids included."""
    if spec.form == "pairwise":
        return [_comparison(spec, item, [v[spec.question] for v in values])]
    return [
        Feedback(
            "rating",
            item.targets[0],
            name=name,
            value=float(value),
            scale=spec.scale,
            id=_client_id(spec, item, name),
            **_authorship(spec),
        )
        for name, value in values[0].items()
    ]


def _comparison(spec: JudgeSpec, item: Item, shares: list[float]) -> Feedback:
    """A preference that holds in both orders; a tie where the place decided it."""
    first = shares[0]
    second = 1 - shares[1] if len(shares) > 1 else first
    sides = [(s > 0.5) - (s < 0.5) for s in (first, second)]
    side = sides[0] if sides[0] == sides[1] else 0
    ranks = (1, 1) if not side else (1, 2) if side > 0 else (2, 1)
    metadata = {"share": f"{(first + second) / 2:.6g}"} | (
        {} if sides[0] == sides[1] else {"orders": "disagree"}
    )
    return Feedback(
        "comparison",
        item.targets[0],
        name=spec.question,
        ranking=Ranking(item.targets, ranks),
        id=_client_id(spec, item, spec.question),
        metadata=metadata,
        **_authorship(spec),
    )


def _authorship(spec: JudgeSpec) -> Mapping[str, Any]:
    version = spec.guideline.rpartition("/")[2] or None
    return {"author": Author("model", spec.id), "solicited": True, "guideline": version}


def _client_id(spec: JudgeSpec, item: Item, name: str) -> str:
    digest = hashlib.sha256(f"{spec.id}|{item.id}|{name}".encode()).hexdigest()[:40]
    return f"judge:{digest}"
