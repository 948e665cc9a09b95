"""Token counts in any client's form -> `heedloop.schema.Usage`, whose `input` always includes the cached tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedloop.schema import Usage
from heedloop_server.normalise.aliases import token_field
from heedloop_server.normalise.values import as_count, read_object

_MAX_NESTING = 3

# Names in order of trust; what else looks like one is found by its words. Dotted names are looked up as paths too: `prompt_tokens_details.cached_tokens`.
_INPUT = (
    "input_tokens",
    "prompt_tokens",
    "input",
    "promptTokens",
    "inputTokens",
    "promptTokenCount",
    "prompt_token_count",
)
_OUTPUT = (
    "output_tokens",
    "completion_tokens",
    "output",
    "completionTokens",
    "outputTokens",
    "candidatesTokenCount",
    "candidates_token_count",
)
_TOTAL = ("total_tokens", "total", "totalTokens", "totalTokenCount", "total_token_count")
_CACHE_READ = (
    "cache_read_input_tokens",
    "cache_read.input_tokens",
    "cacheReadInputTokens",
    "input_cached_tokens",
    "input_cache_read",
    "cachedInputTokens",
    "cachedContentTokenCount",
    "cached_content_token_count",
    "prompt_tokens_details.cached_tokens",
    "input_tokens_details.cached_tokens",
    "input_token_details.cache_read",
    "inputTokenDetails.cacheReadTokens",
    "inputTokens.cacheRead",
)
_CACHE_WRITE = (
    "cache_creation_input_tokens",
    "cache_write_input_tokens",
    "cacheWriteInputTokens",
    "input_cache_creation",
    "input_cache_write",
    "prompt_tokens_details.cache_creation_tokens",
    "prompt_tokens_details.cache_write_tokens",
    "input_token_details.cache_creation",
    "inputTokenDetails.cacheWriteTokens",
)
_REASONING = (
    "reasoning_tokens",
    "output_reasoning_tokens",
    "output_reasoning",
    "reasoningTokens",
    "thoughtsTokenCount",
    "thoughts_token_count",
    "completion_tokens_details.reasoning_tokens",
    "output_tokens_details.reasoning_tokens",
    "output_token_details.reasoning",
    "outputTokenDetails.reasoningTokens",
)


def read_usage(value: Any) -> Usage:
    """Usage of a JSON object (or its text) in OpenAI's, Anthropic's, Google's, LangChain's, Langfuse's … form."""
    counts = read_object(value)
    if not counts:
        return Usage()
    names = (_INPUT, _OUTPUT, _CACHE_READ, _CACHE_WRITE, _REASONING)
    found = [_find(counts, n) for n in names]
    if None in found:
        _find_by_words(counts, found)
    usage = Usage(*found)
    excludes = "cache_read_input_tokens" in counts and "prompt_tokens" not in counts  # Anthropic's own form
    return including_cache(usage, total=_find(counts, _TOTAL), excludes=excludes)


def including_cache(usage: Usage, *, total: int | None = None, excludes: bool = False) -> Usage:
    """The same usage with `input` counted the one way: cached tokens included.

    `output` is counted the one way too: thoughts included. Clients differ and do not say. Where the total is known it
    decides; a part greater than its whole shows that the whole leaves it out; else the form's habit (`excludes`) does.

    Returns:
        The usage; all fields None where neither input nor output were counted (zeros for both are what clients send
        when a call failed or the provider counted nothing).
    """
    if not usage.input and not usage.output:
        return Usage()
    cached = (usage.cache_read_input or 0) + (usage.cache_write_input or 0)
    thoughts = usage.reasoning_output or 0
    if not cached and not thoughts:
        return usage
    without_cached, without_thoughts = _left_out(usage, cached, thoughts, total, excludes)
    if not (without_cached or without_thoughts):
        return usage
    return Usage(
        usage.input + cached if without_cached and usage.input is not None else usage.input,
        usage.output + thoughts if without_thoughts and usage.output is not None else usage.output,
        usage.cache_read_input,
        usage.cache_write_input,
        usage.reasoning_output,
    )


def _left_out(
    usage: Usage, cached: int, thoughts: int, total: int | None, excludes: bool
) -> tuple[bool, bool]:
    """Whether `input` leaves the cached tokens out, and `output` the thoughts."""
    inputs, outputs = usage.input or 0, usage.output or 0
    sure = cached > inputs, thoughts > outputs
    if total is None:
        return sure[0] or excludes, sure[1]
    for left_out in (sure, (True, sure[1]), (sure[0], True), (True, True)):
        if total == inputs + outputs + cached * left_out[0] + thoughts * left_out[1]:
            return left_out
    return sure


def _find_by_words(
    counts: Mapping[str, Any], found: list[int | None], above: str = "", depth: int = 0
) -> None:
    """Fills the fields that are missing from names that say by their words what they count."""
    for name, value in counts.items():
        path = f"{above}{name}"
        if isinstance(value, dict) and depth < _MAX_NESTING:
            _find_by_words(value, found, f"{path}.", depth + 1)
        elif (field := token_field(path)) is not None and found[field] is None:
            found[field] = as_count(value)


def _find(counts: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = counts.get(name)
        if value is None and "." in name:
            head, _, tail = name.partition(".")
            inner = counts.get(head)
            value = inner.get(tail) if isinstance(inner, dict) else None
        if value is not None and not isinstance(value, dict):
            count = as_count(value)
            if count is not None:
                return count
    return None
