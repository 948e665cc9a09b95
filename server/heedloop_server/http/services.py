"""What routes are given: the caller's project or key, by the scope that is needed, and the parts of this server."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from heedloop_server.examples.service import ExampleService
from heedloop_server.http.auth import KeyRing, Principal, require, scoped
from heedloop_server.ingest.intake import Intake
from heedloop_server.jobs.runner import JobRunner
from heedloop_server.review.queue_service import ReviewQueueService
from heedloop_server.settings import Settings
from heedloop_server.store.connection import ProjectStore, Store

ReadProject = Annotated[ProjectStore, Depends(scoped("read"))]
TrainProject = Annotated[ProjectStore, Depends(scoped("train"))]
FeedbackProject = Annotated[ProjectStore, Depends(scoped("feedback"))]
ReviewProject = Annotated[ProjectStore, Depends(scoped("review"))]
AdminProject = Annotated[ProjectStore, Depends(scoped("admin"))]

TrainKey = Annotated[Principal, Depends(require("train"))]
ReadKey = Annotated[Principal, Depends(require("read"))]
AdminKey = Annotated[Principal, Depends(require("admin"))]
InstanceKey = Annotated[Principal, Depends(require("instance"))]
ReviewKey = Annotated[Principal, Depends(require("review", "admin"))]
"""Not annotators': their keys reach queues and nothing else."""


def _part(name: str) -> Any:
    """A dependency on a part of the server; `async`, because FastAPI would give it a thread."""

    async def part(request: Request) -> Any:
        return getattr(request.app.state, name)

    return Depends(part)


AnyStore = Annotated[Store, _part("store")]
Keys = Annotated[KeyRing, _part("keys")]
Intakes = Annotated[Intake, _part("intake")]
Examples = Annotated[ExampleService, _part("examples")]
Queues = Annotated[ReviewQueueService, _part("review")]
Jobs = Annotated[JobRunner, _part("jobs")]
Configuration = Annotated[Settings, _part("settings")]
