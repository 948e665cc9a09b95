"""Sends what readers give, in batches, and counts what became of it: read = stored + known + left out.

All ids are made of the source's, so that sending a file again, or going on after a break, stores nothing twice.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from heedloop._call_spans import otlp_request
from heedloop.attributes import METADATA_PREFIX
from heedloop.client import Client, Forbidden, Invalid, Unavailable
from heedloop.responses import FeedbackResult, Import
from heedloop.schema import Call, Feedback, Target, format_time, from_json, parse_time
from heedloop_cli.importers.record import BadLine, Line, target_of

T = TypeVar("T")

CALLS_AT_ONCE = 2000
FEEDBACK_AT_ONCE = 5000
CHARS_AT_ONCE = 4_000_000
ERRORS_SHOWN = 20
PATIENCE_S = 3600.0
"""For how long a server that says "later" is asked again, beyond the client's own three tries."""
REFUSED = "refused by the server"
OTHER_CONTENT = "another record of the same id has other content: the first counts"


@dataclass(slots=True)
class Balance:
    """What became of an import: every row, judgement and call is in exactly one count.

    Attributes:
        rows: `stored` (something new), `known` (all of it was there), `left_out`, `unreadable`, `context` (it only explains others).
        judgements: `stored`, `replaced` (stored in the place of an earlier one), `known`.
        calls: `stored`, `known`, `refused`.
        left_out: reason -> judgements that are not stored.
        errors: the first few unreadable rows, in words.
        notes: what the user should know of the source's form.
        num_lines: lines of the reader that are done; where an import that was broken off goes on.
    """

    rows: Counter[str] = field(default_factory=Counter[str])
    judgements: Counter[str] = field(default_factory=Counter[str])
    calls: Counter[str] = field(default_factory=Counter[str])
    left_out: Counter[str] = field(default_factory=Counter[str])
    errors: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    first_time: datetime | None = None
    last_time: datetime | None = None
    num_lines: int = 0
    contents: dict[int, int] = field(default_factory=dict[int, int])
    """What each id said when it came first, as hashes."""

    def is_other(self, one: Feedback) -> bool:
        """True where the same id said something else before."""
        said = hash((one.value, one.comment, one.correction, one.category, one.ranking))
        return self.contents.setdefault(hash(one.id), said) != said

    @property
    def num_read(self) -> int:
        """Judgements that were read."""
        return self.judgements.total() + self.left_out.total()

    @property
    def is_whole(self) -> bool:
        """True where nothing was unreadable or refused."""
        return not (self.rows["unreadable"] or self.left_out[REFUSED] or self.calls["refused"])

    def reject(self, text: str) -> None:
        """Count an unreadable row; the first few are kept in words."""
        self.rows["unreadable"] += 1
        self.note_error(text)

    def note_error(self, text: str) -> None:
        """Keep one of the first few errors."""
        if len(self.errors) < ERRORS_SHOWN:
            self.errors.append(text)

    def counted(self, one: Import) -> Import:
        """An import's record with these counts."""
        judged = self.judgements
        return replace(
            one,
            num_rows=self.rows.total(),
            num_unreadable=self.rows["unreadable"],
            num_read=self.num_read,
            num_stored=judged["stored"] + judged["replaced"],
            num_replaced=judged["replaced"],
            num_known=judged["known"],
            num_calls=self.calls["stored"],
            num_known_calls=self.calls["known"],
            left_out={k: n for k, n in self.left_out.items() if n},
        )

    def note_times(self, calls: Iterable[Call]) -> None:
        """Widen the period of the calls."""
        for call in calls:
            self.first_time = min(self.first_time or call.start_time, call.start_time)
            self.last_time = max(self.last_time or call.start_time, call.start_time)

    def to_json(self) -> dict[str, Any]:
        """As the cursor's file has it."""
        counts = {n: dict(getattr(self, n)) for n in ("rows", "judgements", "calls", "left_out")}
        times = {n: format_time(t) if (t := getattr(self, n)) else None for n in ("first_time", "last_time")}
        return {**counts, **times, "errors": self.errors, "notes": self.notes, "num_lines": self.num_lines}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Balance:
        """The inverse of `to_json`."""
        counts: dict[str, Any] = {n: Counter(value[n]) for n in ("rows", "judgements", "calls", "left_out")}
        times: dict[str, Any] = {
            n: parse_time(value[n], field=n) if value[n] else None for n in ("first_time", "last_time")
        }
        return cls(
            **counts, **times, errors=value["errors"], notes=value["notes"], num_lines=value["num_lines"]
        )


def import_lines(
    client: Client,
    lines: Iterator[Line | BadLine],
    *,
    balance: Balance | None = None,
    import_id: str = "",
    done: Callable[[Balance], None] = lambda _: None,
) -> Balance:
    """Send the lines' calls and feedback and count what became of them in `balance`, whose first lines are passed over.

    Args:
        import_id: what everything that is stored is marked with, so that the import can be undone.
        done: called after every batch, when all that is counted is stored.
    """
    balance = Balance() if balance is None else balance
    sender = _Sender(client, balance, import_id)

    def store(batch: list[Line | BadLine], num_lines: int) -> None:
        sender.send(batch)
        balance.num_lines = num_lines
        done(balance)

    # the next batch is read while the server stores the last
    with ThreadPoolExecutor(1) as pool:
        pending: Future[None] | None = None
        for batch, num_lines in _batches(lines, balance.num_lines):
            if pending is not None:
                pending.result()
            pending = pool.submit(store, batch, num_lines)
        if pending is not None:
            pending.result()
    return balance


def _batches(lines: Iterator[Line | BadLine], num_before: int) -> Iterator[tuple[list[Line | BadLine], int]]:
    """The lines behind the first `num_before` in batches, each with the number of lines up to its end."""
    batch: list[Line | BadLine] = []
    num_feedback = size = number = 0
    for number, line in enumerate(lines, 1):
        if number <= num_before:
            continue
        num = len(line.feedback) if isinstance(line, Line) else 0
        if num_feedback + num > FEEDBACK_AT_ONCE or len(batch) >= FEEDBACK_AT_ONCE or size > CHARS_AT_ONCE:
            yield batch, number - 1
            batch, num_feedback, size = [], 0, 0
        batch.append(line)
        num_feedback += num
        if isinstance(line, Line):
            size += sum(map(_call_chars, line.calls)) + sum(map(_feedback_chars, line.feedback))
    yield batch, number


class _Sender:
    """Sends batches of lines; remembers which calls were sent or were there before."""

    def __init__(self, client: Client, balance: Balance, import_id: str) -> None:
        self._client = client
        self._balance = balance
        self._mark = {"import": import_id} if import_id else {}
        self._sent: set[int] = set()
        self._stands_for: dict[str, Target] = {}
        self._may_read = True

    def send(self, batch: list[Line | BadLine]) -> None:
        """One batch: its calls first, so that its feedback finds them."""
        lines = [line for line in batch if isinstance(line, Line)]
        for line in batch:
            if isinstance(line, BadLine):
                self._balance.reject(str(line))
        new_calls = self._send_calls([c for line in lines for c in line.calls])
        feedback = [self._redirected(f) for line in lines for f in line.feedback]
        statuses: list[tuple[str, str]] = []
        for part in _parts(feedback, FEEDBACK_AT_ONCE, _feedback_chars):
            statuses += self._send_feedback(part)
        results = iter(statuses)
        for line in lines:
            self._count(line, [next(results) for _ in line.feedback], new_calls)

    def _redirected(self, feedback: Feedback) -> Feedback:
        """The feedback, about the call that was here before where one stands for its own."""
        if not self._stands_for:
            return feedback
        target, ranking = self._found(feedback.target), feedback.ranking
        if ranking is not None:
            ranking = replace(ranking, answers=tuple(map(self._found, ranking.answers)))
        return replace(feedback, target=target, ranking=ranking)

    def _found(self, target: Target) -> Target:
        known = self._stands_for.get(target.key if target.range is None else replace(target, range=None).key)
        return target if known is None else replace(known, range=target.range)

    def _count(self, line: Line, results: list[tuple[str, str]], new_calls: set[int]) -> None:
        balance = self._balance
        balance.left_out.update(line.left_out)
        if line.note and line.note not in balance.notes:
            balance.notes.append(line.note)
        for one, (status, why) in zip(line.feedback, results, strict=True):
            if balance.is_other(one) and status == "duplicate":
                balance.left_out[OTHER_CONTENT] += 1
            elif status == "rejected":
                balance.left_out[REFUSED] += 1
                balance.note_error(f"line {line.number}: {why}")
            else:
                balance.judgements["known" if status == "duplicate" else status] += 1
        is_new = any(status in ("stored", "replaced") for status, _ in results)
        if is_new or any(_key(c) in new_calls for c in line.calls):
            balance.rows["stored"] += 1
        elif results or line.calls:
            balance.rows["known"] += 1
        else:
            balance.rows["left_out" if line.left_out else "context"] += 1

    def _send_calls(self, calls: list[Call]) -> set[int]:
        fresh: dict[int, Call] = {}
        for call in calls:
            if _key(call) not in self._sent:
                fresh.setdefault(_key(call), call)
        known = self._known(list(fresh.values()))
        missing = {key: c for key, c in fresh.items() if key not in known}
        self._sent.update(fresh)
        balance = self._balance
        balance.note_times(fresh.values())
        mark = {METADATA_PREFIX + k: v for k, v in self._mark.items()}
        refused = 0
        for part in _parts(missing.values(), CALLS_AT_ONCE, _call_chars):
            body = otlp_request(replace(c, attributes={**c.attributes, **mark}) for c in part)
            refused += _patiently(lambda b=body: _post_spans(self._client, b))
        balance.calls.update(known=len(known), stored=len(missing) - refused, refused=refused)
        return set(missing)

    def _known(self, calls: list[Call]) -> set[int]:
        """Those of the calls that are stored, by their ids or by their provider's response id."""
        if not calls or not self._may_read:
            return set()
        with_response = [c for c in calls if c.response_id]
        targets = [*map(target_of, calls), *(Target(response_id=c.response_id) for c in with_response)]
        try:
            stored = _patiently(lambda: self._client.known_calls(targets)).calls
        except Forbidden:
            self._may_read = False
            return set()
        known = {_key(calls[one.index]) for one in stored if one.index < len(calls)}
        for one in stored:
            call = with_response[one.index - len(calls)] if one.index >= len(calls) else None
            if call is not None and _key(call) not in known:
                known.add(_key(call))
                self._stands_for[target_of(call).key] = Target(one.trace_id, one.span_id)
        return known

    def _send_feedback(self, feedback: list[Feedback]) -> list[tuple[str, str]]:
        """Status and, where it was rejected, the reason of each."""
        try:
            results = _patiently(lambda: self._client.send_feedback(feedback, metadata=self._mark)).results
        except Invalid as err:
            if "results" not in err.body:
                raise
            results = [from_json(FeedbackResult, r, strict=False) for r in err.body["results"]]
        return [(r.status, f"{r.error.field}: {r.error.message}" if r.error else "") for r in results]


def _key(call: Call) -> int:
    """A call's ids as one number, which takes a tenth of their text's memory."""
    return int(call.trace_id + call.span_id, 16) & (2**63 - 1) ^ int(call.trace_id[:16], 16)


def _parts(things: Iterable[T], most: int, chars: Callable[[T], int]) -> Iterator[list[T]]:
    """The things in parts of at most `most` each, and of about 4 million characters: a server takes no endless body."""
    part: list[T] = []
    size = 0
    for thing in things:
        if part and (len(part) >= most or size + chars(thing) > CHARS_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(thing)
        size += chars(thing)
    if part:
        yield part


def _call_chars(call: Call) -> int:
    return sum(len(m.text) for m in call.input_messages) + len(call.output_text)


def _feedback_chars(feedback: Feedback) -> int:
    return len(feedback.comment or "") + len(feedback.correction or "")


def _post_spans(client: Client, body: bytes) -> int:
    """Send one OTLP request; how many of its spans were refused."""
    headers = {"Content-Type": "application/x-protobuf"}
    answer = client._request("POST", "/v1/traces", data=body, headers=headers)
    return ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans


def _patiently(ask: Callable[[], T]) -> T:
    """The response, asked for again while the server says that it will have time later."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except Unavailable as err:
            if time.monotonic() > until:
                raise
            time.sleep(min(30.0, err.retry_after_s or 2.0))
