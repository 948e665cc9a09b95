"""The parts that charts are made of: axes, rows, releases, limits. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from heedloop.responses import Group, Interval, Point, Release
from heedloop.schema import format_time
from heedloop_dashboard import words
from heedloop_dashboard.theme import FONT, Palette

FEW = 30
"""Ratings under which a rate is greyed or left blank, as the pages say."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A group with a share and its interval, which need not be the thumbs-up rate."""

    value: str
    rate: Interval | None
    num_rated: int
    num_answers: int


def chart_spec(data: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """A Vega-Lite chart in our fonts, as wide as its place."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": data,
        "background": "transparent",
        "autosize": {"type": "fit", "contains": "padding"},
        "config": {
            "view": {"stroke": None},
            "font": FONT,
            "axis": {"labelFont": FONT, "titleFont": FONT, "labelSeparation": 6},
            "text": {"font": FONT},
        },
        **parts,
    }


def plain_axis(colours: Palette, **more: Any) -> dict[str, Any]:
    """An axis in quiet colours; keywords are Vega-Lite's own."""
    return {
        "gridColor": colours.grid,
        "domainColor": colours.grid,
        "tickColor": colours.grid,
        "labelColor": colours.muted,
        "labelFontSize": 11,
        "title": None,
        **more,
    }


BUCKETS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}


def time_axis(
    name: str, colours: Palette, points: Sequence[Point], *, bucket: str, whole_last: bool = False
) -> dict[str, Any]:
    """The time axis of buckets: hours, days or weeks."""
    axis = plain_axis(
        colours,
        grid=False,
        format="%H:%M" if bucket == "hour" else "%-d %b" if len(points) < 55 or bucket == "day" else "%b %Y",
        tickCount=5,
        ticks=False,
        labelPadding=8,
        labelFlush=whole_last,
        labelOverlap="greedy",
        labelSeparation=6,
    )
    scale: dict[str, Any] = {"type": "utc"}
    if points:
        # the whole period, also where its first days hold nothing: two charts of one period then have one axis
        first, last = points[0].time, points[-1].time
        end = last + BUCKETS[bucket] if whole_last or first == last else last
        scale["domain"] = [vega_time(first), vega_time(end)]
    return {"field": name, "type": "temporal", "scale": scale, "axis": axis, "title": None}


def bar_edges(start: datetime, bucket: str) -> dict[str, str]:
    """Where the bar of a bucket begins and ends: a little inside it, so that bars stand apart."""
    length = BUCKETS[bucket]
    return {"left": format_time(start + 0.19 * length), "right": format_time(start + 0.81 * length)}


def vega_time(at: datetime) -> dict[str, Any]:
    """A time as a Vega-Lite DateTime: milliseconds would collapse the axis."""
    return {
        "year": at.year,
        "month": at.month,
        "date": at.day,
        "hours": at.hour,
        "minutes": at.minute,
        "utc": True,
    }


def share_axis(name: str, colours: Palette) -> dict[str, Any]:
    axis = plain_axis(colours, format=".0%", tickCount=4, domain=False, ticks=False, labelPadding=8)
    return {"field": name, "type": "quantitative", "axis": axis, "title": None}


def grey_few(colours: Palette) -> dict[str, Any]:
    return {
        "condition": {"test": f"datum.num_rated < {FEW}", "value": colours.faint},
        "value": colours.primary,
    }


def rule_layer(at: float, colours: Palette) -> dict[str, Any]:
    """A dashed upright line at a share."""
    return {
        "data": {"values": [{"at": at}]},
        "mark": {"type": "rule", "strokeDash": [3, 3], "color": colours.bar, "strokeWidth": 1, "clip": True},
        "encoding": {"x": {"field": "at", "type": "quantitative"}},
    }


def bucket_row(point: Point) -> dict[str, Any]:
    """One bucket of a trend as a chart reads it; None where nobody rated."""
    rate = point.rate
    return {
        "time": format_time(point.time),
        "when": words.clock(point.time),
        "rate": words.estimate(rate),
        "low": None if rate is None else rate.low,
        "high": None if rate is None else rate.high,
        "shown": words.interval(rate),
        "num_rated": point.num_rated,
        "num_answers": point.num_answers,
        "running": point.running,
    }


def group_row(group: Group | Dot, rate: Interval) -> dict[str, Any]:
    """One group with its interval as a chart reads it."""
    return {
        "value": value_name(group.value),
        "rate": rate.estimate,
        "low": rate.low,
        "high": rate.high,
        "shown": words.interval(rate),
        "num_rated": group.num_rated,
        "num_answers": group.num_answers,
    }


def cell_row(group: Group) -> dict[str, Any]:
    """One cell of a heatmap as a chart reads it."""
    return {
        "value": value_name(group.value),
        "value2": value_name(group.value2),
        "rate": words.estimate(group.rate) or 0.0,
        "shown": words.interval(group.rate),
        "num_rated": group.num_rated,
    }


def value_name(value: object) -> str:
    return "(none)" if value in (None, "") else str(value)


def release_name(text: str) -> str:
    """A release name without what never changes: `support-v13` -> `v13`; others as they are."""
    found = re.search(r"[-_/ ](v\d[\w.]*)$", text)
    return found[1] if found else text


def share_domain(values: Sequence[Mapping[str, Any]]) -> list[float]:
    """Axis limits around the solid part of the data, so that one group with two ratings does not flatten the rest."""
    solid = [v for v in values if v["num_rated"] >= FEW] or list(values)
    low = min([v["low"] for v in solid] + [v["rate"] for v in values], default=0.0)
    high = max([v["high"] for v in solid] + [v["rate"] for v in values], default=1.0)
    pad = max(0.02, 0.08 * (high - low))
    return [max(0.0, low - pad), min(1.0, high + pad)]


def pooled_rate(cells: Sequence[Mapping[str, Any]]) -> float:
    total = sum(c["num_rated"] for c in cells)
    return sum(c["rate"] * c["num_rated"] for c in cells) / total if total else 0.5


def trend_alt(
    rated: Sequence[Mapping[str, Any]],
    points: Sequence[Point],
    releases: Sequence[Release],
    bucket: str,
) -> str:
    """The trend in words, for those who do not see the chart."""
    if not rated:
        return "No ratings in this period."
    low = min(rated, key=lambda v: v["rate"])
    high = max(rated, key=lambda v: v["rate"])
    text = (
        f"Thumbs-up rate over {len(points)} {bucket}s: from {rated[0]['shown']} at {rated[0]['when']} to {rated[-1]['shown']} "
        f"at {rated[-1]['when']}. Highest {words.percent(high['rate'])} at {high['when']}, lowest {words.percent(low['rate'])} at {low['when']}."
    )
    gaps = len(points) - len(rated)
    if gaps:
        text += f" {gaps} {bucket}{'s' if gaps > 1 else ''} without ratings left out."
    if releases:
        names = ", ".join(f"{release_name(r.value)} at {words.clock(r.time)}" for r in releases)
        text += f" Releases: {names}."
    return text
