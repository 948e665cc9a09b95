"""Alert rules in words, and the words of a form as a rule: pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedloop.responses import Alert, Interval
from heedloop_dashboard import words

__all__ = [
    "METRICS",
    "filter_text",
    "limit",
    "message",
    "parse_filters",
    "sentence",
    "state_word",
    "value_text",
]

METRICS = {
    "rate": "Thumbs-up rate",
    "coverage": "Share of answers rated",
    "errors": "Share of failed calls",
    "share": "Share of answers that match",
}
_WORDS = {
    "prompt_version": "version", "prompt_name": "prompt", "user_id": "user", "session_id": "session",
    "min_duration_ms": "at least ms", "max_duration_ms": "at most ms", "author_kind": "rated by",
}  # fmt: skip


def state_word(alert: Alert) -> str:
    """The state as a reader needs it: a muted rule is muted, whatever it was."""
    return "Muted" if not alert.enabled else alert.state.capitalize()


def limit(alert: Alert) -> float | None:
    """The number that the value is held against, where there is one yet."""
    if alert.kind == "threshold":
        return alert.threshold
    used = alert.baseline_used
    if isinstance(used, Mapping):
        used = used.get("estimate")
    return used if used is not None else alert.baseline


def sentence(alert: Alert) -> str:
    """What a rule watches, in one line."""
    metric = METRICS.get(alert.metric, alert.metric)
    worse = "below" if alert.bad == "lower" else "above"
    if alert.kind == "threshold":
        against = f"{worse} {words.percent(alert.threshold)}"
    else:
        against = (
            f"drifting {worse} {words.percent(limit(alert)) if limit(alert) is not None else 'its own past'}"
        )
    where = filter_text(alert.filters)
    return f"{metric} {against}" + (f", where {where}" if where else "")


def message(alert: Alert) -> str:
    """What the server says about an alert, without the name that stands before it anyway."""
    said = alert.message.removeprefix(f"{alert.name}: ")
    return said[:1].upper() + said[1:]


def filter_text(filters: Mapping[str, Any]) -> str:
    """Filters as one line: `model small-2, tag refunds`."""
    parts = []
    for name, value in filters.items():
        word = _WORDS.get(name, name.removeprefix("metadata.").replace("_", " "))
        for one in value if isinstance(value, (list, tuple)) else [value]:
            parts.append(f"{word} {one if one != '' else '(none)'}")
    return ", ".join(parts)


def value_text(value: Interval | None, *, short: bool = False) -> str:
    """A value with its interval; `short` leaves n out."""
    if value is None:
        return words.NONE
    if not short:
        return words.interval(value)
    return f"{words.percent(value.estimate)} ({100 * value.low:.1f} to {100 * value.high:.1f})"


def parse_filters(text: str) -> dict[str, Any]:
    """Lines of `name=value` as filters; a name that stands twice becomes a list.

    Raises:
        ValueError: a line has no `=`, with the line.
    """
    found: dict[str, Any] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        name, sign, value = (part.strip() for part in line.partition("="))
        if not sign or not name:
            raise ValueError(f"{line.strip()[:80]!r} is no filter: write name=value, one a line")
        if name in found:
            before = found[name]
            found[name] = [*(before if isinstance(before, list) else [before]), value]
        else:
            found[name] = value
    return found
