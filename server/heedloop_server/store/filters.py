"""The filter language as SQL over `spans`: conditions and their bound parameters, from an allow-list of columns."""

from __future__ import annotations

import re
from typing import Any

from heedloop_server.filters import CallFilters

__all__ = ["FLAGGED", "THUMBS", "conditions"]

_EQUAL = (
    "model",
    "prompt_name",
    "prompt_version",
    "service",
    "environment",
    "user_id",
    "session_id",
    "status",
)

THUMBS = "is_thumb AND name = 'thumb' AND author_kind = 'end_user'"
"""What counts as the thumb of an answer, over `feedback`."""
FLAGGED = "kind = 'flag'"

_JUDGED = "(trace_id, span_id) {how} (SELECT trace_id, span_id FROM feedback FINAL WHERE project_id = {{project:String}} AND {which})"
# the newest thumb of an answer decides, not any thumb
_NEWEST = (
    "(trace_id, span_id) IN (SELECT trace_id, span_id FROM feedback FINAL WHERE project_id = {{project:String}} AND {which} "
    "GROUP BY trace_id, span_id HAVING argMax(score, version) = {score})"
)
_RATING = {
    "up": _NEWEST.format(which=THUMBS, score=1),
    "down": _NEWEST.format(which=THUMBS, score=0),
    "any": _JUDGED.format(how="IN", which=THUMBS),
    "none": _JUDGED.format(how="NOT IN", which=THUMBS),
}
_HAS = {
    "correction": "kind = 'correction'",
    "flag": FLAGGED,
    "comparison": "kind = 'comparison'",
    "comment": "has_comment",
}


def conditions(filters: CallFilters) -> tuple[str, dict[str, Any]]:
    """The condition (without WHERE, with the project) and its parameters; `project` is bound by the `ProjectStore`."""
    since, until = filters.period()
    parts = [
        "project_id = {project:String}",
        "start_time >= {since:DateTime64(6,'UTC')}",
        "start_time < {until:DateTime64(6,'UTC')}",
    ]
    params: dict[str, Any] = {"since": since, "until": until}
    for name in _EQUAL:
        value = getattr(filters, name)
        if value is not None:
            parts.append(f"{name} = {{{name}:String}}")
            params[name] = value
    if filters.answers_only:
        parts.append("is_answer")
    _limits(filters, parts, params)
    _judgements(filters, parts, params)
    if filters.tag is not None:
        parts.append("has(tags, {tag:String})")
        params["tag"] = filters.tag
    if filters.text is not None:
        _text(filters.text, parts, params)
    return "\n AND ".join(parts), params


def _limits(filters: CallFilters, parts: list[str], params: dict[str, Any]) -> None:
    limits = {
        "min_duration_ms": "duration_ns >= {min_duration_ms:Float64} * 1e6",
        "max_duration_ms": "duration_ns <= {max_duration_ms:Float64} * 1e6",
        "min_cost": "cost >= {min_cost:Float64}",
        "max_cost": "cost <= {max_cost:Float64}",
    }
    for name, sql in limits.items():
        value = getattr(filters, name)
        if value is not None:
            parts.append(sql)
            params[name] = value


def _judgements(filters: CallFilters, parts: list[str], params: dict[str, Any]) -> None:
    if filters.rating is not None:
        parts.append(_RATING[filters.rating])
    if filters.has is not None:
        parts.append(_JUDGED.format(how="IN", which=_HAS[filters.has]))
    if filters.flag is not None:
        parts.append(_JUDGED.format(how="IN", which=FLAGGED + " AND label = {flag:String}"))
        params["flag"] = filters.flag


def _text(text: str, parts: list[str], params: dict[str, Any]) -> None:
    """Words in the answer or the question, in any case and order; the text indices answer whole words of letters and digits."""
    words = re.findall(r"\w+", text.lower())
    plain = [w for w in words if w.isascii() and w.replace("_", "").isalnum()]
    if plain and len(plain) == len(words):
        tokens = [t for w in plain for t in w.split("_") if t]
        params["words"] = tokens
        parts.append(
            "(hasAllTokens(lower(answer), {words:Array(String)}) OR hasAllTokens(lower(question), {words:Array(String)}))"
        )
        return
    # other scripts are not cut into words by the index's tokenizer: look for the text itself
    params["needle"] = text.lower()
    parts.append(
        "(positionUTF8(lowerUTF8(answer), {needle:String}) > 0 OR positionUTF8(lowerUTF8(question), {needle:String}) > 0)"
    )
