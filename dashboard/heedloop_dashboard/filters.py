"""What a reader chooses on a page: the period, whose ratings, which answers. The choice is written into the URL.

The URL is the one place that holds a page's state (`state.py`): a widget is set from it before it is drawn and writes
to it when it is changed. (Streamlit's own binding puts the displayed words into the URL and drops values that it does
not know.)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import FacetValue
from heedloop.schema import SchemaError, format_time, parse_time
from heedloop_dashboard import components, ranges
from heedloop_dashboard.fetch import ask_seldom, read, read_one
from heedloop_dashboard.navigation import Open, go
from heedloop_dashboard.state import (
    ALL,
    DEFAULT_PERIOD,
    FILTERS,
    PERIODS,
    RATERS,
    chosen_filters,
    is_filter,
    merged,
    narrower,
    query,
    view_of,
    window,
)

__all__ = [
    "FILTERS",
    "PERIODS",
    "RATERS",
    "answers",
    "bucket",
    "chips",
    "choose",
    "facet",
    "filters",
    "group_link",
    "link_params",
    "open_group",
    "period",
    "period_and_model",
    "period_only",
    "raters",
    "several",
    "values_of",
    "window",
    "write_in",
]

_FIRST = "heedloop_first_call"
_FIRST_KEPT_S = 600
_WEEKS_BACK = 1990
WORDS = {
    "user_id": "user", "session_id": "session", "prompt_name": "prompt", "prompt_version": "version", "flag": "flag",
    "answer_chars": "characters", "author_kind": "rated by", "min_duration_ms": "at least ms",
    "max_duration_ms": "at most ms", "min_cost": "at least $", "max_cost": "at most $", "answers_only": "answers only",
}  # fmt: skip


def period() -> str:
    """The chosen period's name, `30 d` where none is named or a name is unknown."""
    chosen = st.query_params.get("period", DEFAULT_PERIOD)
    return chosen if chosen in PERIODS else DEFAULT_PERIOD


def filters(*, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The API filters that the URL names, with the period's window (`since` and `until` in the URL come first)."""
    name, now = period(), datetime.now(timezone.utc)
    chosen: dict[str, Any] = dict(window(name, now, _first_call(now) if name == ALL else None))
    for end in ("since", "until"):
        given = st.query_params.get(end)
        if given:
            try:
                chosen[end] = format_time(parse_time(given, field=end))
            except SchemaError as err:
                st.text(f"The link's {err}; the period is used instead.")
    chosen |= {k: v for k, v in chosen_filters(query()).items() if k not in without}
    return chosen


def _first_call(now: datetime) -> datetime | None:
    """The Monday of the week in which everything begins; None where there is nothing yet or the server is away."""
    kept: tuple[float, datetime | None] | None = st.session_state.get(_FIRST)
    if kept is not None and time.monotonic() - kept[0] < _FIRST_KEPT_S:
        return kept[1]
    since = format_time(now.replace(microsecond=0) - timedelta(weeks=_WEEKS_BACK))
    answer = read_one(Client.quality_trend, interval="week", since=since)
    points = answer.value.points if answer.error is None else []
    first = next((p.time for p in points if p.num_answers), None)
    if first is not None:
        st.session_state[_FIRST] = (time.monotonic(), first)
    return first


def bucket(chosen: Mapping[str, Any]) -> str:
    """How finely a trend is drawn: `hour`, `day` or `week`, by the window's length."""
    length = parse_time(chosen["until"]) - parse_time(chosen["since"])
    return "hour" if length <= timedelta(days=2) else "day" if length <= timedelta(days=120) else "week"


def link_params(**more: Any) -> dict[str, Any]:
    """The URL's state with changes, for a link to another page: a value of None takes a filter away."""
    return merged(view_of(query()), more)


def answers(**more: Any) -> dict[str, object]:
    """A link to the answers behind a number: the traces of this view, narrowed further."""
    return Open("traces", link_params(**more)).to_json()


def group_link(field: str, value: object, **more: Any) -> Open | None:
    """The answers of one group of this view; None where no filter can name them."""
    filter_ = narrower(field, value)
    return None if filter_ is None else Open("traces", link_params(**filter_, **more))


def open_group(field: str, value: object, **more: Any) -> None:
    """Show the answers of one group of this view, where a filter can name them."""
    target = group_link(field, value, **more)
    if target is not None:
        go(target)


# ------------------------------------------------------------------------------------------------------- choosers


def period_and_model() -> None:
    """The choosers of every page's title row."""
    period_only()
    facet("model", "All models", width=150)


def period_only() -> None:
    """The period: a named one, or a range of one's own, which then takes its place."""
    has_range = any(st.query_params.get(n) for n in ("since", "until"))
    st.session_state["choose_period"] = None if has_range else period()
    st.segmented_control(
        "Period",
        list(PERIODS),
        required=not has_range,
        key="choose_period",
        label_visibility="collapsed",
        on_change=_write,
        args=("period", DEFAULT_PERIOD),
    )
    ranges.picker(values_of("prompt_version"))


def facet(field: str, any_label: str, *, width: Any = "stretch", label: str | None = None) -> str:
    """A selectbox over a field's values, the most frequent first; the URL's own value is always among them."""
    return choose(field, {"": any_label, **{v: v for v in values_of(field)}}, width=width, label=label)


def raters() -> None:
    """Whose thumbs the rates are made of."""
    choose("author_kind", RATERS, width=125)


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


def several(field: str, label: str, placeholder: str) -> None:
    """A chooser of several values, all of which an answer must have."""
    current = [v for v in query().get(field, []) if v]
    st.session_state[f"choose_{field}"] = current
    options = list(dict.fromkeys([*current, *values_of(field)]))
    st.multiselect(
        label,
        options,
        key=f"choose_{field}",
        placeholder=placeholder,
        on_change=_write_several,
        args=(field,),
        max_selections=10,
    )


def write_in(field: str, label: str, **more: Any) -> None:
    """A text field of the URL's state; empty means not set."""
    st.session_state[f"choose_{field}"] = st.query_params.get(field, "")
    st.text_input(label, key=f"choose_{field}", on_change=_write, args=(field, ""), **more)


def metadata() -> None:
    """A field for one more condition on what the app said about its calls: `key=value`."""
    st.text_input(
        "Metadata",
        key="choose_metadata",
        placeholder="key=value",
        on_change=_write_metadata,
        max_chars=300,
        help="What the app said about the call, such as language=de. Without a value: calls that lack the key.",
    )


def chips(page: str) -> None:
    """The filters in force, each a link that takes it away; nothing where there are none."""
    view = view_of(query())
    entries: list[tuple[str, Open]] = []
    for name, value in view.items():
        if name == "period" or not (is_filter(name) or name in ("since", "until")):
            continue
        for one in value if isinstance(value, list) else [value]:
            left = merged(view, {name: None})
            if isinstance(value, list):
                left = merged(left, {name: [v for v in value if v != one]})
            entries.append((f"{_word(name)} {one or '(none)'}", Open(page, left)))
    if entries:
        components.chips("chips", entries)


def _word(name: str) -> str:
    return WORDS.get(name, name.removeprefix("metadata.").replace("_", " "))


def _write(field: str, default: str) -> None:
    value = (st.session_state.get(f"choose_{field}") or "").strip()
    st.query_params.pop("cursor", None)
    if value and value != default:
        st.query_params[field] = value
    else:
        st.query_params.pop(field, None)
    if field == "period":  # a chosen period replaces the times that a link brought
        st.query_params.pop("since", None)
        st.query_params.pop("until", None)


def _write_several(field: str) -> None:
    st.query_params.pop("cursor", None)
    chosen = st.session_state.get(f"choose_{field}") or []
    if chosen:
        st.query_params[field] = chosen
    else:
        st.query_params.pop(field, None)


def _write_metadata() -> None:
    key, _, value = (st.session_state.get("choose_metadata") or "").partition("=")
    if key.strip():
        st.query_params.pop("cursor", None)
        st.query_params[f"metadata.{key.strip()}"] = value.strip()
    st.session_state["choose_metadata"] = ""


def values_of(field: str) -> list[str]:
    """A field's values in this project, the most frequent first."""
    answer = read(values=ask_seldom(Client.facets, field))["values"]
    found: list[FacetValue] = answer.value or []
    return [f.value for f in found if f.value][:200]
