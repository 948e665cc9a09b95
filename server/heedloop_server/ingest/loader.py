"""The loader: sealed segments of the request log -> rows of `spans`, counted in the ledger."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone

from heedloop.schema import Call, Feedback
from heedloop_server.errors import Unavailable
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.ingest.record import LOGS, TRACES, LoggedRequest, halves, lost_with, parsed, unpack
from heedloop_server.ingest.segments import Segment, damage_in, read_segment
from heedloop_server.normalise import LogContent, normalise_logs, normalise_traces
from heedloop_server.store.admin.erasure import erased_among
from heedloop_server.store.admin.keys import list_projects
from heedloop_server.store.admin.ledger import Tally, insert_tallies
from heedloop_server.store.connection import Store, StoreError, StoreOverloaded
from heedloop_server.store.joins import Arrived, insert_contents, join_with_stored
from heedloop_server.store.simple_spans import SimpleRequest, Staged, Staging
from heedloop_server.store.spans import (
    SENT_START,
    calls_to_arrow,
    in_range,
    known_at_any_time,
    known_spans,
    takes_spans,
)

__all__ = ["SpanLoader"]

log = logging.getLogger("heedloop.loader")

PIECE_BYTES = 16 << 20
"""Request bytes that are decoded and inserted at once: bounds memory, and the work that is done again after a crash."""

MAX_MONTHS = 100
"""Months that one insert may touch: each is a partition, and the engine refuses more."""
_ATTEMPTS = 5
"""How often a single record is tried, seconds apart, where the store says that it could take it later."""

Entry = tuple[str, Call, datetime]
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(slots=True)
class _Piece:
    """Some requests on their way into the store.

    Attributes:
        until: when the last request of the segment arrived.
        careful: build the row of every call on its own, to find the one that cannot be built.
        arrived: what Python decoded, by project.
        feedback: what the requests said about calls, by project.
        decoded: places of the requests with spans that Python decoded.
    """

    token: str
    requests: list[LoggedRequest]
    until: datetime
    careful: bool = False
    tallies: dict[str, Tally] = field(default_factory=dict[str, Tally])
    arrived: dict[str, Arrived] = field(default_factory=dict[str, Arrived])
    feedback: dict[str, list[Feedback]] = field(default_factory=dict[str, list[Feedback]])
    decoded: set[int] = field(default_factory=set[int])

    def spans(self) -> dict[int, LoggedRequest]:
        """Its requests with spans, by their place."""
        return {i: r for i, r in enumerate(self.requests) if r.signal == TRACES}


class SpanLoader:
    """Loads segments; calling `load` twice with one segment stores and counts nothing twice.

    Args:
        server_id: names this server's log in insert tokens and in the ledger.
        quarantine: for records that cannot be stored whatever we do.
        on_feedback: takes the feedback that spans carry (project, feedback).
        on_names: told of a project whose spans are now in the store, with what gives their trace and response ids, to bind
            feedback that came before them.
        engine_from_spans: spans in a piece from which an embedded engine is asked to decode them: below, asking costs more.
    """

    def __init__(
        self,
        store: Store,
        *,
        server_id: str,
        quarantine: Quarantine,
        on_feedback: Callable[[str, list[Feedback]], None],
        on_names: Callable[[str, Callable[[], set[str]]], None],
        engine_from_spans: int = 1_000,
    ) -> None:
        self._store = store
        self._server_id = server_id
        self._quarantine = quarantine
        self._attempts = (0, 0)
        self._on_feedback = on_feedback
        self._on_names = on_names
        self._engine_from_spans = engine_from_spans
        self._hand = ThreadPoolExecutor(1, thread_name_prefix="log-stager")

    def load(self, segment: Segment) -> dict[str, Tally]:
        """Store everything in a segment; returns what became of it by project, for `enter`.

        Raises:
            Unavailable: the store is away; call again.
        """
        number, attempts = self._attempts
        self._attempts = (segment.number, attempts + 1 if number == segment.number else 1)
        tallies: dict[str, Tally] = {}
        logged = self._read(segment, tallies)
        until = max((r.received_at for r in logged), default=_EPOCH)
        pieces = [
            _Piece(f"{self._server_id}/{segment.number}/{first}", requests, until)
            for first, requests in _pieces(logged)
        ]
        staging = self._begin(pieces[0]) if pieces else None
        for number, piece in enumerate(pieces):
            ahead = self._begin(pieces[number + 1]) if number + 1 < len(pieces) else None
            try:
                self._load_or_halve(piece, staging, tallies)
            except BaseException:
                if ahead is not None:
                    ahead.discard()
                raise
            staging = ahead
        return tallies

    def _read(self, segment: Segment, tallies: dict[str, Tally]) -> list[LoggedRequest]:
        """A segment's requests; what cannot be read of it is counted where its bytes tell whose it was."""
        logged: list[LoggedRequest] = []
        for place, body in enumerate(read_segment(segment.path)):
            try:
                logged.append(unpack(body))
            except Exception as err:  # noqa: BLE001  # such as one that a newer version wrote
                name = f"{segment.number:012d}-{place}.bin"
                self._quarantine.keep(name, body, project="", reason="unreadable", error=repr(err))
        for piece in damage_in(segment.path):
            if piece.state == "damaged":
                self._count_damaged(piece.body, tallies)
        return logged

    def _count_damaged(self, body: bytes, tallies: dict[str, Tally]) -> None:
        try:
            project, num = lost_with(body)
        except ValueError:
            return
        if project in list_projects(self._store):
            tallies.setdefault(project, Tally()).reject("damaged", num)

    def _load_or_halve(self, piece: _Piece, staging: Staging | None, tallies: dict[str, Tally]) -> None:
        """Load a piece; where that fails although the store takes other spans, halve it until the record that fails is found.

        Raises:
            Unavailable, StoreError, OSError: it fails for everybody; call again.
        """
        try:
            self._load_piece(piece, staging)
        except OSError:  # our own disk
            raise
        except Exception as err:
            is_store = isinstance(err, (StoreError, Unavailable))
            log.warning("piece %s is not loaded as a whole: %s", piece.token, err, exc_info=not is_store)
            if is_store:
                if not (isinstance(err, (StoreError, StoreOverloaded)) and takes_spans(self._store)):
                    raise
            elif not piece.careful:
                again = _Piece(piece.token, piece.requests, piece.until, careful=True)
                self._load_or_halve(again, None, tallies)
                return
            parts = _halved(piece)
            for part in parts:
                self._load_or_halve(part, None, tallies)
            if not parts:
                self._give_up(piece, err, tallies)
            return
        for project, tally in piece.tallies.items():
            tallies.setdefault(project, Tally()).add(tally)

    def _give_up(self, piece: _Piece, err: Exception, tallies: dict[str, Tally]) -> None:
        """Quarantine the one record of a piece."""
        if isinstance(err, Unavailable) and self._attempts[1] < _ATTEMPTS:
            raise err
        (request,) = piece.requests
        tally = tallies.setdefault(request.project, Tally())
        for reason, count in request.rejected.items():
            tally.reject(reason, count)
        self._reject(request, err, tally)

    def _reject(self, request: LoggedRequest, err: Exception, tally: Tally) -> None:
        refused = isinstance(err, (StoreError, Unavailable))
        reason = "not_stored" if refused else "not_normalised"
        digest = hashlib.blake2b(request.payload, digest_size=6).hexdigest()
        self._quarantine.keep(
            f"{request.received_us}-{digest}.pb",
            request.payload,
            project=request.project,
            reason=reason,
            error=str(err) if refused else repr(err),
        )
        tally.reject(reason, max(1, request.num_accepted))

    def _begin(self, piece: _Piece) -> Staging | None:
        """Let the engine begin to read a piece, where it is large enough and the engine can."""
        spans = piece.spans()
        if (
            not self._store.is_embedded
            or sum(r.num_accepted for r in spans.values()) < self._engine_from_spans
        ):
            return None
        given = [
            SimpleRequest(i, r.project, r.received_us, r.num_accepted, r.payload) for i, r in spans.items()
        ]
        return Staging(self._hand, self._store, self._quarantine.folder.parent, given)

    def enter(self, segment: Segment, tallies: dict[str, Tally]) -> None:
        """Write a loaded segment into the ledger; writing it again changes nothing."""
        insert_tallies(self._store, "spans", f"{self._server_id}/{segment.number}", tallies.items())

    def _load_piece(self, piece: _Piece, staging: Staging | None) -> None:
        try:
            self._load_logs(piece)
        except BaseException:
            if staging is not None:
                staging.discard()
            raise
        spans = piece.spans()
        if staging is not None:
            spans = self._load_simple(piece, spans, staging)
        for request in spans.values():
            self._decode(request, piece)
        self._load_calls(piece)

    def _load_logs(self, piece: _Piece) -> None:
        """Count what the door rejected, and keep what logs say of calls: it decides which road their spans take."""
        for request in piece.requests:
            tally = piece.tallies.setdefault(request.project, Tally())
            for reason, count in request.rejected.items():
                tally.reject(reason, count)
            if request.signal == LOGS:
                self._decode(request, piece)
        self._keep_contents(piece)

    def _keep_contents(self, piece: _Piece) -> None:
        for project, parts in piece.arrived.items():
            gone = erased_among(self._store.project(project), sorted({c.trace_id for c in parts.contents}))
            parts.contents = [c for c in parts.contents if c.trace_id not in gone]
        contents = [(p, c) for p, a in piece.arrived.items() for c in a.contents]
        insert_contents(self._store, contents, received_at=piece.requests[0].received_at, token=piece.token)

    def _load_simple(
        self, piece: _Piece, spans: dict[int, LoggedRequest], staging: Staging
    ) -> dict[int, LoggedRequest]:
        """Let the engine take the requests of simple spans; returns those that are left."""
        try:
            with staging as staged:
                staged.refuse_unclear(piece.until)
                self._refuse_related(piece, staged, spans)
                staged.insert(piece.token)
                counted = staged.count()
                for project in counted:
                    self._bind(project, functools.partial(staged.names, project))
        except (StoreError, OSError) as err:
            log.warning("the engine does not take piece %s, Python does: %s", piece.token, err)
            return {i: r for i, r in spans.items() if i not in piece.decoded}
        for project, num in counted.items():
            piece.tallies[project].received += num
            piece.tallies[project].stored += num
        return {i: r for i, r in spans.items() if i not in staged.places and i not in piece.decoded}

    def _refuse_related(self, piece: _Piece, staged: Staged, spans: dict[int, LoggedRequest]) -> None:
        """Decode what the engine refuses, and what has a response id in common with that."""
        waiting = set(spans) - staged.places
        while waiting:
            responses: dict[str, set[str]] = {}
            for i in sorted(waiting):
                self._decode(spans[i], piece)
                piece.decoded.add(i)
            for project, parts in piece.arrived.items():
                responses[project] = {c.response_id for c, _ in parts.calls if c.response_id}
            waiting = {i for p, ids in responses.items() for i in staged.refuse_responses(p, ids)}

    def _load_calls(self, piece: _Piece) -> None:
        """Store what Python decoded."""
        for project, parts in piece.arrived.items():
            self._refuse_erased(project, parts, piece.tallies[project])
        for project, parts in piece.arrived.items():
            known = self._known(project, parts.calls)
            parts.calls = _count(parts.calls, known, piece.tallies[project], piece.until)
        entries = [
            (p, c, t)
            for p, a in piece.arrived.items()
            for c, t in join_with_stored(self._store.project(p), a)
        ]
        if entries:
            self._insert(f"{piece.token}/{_digest(entries)}", entries)
        for project, given in piece.feedback.items():
            if given:
                self._on_feedback(project, given)
        for project, parts in piece.arrived.items():
            if parts.calls:
                self._bind(project, functools.partial(_names, parts.calls))

    def _decode(self, request: LoggedRequest, piece: _Piece) -> None:
        """Decode a request; of one that fails only the spans or log records that do are left out."""
        try:
            calls, contents, feedback = _normalised(request)
            if piece.careful:
                calls_to_arrow((request.project, c, request.received_at) for c in calls)
        except Exception as err:  # noqa: BLE001  # one client's odd record must not stop everybody's
            parts = _halves_or_none(request)
            for part in parts:
                self._decode(part, piece)
            if not parts:
                self._reject(request, err, piece.tallies.setdefault(request.project, Tally()))
            return
        arrived = piece.arrived.setdefault(request.project, Arrived())
        arrived.calls += [(in_range(call, request.received_at), request.received_at) for call in calls]
        arrived.contents += contents
        piece.feedback.setdefault(request.project, []).extend(feedback)

    def _refuse_erased(self, project: str, parts: Arrived, tally: Tally) -> None:
        """Spans of erased traces that come late stay out: a queue somewhere must not undo an erasure."""
        traces = {c.trace_id for c, _ in parts.calls}
        gone = erased_among(self._store.project(project), sorted(traces)) if traces else set[str]()
        if gone:
            kept = [(c, at) for c, at in parts.calls if c.trace_id not in gone]
            tally.reject("erased", len(parts.calls) - len(kept))
            parts.calls = kept

    def _insert(self, token: str, entries: list[Entry]) -> None:
        """Insert, in blocks of at most `MAX_MONTHS` months."""
        for number, block in enumerate(_by_months(entries)):
            self._store.insert_arrow(
                "spans", calls_to_arrow(block), token=f"{token}/{number}" if number else token
            )

    def _known(
        self, project: str, calls: list[tuple[Call, datetime]]
    ) -> dict[tuple[bytes, bytes], set[datetime]]:
        """When the calls that are stored already arrived; those whose start was out of range are looked for at any time."""
        keys = [(c.start_time, bytes.fromhex(c.trace_id), bytes.fromhex(c.span_id)) for c, _ in calls]
        moved = [k for k, (c, _) in zip(keys, calls, strict=True) if SENT_START in c.attributes]
        view = self._store.project(project)
        known = known_spans(view, keys)
        return known | known_at_any_time(view, moved) if moved else known

    def _bind(self, project: str, names: Callable[[], set[str]]) -> None:
        """Tell of spans in the store; what fails there is no fault of theirs, and the next sweep binds what was missed."""
        try:
            self._on_names(project, names)
        except Exception as err:  # noqa: BLE001
            log.warning("feedback of project %s is not bound yet: %s", project, err)


def _halved(piece: _Piece) -> list[_Piece]:
    """The piece as two, by requests or within its only one; none where it is a single record."""
    requests = piece.requests
    middle = len(requests) // 2
    parts = [requests[:middle], requests[middle:]] if middle else [[h] for h in _halves_or_none(requests[0])]
    return [
        _Piece(f"{piece.token}{side}", part, piece.until, careful=piece.careful)
        for side, part in zip("ab", parts, strict=False)
    ]


def _halves_or_none(request: LoggedRequest) -> list[LoggedRequest]:
    try:
        return halves(request)
    except Exception:  # noqa: BLE001  # its payload is no request
        return []


def _normalised(request: LoggedRequest) -> tuple[list[Call], list[LogContent], list[Feedback]]:
    """The calls, the content of calls and the feedback in a request."""
    if request.signal == TRACES:
        traces = normalise_traces(parsed(request))
        return traces.calls, [], traces.feedback
    records = normalise_logs(parsed(request))
    contents = [r for r in records if isinstance(r, LogContent)]
    return [], contents, [r for r in records if isinstance(r, Feedback)]


def _by_months(entries: list[Entry]) -> Iterator[list[Entry]]:
    """The entries in blocks of at most `MAX_MONTHS` months, the same whenever they are cut."""
    if len({(c.start_time.year, c.start_time.month) for _, c, _ in entries}) <= MAX_MONTHS:
        yield entries
        return
    ordered = sorted(entries, key=lambda e: e[1].start_time)
    block: list[Entry] = []
    months: set[tuple[int, int]] = set()
    for entry in ordered:
        month = (entry[1].start_time.year, entry[1].start_time.month)
        if len(months | {month}) > MAX_MONTHS:
            yield block
            block, months = [], set()
        block.append(entry)
        months.add(month)
    yield block


def _names(calls: list[tuple[Call, datetime]]) -> set[str]:
    return {c.trace_id for c, _ in calls} | {c.response_id for c, _ in calls if c.response_id}


def _digest(entries: list[Entry]) -> str:
    """Names the rows of a block, so that another set of rows after a crash is not taken for the same one."""
    ids = "".join(c.trace_id + c.span_id for _, c, _ in entries)
    return hashlib.blake2b(ids.encode(), digest_size=8).hexdigest()


def _pieces(logged: list[LoggedRequest]) -> Iterator[tuple[int, list[LoggedRequest]]]:
    """(index of the first request, requests) of at most `PIECE_BYTES`; the same cuts whenever a segment is read."""
    piece: list[LoggedRequest] = []
    first = size = 0
    for index, request in enumerate(logged):
        if size and size + len(request.payload) > PIECE_BYTES:
            yield first, piece
            piece, first, size = [], index, 0
        piece.append(request)
        size += len(request.payload)
    if piece:
        yield first, piece


def _count(
    calls: list[tuple[Call, datetime]],
    known: dict[tuple[bytes, bytes], set[datetime]],
    tally: Tally,
    until: datetime,
) -> list[tuple[Call, datetime]]:
    """Count spans as stored or as duplicates; returns those that are not stored already.

    A span that is stored, or stands twice in the block, is a duplicate. A row that arrived from then until the end of this
    segment is no proof: it is this very one, or a resend behind it, stored before a crash. Resends are left out, because
    the stored span may have grown, and because a row that replaced its elder would be taken for the first after a crash.
    """
    seen: set[tuple[bytes, bytes]] = set()
    fresh: list[tuple[Call, datetime]] = []
    for call, at in calls:
        key = (bytes.fromhex(call.trace_id), bytes.fromhex(call.span_id))
        is_stored = any(a < at or a > until for a in known.get(key, ()))
        tally.received += 1
        if key in seen or is_stored:
            tally.duplicate += 1
        else:
            tally.stored += 1
        seen.add(key)
        if not is_stored:
            fresh.append((call, at))
    return fresh
