"""Alert rules in words, and the words of a form as a rule: pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedloop.responses import Alert, Interval
from heedloop_dashboard import words

METRICS = {
    "rate": "Thumbs-up rate",
    "coverage": "Share of answers rated",
    "errors": "Share of failed calls",
    "share": "Percentage of answers matching",
    "latency": "Latency (p95)",
    "first_token": "Time to first token (p95)",
    "calls": "Model calls",
    "tokens": "Tokens",
    "cost": "Cost",
    "judge_agreement": "A judge's agreement with annotators",
}
WAITING = ("latency", "first_token")
AMOUNTS = ("calls", "tokens", "cost")
SLOW_SHARE = 0.05
"""A 95th percentile lies above a limit where more than this share of answers took longer."""
UNITS = {"latency": "ms", "first_token": "ms", "calls": "calls", "tokens": "tokens", "cost": "$"}
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
        return SLOW_SHARE if alert.metric in WAITING else alert.threshold
    used = alert.baseline_used
    if isinstance(used, Mapping):
        used = used.get("estimate")
    return used if used is not None else alert.baseline


def sentence(alert: Alert) -> str:
    """What a rule watches, in one line."""
    metric = METRICS.get(alert.metric, alert.metric)
    worse = "below" if alert.bad == "lower" else "above"
    if alert.kind == "threshold":
        against = f"{worse} {threshold_text(alert.metric, alert.threshold)}"
    else:
        against = (
            f"drifting {worse} {words.percent(limit(alert)) if limit(alert) is not None else 'its own past'}"
        )
    where = filter_text(alert.filters)
    return f"{metric} {against}" + (f", where {where}" if where else "")


def threshold_text(metric: str, value: float | None) -> str:
    """A rule's threshold in the unit of its metric."""
    if metric in WAITING:
        return words.duration(None if value is None else 1e6 * value)
    return amount_text(metric, value) if metric in AMOUNTS else words.percent(value)


def amount_text(metric: str, value: float | None) -> str:
    """A sum over a window, or a share, as its metric is written."""
    if metric == "cost":
        return words.dollars(value)
    return words.count(value) if metric in AMOUNTS else words.percent(value)


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


def value_text(metric: str, value: Interval | None, *, short: bool = False) -> str:
    """A value with its interval; `short` leaves n out. A sum has none."""
    if value is None:
        return words.NONE
    if metric in AMOUNTS:
        return amount_text(metric, value.estimate)
    if not short:
        return words.interval(value)
    return f"{words.percent(value.estimate)} ({100 * value.low:.1f} to {100 * value.high:.1f})"


def filter_lines(filters: Mapping[str, Any] | None) -> str:
    """Filters as lines of `name=value`, as `parse_filters` reads them."""
    pairs = [(k, v) for k, vs in (filters or {}).items() for v in (vs if isinstance(vs, list) else [vs])]
    return "\n".join(f"{k}={v}" for k, v in pairs)


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
            raise ValueError(f"{line.strip()[:80]!r} is no filter: enter name=value, one per line")
        if name in found:
            before = found[name]
            found[name] = [*(before if isinstance(before, list) else [before]), value]
        else:
            found[name] = value
    return found
