"""Who, which conversation, which prompt, which tags and what cost: names that have no standard, in order of trust."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from heedloop_server.normalise.aliases import COST_OBJECTS, COST_SUMS, NO_NAMES
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.shape import Shape
from heedloop_server.normalise.values import as_name, as_number, as_text, as_texts, read_object

_MAX_COST = 1e15


def read(attrs: Mapping[str, Any], shape: Shape, draft: Draft) -> None:
    """Fills a draft's session, user, prompt, tags and cost."""
    for field, names in shape.context:
        if not getattr(draft, field):
            setattr(draft, field, _tags(attrs, names) if field == "tags" else _first(attrs, names))
    if not draft.tags and isinstance(listed := attrs.get("langsmith.span.tags"), str):
        draft.tags = _own_tags(t.strip() for t in listed.split(","))
    if draft.cost is None and shape.costs:
        draft.cost = next((c for names in shape.costs if (c := _cost(attrs, names)) is not None), None)
    if "metadata" in attrs:
        _read_metadata(attrs["metadata"], draft)


def _first(attrs: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        if (found := as_name(attrs[name])) and found.lower() not in NO_NAMES:
            return found
    return None


def _tags(attrs: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    return next((found for n in names if (found := _own_tags(as_texts(attrs[n])))), ())


def _own_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The app's tags; those that instrumentations put on every span (`LLM`, `seq:step:2`) are left out."""
    return tuple(t for t in tags if t and t != "LLM" and not t.startswith("seq:step:"))


def _cost(attrs: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    """The cost under one name, or the sum of the parts under several."""
    found = [c for n in names if (c := as_cost(attrs[n])) is not None]
    if found or names[0] not in COST_OBJECTS:
        # 0 is what clients write that do not know the price; the app itself may say that it was nothing
        return sum(found) if any(found) or (found and names[0] == "heedloop.cost") else None
    return cost_in(attrs[names[0]], mixed=names != COST_OBJECTS[:1])


def as_cost(value: Any) -> float | None:
    """Dollars that fit a double; None for anything else."""
    number = as_number(value)
    return float(number) if number is not None and abs(number) < _MAX_COST else None


def cost_in(value: Any, *, mixed: bool = False) -> float | None:
    """The cost in a JSON object of costs: their sum where it is named, else its parts together; None where there is none.

    Args:
        value: the object or its JSON.
        mixed: True where other things than costs are in it too, so that only its `…_cost` are parts.
    """
    costs = {k: cost for k, v in read_object(value).items() if (cost := as_cost(v)) is not None}
    total = next((costs[name] for name in COST_SUMS if name in costs), None)
    parts = [c for name, c in costs.items() if not mixed or name in ("input_cost", "output_cost")]
    return (sum(parts) if total is None else total) or None


def _read_metadata(value: Any, draft: Draft) -> None:
    """OpenInference's `metadata`: one JSON object of the app's own."""
    metadata = read_object(value)
    draft.session_id = draft.session_id or as_name(metadata.get("session_id") or metadata.get("thread_id"))
    draft.user_id = draft.user_id or as_name(metadata.get("user_id"))
    draft.prompt_name = draft.prompt_name or as_name(metadata.get("prompt_name"))
    if not draft.tags and isinstance(metadata.get("tags"), list):
        draft.tags = as_texts(as_text(metadata["tags"]))
