"""Erasing a person's words, with a receipt."""

from __future__ import annotations

import secrets
from typing import Annotated, cast, get_args

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from heedloop.responses.datasets import NamedSnapshot
from heedloop.responses.erasures import ErasedBy, ErasureCheck, ErasureReceipt
from heedloop.responses.jobs import JobResult
from heedloop.schema import utc_now
from heedloop_server.errors import Invalid, NotFound, Unavailable
from heedloop_server.http.responses import Router
from heedloop_server.http.services import AdminKey, AdminProject, Jobs
from heedloop_server.http.shared_responses import SharedResponses
from heedloop_server.ingest.intake import Intake
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.jobs.kinds import Finished, JobContext, Kind
from heedloop_server.settings import Settings
from heedloop_server.store.admin.audit import erased_at, write_audit
from heedloop_server.store.admin.erasure import hide, old_parts, remove, verify
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.datasets.runs import summaries_of_runs
from heedloop_server.store.datasets.snapshots import snapshots_of_feedback, snapshots_of_traces

router = Router()

_DRAIN_S = 30.0

WAYS: tuple[ErasedBy, ...] = get_args(ErasedBy)
Name = Annotated[str, Field(min_length=1, max_length=1024)]


class Erasure(BaseModel):
    """Whose words to erase: exactly one of the three."""

    model_config = ConfigDict(extra="forbid")

    user_id: Name | None = None
    session_id: Name | None = None
    trace_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None


@router.post("/v1/erasures")
def post_erasure(
    request: Request, jobs: Jobs, project: AdminProject, who: AdminKey, body: Erasure
) -> ErasureReceipt:
    """Erase everything of a user, a session or a trace: hidden from every read when this is answered, and removed behind it.

    The response says what is meant, what is left in the tables (nothing where it is `done`) and who used it.
    """
    chosen: list[tuple[ErasedBy, str]] = [(n, v) for n in WAYS if (v := getattr(body, n)) is not None]
    if len(chosen) != 1:
        raise Invalid("give exactly one of user_id, session_id, trace_id", field="user_id")
    by, value = chosen[0]
    intake, settings = cast(Intake, request.app.state.intake), cast(Settings, request.app.state.settings)
    if not intake.wait_until_loaded(_DRAIN_S):
        raise Unavailable(
            "what is still in the request log must be stored before it can be erased; send again later"
        )
    erasure_id = secrets.token_hex(8)
    erased = hide(project, by, value, erasure_id=erasure_id)
    cast(SharedResponses, request.app.state.shared).forget(who.project)
    traces = [bytes.fromhex(t) for t in erased.trace_ids]
    num_files = Quarantine(settings.log_folder).purge([value, *traces, *erased.trace_ids])
    if intake.feedback_log is not None:
        intake.feedback_log.forget(who.project, erased.trace_ids)
    request.app.state.review.forget(who.project)
    removal = jobs.start("erasure", who, {"erasure_id": erasure_id})
    done = jobs.wait(removal, always=bool(project.store.topology.cluster)) and removal.failure is None
    users = _users(project, erased.trace_ids, [str(f) for f in erased.feedback_ids])
    counts = {
        "traces": len(erased.trace_ids),
        "feedback": len(erased.feedback_ids),
        "rows": dict(erased.rows),
    }
    write_audit(
        project.store, who, f"erase_{by}", erasure_id, counts
    )  # not the id itself: it would stay behind
    return ErasureReceipt(
        erasure_id=erasure_id,
        by=by,
        at=utc_now(),
        num_traces=len(erased.trace_ids),
        num_feedback=len(erased.feedback_ids),
        rows=erased.rows,
        left=verify(project, erasure_id) if done else erased.left,
        done=done,
        num_files=num_files,
        snapshots=users,
        runs=summaries_of_runs(project, [s.id for s in users]),
    )


def _remove(job: JobContext) -> Finished:
    erasure_id, old_parts_s = job.request["erasure_id"], cast(Settings, job.parts.settings).erased_parts_s
    remove(job.project, erasure_id, old_parts_s=old_parts_s, is_resumed=job.is_repeated)
    return Finished(None, JobResult(path=f"/v1/erasures/{erasure_id}"))


ERASURE = Kind("erasure", "admin", _remove, can_cancel=False, lane="removal")


@router.get("/v1/erasures/{erasure_id}")
def get_erasure(project: AdminProject, erasure_id: str) -> ErasureCheck:
    """What is left of an erasure now, in the tables and on the store's disk."""
    at = erased_at(project, erasure_id)
    if at is None:
        raise NotFound(f"there is no erasure {erasure_id!r:.80} in this project")
    left = verify(project, erasure_id)
    parts = old_parts(project.store, at)
    done = not parts and not any(left.values())
    return ErasureCheck(erasure_id=erasure_id, at=at, left=left, old_parts=parts, done=done)


def _users(project: ProjectStore, trace_ids: list[str], feedback_ids: list[str]) -> list[NamedSnapshot]:
    found = snapshots_of_traces(project, trace_ids) if trace_ids else []
    for feedback_id in feedback_ids:
        found += snapshots_of_feedback(project, feedback_id)
    return list(dict.fromkeys(found))
