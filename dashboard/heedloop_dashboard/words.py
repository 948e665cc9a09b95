"""How numbers, times and changes are written on every page: pure functions from values to short texts."""

from __future__ import annotations

from datetime import datetime, timezone

from heedloop.responses import Interval

NONE = "–"
E_VALUE = (
    "An e-value says how strongly the ratings speak against the two being equal. It stays valid however often you look: "
    "at 20, a wrong decision happens in under 5% of cases."
)
"""The help of every e-value."""


def percent(value: float | None, *, digits: int = 1) -> str:
    """A share of 0..1 as `62.0%`; an en dash where undefined."""
    return NONE if value is None else f"{100 * value:.{digits}f}%"


def points(value: float | None) -> str:
    """A difference of two shares as `+1.8 pts`."""
    return NONE if value is None else f"{_signed(100 * value, 1)} pts"


def interval(rate: Interval | None) -> str:
    """An Interval as `62.0% (60.1 to 63.9, n = 4,120)`; `no ratings` where undefined."""
    if rate is None:
        return "no ratings"
    return f"{percent(rate.estimate)} ({100 * rate.low:.1f} to {100 * rate.high:.1f}, n = {count(rate.n)})"


def short(rate: Interval | None) -> str:
    """An Interval as `62.0% (60–64)`, for tables with many of them; an en dash where undefined."""
    if rate is None:
        return NONE
    return f"{percent(rate.estimate)} ({100 * rate.low:.0f}–{100 * rate.high:.0f})"


def evidence(e_value: float | None) -> str:
    """An e-value, without digits that say nothing."""
    if e_value is None:
        return NONE
    if e_value >= 1e6:
        return "> 1,000,000"
    return f"{e_value:,.0f}" if e_value >= 100 else f"{e_value:.3g}"


def estimate(rate: Interval | None) -> float | None:
    """The estimate of an Interval; None where undefined."""
    return rate and rate.estimate


def spread(rate: Interval | None, undefined: str = "") -> str:
    """The ends of an Interval as `95%: 60.1 to 63.9`."""
    return undefined if rate is None else f"95%: {100 * rate.low:.1f} to {100 * rate.high:.1f}"


def change(difference: Interval | None) -> str:
    """A difference Interval as `-1.8 pts (-3.9 to +0.3)`; an en dash where undefined."""
    if difference is None:
        return NONE
    low, high = _signed(100 * difference.low, 1), _signed(100 * difference.high, 1)
    return f"{points(difference.estimate)} ({low} to {high})"


def count(value: float | None) -> str:
    """A count as `60,111`; weighted counts lose their fraction."""
    return NONE if value is None else f"{round(value):,}"


def plural(number: int, word: str) -> str:
    """`1 rule`, `2 rules`."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _signed(value: float, digits: int) -> str:
    rounded = round(value, digits)
    return f"{rounded:+,.{digits}f}" if rounded else f"{0:.{digits}f}"


def clock(time: datetime | None) -> str:
    """A time as `20 Nov, 23:41` (UTC), with the year where it is not this one."""
    if not time:
        return NONE
    year = "" if time.year == datetime.now(timezone.utc).year else f" {time.year}"
    return f"{time.day} {time:%b}{year}, {time:%H:%M}"


def day(time: datetime) -> str:
    """A time as `20 Nov` (UTC)."""
    return f"{time.day} {time:%b}"


def duration(nanoseconds: float | None) -> str:
    """A duration as `1.8 s`, `312 ms` or `2 min 5 s`."""
    if nanoseconds is None:
        return NONE
    seconds = nanoseconds / 1e9
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def dollars(value: float | None) -> str:
    """A cost as `$0.0021`, with as many digits as it takes to see it."""
    if value is None:
        return NONE
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.4f}"
