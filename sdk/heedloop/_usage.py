"""Token counts, in heedloop's names or in those of a provider, as span attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedloop import attributes as names
from heedloop import schema
from heedloop._guard import dropped, shown, tolerant

_PLACES: dict[str, tuple[tuple[str, ...], ...]] = {
    "input": (("prompt_tokens",), ("input_tokens",), ("prompt_token_count",), ("inputTokens",)),
    "output": (("completion_tokens",), ("output_tokens",), ("candidates_token_count",), ("outputTokens",)),
    "cache_read_input": (
        ("prompt_tokens_details", "cached_tokens"),
        ("input_tokens_details", "cached_tokens"),
        ("input_token_details", "cache_read"),
        ("cache_read_input_tokens",),
        ("cached_content_token_count",),
    ),
    "cache_write_input": (("cache_creation_input_tokens",), ("input_token_details", "cache_creation")),
    "reasoning_output": (
        ("completion_tokens_details", "reasoning_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
        ("output_token_details", "reasoning"),
        ("thoughts_token_count",),
    ),
}
"""Field of `schema.Usage` -> where OpenAI, Anthropic, Google, Bedrock and LangChain say it."""


@tolerant({})
def counts_of(usage: Any) -> dict[str, int]:
    """Fields of `schema.Usage` read from a provider's own object or dictionary; empty where it has none."""
    counts: dict[str, int] = {}
    for name, places in _PLACES.items():
        for place in places:
            count = _count(_at(usage, place))
            if count is not None:
                counts[name] = count
                break
    if _at(usage, ("input_tokens",)) is not None:
        # Anthropic leaves cached tokens out of the input; the standard does not.
        for cached in ("cache_read_input_tokens", "cache_creation_input_tokens"):
            counts["input"] = counts.get("input", 0) + (_count(_at(usage, (cached,))) or 0)
    return counts


def token_counts(value: Any) -> dict[str, int]:
    """Span attributes of a `Usage`, a mapping of its fields, or whatever a provider calls its usage."""
    if isinstance(value, schema.Usage):
        entries: dict[str, Any] = {k: getattr(value, k) for k in names.USAGE_ATTRIBUTES}
    elif isinstance(value, Mapping) and any(k in names.USAGE_ATTRIBUTES for k in value):
        entries = {str(k): v for k, v in value.items()}
    else:
        entries = dict(counts_of(value))
        if not entries:
            dropped("usage", f"has no token counts that are known: {shown(value)}")
    counts: dict[str, int] = {}
    for name, entry in entries.items():
        if entry is None:
            continue
        count = _count(entry)
        if name not in names.USAGE_ATTRIBUTES:
            dropped(f"usage.{name}", f"is not one of {', '.join(names.USAGE_ATTRIBUTES)}")
        elif count is None:
            dropped(f"usage.{name}", f"must be a whole number of tokens, not {shown(entry)}")
        else:
            counts[names.USAGE_ATTRIBUTES[name]] = count
    return counts


@tolerant(None)
def _count(value: Any) -> int | None:
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or value != value // 1:
        return None
    return int(value)


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    return value
