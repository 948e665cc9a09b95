"""Logged requests -> rows of `spans` in Arrow, with what else they hold. Pure, so that other processes can do it (`decoders`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from heedloop.schema import Call, Feedback
from heedloop_server.ingest.record import TRACES, LoggedRequest, halves, parsed
from heedloop_server.normalise import LogContent, normalise_logs, normalise_traces
from heedloop_server.normalise.duplicates import duplicate_target
from heedloop_server.normalise.heedloop_sdk import is_own
from heedloop_server.normalise.joins import wants_content
from heedloop_server.store.span_rows import ARROW_SCHEMA, SENT_START, ArrowTable, calls_to_arrow, in_range

_MARKS = [("is_own", pa.bool_()), ("seeks_content", pa.bool_()), ("is_moved", pa.bool_())]
MARKED_SCHEMA = pa.schema([*ARROW_SCHEMA, *_MARKS])
"""The columns of `spans`, and behind them what the loader asks of a call: whether heedloop's own SDK made it, whether its content
may come or have come as logs, and whether its start time was out of range."""

Entry = tuple[str, Call, datetime]
"""A call with its project and the time of its arrival."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The part of a request (one span or log record, or a payload that is no request) that cannot be decoded, and what was raised."""

    request: LoggedRequest
    error: str


@dataclass(slots=True)
class Decoded:
    """What some requests hold.

    Attributes:
        rows: of `MARKED_SCHEMA`, in the order sent; rows of one request have one `ingested_at`, which no other request has.
        contents: (project, what a log record says of a call).
        feedback: (project, feedback that spans or log records carry).
    """

    rows: ArrowTable
    contents: list[tuple[str, LogContent]] = field(default_factory=list)
    feedback: list[tuple[str, Feedback]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def decode(requests: Sequence[LoggedRequest]) -> Decoded:
    """Decode requests; of one that fails only the spans or log records that do are left out."""
    try:
        return _decoded(requests, careful=False)
    except Exception:  # noqa: BLE001  # the rows of some call cannot be built: those of each request are built apart, to find it
        return _decoded(requests, careful=True)


def merge(parts: Sequence[Decoded]) -> Decoded:
    """What was decoded in parts, in their order."""
    if len(parts) == 1:
        return parts[0]
    return Decoded(
        pa.concat_tables([p.rows for p in parts]),
        [c for p in parts for c in p.contents],
        [f for p in parts for f in p.feedback],
        [f for p in parts for f in p.failures],
    )


def marked_rows(entries: Iterable[Entry]) -> ArrowTable:
    """Calls as a table of `MARKED_SCHEMA`."""
    listed = list(entries)
    calls = [c for _, c, _ in listed]
    marks = [
        [is_own(c.attributes) for c in calls],
        [wants_content(c) or duplicate_target(c) is not None for c in calls],
        [SENT_START in c.attributes for c in calls],
    ]
    arrays = [pa.array(m, pa.bool_()) for m in marks]
    return pa.Table.from_arrays([*calls_to_arrow(listed).columns, *arrays], schema=MARKED_SCHEMA)


def halves_or_none(request: LoggedRequest) -> list[LoggedRequest]:
    """The request as two; none where it is a single record, or its payload is no request."""
    try:
        return halves(request)
    except Exception:  # noqa: BLE001
        return []


def _decoded(requests: Sequence[LoggedRequest], *, careful: bool) -> Decoded:
    decoded = Decoded(MARKED_SCHEMA.empty_table())
    entries: list[Entry] = []
    for request in requests:
        _add(request, decoded, entries, careful=careful)
    decoded.rows = marked_rows(entries)
    return decoded


def _add(request: LoggedRequest, decoded: Decoded, entries: list[Entry], *, careful: bool) -> None:
    project, received_at = request.project, request.received_at
    try:
        calls, contents, feedback = _normalised(request)
        arrived = [(project, in_range(call, received_at), received_at) for call in calls]
        if careful:
            marked_rows(arrived)
    except Exception as err:  # noqa: BLE001  # one client's odd record must not stop everybody's
        parts = halves_or_none(request)
        for part in parts:
            _add(part, decoded, entries, careful=careful)
        if not parts:
            decoded.failures.append(Failure(request, repr(err)))
        return
    entries += arrived
    decoded.contents += [(project, c) for c in contents]
    decoded.feedback += [(project, f) for f in feedback]


def _normalised(request: LoggedRequest) -> tuple[list[Call], list[LogContent], list[Feedback]]:
    """The calls, the content of calls and the feedback in a request."""
    if request.signal == TRACES:
        traces = normalise_traces(parsed(request))
        return traces.calls, [], traces.feedback
    records = normalise_logs(parsed(request))
    contents = [r for r in records if isinstance(r, LogContent)]
    return [], contents, [r for r in records if isinstance(r, Feedback)]
