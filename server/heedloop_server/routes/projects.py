"""Projects: made and listed with the scope `instance`; their own settings with `admin`."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated
from urllib.parse import parse_qs

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from heedloop.responses import projects as responses
from heedloop_server.alerts.feedback_webhook import described
from heedloop_server.alerts.webhooks import check_webhook_url
from heedloop_server.errors import Conflict, Invalid
from heedloop_server.http.auth import PROJECT_SCOPES, make_key
from heedloop_server.http.openapi import responds
from heedloop_server.http.responses import Router
from heedloop_server.http.services import (
    AdminKey,
    AdminProject,
    AnyStore,
    Configuration,
    InstanceKey,
    ReadProject,
)
from heedloop_server.settings import Settings
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.admin.keys import insert_project, list_projects
from heedloop_server.store.admin.project_settings import (
    project_created_at,
    project_prices,
    project_settings,
    save_project_settings,
)
from heedloop_server.store.connection import ProjectStore

router = Router()


_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class NewProject(BaseModel):
    """A project to make."""

    model_config = ConfigDict(extra="forbid")

    name: str


@router.post("/v1/projects", status_code=201)
@responds(also=[409])
def post_project(store: AnyStore, who: InstanceKey, body: NewProject) -> responses.CreatedProject:
    """Make a project; the answer holds its first key, which has every scope but `instance`."""
    if not _NAME.fullmatch(body.name):
        raise Invalid(
            f"{body.name[:80]!r} is no project name: lower-case letters, digits, - and _, at most 63",
            field="name",
        )
    if body.name in list_projects(store):
        raise Conflict(f"there is a project {body.name} already", field="name")
    insert_project(store, body.name)
    text, key = make_key(store, body.name, name="first key", scopes=PROJECT_SCOPES)
    write_audit(store, who, "create_project", body.name, {"key_id": key.key_id})
    return responses.CreatedProject(project=body.name, key=text, key_id=key.key_id)


@router.get("/v1/projects")
def get_projects(store: AnyStore, _: InstanceKey) -> responses.ProjectList:
    """The names of all projects."""
    return responses.ProjectList(projects=list_projects(store))


ViewName = Annotated[str, Field(min_length=1, max_length=80)]
ViewLink = Annotated[str, Field(max_length=2000, pattern=r"^[a-z-]*(\?[^\s#]*)?$")]
Dollars = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class ModelPrice(BaseModel):
    """US dollars per million tokens; `cached_input` where cached tokens cost something else."""

    model_config = ConfigDict(extra="forbid")

    input: Dollars
    output: Dollars
    cached_input: Dollars | None = None


def _webhook_url(url: str) -> str:
    check_webhook_url(url)
    return url


class NewFeedbackWebhook(BaseModel):
    """Where new feedback is told; of imported feedback too where `imports` is true."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(max_length=2_000), AfterValidator(_webhook_url)]
    imports: Annotated[bool, Field(strict=True)] = False


class ProjectChanges(BaseModel):
    """What to change; what is left out stays, null follows the server again. `prices` and `views` are replaced whole, and so is
    `feedback_webhook`, which null takes away."""

    model_config = ConfigDict(extra="forbid")

    retention_days: Annotated[int | None, Field(ge=0, le=36_500, strict=True)] = None
    prices: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=256)], ModelPrice] | None, Field(max_length=500)
    ] = None
    views: Annotated[dict[ViewName, ViewLink] | None, Field(max_length=100)] = None
    feedback_webhook: NewFeedbackWebhook | None = None


@router.get("/v1/project")
def get_project(project: ReadProject, settings: Configuration) -> responses.Project:
    """The caller's project and what holds for it."""
    return _described(settings, project)


@router.patch("/v1/project")
def patch_project(
    project: AdminProject, settings: Configuration, who: AdminKey, body: ProjectChanges
) -> responses.Project:
    """Change settings of the caller's project."""
    changes = body.model_dump(exclude_unset=True)
    if changes.get("prices"):
        changes["prices"] = {
            m: {k: v for k, v in p.items() if v is not None} for m, p in changes["prices"].items()
        }
    if named := _names_a_person(changes.get("views") or {}):
        raise Invalid(
            f"the view {named!r} names a user or a session: erasing them would not reach it", field="views"
        )
    before, saved, secret = project_settings(project), dict(changes), None
    if body.feedback_webhook:
        hook = body.feedback_webhook.model_dump()
        known = before.get("feedback_webhook") or {}
        if known.get("url") != hook["url"]:  # another receiver must not know what the last one was sent
            secret = f"hlw_{secrets.token_urlsafe(32)}"
        saved["feedback_webhook"] = {**hook, "secret": secret or known["secret"]}
    save_project_settings(project, {k: v for k, v in {**before, **saved}.items() if v is not None})
    write_audit(project.store, who, "change_project", who.project, changes)
    return replace(_described(settings, project), webhook_secret=secret)


def _names_a_person(views: Mapping[str, str]) -> str | None:
    """The first view whose link holds a person's id; None where none does."""
    people = {"user_id", "session_id"}
    return next((n for n, link in views.items() if people & parse_qs(link.partition("?")[2]).keys()), None)


def _described(settings: Settings, project: ProjectStore) -> responses.Project:
    chosen = project_settings(project)
    days = chosen.get("retention_days")
    return responses.Project(
        project=project.project,
        created_at=project_created_at(project),
        retention_days=settings.retention_days if days is None else days,
        chosen=responses.ProjectChoices(retention_days=days),
        prices=project_prices(project),
        views=chosen.get("views") or {},
        feedback_webhook=described(project, chosen.get("feedback_webhook")),
    )
