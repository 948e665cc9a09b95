"""The loader: sealed segments of the request log -> rows of `spans`, counted in the ledger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heedloop.schema import Call, Feedback
from heedloop_server.ingest.log import Segment, read_segment
from heedloop_server.ingest.record import TRACES, LoggedRequest, unpack
from heedloop_server.normalise import LogContent, normalise_logs, normalise_traces
from heedloop_server.store.connection import Store, StoreError
from heedloop_server.store.erasure import erased_among
from heedloop_server.store.joins import Arrived, insert_contents, settle
from heedloop_server.store.ledger import Tally, insert_tallies
from heedloop_server.store.spans import calls_to_arrow, known_spans

__all__ = ["SpanLoader"]

log = logging.getLogger("heedloop.loader")

PIECE_BYTES = 4 << 20
"""Request bytes that are decoded and inserted at once: bounds memory, and the work that is done again after a crash."""

Entry = tuple[str, Call, datetime]


class SpanLoader:
    """Loads segments; calling `load` twice with one segment stores and counts nothing twice.

    Args:
        server_id: names this server's log in insert tokens and in the ledger.
        dead: folder for requests that cannot be stored whatever we do.
        on_feedback: takes the feedback that spans carry (project, feedback).
        on_calls: told which (project, calls) are now in the store, to bind feedback that came before them.
    """

    def __init__(
        self,
        store: Store,
        *,
        server_id: str,
        dead: Path,
        on_feedback: Callable[[str, list[Feedback]], None],
        on_calls: Callable[[str, list[Call]], None],
    ) -> None:
        self._store = store
        self._server_id = server_id
        self._dead = dead
        self._on_feedback = on_feedback
        self._on_calls = on_calls

    def load(self, segment: Segment) -> dict[str, Tally]:
        """Store everything in a segment; returns what became of it by project, for `enter`.

        Raises:
            Unavailable: the store is away; call again.
        """
        tallies: dict[str, Tally] = {}
        for first, requests in _pieces(segment.path):
            self._load_piece(f"{self._server_id}/{segment.number}/{first}", requests, tallies)
        return tallies

    def enter(self, segment: Segment, tallies: dict[str, Tally]) -> None:
        """Write a loaded segment into the ledger; writing it again changes nothing."""
        insert_tallies(self._store, "spans", f"{self._server_id}/{segment.number}", tallies.items())

    def _load_piece(self, token: str, requests: list[LoggedRequest], tallies: dict[str, Tally]) -> None:
        arrived: dict[str, Arrived] = {}
        feedback: dict[str, list[Feedback]] = {}
        for request in requests:
            tally = tallies.setdefault(request.project, Tally())
            for reason, count in request.rejected.items():
                tally.reject(reason, count)
            self._decode(
                request,
                arrived.setdefault(request.project, Arrived()),
                feedback.setdefault(request.project, []),
                tally,
            )
        for project, parts in arrived.items():
            self._refuse_erased(project, parts, tallies[project])
        at = requests[0].received_at
        contents = [(p, c) for p, a in arrived.items() for c in a.contents]
        insert_contents(self._store, contents, received_at=at, token=token)
        for project, parts in arrived.items():
            _count(parts.calls, self._known(project, parts.calls), tallies[project])
        entries = [(p, c, t) for p, a in arrived.items() for c, t in settle(self._store.project(p), a)]
        if entries:
            self._insert(token, entries)
        for project, given in feedback.items():
            if given:
                self._on_feedback(project, given)
        for project, parts in arrived.items():
            self._on_calls(project, [c for c, _ in parts.calls])

    def _decode(
        self, request: LoggedRequest, arrived: Arrived, feedback: list[Feedback], tally: Tally
    ) -> None:
        at = request.received_at
        try:
            if request.signal == TRACES:
                traces = normalise_traces(ExportTraceServiceRequest.FromString(request.payload))
                arrived.calls += [(call, at) for call in traces.calls]
                feedback += traces.feedback
            else:
                for said in normalise_logs(ExportLogsServiceRequest.FromString(request.payload)):
                    if isinstance(said, LogContent):
                        arrived.contents.append(said)
                    else:
                        feedback.append(said)
        except Exception:  # one client's odd request must not stop everybody's: it is kept aside and counted
            log.exception(
                "a request of project %s cannot be normalised; kept in %s", request.project, self._dead
            )
            self._bury(request)
            tally.reject("not_normalised", request.num_accepted)

    def _refuse_erased(self, project: str, parts: Arrived, tally: Tally) -> None:
        """Spans of erased traces that come late stay out: a queue somewhere must not undo an erasure."""
        traces = {c.trace_id for c, _ in parts.calls} | {c.trace_id for c in parts.contents}
        gone = erased_among(self._store.project(project), sorted(traces)) if traces else set[str]()
        if gone:
            kept = [(c, at) for c, at in parts.calls if c.trace_id not in gone]
            tally.reject("erased", len(parts.calls) - len(kept))
            parts.calls = kept
            parts.contents = [c for c in parts.contents if c.trace_id not in gone]

    def _insert(self, token: str, entries: list[Entry]) -> None:
        """Insert; where the store refuses the block, halve it until the one bad call is found, and keep that aside."""
        try:
            self._store.insert_arrow("spans", calls_to_arrow(entries), token=token)
        except StoreError:
            if len(entries) == 1:
                log.exception("a call of project %s is refused by the store", entries[0][0])
                self._dead.mkdir(parents=True, exist_ok=True)
                (self._dead / f"{entries[0][1].trace_id}-{entries[0][1].span_id}.txt").write_text(
                    repr(entries[0])
                )
                return
            half = len(entries) // 2
            self._insert(token + "a", entries[:half])
            self._insert(token + "b", entries[half:])

    def _known(
        self, project: str, calls: list[tuple[Call, datetime]]
    ) -> dict[tuple[bytes, bytes], set[datetime]]:
        keys = [(c.start_time, bytes.fromhex(c.trace_id), bytes.fromhex(c.span_id)) for c, _ in calls]
        return known_spans(self._store.project(project), keys)

    def _bury(self, request: LoggedRequest) -> None:
        self._dead.mkdir(parents=True, exist_ok=True)
        (self._dead / f"{request.received_us}.pb").write_bytes(request.payload)


def _pieces(path: Path) -> Iterator[tuple[int, list[LoggedRequest]]]:
    """(index of the first record, requests) of at most `PIECE_BYTES`; the same cuts whenever it is read."""
    piece: list[LoggedRequest] = []
    first = size = 0
    for index, body in enumerate(read_segment(path)):
        if size and size + len(body) > PIECE_BYTES:
            yield first, piece
            piece, first, size = [], index, 0
        piece.append(unpack(body))
        size += len(body)
    if piece:
        yield first, piece


def _count(
    calls: list[tuple[Call, datetime]],
    known: dict[tuple[bytes, bytes], set[datetime]],
    tally: Tally,
) -> None:
    """A span that is stored already, or stands twice in the block, is a duplicate; a row of this very arrival is ourselves, before a crash."""
    seen: set[tuple[bytes, bytes]] = set()
    for call, at in calls:
        key = (bytes.fromhex(call.trace_id), bytes.fromhex(call.span_id))
        tally.received += 1
        if key in seen or known.get(key, {at}) - {at}:
            tally.duplicate += 1
        else:
            tally.stored += 1
        seen.add(key)
