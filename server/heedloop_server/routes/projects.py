"""Projects: made and listed with the scope `instance`."""

from __future__ import annotations

import re
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from heedloop_server.answers.projects import NewProjectAnswer, ProjectList
from heedloop_server.auth import PROJECT_SCOPES, Principal, make_key, require
from heedloop_server.errors import Conflict, Invalid
from heedloop_server.openapi import answers
from heedloop_server.store.audit import write_audit
from heedloop_server.store.connection import Store
from heedloop_server.store.keys import insert_project, list_projects

router = APIRouter()

Instance = Annotated[Principal, Depends(require("instance"))]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class NewProject(BaseModel):
    """A project to make."""

    name: str


@router.post("/v1/projects", status_code=201)
@answers(NewProjectAnswer, status=201, also=[409])
def post_project(request: Request, who: Instance, body: NewProject) -> dict[str, Any]:
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
    return {"project": body.name, "key": text, "key_id": key.key_id}


@router.get("/v1/projects")
@answers(ProjectList)
def get_projects(request: Request, _: Instance) -> dict[str, Any]:
    """The names of all projects."""
    return {"projects": list(list_projects(cast(Store, request.app.state.store)))}
