"""Everything that takes records in, started and stopped together: the request log, its loader, the feedback writer, the tally."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from heedloop.schema import Feedback, utc_now
from heedloop_server.errors import ServerError
from heedloop_server.http.rates import RateLimit
from heedloop_server.ingest.decoders import Decoders, num_decoders
from heedloop_server.ingest.feedback_log import FeedbackLog, is_lasting, quarantine_feedback
from heedloop_server.ingest.feedback_writer import FeedbackWriter, Outcome
from heedloop_server.ingest.loader import SpanLoader
from heedloop_server.ingest.log import RequestLog
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.ingest.record import LoggedRequest, pack, unpack
from heedloop_server.ingest.segments import Segment, read_segment
from heedloop_server.settings import Settings
from heedloop_server.store.admin.ledger import Tally, insert_tallies, read_feedback_tally, read_tally
from heedloop_server.store.admin.retention import drop_old_calls
from heedloop_server.store.connection import ProjectStore, Store
from heedloop_server.store.joins import join_stored, recent_relatives

log = logging.getLogger("heedloop.intake")

_HOUSEKEEPING_S = 15.0
_FIRST_ROUND_S = 1.0
_SWEEP_ROUNDS = 4
_RETENTION_ROUNDS = 240
_OVERLAP = timedelta(minutes=2)
"""How long before the last look spans may have come that another server stored after it."""
_SETTLE_S = 5.0
_STUCK_S = 60.0


@dataclass(slots=True)
class _Pending:
    """What is in the log and not in the store, per project."""

    counts: Counter[str] = field(default_factory=lambda: Counter[str]())
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, counts: Mapping[str, int]) -> None:
        with self.lock:
            self.counts.update(counts)

    def take(self, counts: Mapping[str, int]) -> None:
        with self.lock:
            self.counts.subtract(counts)


class Intake:
    """The way in of one server process.

    Args:
        housekeeping: called every 15 seconds from a thread of its own.
    """

    def __init__(
        self, store: Store, settings: Settings, *, housekeeping: Callable[[], None] | None = None
    ) -> None:
        self._store = store
        self._settings = settings
        self._housekeeping = housekeeping
        self.server_id = server_id(settings.data)
        self._quarantine = Quarantine(settings.log_folder)
        self.feedback_writer = FeedbackWriter(store)
        self.feedback_log = (
            FeedbackLog(
                self.feedback_writer,
                settings.log_folder / "feedback",
                quarantine=self._quarantine,
                on_refused=self.count_feedback,
            )
            if store.is_embedded or any((settings.log_folder / "feedback").glob("*.log"))
            else None
        )
        """Before an embedded store; and where a log is left of a time when the store was one."""
        num = settings.decoders
        self._decoders = Decoders(num_decoders() if num is None else num)
        self._loader = SpanLoader(
            store,
            server_id=self.server_id,
            quarantine=self._quarantine,
            on_feedback=self._take_feedback,
            on_names=self.feedback_writer.bind,
            decoders=self._decoders,
        )
        self.log = RequestLog(
            settings.log_folder,
            self._load,
            segment_bytes=settings.segment_bytes,
            seal_after_s=settings.seal_after_s,
            max_backlog_bytes=settings.max_backlog_bytes,
        )
        limit = settings.spans_per_second
        self._limit = RateLimit(60 * limit, burst=10.0 * limit, what="spans of this project")
        self._pending = _Pending()
        self._last_us = 0
        self._num_loaded = 0
        self._settling = False
        self._tallies: dict[str, Tally] = {}
        self._tally_lock = threading.Lock()
        self._tally_number = 0
        self._flushing = False
        self._joined_until: datetime = utc_now()
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._run_maintenance, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Replay what a crash left, and take records.

        Raises:
            LogInUse: another server uses the data folder.
        """
        self.feedback_writer.start()
        if self.feedback_log is not None:
            self.feedback_log.start(self._store)
        for path in sorted(self._settings.log_folder.glob("*.log")):
            self._pending.add(counts_in(read_segment(path)))
        self.log.start()
        self._keeper.start()

    def stop(self) -> None:
        """Store what waits, as far as the store allows, and stop. What is left is in the log for the next start."""
        self._stopping.set()
        self.log.stop()
        self._decoders.close()
        if self.feedback_log is not None:
            self.feedback_log.stop()
        self.feedback_writer.stop()
        self._keeper.join()
        self._flush_tallies()

    def wait_until_loaded(self, timeout_s: float) -> bool:
        """Wait until everything that was answered before now is in the store; False where that takes longer."""
        return self.log.wait_until_loaded(timeout_s) and self.wait_until_stored(timeout_s)

    # ----------------------------------------------------------------------------------------------------- spans

    async def log_request(
        self, signal: int, project: str, payload: bytes, *, num_accepted: int, rejected: Mapping[str, int]
    ) -> None:
        """Return when the request is on disk.

        Raises:
            TooMany: the project has sent more spans than one may.
            Unavailable: it cannot be kept now.
        """
        self._limit.spend(project, num_accepted)
        self._last_us = max(self._last_us + 1, time.time_ns() // 1000)
        request = LoggedRequest(signal, project, self._last_us, num_accepted, payload, rejected)
        await self.log.append(pack(request))
        self._pending.add({project: _received(request)})

    def span_tally(self, project: ProjectStore) -> tuple[Tally, int]:
        """What became of the project's spans, and how many are safe in the log and not in the store yet, of one moment."""
        while True:
            before = self._num_loaded
            tally = read_tally(project, "spans")
            pending = max(0, self._pending.counts[project.project])
            if not self._settling and before == self._num_loaded:
                return tally, pending
            time.sleep(0.005)

    @property
    def backlog_bytes(self) -> int:
        """Bytes that are safe in a log and not in the store yet."""
        return sum(one.backlog_bytes for one in self._logs())

    @property
    def num_segments(self) -> int:
        """Closed segments of the logs that wait for the store, or go there now."""
        return sum(one.num_segments for one in self._logs())

    @property
    def num_quarantined(self) -> int:
        """Records in quarantine."""
        return len(self._quarantine)

    @property
    def is_failing(self) -> bool:
        """True while the store refuses what a log holds."""
        return any(one.failure is not None for one in self._logs())

    def stuck(self) -> str:
        """Why a log has not moved for a minute; empty where all do."""
        for one in self._logs():
            if (found := one.stuck()) is not None and found[2] >= _STUCK_S:
                number, error, seconds = found
                return f"segment {number} of the log cannot be stored for {seconds:.0f} s: {error[:300]}"
        return ""

    def _logs(self) -> list[RequestLog]:
        return [self.log] if self.feedback_log is None else [self.log, self.feedback_log.log]

    def lag_s(self) -> float:
        """Seconds that the oldest request in a log has waited for the store."""
        return max(one.oldest_age_s() for one in self._logs())

    def _load(self, segment: Segment) -> None:
        counts = counts_in(segment.bodies())
        tallies = self._loader.load(segment)
        self._settling = True
        try:
            self._loader.enter(segment, tallies)
            self._pending.take(counts)
            self._num_loaded += 1
        finally:
            self._settling = False

    # -------------------------------------------------------------------------------------------------- feedback

    def take(self, project: str, given: Sequence[Feedback], *, key_id: str) -> Future[list[Outcome]]:
        """Keep feedback; the future gives one outcome per entry, in order, once they are safe.

        It, or this call, raises `Unavailable` where they cannot be kept now.
        """
        if self.feedback_log is not None and self._store.is_embedded:
            return self.feedback_log.submit(project, given, key_id=key_id)
        return self.feedback_writer.submit(project, given, key_id=key_id)

    def wait_until_stored(self, timeout_s: float = _SETTLE_S) -> bool:
        """Wait until the feedback that was answered before now can be read; False where that takes longer."""
        return self.feedback_log is None or self.feedback_log.wait_until_stored(timeout_s)

    def count_feedback(self, project: str, outcomes: Counter[str]) -> None:
        """Add what was not stored to the feedback ledger: `duplicate`, `rejected` (wrong), `erased`, and what is in quarantine; what was stored is counted where it is."""
        num_duplicate = outcomes["duplicate"]
        tally = Tally(received=num_duplicate, duplicate=num_duplicate)
        for reason, num in (
            ("invalid", outcomes["rejected"]),
            ("erased", outcomes["erased"]),
            *((n, outcomes[n]) for n in ("not_stored", "unreadable", "damaged")),
        ):
            if num:
                tally.reject(reason, num)
        if not tally.received:
            return
        with self._tally_lock:
            self._tallies.setdefault(project, Tally()).add(tally)

    def record(self, project: str, given: Sequence[Feedback], key_id: str) -> Future[list[Outcome]]:
        """Keep feedback made by this server and count it; the future gives one outcome per entry."""
        done = self.take(project, given, key_id=key_id)
        done.add_done_callback(lambda f: self._count_outcomes(project, f))
        return done

    def _count_outcomes(self, project: str, done: Future[list[Outcome]]) -> None:
        if not done.exception():
            self.count_feedback(project, Counter(str(o.status) for o in done.result()))

    def feedback_tally(self, project: ProjectStore) -> Tally:
        """What became of the project's feedback, of one moment."""
        while True:
            with self._tally_lock:
                before = self._tally_number
                total = Tally()
                total.add(self._tallies.get(project.project, Tally()))
            total.add(read_feedback_tally(project))
            if not self._flushing and before == self._tally_number:
                return total
            time.sleep(0.005)

    def _take_feedback(self, project: str, given: list[Feedback]) -> None:
        """Feedback that came inside spans or logs; waits, so that a segment is done only when its feedback is stored too."""
        try:
            outcomes = self.take(project, given, key_id="otlp").result()
        except Exception as err:
            if not is_lasting(err):
                raise
            if len(given) > 1:
                for one in given:
                    self._take_feedback(project, [one])
                return
            quarantine_feedback(self._quarantine, project, given[0], err)
            self.count_feedback(project, Counter(not_stored=1))
            return
        self.count_feedback(project, Counter(o.status for o in outcomes))

    def _flush_tallies(self) -> None:
        with self._tally_lock:
            tallies, self._tallies = self._tallies, {}
            self._tally_number += 1
            self._flushing = True
            source = f"{self.server_id}/{time.time_ns()}/{self._tally_number}"
        try:
            insert_tallies(self._store, "feedback", source, tallies.items())
        except Exception:
            with self._tally_lock:
                for project, tally in tallies.items():
                    self._tallies.setdefault(project, Tally()).add(tally)
            raise
        finally:
            self._flushing = False

    # ---------------------------------------------------------------------------------------------- housekeeping

    def _join_with_other_servers(self) -> None:
        """Make one call of what two servers stored at the same moment; an embedded store has one server, which sees everything."""
        if self._store.is_embedded:
            return
        now = self._store.now()
        since = self._joined_until - _OVERLAP
        for project, traces in recent_relatives(self._store, since).items():
            join_stored(self._store.project(project), traces, since)
        self._joined_until = now

    def _run_maintenance(self) -> None:
        rounds = 0
        while not self._stopping.wait(_HOUSEKEEPING_S if rounds else _FIRST_ROUND_S):
            rounds += 1
            try:
                self._flush_tallies()
                self._join_with_other_servers()
                if rounds % _SWEEP_ROUNDS == 1:
                    self.feedback_writer.sweep()
                if (
                    rounds % _RETENTION_ROUNDS == 2 and self.wait_until_stored()
                ):  # a judgement on its way keeps its call
                    drop_old_calls(self._store, self._settings.retention_days)
                if self._housekeeping is not None:
                    self._housekeeping()
            except Exception as err:  # noqa: BLE001  # the store may be away for a while; the next round tries again
                log.warning("housekeeping: %s", err if isinstance(err, ServerError) else repr(err))


def _received(request: LoggedRequest) -> int:
    return request.num_accepted + sum(request.rejected.values())


def counts_in(bodies: Iterable[bytes]) -> Counter[str]:
    """Project -> how many spans the records of a segment hold, with those that were rejected before logging."""
    counts: Counter[str] = Counter()
    for body in bodies:
        with contextlib.suppress(Exception):  # the loader quarantines what cannot be read
            request = unpack(body)
            counts[request.project] += _received(request)
    return counts


def server_id(folder: Path) -> str:
    """A name for this data folder that stays: it is part of insert tokens."""
    path = folder / "server-id"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(8))
    return path.read_text().strip()
