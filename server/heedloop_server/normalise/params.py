"""Request parameters under one name each: `max_tokens`, whatever the client or the provider calls it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedloop_server.normalise.values import as_number, as_text, as_texts, read_json

_NUMBERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "topP": "top_p",
    "top_k": "top_k",
    "topK": "top_k",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "max_tokens_to_sample": "max_tokens",
    "maxTokens": "max_tokens",
    "maxOutputTokens": "max_tokens",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "frequencyPenalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "presencePenalty": "presence_penalty",
    "n": "n",
    "choice.count": "n",
    "candidate_count": "n",
    "candidateCount": "n",
}
_TEXTS = {
    "reasoning_effort": "reasoning_effort",
    "reasoning.level": "reasoning_effort",
    "service_tier": "service_tier",
}
_FORMATS = ("response_format", "responseFormat", "response_mime_type", "responseMimeType")
_ECHO = frozenset({"truncation", "parallel_tool_calls"})
"""Fields that tell a Responses API answer, whose fields some clients send as parameters, from a request."""
_STOPS = ("stop", "stop_sequences", "stopSequences", "stop_tokens")


def read_params(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters among a request's fields; values that are none (`Infinity`, null, empty) are left out."""
    params: dict[str, Any] = {}
    for key, value in given.items():
        name = _NUMBERS.get(key)
        if name is not None:
            number = as_number(value)
            if number is not None:
                params.setdefault(name, number)
        elif key in _TEXTS:
            if isinstance(value, str) and value:
                params.setdefault(_TEXTS[key], value)
        elif key in _STOPS:
            stops = as_texts(value)
            if stops:
                params.setdefault("stop", list(stops))
        elif key in _FORMATS:
            add_format(params, value)
        elif key == "reasoning" and isinstance(value, dict) and isinstance(value.get("effort"), str):
            params.setdefault("reasoning_effort", value["effort"])
    return _without_defaults(params) if _ECHO.issubset(given) else params


_DEFAULTS: dict[str, Any] = {"temperature": 1, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0}


def caller_params(params: dict[str, Any], given: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """The parameters that the caller set: without the defaults that a client fills in, which come as a set.

    Args:
        params: what `read_params` makes of `given`.
        given: the fields as they were sent.
        defaults: what the client fills in beside OpenAI's own defaults.
    """
    if not ("frequency_penalty" in given and "presence_penalty" in given):
        return params
    filled_in = {**_DEFAULTS, **defaults}
    return {
        k: v for k, v in params.items() if k != "service_tier" and not (k in filled_in and v == filled_in[k])
    }


def _without_defaults(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a Responses API answer, which repeats the request's and fills in what nobody set."""
    return {k: v for k, v in params.items() if not (k in ("temperature", "top_p") and v == 1)}


def add_format(params: dict[str, Any], value: Any) -> None:
    """Adds the response format, by its type: `json_object`, `json_schema`, `application/json`."""
    parsed = read_json(value)
    kind = parsed.get("type") if isinstance(parsed, dict) else parsed
    if isinstance(kind, str) and kind and kind != "text":
        params.setdefault("response_format", as_text(kind))
