"""What a kind of job is: each is defined next to the route that starts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.datastructures import State

from heedloop.responses.jobs import JobKind, JobResult
from heedloop_server.http.auth import Principal
from heedloop_server.store.connection import ProjectStore

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class JobContext:
    """What a job is run with.

    Attributes:
        parts: of the server, as `app.state` has them.
        who: the key that started it, without its scopes.
        request: as it was given to `JobRunner.start`, maybe by a server that ended since.
        is_repeated: whether it was begun before, and broken off somewhere.
    """

    parts: State
    project: ProjectStore
    who: Principal
    request: Json
    is_repeated: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """How a job ended: what its route responds with, and what of it is kept with the job."""

    value: Any
    result: JobResult = field(default_factory=JobResult)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of job.

    Attributes:
        scope: of the route that starts it; whoever has it sees these jobs and may end them.
        run: does the work; run a second time it ends as if it had not been broken off. None where it can't be run again.
        clean: takes away what one that was broken off, and is not repeated, left behind.
        can_cancel: whether it may be ended before it has written anything.
        lane: those of one lane wait for each other's workers.
    """

    name: JobKind
    scope: str
    run: Callable[[JobContext], Finished] | None = None
    clean: Callable[[JobContext], None] | None = None
    can_cancel: bool = True
    lane: Literal["work", "removal"] = "work"
