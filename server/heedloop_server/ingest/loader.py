"""The loader: sealed segments of the request log -> rows of `spans`, counted in the ledger."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import zip_longest

import pyarrow as pa

from heedloop.schema import Feedback
from heedloop_server.errors import Unavailable
from heedloop_server.ingest.decode import Decoded, halves_or_none
from heedloop_server.ingest.decoders import DecoderDied, Decoders
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.ingest.record import LoggedRequest, lost_with, pieces_of, unpack
from heedloop_server.ingest.segments import Segment
from heedloop_server.normalise import LogContent
from heedloop_server.store.admin.erasure import erased_among, erasing_projects
from heedloop_server.store.admin.keys import list_projects
from heedloop_server.store.admin.ledger import Tally, insert_tallies
from heedloop_server.store.connection import ArrowTable, Store, StoreError, StoreOverloaded
from heedloop_server.store.joins import Arrived, insert_contents, join_with_stored
from heedloop_server.store.span_rows import ids_of, pc
from heedloop_server.store.spans import span_ids, stored_at_any_time, stored_in_traces, takes_spans

log = logging.getLogger("heedloop.loader")

PIECE_BYTES = 8 << 20
"""Request bytes that are decoded and inserted at once: bounds memory, and the work that is done again after a crash."""

MAX_MONTHS = 100
"""Months that one insert may touch: each is a partition, and the engine refuses more."""
_ATTEMPTS = 5
"""How often a single record is tried, seconds apart, where the store says that it could take it later."""
_SEARCH_INDICES = "idx_question_search,idx_answer_search"
"""Making them takes two fifths of an insert. A search reads the newest rows without them, and merges make them soon."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(slots=True)
class _Piece:
    """Some requests on their way into the store.

    Attributes:
        until: when the last request of the segment arrived.
        apart: decode them in another process, because they may end it.
        arrived: what is new of them, by project.
    """

    token: str
    requests: list[LoggedRequest]
    until: datetime
    apart: bool = False
    tallies: dict[str, Tally] = field(default_factory=dict[str, Tally])
    arrived: dict[str, Arrived] = field(default_factory=dict[str, Arrived])


class SpanLoader:
    """Loads segments; calling `load` twice with one segment stores and counts nothing twice.

    Args:
        server_id: names this server's log in insert tokens and in the ledger.
        quarantine: for records that cannot be stored whatever we do.
        on_feedback: takes the feedback that spans carry (project, feedback).
        on_names: told of a project whose spans are now in the store, with what gives their trace and response ids, to bind
            feedback that came before them.
        decoders: decode the requests; here where none are given.
    """

    def __init__(
        self,
        store: Store,
        *,
        server_id: str,
        quarantine: Quarantine,
        on_feedback: Callable[[str, list[Feedback]], None],
        on_names: Callable[[str, Callable[[], set[str]]], None],
        decoders: Decoders | None = None,
    ) -> None:
        self._store = store
        self._server_id = server_id
        self._quarantine = quarantine
        self._attempts = (0, 0)
        self._on_feedback = on_feedback
        self._on_names = on_names
        self._decoders = decoders or Decoders()

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
            for first, requests in pieces_of(logged, PIECE_BYTES)
        ]
        ahead = [self._decoders.submit(p.requests) for p in pieces[:1]]
        for piece, following in zip_longest(pieces, pieces[1:]):
            decoded = ahead.pop()
            if following is not None:  # it is decoded while this one is inserted
                ahead.append(self._decoders.submit(following.requests))
            self._load_or_halve(piece, decoded, tallies)
        return tallies

    def _read(self, segment: Segment, tallies: dict[str, Tally]) -> list[LoggedRequest]:
        """A segment's requests; what cannot be read of it is counted where its bytes tell whose it was."""
        logged: list[LoggedRequest] = []
        for place, body in enumerate(segment.bodies()):
            try:
                logged.append(unpack(body))
            except Exception as err:  # noqa: BLE001  # such as one that a newer version wrote
                name = f"{segment.number:012d}-{place}.bin"
                self._quarantine.keep(name, body, project="", reason="unreadable", error=repr(err))
        for piece in segment.damage():
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

    def _load_or_halve(
        self, piece: _Piece, decoded: Callable[[], Decoded], tallies: dict[str, Tally]
    ) -> None:
        """Load a piece; where that fails although the store takes other spans, halve it until the record that fails is found.

        Raises:
            Unavailable, StoreError, OSError: it fails for everybody; call again.
        """
        try:
            self._load_piece(piece, decoded())
        except OSError:  # our own disk
            raise
        except Exception as err:
            is_store = isinstance(err, (StoreError, Unavailable))
            log.warning("piece %s is not loaded as a whole: %s", piece.token, err, exc_info=not is_store)
            if is_store and not (isinstance(err, (StoreError, StoreOverloaded)) and takes_spans(self._store)):
                raise
            parts = _halved(piece, apart=isinstance(err, DecoderDied))
            for part in parts:
                self._load_or_halve(part, self._decoders.submit(part.requests, apart=part.apart), tallies)
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
        refused = isinstance(err, (StoreError, Unavailable))
        reason, error = ("not_stored", str(err)) if refused else ("not_normalised", repr(err))
        self._reject(request, reason, error, tally)

    def _reject(self, request: LoggedRequest, reason: str, error: str, tally: Tally) -> None:
        digest = hashlib.blake2b(request.payload, digest_size=6).hexdigest()
        name = f"{request.received_us}-{digest}.pb"
        self._quarantine.keep(name, request.payload, project=request.project, reason=reason, error=error)
        tally.reject(reason, max(1, request.num_accepted))

    def enter(self, segment: Segment, tallies: dict[str, Tally]) -> None:
        """Write a loaded segment into the ledger; writing it again changes nothing."""
        insert_tallies(self._store, "spans", f"{self._server_id}/{segment.number}", tallies.items())

    def _load_piece(self, piece: _Piece, decoded: Decoded) -> None:
        for request in piece.requests:
            tally = piece.tallies.setdefault(request.project, Tally())
            for reason, count in request.rejected.items():
                tally.reject(reason, count)
        for failure in decoded.failures:
            tally = piece.tallies[failure.request.project]
            self._reject(failure.request, "not_normalised", failure.error, tally)
        self._sort(decoded, piece)
        self._keep_contents(piece)
        written = [join_with_stored(self._store.project(p), a) for p, a in piece.arrived.items()]
        if any(len(rows) for rows in written):
            self._insert(piece.token, pa.concat_tables(written))
        for project in piece.arrived:
            feedback = [f for p, f in decoded.feedback if p == project]
            if feedback:
                self._on_feedback(project, feedback)
        for project, arrived in piece.arrived.items():
            if len(arrived.rows):
                self._bind(project, functools.partial(_names, arrived.rows))

    def _sort(self, decoded: Decoded, piece: _Piece) -> None:
        """What was decoded by project, without what is erased or stored already, counted."""
        erasing = erasing_projects(self._store)
        for project in sorted(piece.tallies):
            rows = decoded.rows
            if len(piece.tallies) > 1:
                rows = rows.filter(pc.equal(rows["project_id"], project))
            contents = [c for p, c in decoded.contents if p == project]
            arrived = Arrived(rows, contents)
            if project in erasing:
                arrived = self._without_erased(project, arrived, piece.tallies[project])
            stored = self._stored(project, arrived.rows)
            arrived.known_traces = {span[:16].hex() for span in stored}
            arrived.rows = _count(arrived.rows, stored, piece.tallies[project], piece.until)
            piece.arrived[project] = arrived

    def _without_erased(self, project: str, arrived: Arrived, tally: Tally) -> Arrived:
        """Spans of erased traces that come late stay out: a queue somewhere must not undo an erasure."""
        traces = [i.hex() for i in ids_of(arrived.rows, "trace_id")]
        traces_here = {*traces, *(c.trace_id for c in arrived.contents)}
        erased = (
            erased_among(self._store.project(project), sorted(traces_here)) if traces_here else set[str]()
        )
        if not erased:
            return arrived
        rows = arrived.rows.filter(pa.array([t not in erased for t in traces], pa.bool_()))
        tally.reject("erased", len(arrived.rows) - len(rows))
        return Arrived(rows, [c for c in arrived.contents if c.trace_id not in erased])

    def _keep_contents(self, piece: _Piece) -> None:
        contents: list[tuple[str, LogContent]] = [
            (p, c) for p, a in piece.arrived.items() for c in a.contents
        ]
        insert_contents(self._store, contents, received_at=piece.requests[0].received_at, token=piece.token)

    def _insert(self, token: str, rows: ArrowTable) -> None:
        """Insert, in blocks of at most `MAX_MONTHS` months; the token names the rows, so that another set after a crash is not taken for the same one."""
        digest = hashlib.blake2b(b"".join(span_ids(rows)), digest_size=8).hexdigest()
        for number, block in enumerate(_by_months(rows)):
            name = f"{token}/{digest}/{number}" if number else f"{token}/{digest}"
            self._store.insert_arrow("spans", block, token=name, unindexed=_SEARCH_INDICES)

    def _stored(self, project: str, rows: ArrowTable) -> dict[bytes, set[datetime]]:
        """When what is stored of the rows' traces arrived; where a start was out of range they are looked for at any time."""
        view = self._store.project(project)
        return stored_in_traces(view, rows) | stored_at_any_time(view, rows.filter(rows["is_moved"]))

    def _bind(self, project: str, names: Callable[[], set[str]]) -> None:
        """Tell of spans in the store; what fails there is no fault of theirs, and the next sweep binds what was missed."""
        try:
            self._on_names(project, names)
        except Exception as err:  # noqa: BLE001
            log.warning("feedback of project %s is not bound yet: %s", project, err)


def _halved(piece: _Piece, *, apart: bool) -> list[_Piece]:
    """The piece as two, by requests or within its only one; none where it is a single record."""
    requests = piece.requests
    middle = len(requests) // 2
    parts = [requests[:middle], requests[middle:]] if middle else [[h] for h in halves_or_none(requests[0])]
    return [
        _Piece(f"{piece.token}{side}", part, piece.until, apart=apart or piece.apart)
        for side, part in zip("ab", parts, strict=False)
    ]


def _by_months(rows: ArrowTable) -> Iterator[ArrowTable]:
    """The rows in blocks of at most `MAX_MONTHS` months, the same whenever they are cut."""
    months = pc.add(pc.multiply(pc.year(rows["start_time"]), 12), pc.month(rows["start_time"]))
    if len(months.unique()) <= MAX_MONTHS:
        yield rows
        return
    order = pc.sort_indices(rows["start_time"])
    ordered, months = rows.take(order), months.take(order).to_pylist()
    first, seen = 0, set[int]()
    for at, month in enumerate(months):
        if len(seen | {month}) > MAX_MONTHS:
            yield ordered.slice(first, at - first)
            first, seen = at, set()
        seen.add(month)
    yield ordered.slice(first)


def _names(rows: ArrowTable) -> set[str]:
    """The trace ids and response ids of some spans."""
    return {i.hex() for i in ids_of(rows, "trace_id")} | set(rows["response_id"].to_pylist()) - {""}


def _count(rows: ArrowTable, stored: dict[bytes, set[datetime]], tally: Tally, until: datetime) -> ArrowTable:
    """Count spans as stored or as duplicates; returns those that are not stored already, each once.

    A span that is stored, or stands twice in the block, is a duplicate. A row that arrived from then until the end of this
    segment is no proof: it is this very one, or a resend behind it, stored before a crash. Resends are left out, because
    the stored span may have grown, and because a row that replaced its elder would be taken for the first after a crash.
    """
    ids = span_ids(rows)
    tally.received += len(ids)
    if stored.keys().isdisjoint(ids) and len(set(ids)) == len(ids):
        tally.stored += len(ids)
        return rows
    seen: set[bytes] = set()
    fresh: dict[bytes, int] = {}
    for place, (span, at) in enumerate(zip(ids, rows["ingested_at"].to_pylist(), strict=True)):
        is_stored = any(a < at or a > until for a in stored.get(span, ()))
        if span in seen or is_stored:
            tally.duplicate += 1
        else:
            tally.stored += 1
        seen.add(span)
        if not is_stored:
            fresh[span] = place
    return rows.take(pa.array(list(fresh.values()), pa.int64()))
