"""Who, which conversation, which prompt, which tags and what cost: names that have no standard, in order of trust."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from heedloop_server.normalise.aliases import (
    COST,
    COST_OBJECTS,
    COST_PARTS,
    NO_NAMES,
    PROMPT_NAME,
    PROMPT_VERSION,
    SESSION,
    TAGS,
    USER,
)
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.values import as_name, as_number, as_text, as_texts, read_json, read_object

_MAX_COST = 1e15
_JSON_SESSION = ("mlflow.trace.session",)
_JSON_USER = ("mlflow.trace.user",)
# roots of the names in `aliases` beside the standard's: a span without any of them is read the short way
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
        "cost_usd",
        "genkit:sessionId",
    }
    | {"logfire", "prompt", "enduser", "thread_id", "thread", "operation", "gcp"}
)


_STANDARD_COSTS = frozenset(
    n for n in (*COST, *(p for pair in COST_PARTS for p in pair)) if n.startswith(("gen_ai.", "heedloop."))
)


def read(attrs: Mapping[str, Any], roots: Set[str], draft: Draft) -> None:
    """Fills a draft's session, user, prompt, tags and cost."""
    if roots.isdisjoint(_FOREIGN):
        _read_standard(attrs, draft)
        return
    draft.session_id = draft.session_id or _first(attrs, SESSION) or _first_json(attrs, _JSON_SESSION)
    draft.user_id = draft.user_id or _first(attrs, USER) or _first_json(attrs, _JSON_USER)
    draft.prompt_name = draft.prompt_name or _first(attrs, PROMPT_NAME)
    draft.prompt_version = draft.prompt_version or _first(attrs, PROMPT_VERSION)
    draft.tags = draft.tags or _tags(attrs)
    if draft.cost is None:
        draft.cost = _cost(attrs)
    if "metadata" in attrs:
        _read_metadata(attrs["metadata"], draft)


def _read_standard(attrs: Mapping[str, Any], draft: Draft) -> None:
    get = attrs.get
    draft.session_id = draft.session_id or _first(attrs, ("gen_ai.conversation.id", "session.id"))
    draft.user_id = draft.user_id or _first(attrs, ("user.id",))
    draft.prompt_name = draft.prompt_name or as_name(get("gen_ai.prompt.name"))
    draft.prompt_version = draft.prompt_version or as_name(get("gen_ai.prompt.version"))
    if "heedloop.tags" in attrs:
        draft.tags = as_texts(attrs["heedloop.tags"])
    if draft.cost is None and _STANDARD_COSTS.intersection(attrs):
        draft.cost = _cost(attrs)


def _first(attrs: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = attrs.get(name)
        if value is not None and (found := as_name(value)) and found.lower() not in NO_NAMES:
            return found
    return None


def _first_json(attrs: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        if name in attrs and (found := as_name(read_json(attrs[name]))):
            return found
    return None


def _tags(attrs: Mapping[str, Any]) -> tuple[str, ...]:
    """The app's tags; those that instrumentations put on every span (`LLM`, `seq:step:2`) are left out."""
    for name in TAGS:
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
    for name in COST:
        if (number := as_cost(attrs.get(name))) is not None:
            return number
    for names in COST_PARTS:
        parts = [p for n in names if (p := as_cost(attrs.get(n))) is not None]
        if parts:
            return sum(parts)
    return cost_in(attrs.get("langfuse.observation.cost_details"))


def as_cost(value: Any) -> float | None:
    """Dollars that fit a double; None for anything else."""
    number = as_number(value)
    return float(number) if number is not None and abs(number) < _MAX_COST else None


def cost_in(value: Any) -> float | None:
    """The cost in a JSON object of costs: their sum where it is named, else its parts together; None where there is none."""
    costs = read_object(value)
    sums, *pairs = COST_OBJECTS
    for name in sums:
        if (number := as_cost(costs.get(name))) is not None:
            return number or None
    for names in pairs:
        parts = [p for n in names if (p := as_cost(costs.get(n))) is not None]
        if parts:
            return sum(parts) or None
    return None


def _read_metadata(value: Any, draft: Draft) -> None:
    """OpenInference's `metadata`: one JSON object of the app's own."""
    metadata = read_object(value)
    draft.session_id = draft.session_id or as_name(metadata.get("session_id") or metadata.get("thread_id"))
    draft.user_id = draft.user_id or as_name(metadata.get("user_id"))
    draft.prompt_name = draft.prompt_name or as_name(metadata.get("prompt_name"))
    if not draft.tags and isinstance(metadata.get("tags"), list):
        draft.tags = as_texts(as_text(metadata["tags"]))
