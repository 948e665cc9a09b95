"""Which calls a page of judged calls, or of one user's, may hold: found fast and never too few, then read exactly.

The exact condition (`store.filters`) reads the feedback of a whole period with FINAL, whose cost grows with all feedback
there is. A page needs the newest few: their feedback is looked for in short periods, newest first, in any version of a
feedback, which the projection by the time of the call gives at once; the page's calls alone are then read exactly. A
user's calls lie scattered: short periods keep most of them from being read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from heedloop_server.filters import CallFilters
from heedloop_server.store.filters import conditions
from heedloop_server.store.quality.hourly import FEEDBACK_OF_TIMES

_SHORTEST = timedelta(hours=1)
_PARTS = 32
_LONGER = 4

_WHICH = {
    "up": "is_thumb AND name = 'thumb' AND author_kind = {rated_by:String} AND score > 0.5",
    "down": "is_thumb AND name = 'thumb' AND author_kind = {rated_by:String} AND ifNull(score, 0) <= 0.5",
    "any": "is_thumb AND name = 'thumb' AND author_kind = {rated_by:String}",
    "correction": "kind = 'correction'",
    "flag": "kind = 'flag'",
    "comparison": "kind = 'comparison'",
    "comment": "has_comment",
}


def is_judged(filters: CallFilters) -> bool:
    """True where the calls are chosen by the feedback on them (not by its absence)."""
    if filters.rating_name is not None:
        return False  # what its mean is, only all of an answer's ratings say
    return filters.rating in ("up", "down", "any") or filters.has is not None or filters.flag is not None


def is_scattered(filters: CallFilters) -> bool:
    """True where the calls of a page may lie far apart, so that they are looked for part by part of their period."""
    return is_judged(filters) or filters.user_id is not None


def periods(filters: CallFilters) -> Iterator[CallFilters]:
    """The same filters over parts of their period, newest first, each longer than the one before."""
    since, until = filters.period()
    length = max(_SHORTEST, (until - since) / _PARTS)
    while until > since:
        first = max(since, until - length)
        yield filters.model_copy(update={"since": first, "until": until})
        until, length = first, length * _LONGER


def any_version(filters: CallFilters) -> tuple[str, dict[str, Any]]:
    """A condition (and its parameters) that holds for every call that matches, and for calls that an older version would match."""
    where, params = conditions(filters.model_copy(update=dict.fromkeys(("rating", "has", "flag"))))
    chosen = [filters.rating, filters.has]
    whiches = [_WHICH[name] for name in chosen if name in _WHICH]
    if filters.flag is not None:
        whiches.append("kind = 'flag' AND label = {flag:String}")
        params["flag"] = filters.flag
    params["rated_by"] = filters.author_kind or "end_user"
    for which in whiches:
        where += f"""
 AND (trace_id, span_id) IN (
     SELECT
         trace_id,
         span_id
     FROM feedback
     WHERE project_id = {{project:String}}
       AND call_time >= {{since:DateTime64(6,'UTC')}}
       AND call_time < {{until:DateTime64(6,'UTC')}}
       AND {which}
 )"""  # noqa: S608
    return where, params


def of_page(where: str, feedback: str = FEEDBACK_OF_TIMES) -> str:
    """The exact condition, where the feedback it reads is only that of the page's calls, whose `times` are bound."""
    return where.replace("FROM feedback FINAL WHERE ", f"FROM {feedback} WHERE ")


def position_before(filters: CallFilters, after: datetime | None) -> CallFilters:
    """The same filters over what may stand on the pages after a position."""
    _, until = filters.period()
    if after is None or after >= until:
        return filters
    return filters.model_copy(update={"until": after + timedelta(microseconds=1)})
