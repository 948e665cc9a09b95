"""A panel: title, one line of explanation, and a chart with its table view, or the reason why there is none."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import streamlit as st

from heedloop.client import ApiError, Forbidden, NotFound, Unavailable, Unreachable
from heedloop_dashboard import components, words
from heedloop_dashboard.charts.plots import Chart
from heedloop_dashboard.charts.timelines import Timeline
from heedloop_dashboard.fetch import Answer
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.theme import Palette, palette

T = TypeVar("T")


def colours() -> Palette:
    """The palette of the theme that this reader sees."""
    return palette(st.context.theme.type)


def panel(key: str, *, stretch: bool = False) -> Any:
    """A bordered container; `stretch` makes it as tall as its neighbours in a row."""
    return st.container(
        border=True, height="stretch" if stretch else "content", key=f"panel_{key}", gap="xsmall"
    )


def header(title: str, caption: str) -> None:
    """A panel's title and explanation: our own words, never a stored text."""
    st.html(f'<h2 class="hl-title">{html.escape(title)}</h2><p class="hl-caption">{html.escape(caption)}</p>')


def chart(
    key: str,
    title: str,
    caption: str,
    answer: Answer[T],
    draw: Callable[[T], Chart],
    *,
    height: int = 230,
    select: str | None = None,
    on_select: Callable[[Mapping[str, Any]], None] | None = None,
    empty_text: str = "No ratings in this period.",
) -> None:
    """A whole chart panel.

    Args:
        draw: makes the chart from the answer's value.
        select: name of the chart's selection whose click calls `on_select` with the chosen row's fields.
    """
    with panel(key, stretch=True):
        drawn = draw(answer.value) if answer.error is None else None
        as_table = title_row(key, title, caption, with_switch=bool(drawn and drawn.rows))
        if answer.error is not None:
            problem(answer.error)
        elif drawn is None or not drawn.rows:
            empty(empty_text)
        elif as_table:
            records(f"{key}_table", drawn.columns, drawn.rows, caption=title)
        else:
            _draw(key, drawn, height, select, on_select)


def timeline(key: str, title: str, drawn: Timeline, *, as_table: bool) -> None:
    """Charts on one time axis, or their numbers as a table."""
    if as_table:
        records(f"{key}_table", drawn.columns, drawn.rows, caption=title)
    else:
        components.timeline(key, drawn.drawing)


def timeline_panel(key: str, title: str, caption: str, drawn: Timeline | None, *, empty_text: str) -> None:
    """A panel of one timeline."""
    with panel(key, stretch=True):
        as_table = title_row(key, title, caption, with_switch=bool(drawn and drawn.rows))
        if drawn is None or not drawn.rows:
            empty(empty_text)
        else:
            timeline(f"{key}_line", title, drawn, as_table=as_table)


def title_row(key: str, title: str, caption: str, *, with_switch: bool) -> bool:
    """A panel's head with the button between its chart and its numbers; True where the numbers are wanted."""
    with st.container(horizontal=True, vertical_alignment="top", gap="small", wrap=False):
        with st.container(gap=None):
            header(title, caption)
        if not with_switch:
            return False
        return switch(key, title)


def switch(key: str, title: str) -> bool:
    """The button between a chart and its numbers; True where the numbers are wanted."""
    as_table = bool(st.session_state.get(f"{key}_as_table"))
    # the words are there for those who hear the page; the style of app.py leaves only the icon to see
    if st.button(
        f"{title}: show the {'chart' if as_table else 'numbers as a table'}",
        icon=":material/monitoring:" if as_table else ":material/table_rows:",
        type="tertiary",
        key=f"{key}_switch",
        help="Show the chart" if as_table else "Show the numbers as a table",
    ):
        as_table = not as_table
        st.session_state[f"{key}_as_table"] = as_table
        st.rerun()
    return as_table


def _draw(
    key: str,
    drawn: Chart,
    height: int,
    select: str | None,
    on_select: Callable[[Mapping[str, Any]], None] | None,
) -> None:
    spec = {**drawn.spec, "height": min(height, drawn.max_height or height)}
    if select is None or on_select is None:
        st.vega_lite_chart(None, spec, key=key, theme=None, alt=drawn.alt, width="stretch")
        return
    state = st.vega_lite_chart(
        None,
        spec,
        key=key,
        theme=None,
        alt=drawn.alt,
        width="stretch",
        on_select="rerun",
        selection_mode=select,
    )
    chosen: Sequence[Mapping[str, Any]] = state.selection.get(select) or []
    if chosen:
        on_select(chosen[0])


def records(key: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], *, caption: str) -> None:
    """Rows of numbers and names as a table."""
    heads = [
        {"key": k, "label": v, "kind": "number" if _is_number(rows, k) else ""} for k, v in columns.items()
    ]
    cells = [{"cells": [_cell(r.get(k)) for k in columns]} for r in rows]
    components.table(key, heads, cells, caption=caption, link=-1, tall=True)


def _is_number(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return bool(rows) and isinstance(rows[0].get(key), (int, float))


def _cell(value: Any) -> str | None:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def empty(text: str) -> None:
    """Nothing to show, and why: our own words."""
    with st.container(height=150, border=False, vertical_alignment="center", horizontal_alignment="center"):
        st.caption(text, text_alignment="center")


def nothing(what: str, last: datetime | None, *, filtered: bool, first_text: str) -> None:
    """A list without entries: nothing yet, nothing with these filters, or nothing in this period.

    Args:
        last: when the newest one of all came; None where there is none.
        first_text: how a first one is made.
    """
    if last is None:
        empty(f"No {what} yet. {first_text}")
    elif filtered:
        empty("Nothing with these filters. Remove one or choose a longer period.")
    else:
        empty(f"Nothing in this period. The last {what.removesuffix('s')} is of {words.clock(last)} UTC.")


def failed(answer: Answer[Any]) -> bool:
    """True where an answer is an error, which is then shown in its place."""
    if answer.error is not None:
        problem(answer.error)
    return answer.error is not None


def title(text: str, *up: tuple[str, Open | None]) -> None:
    """The heading of a page about one thing, with the way to all of them."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(text, anchor=False, width="stretch")
        components.links("up", up, label=text)


def facts(key: str, rows: Iterable[tuple[str, Any, Open | None] | tuple[str, Any]], *, caption: str) -> None:
    """Names and values, without those that have no value; a value may lead somewhere."""
    heads = [{"key": "name", "label": "Name", "kind": ""}, {"key": "value", "label": "Value", "kind": "wrap"}]
    cells = [
        {"cells": [name, value], "opens": {"value": place[0].to_json()} if place and place[0] else {}}
        for name, value, *place in rows
        if value not in (None, "")
    ]
    components.table(key, heads, cells, caption=caption, link=-1, plain=True)


def problem(error: ApiError) -> None:
    """An error in place of what could not be read. The server's sentence is shown as plain text."""
    with st.container(border=False, key=None):
        st.caption(f":material/error: {_heading(error)}")
        st.text(str(error)[:500])


def _heading(error: ApiError) -> str:
    if isinstance(error, Unreachable):
        return "The server does not answer"
    if isinstance(error, Unavailable):
        return "The server is busy; this page tries again when it is reloaded"
    if isinstance(error, Forbidden):
        return "Your key may not read this"
    if isinstance(error, NotFound):
        return "Not found"
    return "The server refused this question"
