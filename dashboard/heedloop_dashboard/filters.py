"""A page's state: which period and which answers. It stands in the URL, so that a link shows the same view again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.schema import SchemaError, format_time, parse_time
from heedloop_dashboard.fetch import ask, read
from heedloop_dashboard.navigation import Open

__all__ = ["FILTERS", "PERIODS", "filters", "link_params", "period", "period_and_model", "window"]

PERIODS = {"24 h": 1, "7 d": 7, "14 d": 14, "30 d": 30}
DEFAULT_PERIOD = "30 d"
FILTERS = (
    "model", "prompt_name", "prompt_version", "service", "environment", "user_id", "session_id", "tag",
    "rating", "flag", "has", "status", "text",
)  # fmt: skip
"""Query parameters of a page that are the API's own filters."""
ALL_MODELS = "All models"
ANY = ("", "All models", "Any", "All")


def period() -> str:
    """The chosen period's name, `30 d` where none is named or a name is unknown."""
    chosen = st.session_state.get("period") or st.query_params.get("period", DEFAULT_PERIOD)
    return chosen if chosen in PERIODS else DEFAULT_PERIOD


def window(name: str, now: datetime) -> dict[str, str]:
    """`since` and `until` of a period that ends at `now`.

    Whole UTC days (hours for the shortest period), so that every bucket but the last is whole; the end is rounded up
    to ten seconds, so that all panels of a page, and quick reruns, ask about the same time.
    """
    until = datetime.fromtimestamp(math.ceil(now.timestamp() / 10) * 10, tz=timezone.utc)
    days = PERIODS[name]
    if days == 1:
        since = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=23)
    else:
        since = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)
    return {"since": format_time(since), "until": format_time(until)}


def filters(*, without: tuple[str, ...] = ()) -> dict[str, str]:
    """The API filters that the URL names, with the period's window (`since` and `until` in the URL come first)."""
    chosen = window(period(), datetime.now(timezone.utc))
    for name in ("since", "until"):
        given = st.query_params.get(name)
        if given:
            try:
                chosen[name] = format_time(parse_time(given, field=name))
            except SchemaError as err:
                st.text(f"The link's {err}; the period is used instead.")
    for name in FILTERS:
        value = st.session_state.get(name) if name in st.session_state else st.query_params.get(name)
        if value and value not in ANY and name not in without:
            chosen[name] = str(value)
    return chosen


def link_params(**more: Any) -> dict[str, str]:
    """The URL's state with changes, for a link to another page: a value of None takes a filter away."""
    params = {
        k: v for k, v in st.query_params.to_dict().items() if k in ("period", "since", "until", *FILTERS)
    }
    if period() != DEFAULT_PERIOD:
        params["period"] = period()
    for name in FILTERS:
        value = st.session_state.get(name)
        if value and value not in ANY:
            params[name] = str(value)
    params |= more
    return {k: str(v) for k, v in params.items() if v not in (None, "")}


def answers(**more: Any) -> dict[str, object]:
    """A link to the answers behind a number: the traces of this view, narrowed further."""
    return Open("traces", link_params(**more)).to_json()


def period_and_model() -> None:
    """The two choosers of every page's title row."""
    st.segmented_control(
        "Period",
        list(PERIODS),
        default=DEFAULT_PERIOD,
        required=True,
        key="period",
        bind="query-params",
        label_visibility="collapsed",
    )
    choose("model", ALL_MODELS, width=160)


def choose(field: str, any_label: str, *, width: Any = "stretch", label: str | None = None) -> None:
    """A selectbox over a field's values, the most frequent first; the URL's own value is always among them."""
    values = _facet(field)
    named = st.query_params.get(field)
    if named and named not in values and named != any_label:
        values = [named, *values]
    st.selectbox(
        label or field.replace("_", " ").capitalize(),
        [any_label, *values],
        key=field,
        bind="query-params",
        label_visibility="visible" if label else "collapsed",
        width=width,
    )


def _facet(field: str) -> list[str]:
    answer = read(values=ask(Client.facets, field))["values"]
    rows: list[Mapping[str, Any]] = answer.value or []
    return [str(r["value"]) for r in rows if r.get("value") not in (None, "")][:200]
