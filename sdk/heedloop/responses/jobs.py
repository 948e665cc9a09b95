"""Responses about jobs: long work that the server does behind a request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from heedloop.responses.imports import UndoneImport
from heedloop.responses.review import FilledQueue

JobKind = Literal["snapshot", "queue_fill", "clusters", "erasure", "import_undo", "backup", "export"]
JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What a job made: where it is read, or the record itself where it is kept nowhere else.

    Attributes:
        path: of the route that returns it, such as `/v1/snapshots/…`; `GET` it.
    """

    path: str | None = None
    filled: FilledQueue | None = None
    undone: UndoneImport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job.

    Attributes:
        key_id: the key that started it; `started_by` is its person or name.
        state: `interrupted` where its server ended and it can't be repeated, or was three times.
        done: of `total`, in `unit`; `total` is 0 where it is not known.
        left_s: seconds left at the pace so far; None where that is not known.
        can_cancel: whether `DELETE /v1/jobs/{id}` may still end it with nothing made.
    """

    id: str
    kind: JobKind
    key_id: str
    started_by: str
    state: JobState
    done: int
    total: int
    unit: str
    created_at: datetime
    can_cancel: bool
    started_at: datetime | None = None
    ended_at: datetime | None = None
    left_s: float | None = None
    result: JobResult | None = None
    error: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether it ended, in whatever way."""
        return self.state not in ("queued", "running")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobList:
    """The newest jobs first, at most 200."""

    jobs: list[Job]
