"""Projects: made and listed with the scope `instance`; their own settings with `admin`."""

from __future__ import annotations

import re
from typing import Annotated, cast

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from heedloop.responses import projects as responses
from heedloop_server.errors import Conflict, Invalid
from heedloop_server.http.auth import PROJECT_SCOPES, Principal, make_key, require, scoped
from heedloop_server.http.openapi import responds
from heedloop_server.http.responses import Router
from heedloop_server.settings import Settings
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.admin.keys import insert_project, list_projects
from heedloop_server.store.admin.project_settings import (
    project_created_at,
    project_settings,
    save_project_settings,
)
from heedloop_server.store.connection import ProjectStore, Store

router = Router()

Instance = Annotated[Principal, Depends(require("instance"))]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class NewProject(BaseModel):
    """A project to make."""

    model_config = ConfigDict(extra="forbid")

    name: str


@router.post("/v1/projects", status_code=201)
@responds(also=[409])
def post_project(request: Request, who: Instance, body: NewProject) -> responses.CreatedProject:
    """Make a project; the answer holds its first key, which has every scope but `instance`."""
    if not _NAME.fullmatch(body.name):
        raise Invalid(
            f"{body.name[:80]!r} is no project name: lower-case letters, digits, - and _, at most 63",
            field="name",
        )
    store = cast(Store, request.app.state.store)
    if body.name in list_projects(store):
        raise Conflict(f"there is a project {body.name} already", field="name")
    insert_project(store, body.name)
    text, key = make_key(store, body.name, name="first key", scopes=PROJECT_SCOPES)
    write_audit(store, who, "create_project", body.name, {"key_id": key.key_id})
    return responses.CreatedProject(project=body.name, key=text, key_id=key.key_id)


@router.get("/v1/projects")
def get_projects(request: Request, _: Instance) -> responses.ProjectList:
    """The names of all projects."""
    return responses.ProjectList(projects=list_projects(cast(Store, request.app.state.store)))


class ProjectChanges(BaseModel):
    """What to change; what is left out stays, null follows the server again."""

    model_config = ConfigDict(extra="forbid")

    retention_days: Annotated[int | None, Field(ge=0, le=36_500, strict=True)] = None


@router.get("/v1/project")
def get_project(
    request: Request, project: Annotated[ProjectStore, Depends(scoped("read"))]
) -> responses.Project:
    """The caller's project and what holds for it."""
    return _described(request, project)


@router.patch("/v1/project")
def patch_project(
    request: Request, who: Annotated[Principal, Depends(require("admin"))], body: ProjectChanges
) -> responses.Project:
    """Change settings of the caller's project."""
    store = cast(Store, request.app.state.store)
    project = store.project(who.project)
    changes = body.model_dump(exclude_unset=True)
    chosen = {k: v for k, v in {**project_settings(project), **changes}.items() if v is not None}
    save_project_settings(project, chosen)
    write_audit(store, who, "change_project", who.project, changes)
    return _described(request, project)


def _described(request: Request, project: ProjectStore) -> responses.Project:
    settings = cast(Settings, request.app.state.settings)
    days = project_settings(project).get("retention_days")
    return responses.Project(
        project=project.project,
        created_at=project_created_at(project),
        retention_days=settings.retention_days if days is None else days,
        chosen=responses.ProjectChoices(retention_days=days),
    )
