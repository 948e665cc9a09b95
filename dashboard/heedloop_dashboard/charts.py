"""Vega-Lite charts as plain dictionaries, from the API's answers. Pure: no Streamlit, no statistics.

Every function returns a `Chart`: the spec, the sentence that says the same to those who do not see it, and the rows
that the chart draws, for the table view and the export.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from heedloop.schema import parse_time
from heedloop_dashboard import words
from heedloop_dashboard.theme import FONT, Palette

__all__ = ["Chart", "bars", "coverage", "curves", "dots", "heatmap", "trend"]

Group = Mapping[str, Any]
FEW = 30
"""Ratings under which a rate is greyed or left blank, as the pages say."""
MAX_GROUPS = 12


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its text alternative.

    Attributes:
        spec: a Vega-Lite dictionary with its data inside.
        alt: one or two sentences for screen readers.
        columns: column name -> heading of `rows`, in the order shown.
        rows: what is drawn, for the table view and the export.
        max_height: pixels above which few rows would look bloated; None for no limit.
    """

    spec: dict[str, Any]
    alt: str
    columns: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    max_height: int | None = None


def trend(
    points: Sequence[Group], releases: Sequence[Group], colours: Palette, *, hourly: bool = False
) -> Chart:
    """The thumbs-up rate per bucket with its interval band; releases are dashed lines; unrated buckets are gaps."""
    values = _with_lone([_point(p) for p in points])
    rated = [v for v in values if v["rate"] is not None]
    marks = [{"time": r["time"], "release": _short(str(r["value"]))} for r in releases]
    x = _time_axis("time", colours, points, hourly=hourly)
    y = {**_share_axis("rate", colours), "scale": {"zero": False, "nice": 4, "domain": _domain(rated)}}
    tooltip = [
        {"field": "when", "title": "Time"},
        {"field": "shown", "title": "Thumbs-up rate"},
        {"field": "num_rated", "title": "Ratings", "format": ","},
        {"field": "num_answers", "title": "Answers", "format": ","},
    ]
    layers: list[dict[str, Any]] = [
        {
            "mark": {
                "type": "area",
                "opacity": 0.16,
                "color": colours.primary,
                "invalid": "break-paths-show-path-domains",
            },
            "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}},
        },
        {
            "mark": {
                "type": "line",
                "strokeWidth": 2,
                "color": colours.primary,
                "invalid": "break-paths-show-path-domains",
            },
            "encoding": {"x": x, "y": y},
        },
        {
            "params": [
                {
                    "name": "bucket",
                    "select": {"type": "point", "fields": ["time"], "on": "click", "clear": "dblclick"},
                }
            ],
            "mark": {"type": "point", "filled": True, "size": 46, "opacity": 1, "cursor": "pointer"},
            "encoding": {
                "x": x,
                "y": y,
                "color": _grey_few(colours),
                "tooltip": tooltip,
                "opacity": {
                    "condition": {"test": f"datum.lone || datum.num_rated < {FEW}", "value": 0.9},
                    "value": 0.001,
                },
            },
        },
    ]
    if marks:
        layers += _release_layers(marks, colours)
    spec = _spec({"values": values}, layer=layers)
    return Chart(
        spec,
        _trend_alt(rated, points, marks),
        {
            "when": "Time",
            "shown": "Thumbs-up rate (95% interval)",
            "num_rated": "Ratings",
            "num_answers": "Answers",
        },
        values,
    )


def coverage(points: Sequence[Group], colours: Palette, *, hourly: bool = False) -> Chart:
    """The share of answers that were rated, a bar per bucket."""
    values: list[dict[str, Any]] = [
        {
            "time": p["time"],
            "when": words.clock(p["time"]),
            "coverage": _estimate(p.get("coverage")),
            "shown": words.percent(_estimate(p.get("coverage"))),
            "num_rated": p["num_rated"],
            "num_answers": p["num_answers"],
        }
        for p in points
    ]
    tooltip = [
        {"field": "when", "title": "Time"},
        {"field": "shown", "title": "Rated"},
        {"field": "num_rated", "title": "Ratings", "format": ","},
        {"field": "num_answers", "title": "Answers", "format": ","},
    ]
    spec = _spec(
        {"values": values},
        params=[{"name": "bucket", "select": {"type": "point", "fields": ["time"], "on": "click"}}],
        mark={
            "type": "bar",
            "color": colours.bar,
            "width": {"band": 0.62},
            "cornerRadiusEnd": 1.5,
            "cursor": "pointer",
        },
        encoding={
            "x": {
                **_time_axis("time", colours, points, hourly=hourly, whole_last=True),
                "timeUnit": _bucket_unit(hourly),
            },
            "y": {**_share_axis("coverage", colours), "scale": {"zero": True, "nice": True}},
            "tooltip": tooltip,
        },
    )
    shares = [v["coverage"] for v in values if v["coverage"] is not None]
    alt = (
        f"Share of answers that were rated, per bucket: between {words.percent(min(shares))} and {words.percent(max(shares))}."
        if shares
        else "No answers in this period."
    )
    return Chart(
        spec,
        alt,
        {"when": "Time", "shown": "Rated", "num_rated": "Ratings", "num_answers": "Answers"},
        values,
    )


def dots(groups: Sequence[Group], colours: Palette, *, what: str, measure: str = "Thumbs-up rate") -> Chart:
    """One dot with its 95% interval per group, largest groups first; fewer than 30 ratings are greyed."""
    values = [_dot(g) for g in groups if g.get("rate") is not None][:MAX_GROUPS]
    y = {
        "field": "value",
        "type": "nominal",
        "sort": None,
        "axis": _axis(colours, grid=False, domain=False, ticks=False, labelPadding=8, labelLimit=170),
        "title": None,
    }
    x = {
        **_share_axis("rate", colours),
        "scale": {"zero": False, "nice": True, "domain": _domain(values)},
        "axis": _axis(colours, format=".0%", tickCount=5, domain=False, ticks=False, labelFlush=False),
    }
    tooltip = [
        {"field": "value", "title": what},
        {"field": "shown", "title": measure},
        {"field": "num_rated", "title": "Ratings", "format": ","},
        {"field": "num_answers", "title": "Answers", "format": ","},
    ]
    spec = _spec(
        {"values": values},
        layer=[
            {
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5, "clip": True},
                "encoding": {
                    "y": y,
                    "x": {**x, "field": "low"},
                    "x2": {"field": "high"},
                    "color": _grey_few(colours),
                },
            },
            {
                "params": [
                    {"name": "group", "select": {"type": "point", "fields": ["value"], "on": "click"}}
                ],
                "mark": {
                    "type": "point",
                    "filled": True,
                    "size": 80,
                    "opacity": 1,
                    "cursor": "pointer",
                    "clip": True,
                },
                "encoding": {"y": y, "x": x, "color": _grey_few(colours), "tooltip": tooltip},
            },
        ],
    )
    alt = f"{measure} by {what.lower()}: " + "; ".join(f"{v['value']} {v['shown']}" for v in values) + "."
    columns = {
        "value": what,
        "shown": f"{measure} (95% interval)",
        "num_rated": "Ratings",
        "num_answers": "Answers",
    }
    return Chart(
        spec,
        alt if values else f"No ratings by {what.lower()} yet.",
        columns,
        values,
        max_height=50 + 44 * len(values),
    )


def heatmap(groups: Sequence[Group], colours: Palette, *, rows: str, columns: str) -> Chart:
    """Rate per pair of values; pairs with fewer than 30 ratings are left blank."""
    values = [_cell(g) for g in groups]
    shown = [v for v in values if v["num_rated"] >= FEW]
    middle = _middle(shown)
    spread = max([abs(v["rate"] - middle) for v in shown], default=0.1) or 0.1
    x = {
        "field": "value2",
        "type": "nominal",
        "axis": _axis(colours, labelAngle=0, domain=False, ticks=False, labelPadding=6, labelLimit=90),
        "title": None,
    }
    y = {
        "field": "value",
        "type": "nominal",
        "axis": _axis(colours, domain=False, ticks=False, labelPadding=8, labelLimit=110),
        "title": None,
    }
    tooltip = [
        {"field": "value", "title": rows},
        {"field": "value2", "title": columns},
        {"field": "shown", "title": "Thumbs-up rate"},
        {"field": "num_rated", "title": "Ratings", "format": ","},
    ]
    colour = {
        "field": "rate",
        "type": "quantitative",
        "scale": {
            "domain": [middle - spread, middle, middle + spread],
            "range": ["#c2410c", "#f1ece8", "#5b7cf0"],
            "clamp": True,
            "interpolate": "rgb",
        },
        "legend": None,
    }
    spec = _spec(
        {"values": shown},
        layer=[
            {
                "params": [
                    {
                        "name": "cell",
                        "select": {"type": "point", "fields": ["value", "value2"], "on": "click"},
                    }
                ],
                "mark": {
                    "type": "rect",
                    "cornerRadius": 3,
                    "stroke": colours.background,
                    "strokeWidth": 2,
                    "cursor": "pointer",
                },
                "encoding": {"x": x, "y": y, "color": colour, "tooltip": tooltip},
            },
            {
                "mark": {"type": "text", "fontSize": 11, "fontWeight": 500, "cursor": "pointer"},
                "encoding": {
                    "x": x,
                    "y": y,
                    "text": {"field": "rate", "type": "quantitative", "format": ".0%"},
                    "color": {
                        "condition": {
                            "test": f"datum.rate < {middle - 0.62 * spread:.5f}",
                            "value": "#ffffff",
                        },
                        "value": "#111827",
                    },
                    "tooltip": tooltip,
                },
            },
        ],
    )
    worst = min(shown, key=lambda v: v["rate"], default=None)
    alt = f"Thumbs-up rate by {rows.lower()} and {columns.lower()}, {len(shown)} cells with {FEW} ratings or more."
    if worst is not None:
        alt += f" Lowest: {worst['value']} with {worst['value2']}, {worst['shown']}."
    heads = {
        "value": rows,
        "value2": columns,
        "shown": "Thumbs-up rate (95% interval)",
        "num_rated": "Ratings",
    }
    return Chart(spec, alt, heads, values, max_height=40 + 27 * len({v["value"] for v in shown}))


def bars(
    rows: Sequence[Mapping[str, Any]], colours: Palette, *, label: str, value: str, title: str, unit: str = ""
) -> Chart:
    """Horizontal bars, longest first as given; `label` and `value` name fields of `rows`."""
    values = [{"label": str(r[label]), "value": r[value]} for r in rows][:MAX_GROUPS]
    spec = _spec(
        {"values": values},
        params=[{"name": "bar", "select": {"type": "point", "fields": ["label"], "on": "click"}}],
        mark={
            "type": "bar",
            "color": colours.bad,
            "cornerRadiusEnd": 2,
            "size": 14,
            "cursor": "pointer",
        },
        encoding={
            "y": {
                "field": "label",
                "type": "nominal",
                "sort": None,
                "title": None,
                "axis": _axis(colours, domain=False, ticks=False, labelPadding=8, labelLimit=150),
            },
            "x": {
                "field": "value",
                "type": "quantitative",
                "title": None,
                "axis": _axis(colours, tickCount=5, domain=False, ticks=False),
            },
            "tooltip": [
                {"field": "label", "title": title},
                {"field": "value", "title": unit or "Count", "format": ",.3~f"},
            ],
        },
    )
    alt = (
        f"{title}: "
        + "; ".join(f"{v['label']} {v['value']:,}{' ' + unit if unit else ''}" for v in values)
        + "."
    )
    return Chart(
        spec,
        alt if values else f"{title}: nothing yet.",
        {"label": title, "value": unit or "Count"},
        values,
        max_height=44 + 34 * len(values),
    )


def curves(rows: Sequence[Mapping[str, Any]], metric: str, colours: Palette) -> Chart:
    """One metric of a run over its steps."""
    values = [
        {"step": r["step"], "value": r[metric]} for r in rows if isinstance(r.get(metric), (int, float))
    ]
    spec = _spec(
        {"values": values},
        mark={"type": "line", "strokeWidth": 1.8, "color": colours.primary, "point": len(values) < 3},
        encoding={
            "x": {
                "field": "step",
                "type": "quantitative",
                "title": None,
                "axis": _axis(colours, grid=False, tickCount=5, format="~s"),
            },
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": None,
                "scale": {"zero": False},
                "axis": _axis(colours, tickCount=4, domain=False, ticks=False, format="~g"),
            },
            "tooltip": [
                {"field": "step", "title": "Step"},
                {"field": "value", "title": "Value", "format": ".5~g"},
            ],
        },
    )
    alt = (
        f"{metric} over {len(values)} steps, from {values[0]['value']:.4g} to {values[-1]['value']:.4g}."
        if values
        else f"{metric}: no values yet."
    )
    return Chart(spec, alt, {"step": "Step", "value": metric}, values)


# ------------------------------------------------------------------------------------------------------- pieces


def _spec(data: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": data,
        "background": "transparent",
        "autosize": {"type": "fit", "contains": "padding"},
        "config": {
            "view": {"stroke": None},
            "font": FONT,
            "axis": {"labelFont": FONT, "titleFont": FONT},
            "text": {"font": FONT},
        },
        **parts,
    }


def _axis(colours: Palette, **more: Any) -> dict[str, Any]:
    return {
        "gridColor": colours.grid,
        "domainColor": colours.grid,
        "tickColor": colours.grid,
        "labelColor": colours.muted,
        "labelFontSize": 11,
        "title": None,
        **more,
    }


def _time_axis(
    name: str, colours: Palette, points: Sequence[Group], *, hourly: bool, whole_last: bool = False
) -> dict[str, Any]:
    axis = _axis(
        colours,
        grid=False,
        format="%H:%M" if hourly else "%-d %b",
        tickCount=5,
        ticks=False,
        labelPadding=8,
        labelFlush=False,
    )
    scale: dict[str, Any] = {"type": "utc"}
    if points:
        # the whole period, also where its first days hold nothing: two charts of one period then have one axis
        bucket = timedelta(hours=1) if hourly else timedelta(days=1)
        first, last = parse_time(points[0]["time"]), parse_time(points[-1]["time"])
        scale["domain"] = [
            _vega_time(first),
            _vega_time(last + bucket if whole_last or first == last else last),
        ]
    return {"field": name, "type": "temporal", "scale": scale, "axis": axis, "title": None}


def _vega_time(at: datetime) -> dict[str, Any]:
    return {
        "year": at.year,
        "month": at.month,
        "date": at.day,
        "hours": at.hour,
        "minutes": at.minute,
        "utc": True,
    }


def _bucket_unit(hourly: bool) -> str:
    return "utcyearmonthdatehours" if hourly else "utcyearmonthdate"


def _share_axis(name: str, colours: Palette) -> dict[str, Any]:
    axis = _axis(colours, format=".0%", tickCount=4, domain=False, ticks=False, labelPadding=8)
    return {"field": name, "type": "quantitative", "axis": axis, "title": None}


def _grey_few(colours: Palette) -> dict[str, Any]:
    return {
        "condition": {"test": f"datum.num_rated < {FEW}", "value": colours.faint},
        "value": colours.primary,
    }


def _release_layers(marks: Sequence[Mapping[str, Any]], colours: Palette) -> list[dict[str, Any]]:
    x = {"field": "time", "type": "temporal"}
    return [
        {
            "data": {"values": list(marks)},
            "mark": {"type": "rule", "strokeDash": [3, 3], "color": colours.bar, "strokeWidth": 1},
            "encoding": {"x": x},
        },
        {
            "data": {"values": list(marks)},
            "mark": {
                "type": "text",
                "align": "left",
                "baseline": "top",
                "dx": 5,
                "dy": 2,
                "color": colours.muted,
                "fontSize": 11,
                "limit": 90,
            },
            "encoding": {"x": x, "y": {"value": 0}, "text": {"field": "release"}},
        },
    ]


def _estimate(interval: Mapping[str, Any] | None) -> float | None:
    return None if interval is None else interval["estimate"]


def _point(point: Group) -> dict[str, Any]:
    rate = point.get("rate")
    return {
        "time": point["time"],
        "when": words.clock(point["time"]),
        "rate": _estimate(rate),
        "low": None if rate is None else rate["low"],
        "high": None if rate is None else rate["high"],
        "shown": words.interval(rate),
        "num_rated": point["num_rated"],
        "num_answers": point["num_answers"],
    }


def _with_lone(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mark rated buckets between two gaps: a line draws nothing there, so that they need a dot."""
    rated = [v["rate"] is not None for v in values]
    for i, value in enumerate(values):
        beside = rated[max(i - 1, 0) : i] + rated[i + 1 : i + 2]
        value["lone"] = rated[i] and not any(beside)
    return values


def _dot(group: Group) -> dict[str, Any]:
    rate = group["rate"]
    return {
        "value": _name(group.get("value")),
        "rate": rate["estimate"],
        "low": rate["low"],
        "high": rate["high"],
        "shown": words.interval(rate),
        "num_rated": group["num_rated"],
        "num_answers": group["num_answers"],
    }


def _cell(group: Group) -> dict[str, Any]:
    return {
        "value": _name(group.get("value")),
        "value2": _name(group.get("value2")),
        "rate": _estimate(group.get("rate")) or 0.0,
        "shown": words.interval(group.get("rate")),
        "num_rated": group["num_rated"],
    }


def _name(value: object) -> str:
    return "(none)" if value in (None, "") else str(value)


def _short(text: str) -> str:
    """A release name without what never changes: `support-v13` -> `v13`; others as they are."""
    found = re.search(r"[-_/ ](v\d[\w.]*)$", text)
    return found[1] if found else text


def _domain(values: Sequence[Mapping[str, Any]]) -> list[float]:
    """Axis limits around the solid part of the data, so that one group with two ratings does not flatten the rest."""
    solid = [v for v in values if v["num_rated"] >= FEW] or list(values)
    low = min([v["low"] for v in solid] + [v["rate"] for v in values], default=0.0)
    high = max([v["high"] for v in solid] + [v["rate"] for v in values], default=1.0)
    pad = max(0.02, 0.08 * (high - low))
    return [max(0.0, low - pad), min(1.0, high + pad)]


def _middle(cells: Sequence[Mapping[str, Any]]) -> float:
    total = sum(c["num_rated"] for c in cells)
    return sum(c["rate"] * c["num_rated"] for c in cells) / total if total else 0.5


def _trend_alt(
    rated: Sequence[Mapping[str, Any]], points: Sequence[Group], marks: Sequence[Mapping[str, Any]]
) -> str:
    if not rated:
        return "No ratings in this period."
    low = min(rated, key=lambda v: v["rate"])
    high = max(rated, key=lambda v: v["rate"])
    text = (
        f"Thumbs-up rate over {len(points)} buckets: from {rated[0]['shown']} at {rated[0]['when']} to {rated[-1]['shown']} "
        f"at {rated[-1]['when']}. Highest {words.percent(high['rate'])} at {high['when']}, lowest {words.percent(low['rate'])} at {low['when']}."
    )
    gaps = len(points) - len(rated)
    if gaps:
        text += f" {gaps} buckets without ratings are left out."
    if marks:
        text += " Releases: " + ", ".join(f"{m['release']} at {words.clock(m['time'])}" for m in marks) + "."
    return text
