"""Periods beyond the named ones: last week, since a version, and days of one's own. They stand in the URL as `since` and `until`."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from heedloop.client import Client
from heedloop.schema import SchemaError, format_time, parse_time
from heedloop_dashboard import words
from heedloop_dashboard.fetch import read_one

_DAY = timedelta(days=1)
_BACK = timedelta(days=1_900)
"""How far back the first answer of a version is looked for."""


def picker(versions: list[str]) -> None:
    """A button that says the chosen range and offers others."""
    now = datetime.now(timezone.utc)
    with st.popover(_label(now), icon=":material/date_range:", key="range"):
        for name, (since, until) in named_ranges(now).items():
            if st.button(name, key=f"range_{name}", width="stretch"):
                _choose(since, until)
        if versions:
            chosen = st.selectbox(
                "Since version", versions, index=None, placeholder="Choose", key="range_version"
            )
            if chosen:
                _since_version(chosen, now)
        first = st.date_input("From (UTC)", value=None, max_value=now.date(), key="range_first")
        last = st.date_input("To", value=None, max_value=now.date(), key="range_last")
        if first and last and first <= last:
            _choose(_midnight(first), _midnight(last) + _DAY)
        zone = _zone()
        if zone is not None:
            st.caption(f"Times are UTC; your clock says {now.astimezone(zone):%H:%M} at {now:%H:%M} UTC.")


def named_ranges(now: datetime) -> dict[str, tuple[datetime, datetime]]:
    """Whole weeks from Monday and whole days, UTC."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    monday = today - timedelta(days=today.weekday())
    return {
        "Today": (today, today + _DAY),
        "Yesterday": (today - _DAY, today),
        "This week": (monday, monday + 7 * _DAY),
        "Last week": (monday - 7 * _DAY, monday),
    }


def range_name(since: datetime, until: datetime, now: datetime) -> str:
    """A range in words: `Last week`, `16–22 Nov`, or its times."""
    for name, ends in named_ranges(now).items():
        if (since, until) == ends:
            return name
    whole = all(t == t.replace(hour=0, minute=0, second=0, microsecond=0) for t in (since, until))
    if not whole:
        return f"{words.clock(since)} – {words.clock(until)}"
    last = until - _DAY
    if last <= since:
        return words.day(since)
    first = f"{since.day}" if (since.year, since.month) == (last.year, last.month) else words.day(since)
    return f"{first}–{words.day(last)}"


def _label(now: datetime) -> str:
    given = [st.query_params.get(n) for n in ("since", "until")]
    try:
        since, until = (parse_time(t) if t else None for t in given)
    except SchemaError:
        return "Range"
    if since is None and until is None:
        return "Range"
    if since is not None and until is None:
        return f"Since {words.clock(since)}"
    return range_name(since or datetime(1970, 1, 1, tzinfo=timezone.utc), until or now, now)


def _choose(since: datetime, until: datetime | None) -> None:
    st.query_params.pop("cursor", None)
    st.query_params.pop("period", None)
    st.query_params["since"] = format_time(since)
    if until is None:
        st.query_params.pop("until", None)
    else:
        st.query_params["until"] = format_time(until)
    for key in ("range_version", "range_first", "range_last"):
        st.session_state.pop(key, None)
    st.rerun()


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)


def _since_version(version: str, now: datetime) -> None:
    """From the hour of the version's first answer on."""
    first, last = now - _BACK, now
    for interval in ("day", "hour"):
        found = read_one(
            Client.quality_trend, interval=interval, prompt_version=version, since=format_time(first), until=format_time(last)
        )  # fmt: skip
        at = None if found.error else next((p.time for p in found.value.points if p.num_answers), None)
        if at is None:
            st.text(f"No answer of {version} was found.")
            return
        first, last = at, at + _DAY
    _choose(first, None)


def _zone() -> ZoneInfo | None:
    """The viewer's own zone, where the browser says one that is not UTC."""
    name = st.context.timezone
    try:
        return ZoneInfo(name) if name and name not in ("UTC", "Etc/UTC") else None
    except (ZoneInfoNotFoundError, ValueError):
        return None


def local_time(at: datetime) -> str:
    """A time in UTC and, where that is another, on the viewer's clock."""
    zone = _zone()
    here = f" ({at.astimezone(zone):%H:%M} your time)" if zone else ""
    return f"{words.clock(at)} UTC{here}"
