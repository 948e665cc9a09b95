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

__all__ = [
    "FILTERS",
    "PERIODS",
    "answers",
    "choose",
    "facet",
    "filters",
    "link_params",
    "period",
    "period_and_model",
    "quality_filters",
    "raters",
    "window",
    "write_in",
]

PERIODS = {"24 h": 1, "7 d": 7, "14 d": 14, "30 d": 30}
DEFAULT_PERIOD = "30 d"
RATERS = {"": "End users", "annotator": "Annotators", "model": "Models", "code": "Rules"}
FILTERS = (
    "model", "prompt_name", "prompt_version", "service", "environment", "user_id", "session_id", "tag",
    "rating", "flag", "has", "status", "text",
)  # fmt: skip
"""Query parameters of a page that are the API's own filters."""


def period() -> str:
    """The chosen period's name, `30 d` where none is named or a name is unknown."""
    chosen = st.query_params.get("period", DEFAULT_PERIOD)
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
        value = st.query_params.get(name)
        if value and name not in without:
            chosen[name] = value
    return chosen


def quality_filters(*, without: tuple[str, ...] = ()) -> dict[str, str]:
    """`filters` and whose thumbs count: end users' where the URL does not say otherwise."""
    chosen = filters(without=without)
    kind = st.query_params.get("author_kind")
    if kind in RATERS and kind:
        chosen["author_kind"] = kind
    return chosen


def link_params(**more: Any) -> dict[str, str]:
    """The URL's state with changes, for a link to another page: a value of None takes a filter away."""
    params = {
        k: v
        for k, v in st.query_params.to_dict().items()
        if k in ("period", "since", "until", "author_kind", *FILTERS)
    }
    params |= more
    return {k: str(v) for k, v in params.items() if v not in (None, "")}


def answers(**more: Any) -> dict[str, object]:
    """A link to the answers behind a number: the traces of this view, narrowed further."""
    return Open("traces", link_params(**more)).to_json()


# The URL is the one place that holds a page's state: a widget is set from it before it is drawn and writes to it when it
# is changed. (Streamlit's own binding puts the displayed words into the URL and drops values that it does not know.)


def period_and_model() -> None:
    """The two choosers of every page's title row."""
    st.session_state["choose_period"] = period()
    st.segmented_control(
        "Period",
        list(PERIODS),
        required=True,
        key="choose_period",
        label_visibility="collapsed",
        on_change=_write,
        args=("period", DEFAULT_PERIOD),
    )
    facet("model", "All models", width=160)


def facet(field: str, any_label: str, *, width: Any = "stretch", label: str | None = None) -> str:
    """A selectbox over a field's values, the most frequent first; the URL's own value is always among them."""
    return choose(field, {"": any_label, **{v: v for v in _facet(field)}}, width=width, label=label)


def raters() -> None:
    """Whose thumbs the rates are made of."""
    choose("author_kind", RATERS, width=130)


def choose(
    field: str, options: Mapping[str, str], *, width: Any = "stretch", label: str | None = None
) -> str:
    """A selectbox over `options` (value in the URL -> words), the first of which is the default; returns the value."""
    values = list(options)
    current = st.query_params.get(field) or values[0]
    if current not in options:
        values = [values[0], current, *values[1:]]
    st.session_state[f"choose_{field}"] = current
    return st.selectbox(
        label or field.replace("_", " ").capitalize(),
        values,
        format_func=lambda v: options.get(v, v),
        key=f"choose_{field}",
        label_visibility="visible" if label else "collapsed",
        width=width,
        on_change=_write,
        args=(field, values[0]),
    )


def write_in(field: str, label: str, **more: Any) -> None:
    """A text field of the URL's state; empty means not set."""
    st.session_state[f"choose_{field}"] = st.query_params.get(field, "")
    st.text_input(label, key=f"choose_{field}", on_change=_write, args=(field, ""), **more)


def _write(field: str, default: str) -> None:
    value = (st.session_state.get(f"choose_{field}") or "").strip()
    st.query_params.pop("cursor", None)
    if value and value != default:
        st.query_params[field] = value
    else:
        st.query_params.pop(field, None)


def _facet(field: str) -> list[str]:
    answer = read(values=ask(Client.facets, field))["values"]
    rows: list[Mapping[str, Any]] = answer.value or []
    return [str(r["value"]) for r in rows if r.get("value") not in (None, "")][:200]
