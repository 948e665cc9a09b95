"""A view's state as it stands in the URL: the period and the API's own filters, so that a link shows the same view again.

Pure but for `query()`: a query is a mapping of names to lists of values, because tags may be repeated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import streamlit as st

from heedloop.schema import format_time

ALL = "All"
PERIODS = {"24 h": 1, "7 d": 7, "14 d": 14, "30 d": 30, ALL: 0}
"""Names of the periods and their days; 0 for everything there is."""
DEFAULT_PERIOD = "30 d"
RATERS = {"": "End users", "annotator": "Annotators", "model": "Models", "code": "Rules"}
FILTERS = (
    "model", "model_requested", "provider", "prompt_name", "prompt_version", "service", "environment", "user_id",
    "session_id", "rating", "rating_name", "rating_below", "rating_above", "rating_value", "author_kind", "flag", "has", "status", "text", "language", "answer_chars", "user", "cluster",
    "min_duration_ms", "max_duration_ms", "min_cost", "max_cost", "answers_only",
)  # fmt: skip
"""Query parameters of a page that are the API's own filters; besides them `REPEATED` and `metadata.KEY`."""
REPEATED = ("tag", "trace")
METADATA = "metadata."
MAX_VALUES = 200
"""Values of one repeated parameter that a page reads from its URL."""

Query = Mapping[str, list[str]]
Params = Mapping[str, Any]


def query() -> dict[str, list[str]]:
    """This page's query."""
    return {name: st.query_params.get_all(name)[:MAX_VALUES] for name in st.query_params}


def is_filter(name: str) -> bool:
    """True for parameters that the API filters by, the period's two times not among them."""
    return name in FILTERS or name in REPEATED or (name.startswith(METADATA) and len(name) > len(METADATA))


def chosen_filters(given: Query) -> dict[str, str | list[str]]:
    """The API's filters in a query. An empty value means "not set", but for metadata: "a call without the key"."""
    chosen: dict[str, str | list[str]] = {}
    for name, values in given.items():
        if name in REPEATED:
            if several := list(dict.fromkeys(v for v in values if v)):
                chosen[name] = several
        elif is_filter(name) and values and (values[-1] or name.startswith(METADATA)):
            chosen[name] = values[-1]
    if chosen.get("author_kind") not in RATERS:
        chosen.pop("author_kind", None)
    return chosen


def view_of(given: Query) -> dict[str, str | list[str]]:
    """Period and filters of a query: what a link to another page takes along."""
    times = {n: given[n][-1] for n in ("period", "since", "until") if given.get(n) and given[n][-1]}
    return {**times, **chosen_filters(given)}


def merged(view: Params, more: Params) -> dict[str, str | list[str]]:
    """A view narrowed: a value of None takes a filter away; tags are added to those there are."""
    result: dict[str, str | list[str]] = dict(view)
    for name, value in more.items():
        if value is None:
            result.pop(name, None)
        elif name in REPEATED:
            result[name] = list(dict.fromkeys([*_listed(result.get(name)), *_listed(value)]))
        elif value != "" or name.startswith(METADATA):
            result[name] = value if isinstance(value, list) else str(value)
    return {k: v for k, v in result.items() if v != []}


def narrower(field: str, value: object) -> dict[str, Any] | None:
    """The filter that selects a group's answers; None where the API has none: values nobody said, but for metadata."""
    if field in ("operation", "span") or not is_filter(field):
        return None
    if value in (None, "", "(none)"):
        return {field: ""} if field.startswith(METADATA) else None
    return {field: str(value)}


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return (
        [str(v) for v in value]
        if isinstance(value, Iterable) and not isinstance(value, str)
        else [str(value)]
    )


def window(name: str, now: datetime, first: datetime | None = None) -> dict[str, str]:
    """`since` and `until` of a period that ends at `now`.

    Whole UTC days (hours for the shortest period), so that every bucket but the last is whole; the end is rounded up
    to ten seconds, so that all panels of a page, and quick reruns, ask about the same time. `first` is where everything
    begins, for the period that has no other beginning.
    """
    until = datetime.fromtimestamp(math.ceil(now.timestamp() / 10) * 10, tz=timezone.utc)
    days = PERIODS[name]
    if days == 0:
        since = first or now - timedelta(days=30)
    elif days == 1:
        since = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=23)
    else:
        since = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)
    return {"since": format_time(since), "until": format_time(until)}


KEPT = ("period", "since", "until", "model", "environment", "service")
"""What stays chosen when a reader goes to another page by the navigation, whose links bring no query."""
_LAST = "heedloop_last_view"
_OF_VIEWS = ("", "traces", "feedback", "failures", "compare")


def keep_view(page: str) -> None:
    """Write the period and app that were chosen on the page before into this page's URL, where it brings nothing of its own."""
    last_page, view = st.session_state.get(_LAST, (page, {}))
    if page in _OF_VIEWS:
        if page != last_page and not st.query_params:
            st.query_params.update(view)
        view = {name: values[-1] for name, values in query().items() if name in KEPT and values}
    st.session_state[_LAST] = (page, view)
