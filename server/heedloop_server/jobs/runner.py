"""Runs jobs: a few at once, each with a row in the store, so that one whose server was killed is run again or marked as interrupted.

The row is written before the work begins and when it ends, and every few seconds in between; from that another server knows that
it is alive. The server that holds the scheduler's lease takes over the jobs of servers that fell silent (`take_over`).
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any, cast

from starlette.datastructures import State

from heedloop.responses.jobs import Job, JobKind, JobResult, JobState
from heedloop.schema import from_json, utc_now
from heedloop_server.errors import Conflict, ServerError, Unavailable
from heedloop_server.http.auth import Principal
from heedloop_server.http.responses import json_response, json_value
from heedloop_server.jobs.kinds import Finished, JobContext, Kind
from heedloop_server.store.admin.jobs import (
    StoredJob,
    find_job,
    holders_and_cancels,
    list_jobs,
    request_cancel,
    save_job,
    unfinished_jobs,
)
from heedloop_server.store.connection import ProjectStore, Store, StoreError
from heedloop_server.store.job_statements import JobEnded, StatementKind, watched

log = logging.getLogger("heedloop.jobs")

BEAT_S = 5.0
SILENT_S = 30.0
"""Seconds without a sign of its server after which a job is taken over."""
LISTED_AFTER_S = 2.0
"""Seconds after which a stream is listed."""
MAX_ATTEMPTS = 3
"""How often a job is begun: one that ends its server each time must not do so for ever."""


class RunningJob:
    """A job of this server."""

    def __init__(self, stored: StoredJob, kind: Kind) -> None:
        self.stored = stored
        self.kind = kind
        self.is_over = threading.Event()
        self.finished: Finished | None = None
        self.failure: Exception | None = None
        self.is_cancelled = False
        self.is_lost = False
        """Another server has taken it over."""
        self.has_written = False
        self.future: Future[None] | None = None

    def check(self, statement: StatementKind) -> None:
        """End the job where it is to end and has not begun to write."""
        if statement != "read":
            self.has_written = True
        elif self.is_cancelled and self.can_cancel:
            raise JobEnded

    def report(self, done: int, total: int, unit: str) -> None:
        """Note how far it is."""
        self.stored.done, self.stored.total, self.stored.unit = done, total, unit

    @property
    def can_cancel(self) -> bool:
        return self.kind.can_cancel and not self.has_written


class JobRunner:
    """The jobs of one server.

    Args:
        parts: of the server, which jobs are given.
        at_once: jobs of the lane `work` at once; the lane `removal` has one worker.
        answer_s: for how long a request waits for its job before it is answered with the job.
    """

    def __init__(
        self, store: Store, parts: State, kinds: Sequence[Kind], *, at_once: int, answer_s: float
    ) -> None:
        self._store = store
        self._parts = parts
        self.kinds: Mapping[str, Kind] = {k.name: k for k in kinds}
        self._answer_s = answer_s
        self._holder = secrets.token_hex(8)
        self._lanes = {
            "work": ThreadPoolExecutor(at_once, thread_name_prefix="job"),
            "removal": ThreadPoolExecutor(1, thread_name_prefix="removal"),
        }
        self._own: dict[str, RunningJob] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._beats = threading.Thread(target=self._beat_on, name="job-beats", daemon=True)

    # ----------------------------------------------------------------------------------------------- for routes

    def start(self, kind: JobKind, who: Principal, request: Mapping[str, Any]) -> RunningJob:
        """Begin a job, or queue it where as many run as may; its row is stored when this returns."""
        job = self.begin(kind, who, request)
        self._submit(job)
        return job

    def begin(self, kind: JobKind, who: Principal, request: Mapping[str, Any]) -> RunningJob:
        """Note a job that the caller runs itself; `end` tells its end."""
        stored = StoredJob(
            project_id=who.project,
            job_id=secrets.token_hex(8),
            kind=kind,
            key_id=who.key_id,
            key_name=who.name,
            author_id=who.author_id,
            created_at=utc_now(),
            request=dict(request),
            holder=self._holder,
        )
        save_job(self._store, stored)
        job = RunningJob(stored, self.kinds[kind])
        with self._lock:
            self._own[stored.job_id] = job
        return job

    def wait(self, job: RunningJob, *, always: bool = False) -> bool:
        """Whether a job ends within the time that a request waits; with `always` however long it takes."""
        return job.is_over.wait(None if always else self._answer_s)

    def outcome(self, job: RunningJob) -> Any:
        """What the job's work returned, or raises what it raised; a response of 202 with the job where it takes longer."""
        if not self.wait(job):
            response = json_response(Job, self._record(job.stored, job), 202)
            response.headers["Location"] = f"/v1/jobs/{job.stored.job_id}"
            return response
        if job.failure is not None:
            raise job.failure
        if job.finished is None:
            raise Conflict(f"the job {job.stored.job_id} was {job.stored.state}; send the request again")
        return job.finished.value

    def list(self, project: ProjectStore, scopes: frozenset[str]) -> list[Job]:
        """The newest jobs that a key with these scopes may see."""
        kinds = [k.name for k in self.kinds.values() if k.scope in scopes]
        own = dict(self._own)  # before the rows: one that ends meanwhile is then over in either
        return [self._record(s, own.get(s.job_id)) for s in list_jobs(project, kinds)]

    def find(self, project: ProjectStore, job_id: str, scopes: frozenset[str]) -> Job | None:
        """One of them."""
        own = self._own.get(job_id)
        stored = find_job(project, job_id)
        kind = None if stored is None else self.kinds.get(stored.kind)
        return self._record(stored, own) if stored and kind and kind.scope in scopes else None

    def cancel(self, project: ProjectStore, job: Job) -> None:
        """Let a job end before its next statement.

        Raises:
            Conflict: it is over, writes already, or is of a kind that always goes on to its end.
        """
        if not job.can_cancel:
            raise Conflict(f"the job is {job.state} and cannot be cancelled any more")
        request_cancel(project, job.id)
        if (own := self._own.get(job.id)) is not None:
            self._cancel(own)

    def watch(self, kind: JobKind, who: Principal, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """A stream that is listed as a job when it takes longer than a moment; cancelled, it breaks off."""
        begun = utc_now()
        job, num_bytes = None, 0
        state: JobState = "interrupted"
        try:
            for piece in pieces:
                if job is None and (utc_now() - begun).total_seconds() >= min(self._answer_s, LISTED_AFTER_S):
                    job = self.begin(kind, who, {})
                    job.stored.state, job.stored.started_at = "running", begun
                if job is not None and job.is_cancelled:
                    raise ConnectionAbortedError("the export was cancelled")
                yield piece
                num_bytes += len(piece)
                if job is not None:
                    job.report(num_bytes, 0, "bytes")
            state = "done"
        except Exception:
            state = "cancelled" if job is not None and job.is_cancelled else "failed"
            raise
        finally:
            if job is not None:
                self._end(job, state)

    # -------------------------------------------------------------------------------------------------- running

    def _submit(self, job: RunningJob) -> None:
        job.future = self._lanes[job.kind.lane].submit(self._run, job)

    def _run(self, job: RunningJob) -> None:
        stored = job.stored
        if job.is_cancelled and job.kind.can_cancel:
            self._end(job, self._state_of_ended(job))
            return
        stored.state, stored.started_at = "running", utc_now()
        context = self._context(stored)
        try:
            with watched(job.check, job.report):
                job.finished = cast(Callable[[JobContext], Finished], job.kind.run)(context)
            if context.is_repeated:
                self._clean(job, context)
            stored.result = json_value(job.finished.result)
            state: JobState = "done"
        except JobEnded:
            state = self._state_of_ended(job)
            self._clean(job, context)
        except Exception as err:  # noqa: BLE001  # whatever it is, the job has it; a request that waits raises it again
            job.failure = err
            state = "failed"
            stored.error = err.message if isinstance(err, ServerError) else f"{type(err).__name__}: {err}"
            log.warning("the job %s (%s) failed: %s", stored.job_id, stored.kind, stored.error)
            self._clean(job, context)
        self._end(job, state)

    def _state_of_ended(self, job: RunningJob) -> JobState:
        """A job that a server leaves when it stops goes on with the next one, as if this one had not begun it."""
        if not self._stopping.is_set():
            return "cancelled"
        job.stored.attempt -= 1
        return "queued"

    def _clean(self, job: RunningJob, context: JobContext) -> None:
        try:
            if job.kind.clean is not None:
                job.kind.clean(context)
        except (ServerError, StoreError) as err:
            log.warning("what is left of the job %s stays: %s", job.stored.job_id, err)

    def _context(self, stored: StoredJob) -> JobContext:
        who = Principal(stored.project_id, frozenset(), stored.key_id, stored.key_name, stored.author_id)
        project = self._store.project(stored.project_id)
        return JobContext(self._parts, project, who, stored.request, stored.attempt > 1)

    def _end(self, job: RunningJob, state: JobState) -> None:
        job.stored.state = state
        if state != "queued":
            job.stored.ended_at = utc_now()
        self._save(job)
        job.is_over.set()

    def _save(self, job: RunningJob) -> None:
        """Store where a job is; one that is over stays known here until that has succeeded."""
        is_left = job.stored.ended_at is not None or (
            self._stopping.is_set() and job.stored.state == "queued"
        )
        try:
            if not job.is_lost:
                save_job(self._store, job.stored)
        except (ServerError, StoreError) as err:
            log.warning("where the job %s is could not be stored: %s", job.stored.job_id, err)
            return
        if is_left:
            with self._lock:
                self._own.pop(job.stored.job_id, None)

    def _cancel(self, job: RunningJob) -> None:
        job.is_cancelled = True
        if job.future is not None and job.future.cancel():
            self._end(job, self._state_of_ended(job))

    # ------------------------------------------------------------------------------------- life, and other servers

    def open(self, *, is_alone: bool) -> None:
        """Begin; where no other server can run the store's unfinished jobs, they are taken over at once."""
        if is_alone:
            self.take_over(silent_s=0)
        self._beats.start()

    def close(self) -> None:
        """End: what writes already goes on to its end, the rest is left to the next server."""
        self._stopping.set()
        with self._lock:
            own = list(self._own.values())
        for job in own:
            self._cancel(job)
        for lane in self._lanes.values():
            lane.shutdown()
        if self._beats.ident is not None:
            self._beats.join()

    def round(self, _: datetime) -> None:
        """Work of the server with the scheduler's lease: take over what servers left that fell silent."""
        self.take_over(silent_s=SILENT_S)

    def take_over(self, *, silent_s: float) -> None:
        """Run jobs again that nobody runs any more, or mark them as interrupted."""
        for stored in unfinished_jobs(self._store, silent_s=silent_s):
            if stored.job_id in self._own or stored.kind not in self.kinds:
                continue
            job = RunningJob(stored, self.kinds[stored.kind])
            stored.holder = self._holder
            stored.attempt += 1
            with self._lock:
                self._own[stored.job_id] = job
            if job.kind.run is None or stored.attempt > MAX_ATTEMPTS:
                stored.error = "its server ended" + (" each time" if job.kind.run else "")
                self._clean(job, self._context(stored))
                self._end(job, "interrupted")
            else:
                stored.state = "queued"
                self._save(job)
                self._submit(job)

    def _beat_on(self) -> None:
        while not self._stopping.wait(BEAT_S):
            try:
                self.beat()
            except (Unavailable, StoreError) as err:
                log.warning("jobs: %s", err)

    def beat(self) -> None:
        """Say of each job that it runs, and look whether it is to end."""
        with self._lock:
            own = dict(self._own)
        if not own:
            return
        known = holders_and_cancels(self._store, list(own))
        for job_id, job in own.items():
            holder, is_cancelled = known.get(job_id, (self._holder, False))
            job.is_lost = holder != self._holder
            if (is_cancelled or job.is_lost) and not job.is_cancelled:
                self._cancel(job)
            else:
                self._save(job)

    # -------------------------------------------------------------------------------------------------- records

    def _record(self, stored: StoredJob, own: RunningJob | None) -> Job:
        """A job as it is now: of one that runs here more is known than its row says."""
        stored = own.stored if own else stored
        is_over = stored.state not in ("queued", "running")
        can_cancel = own.can_cancel and not own.is_cancelled if own else self.kinds[stored.kind].can_cancel
        return Job(
            id=stored.job_id,
            kind=cast(JobKind, stored.kind),
            key_id=stored.key_id,
            started_by=stored.author_id or stored.key_name or stored.key_id,
            state=stored.state,
            done=stored.done,
            total=stored.total,
            unit=stored.unit,
            created_at=stored.created_at,
            started_at=stored.started_at,
            ended_at=stored.ended_at,
            can_cancel=can_cancel and not is_over,
            left_s=None if is_over else _left_s(stored),
            result=from_json(JobResult, stored.result, strict=False) if stored.result else None,
            error=stored.error or None,
        )


def _left_s(stored: StoredJob) -> float | None:
    """Seconds left at the pace so far."""
    if not stored.done or not stored.total or stored.started_at is None:
        return None
    spent_s = (utc_now() - stored.started_at).total_seconds()
    return round(max(0.0, spent_s * (stored.total - stored.done) / stored.done), 1)
