"""Rules that fill a queue by themselves, over and over: a share of the answers at random, all thumbs-down, new disagreements.

A share draws every answer with the same known probability, by a hash of its ids and the queue's secret: whatever the order in
which answers come, and however often the rule is looked at, the same ones are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from heedloop.schema import SchemaError, format_time, parse_time, utc_now
from heedloop_server.filters import CallFilters, read_filters
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.review.sources import (
    DISAGREEMENTS,
    Drawn,
    disagreements,
    drawn_share,
    earliest_arrived,
    matching,
)

MAX_RULES = 20
MAX_AT_ONCE = 5_000
"""Items that one look at a rule may add."""
STORED_WITHIN = timedelta(hours=6)
"""A share looks again at what arrived so long before its last look: it may have been stored after that."""
_FIELDS = {
    "share": {"share"},
    "thumbs_down": set[str](),
    "disagreement": {"kind"},
}


def read_rules(payload: object, *, field: str) -> tuple[Mapping[str, Any], ...]:
    """Rules as they are stored, each with the moment from which on it holds; raises `SchemaError`."""
    if not isinstance(payload, list) or len(cast(list[Any], payload)) > MAX_RULES:
        raise SchemaError(field, f"must be a list of at most {MAX_RULES} rules")
    return tuple(_rule(entry, f"{field}[{i}]") for i, entry in enumerate(cast(list[Any], payload)))


def _rule(payload: object, where: str) -> Mapping[str, Any]:
    if not isinstance(payload, Mapping):
        raise SchemaError(where, "must be an object with source")
    entry = dict(cast(Mapping[str, Any], payload))
    source = entry.get("source")
    if source not in _FIELDS:
        raise SchemaError(f"{where}.source", f"{source!r} is not one of {', '.join(_FIELDS)}")
    allowed = {"source", "filters", "priority", "since", *_FIELDS[source]}
    for name in entry:
        if name not in allowed:
            raise SchemaError(
                f"{where}.{name}", f"is no field of this rule; it has {', '.join(sorted(allowed))}"
            )
    share, priority = entry.get("share"), entry.get("priority", 0)
    if source == "share" and (
        isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1
    ):
        raise SchemaError(f"{where}.share", f"{share!r} is not a share above 0 and up to 1")
    if source == "disagreement" and entry.get("kind") not in DISAGREEMENTS:
        raise SchemaError(f"{where}.kind", f"{entry.get('kind')!r} is not one of {', '.join(DISAGREEMENTS)}")
    if isinstance(priority, bool) or not isinstance(priority, int) or not -100 <= priority <= 100:
        raise SchemaError(f"{where}.priority", f"{priority!r} is not a whole number from -100 to 100")
    read_filters(entry.get("filters", {}))
    since = entry.get("since")
    started = utc_now() if since is None else parse_time(since, field=f"{where}.since")
    return entry | {"since": format_time(started)}


def drawn_by(
    project: ProjectStore, rule: Mapping[str, Any], *, seed: str, looked_at: datetime | None, now: datetime
) -> Drawn:
    """What a rule takes now.

    Args:
        looked_at: when it was looked at before: a share is then drawn from the oldest answer that arrived since; None for never.
    """
    since = parse_time(rule["since"])
    filters = read_filters(rule.get("filters", {}))
    match rule["source"]:
        case "share":
            if looked_at is not None:
                since = earliest_arrived(project, since, arrived_since=looked_at - STORED_WITHIN)
            whole = _over(filters, since, now)
            return drawn_share(project, whole, share=rule["share"], seed=seed, limit=MAX_AT_ONCE)
        case "thumbs_down":
            down = _over(filters, since, now).model_copy(update={"rating": "down"})
            return matching(project, down, limit=MAX_AT_ONCE)
        case _:
            return disagreements(project, rule["kind"], _over(filters, since, now), limit=MAX_AT_ONCE)


def _over(filters: CallFilters, since: datetime, until: datetime) -> CallFilters:
    return filters.model_copy(update={"since": since, "until": until})
