"""`heedloop import FILE`: human judgements of a file, through the API, into a project."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from heedloop._call_spans import otlp_request
from heedloop.client import ApiError, Client, Forbidden, Invalid, Unavailable
from heedloop.responses import FeedbackResult
from heedloop.schema import Call, Feedback, from_json, parse_time, utc_now
from heedloop_cli.commands.connection import add_connection, client_of, with_plain_errors
from heedloop_cli.commands.progress import Progress
from heedloop_cli.importers import FORMATS, BadLine, Line, detect, num_rows, read

__all__ = ["HELP", "Balance", "add_arguments", "import_lines", "run"]

T = TypeVar("T")

HELP = "read a file of human judgements (preference pairs, ratings, rankings) into a project"

CALLS_AT_ONCE = 500
FEEDBACK_AT_ONCE = 2000
CHARS_AT_ONCE = 4_000_000
ERRORS_SHOWN = 20
PATIENCE_S = 300.0
"""For how long a server that says "later" is asked again, beyond the client's own three tries."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("file", type=Path, help="JSON Lines, .gz or not; docs/datasets.md shows the forms")
    parser.add_argument(
        "--format", choices=FORMATS, default="auto", help="found out from the file where not given"
    )
    parser.add_argument(
        "--project", help="the project it must go into: made if it is new and the key may, else checked"
    )
    parser.add_argument("--limit", type=int, help="read this many rows only")
    parser.add_argument("--answers", type=Path, help="ukp: the file of arguments that the pairs name")
    parser.add_argument("--time", help="time of what carries none, such as 2026-03-01T00:00:00Z")
    add_connection(parser)


def run(args: argparse.Namespace) -> int:
    """0 where everything is stored, 1 where rows were rejected, 2 where nothing could be done."""
    return with_plain_errors(args, _import)


def _import(args: argparse.Namespace) -> int:
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit {args.limit}: name at least one row")
    default_time = parse_time(args.time, field="--time") if args.time else None
    chosen = detect(args.file) if args.format == "auto" else args.format
    total = num_rows(args.file, args.limit)
    client = _project_client(client_of(args), args)
    lines = read(args.file, format=chosen, limit=args.limit, answers=args.answers, default_time=default_time)
    started = time.monotonic()
    balance = Balance()
    try:
        with Progress("importing", total, "rows") as progress:
            import_lines(client, lines, balance=balance, progress=progress)
    except ApiError:
        _print_balance(balance, args.file, chosen, time.monotonic() - started)
        print("  broken off: run the same command again, it goes on where this one ended")
        raise
    _print_balance(balance, args.file, chosen, time.monotonic() - started)
    return (
        1 if balance.rows["rejected"] or balance.judgements["rejected"] or balance.num_spans_rejected else 0
    )


def _project_client(client: Client, args: argparse.Namespace) -> Client:
    """The client whose key belongs to the wanted project; a project that is not there yet is made where the key may."""
    me = client.me()
    if args.project is None or args.project == me.project:
        return client
    if "instance" not in me.scopes or args.project in client.projects():
        raise ValueError(
            f"the key belongs to the project {me.project!r}, not to {args.project!r}; use a key of that project"
        )
    project = client.create_project(args.project)
    print(f"made the project {args.project!r}; its key, shown this once: {project.key}")
    return Client(client.url, project.key, timeout_s=300)


# ----------------------------------------------------------------------------------------------------- the import


@dataclass(slots=True)
class Balance:
    """What became of a file: every row and every judgement is in exactly one count.

    Attributes:
        rows: `stored` (something new), `duplicate` (all of it was there), `rejected`, `context` (only what others
            answered).
        judgements: `stored`, `replaced`, `duplicate`, `rejected` as the server said.
        left_out: reason -> judgements that have no answer they could be about.
        errors: the first few wrong lines, in words.
    """

    rows: Counter[str] = field(default_factory=Counter[str])
    judgements: Counter[str] = field(default_factory=Counter[str])
    left_out: Counter[str] = field(default_factory=Counter[str])
    errors: list[str] = field(default_factory=list[str])
    num_calls: int = 0
    num_known_calls: int = 0
    num_spans_rejected: int = 0
    first_time: datetime | None = None
    last_time: datetime | None = None


def import_lines(
    client: Client,
    lines: Iterator[Line | BadLine],
    *,
    balance: Balance | None = None,
    progress: Progress | None = None,
) -> Balance:
    """Send the lines' calls and feedback, in batches, and count what became of them (in `balance`, where it is given).

    Sending a file twice, or again after it was broken off, stores everything once: all ids come from the contents.
    """
    balance = Balance() if balance is None else balance
    sender = _Sender(client, balance)
    batch: list[Line] = []
    num_feedback = 0
    for line in lines:
        if isinstance(line, BadLine):
            _reject(balance, str(line))
            continue
        # One post a batch, so that a batch is counted wholly or not at all.
        if num_feedback + len(line.feedback) > FEEDBACK_AT_ONCE or len(batch) >= FEEDBACK_AT_ONCE:
            sender.send(batch)
            batch, num_feedback = [], 0
            if progress is not None:
                progress.show(balance.rows.total())
        batch.append(line)
        num_feedback += len(line.feedback)
    sender.send(batch)
    return balance


def _reject(balance: Balance, text: str) -> None:
    balance.rows["rejected"] += 1
    if len(balance.errors) < ERRORS_SHOWN:
        balance.errors.append(text)


class _Sender:
    """Sends batches of lines; remembers which calls were sent, and which were there before."""

    def __init__(self, client: Client, balance: Balance) -> None:
        self._client = client
        self._balance = balance
        self._sent: set[str] = set()
        self._known: dict[str, set[str]] = {}

    def send(self, lines: list[Line]) -> None:
        if not lines:
            return
        self._send_calls([c for line in lines for c in line.calls])
        feedback = [f for line in lines for f in line.feedback]
        statuses: list[tuple[str, str]] = []
        for part in _parts(feedback, FEEDBACK_AT_ONCE, _feedback_chars):
            answered = self._send_feedback(part)
            self._balance.judgements.update(status for status, _ in answered)
            statuses += answered
        results = iter(statuses)
        for line in lines:
            self._count(line, [next(results) for _ in line.feedback])

    def _count(self, line: Line, results: list[tuple[str, str]]) -> None:
        balance = self._balance
        balance.left_out.update(line.left_out)
        wrong = [why for status, why in results if status == "rejected"]
        if wrong:
            _reject(balance, f"line {line.number}: {wrong[0]}")
        elif any(status in ("stored", "replaced") for status, _ in results):
            balance.rows["stored"] += 1
        elif not line.calls and not results:
            balance.rows["context"] += 1
        elif results or all(c.trace_id in self._known.get(c.service, ()) for c in line.calls):
            balance.rows["duplicate"] += 1
        else:
            balance.rows["stored"] += 1

    def _send_calls(self, calls: list[Call]) -> None:
        fresh = {c.trace_id: c for c in calls if c.trace_id not in self._sent}
        for service in {c.service for c in fresh.values()} - set(self._known):
            self._known[service] = self._stored_before(service)
        self._sent.update(fresh)
        missing = [c for c in fresh.values() if c.trace_id not in self._known[c.service]]
        balance = self._balance
        balance.num_known_calls += len(fresh) - len(missing)
        balance.num_calls += len(missing)
        for call in fresh.values():
            balance.first_time = min(balance.first_time or call.start_time, call.start_time)
            balance.last_time = max(balance.last_time or call.start_time, call.start_time)
        for part in _parts(missing, CALLS_AT_ONCE, _call_chars):
            body = otlp_request(part)
            balance.num_spans_rejected += _patiently(lambda b=body: _post_spans(self._client, b))

    def _stored_before(self, service: str) -> set[str]:
        """Trace ids of the service's calls that an earlier import stored; empty where the key may not read."""
        try:
            stored = self._client.iter_calls(
                service=service, since="1970-01-02T00:00:00Z", until=utc_now().isoformat()
            )
            return {c.trace_id for c in stored}
        except Forbidden:
            return set()

    def _send_feedback(self, feedback: list[Feedback]) -> list[tuple[str, str]]:
        """Status and, where it was rejected, the reason of each."""
        try:
            results = _patiently(lambda: self._client.send_feedback(feedback)).results
        except Invalid as err:
            if "results" not in err.body:
                raise
            results = [from_json(FeedbackResult, r, strict=False) for r in err.body["results"]]
        return [(r.status, f"{r.error.field}: {r.error.message}" if r.error else "") for r in results]


def _parts(things: list[T], most: int, chars: Callable[[T], int]) -> Iterator[list[T]]:
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
    """The answer, asked for again while the server says that it will have time later."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except Unavailable as err:
            if time.monotonic() > until:
                raise
            time.sleep(min(30.0, err.retry_after_s or 2.0))


# ----------------------------------------------------------------------------------------------------- the report


def _print_balance(balance: Balance, path: Path, chosen: str, elapsed_s: float) -> None:
    rows, judged = balance.rows, balance.judgements
    for text in balance.errors:
        print(f"heedloop: {path}: {text}", file=sys.stderr)
    more = rows["rejected"] - len(balance.errors)
    if more > 0:
        print(f"heedloop: {path}: and {more:,} more rows like these", file=sys.stderr)
    context = f" + {rows['context']:,} context of others" if rows["context"] else ""
    print(f"{path.name} ({chosen}), {elapsed_s:,.1f} s")
    print(
        f"  rows        {rows.total():>9,} read = {rows['stored']:,} stored + {rows['duplicate']:,} there already"
        f" + {rows['rejected']:,} rejected{context}"
    )
    replaced = f" + {judged['replaced']:,} replaced an older word" if judged["replaced"] else ""
    print(
        f"  judgements  {judged.total():>9,} sent = {judged['stored']:,} stored + {judged['duplicate']:,} there already"
        f" + {judged['rejected']:,} rejected{replaced}"
    )
    refused = f", of which {balance.num_spans_rejected:,} refused" if balance.num_spans_rejected else ""
    print(f"  answers     {balance.num_calls:>9,} sent{refused}, {balance.num_known_calls:,} there already")
    for reason, count in sorted(balance.left_out.items()):
        print(f"  left out    {count:>9,} {reason}")
    if balance.first_time is not None and balance.last_time is not None:
        days = [f"{t:%Y-%m-%d}" for t in (balance.first_time, balance.last_time)]
        print(f"  answered    {days[0] if days[0] == days[1] else ' to '.join(days)}")
        after = f"{balance.last_time + timedelta(days=1):%Y-%m-%d}"
        print(
            f"  on the page /?since={days[0]}T00:00:00Z&until={after}T00:00:00Z behind the dashboard's address"
        )
