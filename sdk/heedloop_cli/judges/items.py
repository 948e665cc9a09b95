"""What a judge is asked about: answers, pairs of answers to one prompt, or sessions, with their contents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice
from typing import Any

from heedloop.client import Client
from heedloop.responses import CallSummary
from heedloop.schema import Call, Case, JudgeForm, JudgeSpec, Message, Target, utc_now

_AHEAD = 8
_EVER = "1970-01-02T00:00:00Z"
_GIVEN = ("system", "developer", "tool")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to judge: `calls` are one answer, two answers to one prompt, or a session's answers in order of time."""

    targets: tuple[Target, ...]
    calls: tuple[Call, ...]
    reference: str = ""

    @property
    def id(self) -> str:
        """32 hex digits: the same targets are the same item, in whatever order."""
        return item_id(*self.targets)

    def holes(self, *, swapped: bool = False) -> dict[str, str]:
        """What goes into a prompt's holes; `swapped` shows the second answer of a pair first."""
        first = self.calls[0]
        texts = [c.output_text for c in self.calls]
        a, b = (texts[-1], texts[0]) if swapped else (texts[0], texts[-1])
        return {
            "question": _question(first.input_messages),
            "answer": texts[0],
            "answer_a": a,
            "answer_b": b,
            "context": "\n\n".join(m.text for m in first.input_messages if m.role in _GIVEN and m.text),
            "conversation": "\n\n".join(
                f"User: {_question(c.input_messages[-1:])}\n\nAssistant: {c.output_text}" for c in self.calls
            ),
            "reference": self.reference,
        }


def item_id(*targets: Target) -> str:
    """The id of the item of these targets."""
    return hashlib.sha256("|".join(sorted(t.key for t in targets)).encode()).hexdigest()[:32]


def _question(messages: Sequence[Message]) -> str:
    """What was asked: a single message as it is, a conversation with its roles."""
    shown = [m for m in messages if m.role not in _GIVEN and m.text]
    return shown[0].text if len(shown) == 1 else "\n\n".join(f"{m.role}: {m.text}" for m in shown)


def read_items(
    client: Client, spec: JudgeSpec, summaries: Iterable[CallSummary], corrections: bool
) -> Iterator[Item]:
    """The items of a judge's form among some calls; what has no content is left out."""
    if spec.form == "session":
        sessions = dict.fromkeys(s.session_id for s in summaries if s.session_id)
        for session in sessions:
            calls = [
                c
                for s in client.iter_calls(session_id=session, since=_EVER)
                for c in calls_of(client, s.trace_id, s.span_id)
            ]
            if calls:
                calls.sort(key=lambda c: c.start_time)
                yield Item((Target(session_id=session),), tuple(calls))
        return
    waiting: dict[str, Call] = {}
    for calls in fetched(client, ([(s.trace_id, s.span_id)] for s in summaries)):
        for call in calls:
            if spec.form != "pairwise":
                yield Item((target_of_call(call),), (call,), _reference(client, call) if corrections else "")
                continue
            prompt = _question(call.input_messages)
            other = waiting.pop(prompt, None)
            if other is None or other.output_text == call.output_text:
                waiting[prompt] = call
            else:
                yield Item((target_of_call(call), target_of_call(other)), (call, other))


def queue_items(client: Client, queue_id: str, spec: JudgeSpec) -> Iterator[Item]:
    """The items of a review queue that have as many answers as the judge's form needs."""
    wanted, cursor = (2 if spec.form == "pairwise" else 1), None
    while True:
        page = client.review_items(queue_id, limit=50, cursor=cursor)
        named = (
            [(str(t.trace_id), str(t.span_id)) for t in i.targets]
            for i in page.items
            if len(i.targets) == wanted
        )
        for calls in fetched(client, named):
            if len(calls) == wanted:
                yield Item(tuple(target_of_call(c) for c in calls), tuple(calls))
        cursor = page.next_cursor
        if cursor is None:
            return


def answer_items(client: Client, targets: Iterable[Target], corrections: bool) -> Iterator[Item]:
    """The answers of these targets, in their order; what is not stored any more is left out."""
    for calls in fetched(client, ([(str(t.trace_id), str(t.span_id))] for t in targets)):
        for call in calls:
            yield Item((target_of_call(call),), (call,), _reference(client, call) if corrections else "")


def chosen_calls(
    client: Client, form: JudgeForm, filters: Mapping[str, Any], *, sample: int | None, seed: str
) -> Iterator[CallSummary]:
    """The calls of the filters, the newest first; for a sample in an order drawn by the seed, in which what makes up one item of
    the form (answers to one prompt, a session) is together."""
    found = client.iter_calls(**filters)
    if sample is None:
        return found
    if form == "session":
        return iter(sorted(found, key=lambda c: _lot(seed, c.session_id)))
    if form == "pairwise":
        return iter(sorted(found, key=lambda c: _lot(seed, c.input_preview)))
    return iter(nsmallest(sample, found, key=lambda c: _lot(seed, f"{c.trace_id}|{c.span_id}")))


def _lot(seed: str, key: str | None) -> str:
    return hashlib.sha256(f"{seed}|{key}".encode("utf-8", "replace")).hexdigest()


def fetched(client: Client, named: Iterable[list[tuple[str, str]]]) -> Iterator[list[Call]]:
    """The calls of each list, in order, `_AHEAD` lists at a time: the server answers them side by side."""
    with ThreadPoolExecutor(_AHEAD) as pool:
        rest = iter(named)
        while part := list(islice(rest, _AHEAD)):
            yield from pool.map(lambda keys: [c for k in keys for c in calls_of(client, *k)], part)


def calls_of(client: Client, trace_id: str | None, span_id: str | None) -> list[Call]:
    spans = client.trace(str(trace_id)).spans
    return [c for c in spans if c.span_id == span_id and c.output_text.strip() and c.input_messages]


def target_of_call(call: Call) -> Target:
    return Target(trace_id=call.trace_id, span_id=call.span_id)


def item_of(case: Case, answer: str) -> Item:
    """An answer to a case that is stored nowhere."""
    ids = hashlib.sha256("\x1f".join((case.id, answer)).encode("utf-8", "replace")).hexdigest()
    call = Call(
        ids[:32],
        ids[32:48],
        utc_now(),
        input_messages=case.prompt,
        output_messages=(Message("assistant", answer),),
    )
    return Item((target_of_call(call),), (call,), case.reference)


def _reference(client: Client, call: Call) -> str:
    """The newest correction of the answer."""
    found = client.feedback(trace_id=call.trace_id, kind="correction", limit=1).feedback
    return (found[0].correction or "") if found else ""


def example_texts(client: Client, spec: JudgeSpec) -> str:
    """The examples that the judge is shown, as its prompt holds them.

    Raises:
        ValueError: one was erased: the judge is not what its hash says any more.
    """
    parts: list[str] = []
    for example in spec.examples:
        calls = calls_of(client, example.target.trace_id, example.target.span_id)
        if not calls:
            raise ValueError(
                f"an example of {spec.id} is not stored any more; make a new version without {example.target.key}"
            )
        holes = Item((example.target,), (calls[0],)).holes()
        parts.append(
            f"# Example question\n{holes['question']}\n\n# Example answer\n{holes['answer']}\n\nVERDICT: {example.verdict}\n\n"
        )
    return "".join(parts)
