"""Who, which conversation, which prompt, which tags and what cost: names that have no standard, in order of trust."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.values import as_name, as_number, as_text, as_texts, read_json, read_object

_SESSION = (
    "gen_ai.conversation.id",
    "session.id",
    "langfuse.session.id",
    "traceloop.association.properties.session_id",
    "traceloop.association.properties.thread_id",
    "ai.telemetry.metadata.sessionId",
    "ai.settings.context.sessionId",
    "langsmith.metadata.session_id",
    "langsmith.metadata.thread_id",
    "langsmith.metadata.conversation_id",
    "session_id",
    "metadata.session_id",
    "thread_id",
    "thread.id",
    "gcp.vertex.agent.session_id",
)
_USER = (
    "user.id",
    "enduser.id",
    "langfuse.user.id",
    "traceloop.association.properties.user_id",
    "ai.telemetry.metadata.userId",
    "ai.settings.context.userId",
    "langsmith.metadata.user_id",
    "llm.user",
    "gen_ai.user",
    "gen_ai.request.user",
    "user_id",
    "metadata.user_id",
    "metadata.user_api_key_end_user_id",
)
_JSON_SESSION = ("mlflow.trace.session",)
_JSON_USER = ("mlflow.trace.user",)
_PROMPT_NAME = (
    "gen_ai.prompt.name",
    "langfuse.observation.prompt.name",
    "traceloop.prompt.key",
    "traceloop.prompt.name",
    "llm.prompt_template.name",
    "prompt.name",
    "prompt.id",
    "langsmith.metadata.lc_hub_repo",
    "ai.telemetry.metadata.promptName",
)
_PROMPT_VERSION = (
    "gen_ai.prompt.version",
    "langfuse.observation.prompt.version",
    "traceloop.prompt.version",
    "llm.prompt_template.version",
    "prompt.version",
    "langsmith.metadata.lc_hub_commit_hash",
    "ai.telemetry.metadata.promptVersion",
)
_TAGS = (
    "heedloop.tags",
    "langfuse.trace.tags",
    "tag.tags",
    "tags",
    "metadata.tags",
    "ai.telemetry.metadata.tags",
    "traceloop.association.properties.tags",
    "logfire.tags",
)
_COST = (
    "heedloop.cost",
    "gen_ai.cost.total_cost",
    "gen_ai.usage.cost",
    "gen_ai.usage.total_cost",
    "operation.cost",
    "llm.cost.total",
    "llm.usage.cost",
)
# roots of the names above beside the standard's: a span without any of them is read the short way
_FOREIGN = frozenset(
    {
        "langfuse",
        "traceloop",
        "ai",
        "langsmith",
        "session_id",
        "user_id",
        "metadata",
        "mlflow",
        "llm",
        "tag",
        "tags",
    }
    | {"logfire", "prompt", "enduser", "thread_id", "thread", "operation", "gcp"}
)


def read(attrs: Mapping[str, Any], roots: Set[str], draft: Draft) -> None:
    """Fills a draft's session, user, prompt, tags and cost."""
    if roots.isdisjoint(_FOREIGN):
        _read_standard(attrs, draft)
        return
    draft.session_id = draft.session_id or _first(attrs, _SESSION) or _first_json(attrs, _JSON_SESSION)
    draft.user_id = draft.user_id or _first(attrs, _USER) or _first_json(attrs, _JSON_USER)
    draft.prompt_name = draft.prompt_name or _first(attrs, _PROMPT_NAME)
    draft.prompt_version = draft.prompt_version or _first(attrs, _PROMPT_VERSION)
    draft.tags = draft.tags or _tags(attrs)
    if draft.cost is None:
        draft.cost = _cost(attrs)
    if "metadata" in attrs:
        _read_metadata(attrs["metadata"], draft)


def _read_standard(attrs: Mapping[str, Any], draft: Draft) -> None:
    get = attrs.get
    draft.session_id = draft.session_id or as_name(get("gen_ai.conversation.id") or get("session.id"))
    draft.user_id = draft.user_id or as_name(get("user.id"))
    draft.prompt_name = draft.prompt_name or as_name(get("gen_ai.prompt.name"))
    draft.prompt_version = draft.prompt_version or as_name(get("gen_ai.prompt.version"))
    if "heedloop.tags" in attrs:
        draft.tags = as_texts(attrs["heedloop.tags"])
    for key in ("heedloop.cost", "gen_ai.cost.total_cost", "gen_ai.usage.cost"):
        if draft.cost is None and key in attrs:
            draft.cost = as_number(attrs[key])


def _first(attrs: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = attrs.get(name)
        if value is not None and (found := as_name(value)):
            return found
    return None


def _first_json(attrs: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        if name in attrs and (found := as_name(read_json(attrs[name]))):
            return found
    return None


def _tags(attrs: Mapping[str, Any]) -> tuple[str, ...]:
    """The app's tags; those that instrumentations put on every span (`LLM`, `seq:step:2`) are left out."""
    for name in _TAGS:
        if name in attrs:
            found = as_texts(attrs[name])
            found = tuple(t for t in found if t != "LLM" and not t.startswith("seq:step:"))
            if found:
                return found
    listed = attrs.get("langsmith.span.tags")
    if isinstance(listed, str):
        words = (t.strip() for t in listed.split(","))
        return tuple(t for t in words if t and not t.startswith("seq:step:"))
    return ()


def _cost(attrs: Mapping[str, Any]) -> float | None:
    for name in _COST:
        value = attrs.get(name)
        if value is not None and (number := as_number(value)) is not None:
            return number
    details = read_object(attrs.get("langfuse.observation.cost_details"))
    return as_number(details.get("total")) or None


def _read_metadata(value: Any, draft: Draft) -> None:
    """OpenInference's `metadata`: one JSON object of the app's own."""
    metadata = read_object(value)
    draft.session_id = draft.session_id or as_name(metadata.get("session_id") or metadata.get("thread_id"))
    draft.user_id = draft.user_id or as_name(metadata.get("user_id"))
    draft.prompt_name = draft.prompt_name or as_name(metadata.get("prompt_name"))
    if not draft.tags and isinstance(metadata.get("tags"), list):
        draft.tags = as_texts(as_text(metadata["tags"]))
