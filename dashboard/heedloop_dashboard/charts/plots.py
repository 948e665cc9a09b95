"""Vega-Lite charts as plain dictionaries, from the API's answers. Pure: no Streamlit, no statistics.

Every function returns a `Chart`: the spec, the sentence that says the same to those who do not see it, and the rows
that the chart draws, for the table view and the export.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heedloop.responses import Group, Point
from heedloop.schema import format_time
from heedloop_dashboard import words
from heedloop_dashboard.charts.parts import (
    FEW,
    Dot,
    bar_edges,
    cell_row,
    chart_spec,
    grey_few,
    group_row,
    plain_axis,
    pooled_rate,
    rule_layer,
    share_axis,
    share_domain,
    time_axis,
)
from heedloop_dashboard.theme import Palette

__all__ = ["FEW", "Chart", "bars", "coverage", "curves", "differences", "dots", "heatmap"]

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


def coverage(points: Sequence[Point], colours: Palette, *, bucket: str = "day") -> Chart:
    """The share of answers that were rated, a bar per bucket."""
    values: list[dict[str, Any]] = [
        {
            "time": format_time(p.time),
            **bar_edges(p.time, bucket),
            "when": words.clock(p.time),
            "coverage": words.estimate(p.coverage),
            "shown": words.percent(words.estimate(p.coverage)),
            "num_rated": p.num_rated,
            "num_answers": p.num_answers,
            "running": p.running,
        }
        for p in points
    ]
    tooltip = [
        {"field": "when", "title": "Time"},
        {"field": "shown", "title": "Rated"},
        {"field": "num_rated", "title": "Ratings", "format": ","},
        {"field": "num_answers", "title": "Answers", "format": ","},
    ]
    spec = chart_spec(
        {"values": values, "format": {"parse": {"left": "date", "right": "date"}}},
        params=[{"name": "bucket", "select": {"type": "point", "fields": ["time"], "on": "click"}}],
        mark={"type": "rect", "color": colours.bar, "cornerRadius": 1.5, "cursor": "pointer"},
        encoding={
            "x": time_axis("left", colours, points, bucket=bucket, whole_last=True),
            "x2": {"field": "right"},
            "y": {**share_axis("coverage", colours), "scale": {"zero": True, "nice": True}},
            "y2": {"datum": 0},
            "fillOpacity": {"condition": {"test": "datum.running", "value": 0.25}, "value": 1},
            "stroke": {"condition": {"test": "datum.running", "value": colours.bar}, "value": None},
            "strokeDash": {"condition": {"test": "datum.running", "value": [2, 2]}, "value": [1, 0]},
            "tooltip": tooltip,
        },
    )
    shares = [v["coverage"] for v in values if v["coverage"] is not None]
    alt = (
        f"Share of answers that were rated, per {bucket}: between {words.percent(min(shares))} and {words.percent(max(shares))}."
        if shares
        else "No answers in this period."
    )
    columns = {"when": "Time", "shown": "Rated", "num_rated": "Ratings", "num_answers": "Answers"}
    return Chart(spec, alt, columns, values)


def dots(
    groups: Sequence[Group | Dot],
    colours: Palette,
    *,
    what: str,
    measure: str = "Thumbs-up rate",
    few: bool = True,
    rule: float | None = None,
) -> Chart:
    """One dot with its 95% interval per group, in the order given.

    Args:
        few: True greys groups of fewer than 30 ratings.
        rule: a share at which a dashed line stands.
    """
    values = [group_row(g, g.rate) for g in groups if g.rate is not None][:MAX_GROUPS]
    y = {
        "field": "value",
        "type": "nominal",
        "sort": None,
        "axis": plain_axis(colours, grid=False, domain=False, ticks=False, labelPadding=8, labelLimit=170),
        "title": None,
    }
    x = {
        **share_axis("rate", colours),
        "scale": {"zero": False, "nice": True, "domain": share_domain(values)},
        "axis": plain_axis(colours, format=".0%", tickCount=5, domain=False, ticks=False, labelFlush=False),
    }
    tooltip = [
        {"field": "value", "title": what},
        {"field": "shown", "title": measure},
        {"field": "num_rated", "title": "Ratings", "format": ","},
        {"field": "num_answers", "title": "Answers", "format": ","},
    ]
    colour = grey_few(colours) if few else {"value": colours.primary}
    layers = [] if rule is None else [rule_layer(rule, colours)]
    layers += _dot_layers({"x": x, "y": y, "color": colour}, tooltip)
    spec = chart_spec({"values": values}, layer=layers)
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
        max_height=60 + 60 * len(values),
    )


def _dot_layers(encoding: dict[str, Any], tooltip: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The intervals, and upon them the dots, which can be selected."""
    whole = {**encoding, "x": {**encoding["x"], "field": "low"}, "x2": {"field": "high"}}
    return [
        {"mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5, "clip": True}, "encoding": whole},
        {
            "params": [{"name": "group", "select": {"type": "point", "fields": ["value"], "on": "click"}}],
            "mark": {
                "type": "point",
                "filled": True,
                "size": 80,
                "opacity": 1,
                "cursor": "pointer",
                "clip": True,
            },
            "encoding": {**encoding, "tooltip": tooltip},
        },
    ]


def heatmap(groups: Sequence[Group], colours: Palette, *, rows: str, columns: str) -> Chart:
    """Rate per pair of values; pairs with fewer than 30 ratings are left blank."""
    values = [cell_row(g) for g in groups]
    shown = [v for v in values if v["num_rated"] >= FEW]
    middle = pooled_rate(shown)
    spread = max([abs(v["rate"] - middle) for v in shown], default=0.1) or 0.1
    x = {
        "field": "value2",
        "type": "nominal",
        "axis": plain_axis(colours, labelAngle=0, domain=False, ticks=False, labelPadding=6, labelLimit=90),
        "title": None,
    }
    y = {
        "field": "value",
        "type": "nominal",
        "axis": plain_axis(colours, domain=False, ticks=False, labelPadding=8, labelLimit=110),
        "title": None,
    }
    tooltip = [
        {"field": "value", "title": rows},
        {"field": "value2", "title": columns},
        {"field": "shown", "title": "Thumbs-up rate"},
        {"field": "num_rated", "title": "Ratings", "format": ","},
    ]
    place = {"x": x, "y": y, "tooltip": tooltip}
    layers = [_cells(place, middle, spread, colours), _cell_texts(place, middle, spread)]
    spec = chart_spec({"values": shown}, layer=layers)
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


def _cells(place: dict[str, Any], middle: float, spread: float, colours: Palette) -> dict[str, Any]:
    """The squares of a heatmap: the further a rate is from the middle, the stronger the colour."""
    scale = {
        "domain": [middle - spread, middle, middle + spread],
        "range": ["#c2410c", "#f1ece8", "#5b7cf0"],
        "clamp": True,
        "interpolate": "rgb",
    }
    colour = {"field": "rate", "type": "quantitative", "scale": scale, "legend": None}
    return {
        "params": [
            {"name": "cell", "select": {"type": "point", "fields": ["value", "value2"], "on": "click"}}
        ],
        "mark": {
            "type": "rect",
            "cornerRadius": 3,
            "stroke": colours.background,
            "strokeWidth": 2,
            "cursor": "pointer",
        },
        "encoding": {**place, "color": colour},
    }


def _cell_texts(place: dict[str, Any], middle: float, spread: float) -> dict[str, Any]:
    """The rates in the squares, white where a square is dark."""
    dark = {"test": f"datum.rate < {middle - 0.62 * spread:.5f}", "value": "#ffffff"}
    return {
        "mark": {"type": "text", "fontSize": 11, "fontWeight": 500, "cursor": "pointer"},
        "encoding": {
            **place,
            "text": {"field": "rate", "type": "quantitative", "format": ".0%"},
            "color": {"condition": dark, "value": "#111827"},
        },
    }


def bars(
    lengths: Sequence[tuple[str, float | None]],
    colours: Palette,
    *,
    title: str,
    unit: str = "",
    start: float = 0.0,
) -> Chart:
    """Horizontal bars of (label, length) from `start` on (1 for ratios), longest first as given."""
    values = [{"label": label, "value": length, "start": start} for label, length in lengths][:MAX_GROUPS]
    spec = chart_spec(
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
                "axis": plain_axis(colours, domain=False, ticks=False, labelPadding=8, labelLimit=230),
            },
            "x": {
                "field": "value",
                "type": "quantitative",
                "title": None,
                "axis": plain_axis(colours, tickCount=5, domain=False, ticks=False),
                "scale": {"domainMin": start, "zero": start == 0},
            },
            "x2": {"field": "start"},
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
    spec = chart_spec(
        {"values": values},
        mark={"type": "line", "strokeWidth": 1.8, "color": colours.primary, "point": len(values) < 3},
        encoding={
            "x": {
                "field": "step",
                "type": "quantitative",
                "title": None,
                "axis": plain_axis(colours, grid=False, tickCount=5, format="~s"),
            },
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": None,
                "scale": {"zero": False},
                "axis": plain_axis(colours, tickCount=4, domain=False, ticks=False, format="~g"),
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


def differences(rows: Sequence[Mapping[str, Any]], colours: Palette, *, is_ratio: bool) -> Chart:
    """Each arm's difference to the control with its interval, over time: rows of `at`, `arm`, `difference`, `low`, `high`."""
    unit = "part of the control's" if is_ratio else "points"
    values = [{**r, "at": format_time(r["at"]), "when": words.clock(r["at"])} for r in rows]
    label = "format(datum.value, '+.0%')" if is_ratio else "format(100 * datum.value, '+.0f') + ' pts'"
    axis = plain_axis(colours, tickCount=4, domain=False, ticks=False, labelExpr=label)
    at = {"field": "at", "type": "temporal", "scale": {"type": "utc"}, "title": None}
    colour = {
        "field": "arm",
        "type": "nominal",
        "title": None,
        "scale": {"range": [colours.primary, colours.good, colours.bad, colours.muted]},
        "legend": {"orient": "top", "labelColor": colours.muted}
        if len({r["arm"] for r in rows}) > 1
        else None,
    }
    tooltip = [
        {"field": "when", "title": "At"},
        {"field": "arm", "title": "Arm"},
        {"field": "difference", "title": "Difference", "format": "+.1%"},
        {"field": "low", "title": "From", "format": "+.1%"},
        {"field": "high", "title": "To", "format": "+.1%"},
    ]
    y = {"type": "quantitative", "title": None, "axis": axis}
    spec = chart_spec(
        {"values": values},
        encoding={"x": {**at, "axis": plain_axis(colours, grid=False, tickCount=5)}, "color": colour},
        layer=[
            {"mark": {"type": "rule", "color": colours.muted, "strokeDash": [4, 3]}, "encoding": {"x": None, "y": {"datum": 0}, "color": None}},
            {"mark": {"type": "area", "opacity": 0.18}, "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}}},
            {"mark": {"type": "errorbar", "opacity": 0.6}, "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}}},
            {"mark": {"type": "line", "strokeWidth": 1.8, "point": True}, "encoding": {"y": {**y, "field": "difference"}, "tooltip": tooltip}},
        ],
    )  # fmt: skip
    last = {r["arm"]: r for r in rows}
    said = "; ".join(
        f"{arm} {100 * r['difference']:+.1f} ({100 * r['low']:+.1f} to {100 * r['high']:+.1f})"
        for arm, r in last.items()
    )
    alt = (
        f"Difference to the control in {unit}, at the last of {len(rows)} looks: {said}."
        if rows
        else "Nothing yet."
    )
    columns = {
        "when": "At",
        "arm": "Arm",
        "difference": "Difference",
        "low": "From",
        "high": "To",
        "e_value": "E-value",
    }
    return Chart(spec, alt, columns, values)
