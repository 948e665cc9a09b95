"""The registry of prompts: versions, labels, and what apps are served."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Depends, Path
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from heedloop.responses.prompts import (
    PromptHistory,
    PromptList,
    PromptVersion,
    ServedPrompt,
    ServedPrompts,
)
from heedloop.schema import MAX_LABEL_CHARS, Prompt, SchemaError, from_json
from heedloop_server.errors import Invalid, NotFound
from heedloop_server.http.auth import Principal, require
from heedloop_server.http.openapi import accepts, responds
from heedloop_server.http.responses import Router, json_response
from heedloop_server.http.services import AnyStore, ReadProject
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.prompts import LATEST, history, set_label, store_version, summaries, versions

router = Router()

App = Annotated[Principal, Depends(require("ingest", "read"))]
Maker = Annotated[Principal, Depends(require("train", "admin"))]
Label = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")]


class NewPrompt(BaseModel):
    """A version to store; see `heedloop.schema.Prompt`."""

    model_config = ConfigDict(extra="forbid")
    name: str
    text: str = ""
    messages: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}
    note: Annotated[str, Field(max_length=4_096)] = ""


class LabelledVersion(BaseModel):
    """The version that a label shall name; null takes the label off."""

    model_config = ConfigDict(extra="forbid")
    version: Annotated[int, Field(ge=1, strict=True)] | None


@router.post("/v1/prompts", status_code=201)
@responds(also=[200])
@accepts(NewPrompt)
def post_prompt(
    store: AnyStore, who: Maker, body: Annotated[dict[str, Any], Body()]
) -> PromptVersion | Response:
    """Store a version; the same words again answer 200 with the version that has them."""
    note = body.pop("note", "")
    if not isinstance(note, str) or len(note) > 4_096:
        raise SchemaError("note", "must be a text of at most 4,096 characters")
    if "version" in body:
        raise Invalid("version is given by the server; leave it out", field="version")
    prompt = from_json(Prompt, body)
    project = store.project(who.project)
    before = {v.prompt.version for v in versions(project, prompt.name)}
    made = store_version(project, prompt, note=note, created_by=who.author)
    if made.version in before:
        return json_response(PromptVersion, _version(project, made.name, made.version), 200)
    write_audit(store, who, "create_prompt", prompt.name, {"version": made.version})
    return _version(project, made.name, made.version)


@router.get("/v1/prompts")
def get_prompts(project: ReadProject) -> PromptList:
    """All prompts with their labels, by name."""
    return PromptList(prompts=summaries(project))


@router.get("/v1/prompts/served")
def get_served_prompts(store: AnyStore, who: App) -> ServedPrompts:
    """Every labelled version, and the newest of each prompt as `latest`: what apps fetch in the background."""
    found = versions(store.project(who.project))
    newest = {v.prompt.name: v.prompt.version for v in reversed(found)}
    served: list[ServedPrompt] = []
    for one in found:
        own = [LATEST] if newest[one.prompt.name] == one.prompt.version else []
        if own or one.labels:
            served.append(ServedPrompt(prompt=one.prompt, labels=[*one.labels, *own]))
    return ServedPrompts(prompts=served)


@router.get("/v1/prompts/{prompt_name}")
def get_prompt(project: ReadProject, prompt_name: str) -> PromptHistory:
    """One prompt: all versions and labels, newest first."""
    found = history(project, prompt_name)
    if not found.versions:
        raise NotFound(f"there is no prompt {prompt_name!r:.80} in this project")
    return found


@router.put("/v1/prompts/{prompt_name}/labels/{label}")
def put_label(
    store: AnyStore, who: Maker, prompt_name: str, label: Label, body: LabelledVersion
) -> PromptHistory:
    """Let a label, such as `production` or `candidate`, name a version: apps are served it within seconds."""
    if label == LATEST:
        raise Invalid(f"{LATEST} always names the newest version", field="label")
    project = store.project(who.project)
    if body.version is None:
        get_prompt(project, prompt_name)
    else:
        _version(project, prompt_name, body.version)
    set_label(project, prompt_name, label, body.version or 0, who.author[:MAX_LABEL_CHARS])
    write_audit(store, who, "label_prompt", prompt_name, {"label": label, "version": body.version})
    return history(project, prompt_name)


def _version(project: ProjectStore, name: str, version: int) -> PromptVersion:
    for one in versions(project, name):
        if one.prompt.version == version:
            return one
    raise NotFound(f"there is no version {version} of a prompt {name!r:.80} in this project")
