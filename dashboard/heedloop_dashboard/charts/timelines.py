"""Lines over one time axis for `components.timeline`, from the API's responses. Pure: no Streamlit, no statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from heedloop.responses import (
    AppHealth,
    HealthCounts,
    Interval,
    NamedRating,
    Point,
    RatedCounts,
    Release,
    Trend,
)
from heedloop_dashboard import words
from heedloop_dashboard.charts.parts import BUCKETS, bucket_row, release_name, trend_alt
from heedloop_dashboard.navigation import Open

Values = list[float | None]


@dataclass(frozen=True, slots=True)
class Timeline:
    """What the component draws, with the same numbers as rows for the table view and the export."""

    drawing: dict[str, Any]
    columns: dict[str, str]
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def trend(
    points: Sequence[Point], releases: Sequence[Release], *, bucket: str, open: Open, brush: Open
) -> Timeline:
    """The thumbs-up rate per bucket with its interval band; a click opens a bucket's answers, a drag chooses a period."""
    rows = [bucket_row(p) for p in points]
    whole = [r for r in rows if not r["running"] and r["rate"] is not None]
    alt = trend_alt(whole, points, releases, bucket)
    solid = [r for r in whole if r["num_rated"] >= 30] or whole
    line = _line([r["rate"] for r in rows], [r["running"] for r in rows])
    low, high = ([None if r["running"] else r[n] for r in rows] for n in ("low", "high"))
    within = [v for r in solid for v in (r["low"], r["high"])] + [r["rate"] for r in whole]
    panel = {
        "key": "rate",
        "title": "",
        "value": "",
        "alt": alt,
        "lines": [line],
        "band": {"low": low, "high": high},
        "shown": [f"{r['when']}: {r['shown']}, {r['num_answers']:,} answers" for r in rows],
        "alarms": [],
        "open": open.to_json(),
        **axis(within, lambda v: words.percent(v, digits=0), zero=False, most=1.0),
    }
    drawing = _axes([panel], [p.time for p in points], releases, bucket, height=214, columns=1, brush=brush)
    columns = {
        "when": "Time", "shown": "Thumbs-up rate (95% interval)", "num_rated": "Ratings", "num_answers": "Answers"
    }  # fmt: skip
    return Timeline(drawing, columns, rows if whole else [])


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of an app's health: its lines, how a number is written, and which alerts watch it."""

    key: str
    title: str
    lines: tuple[tuple[str, Callable[[HealthCounts], float | None]], ...]
    write: Callable[[float | None], str]
    metrics: tuple[str, ...] = ()


def _milliseconds(value: float | None) -> str:
    return words.duration(None if value is None else 1e6 * value)


def compact(value: float | None) -> str:
    """A count as `12.3k` or `4.1M`."""
    if value is None:
        return words.NONE
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):,.3g}{unit}"
    return f"{value:,.0f}"


MEASURES = (
    Measure("errors", "Failed answers", (("", lambda c: words.estimate(c.error_share)),), words.percent, ("errors",)),
    Measure(
        "latency", "Latency", (("p95", lambda c: c.p95_ms), ("p50", lambda c: c.p50_ms)), _milliseconds, ("latency",)
    ),
    Measure(
        "first_token",
        "Time to first token",
        (("p95", lambda c: c.first_token_p95_ms), ("p50", lambda c: c.first_token_p50_ms)),
        _milliseconds,
        ("first_token",),
    ),
    Measure("calls", "Model calls", (("", lambda c: c.num_calls),), compact, ("calls",)),
    Measure("tokens", "Tokens", (("", lambda c: c.input_tokens + c.output_tokens),), compact, ("tokens",)),
    Measure("cost", "Cost", (("", lambda c: c.cost),), words.dollars, ("cost",)),
)  # fmt: skip
_SUMS = ("calls", "tokens", "cost")


def health(found: AppHealth, *, bucket: str, opens: dict[str, Open]) -> Timeline:
    """Six small charts on one time axis with releases and times in alarm."""
    panels = [_panel(found, m, bucket, opens[m.key]) for m in MEASURES]
    times = [p.time for p in found.points]
    drawing = _axes(panels, times, found.releases, bucket, height=112, columns=3)
    columns = {"when": "Time", **{m.key: m.title + (" (p95)" if m.lines[0][0] else "") for m in MEASURES}}
    rows = [
        {"when": words.clock(p.time), **{m.key: m.write(m.lines[0][1](p)) for m in MEASURES}}
        for p in found.points
    ]
    return Timeline(drawing, columns, rows if found.total.num_calls or found.total.num_answers else [])


def _panel(found: AppHealth, measure: Measure, bucket: str, open: Open) -> dict[str, Any]:
    running = [p.running for p in found.points]
    lines = [_line([read(p) for p in found.points], running) for _, read in measure.lines]
    values = [v for line in lines for v in line["points"] if v is not None]
    end = found.points[-1].time + BUCKETS[bucket]
    alarms = [
        {"name": f"Alarm: {a.name}", "since": _ms(a.since), "until": _ms(a.until or end)}
        for a in found.alarms
        if a.metric in measure.metrics
    ]
    total = written(measure, found.total)
    return {
        "key": measure.key,
        "title": measure.title,
        "value": total,
        "alt": f"{measure.title} over {len(found.points)} {bucket}s: {total} in the whole period."
        + (f" In alarm {len(alarms)} times." if alarms else ""),
        "lines": lines,
        "band": None,
        "shown": [f"{words.clock(p.time)}: {written(measure, p)}" for p in found.points],
        "alarms": alarms,
        "open": open.to_json(),
        **axis(values, measure.write, zero=True, most=None, flat=0.06 if measure.key == "errors" else 1.0),
    }


def written(measure: Measure, counts: HealthCounts) -> str:
    """A measure's numbers in one line, such as `p95 2.1 s · p50 800 ms`."""
    parts = [(name, measure.write(read(counts))) for name, read in measure.lines]
    if all(text == words.NONE for _, text in parts):
        return words.NONE
    return " · ".join(f"{name} {text}".strip() for name, text in parts)


MAX_PLOTS = 9


def named_ratings(
    ratings: Sequence[NamedRating],
    trend: Trend,
    *,
    bucket: str,
    open: Callable[[NamedRating, str | None], Open],
) -> Timeline | None:
    """A small chart for each scale's mean and each category's share, with intervals; None where none has two buckets."""
    drawn = [
        _rating(r, category, trend, open(r, category))
        for r in ratings
        for category in (list(r.shares) if r.kind == "category" else [None])
        if len(r.points or []) > 1
    ][:MAX_PLOTS]
    if not drawn:
        return None
    drawing = _axes(drawn, [p.time for p in trend.points], trend.releases, bucket, height=112, columns=3)
    columns = {"when": "Time", **{d["key"]: d["title"] for d in drawn}}
    rows = [
        {"when": words.clock(p.time), **{d["key"]: d["shown"][i].partition(": ")[2] for d in drawn}}
        for i, p in enumerate(trend.points)
    ]
    return Timeline(drawing, columns, rows)


def _rating(rating: NamedRating, category: str | None, trend: Trend, open: Open) -> dict[str, Any]:
    name = rating.name if category is None else f"{rating.name}: {category}"

    def read(counts: RatedCounts) -> Interval | None:
        return counts.mean if category is None else counts.shares.get(category)

    by_time = {p.time: read(p) for p in rating.points or []}
    values = [by_time.get(p.time) for p in trend.points]
    is_share = category is not None or rating.kind == "thumb"
    write = words.percent if is_share else _mean
    whole = read(rating)
    ends = [e for v in values if v for e in (v.low, v.high)]
    return {
        "key": name,
        "title": name,
        "value": write(words.estimate(whole)),
        "alt": f"{name} over {len(values)} points: {write(words.estimate(whole))} in the whole period.",
        "lines": [{"points": [words.estimate(v) for v in values], "running": None}],
        "band": {"low": [v and v.low for v in values], "high": [v and v.high for v in values]},
        "shown": [
            f"{words.clock(p.time)}: {write(words.estimate(v))}" + (f", n {v.n:,}" if v else "")
            for p, v in zip(trend.points, values, strict=True)
        ],
        "alarms": [],
        "open": open.to_json(),
        **axis(ends, write, zero=False, most=1.0 if is_share else rating.max),
    }


def _mean(value: float | None) -> str:
    return words.NONE if value is None else f"{value:.2f}"


def _axes(
    panels: list[dict[str, Any]],
    times: Sequence[datetime],
    releases: Sequence[Release],
    bucket: str,
    *,
    height: int,
    columns: int,
    brush: Open | None = None,
) -> dict[str, Any]:
    return {
        "panels": panels,
        "times": [_ms(t) for t in times],
        "end": _ms(times[-1] + BUCKETS[bucket]),
        "days": [f"{t:%H:%M}" if bucket == "hour" else words.day(t) for t in times],
        "releases": [{"at": _ms(r.time), "label": release_name(r.value)} for r in releases],
        "height": height,
        "columns": columns,
        "brush": brush and brush.to_json(),
    }


def _line(values: Values, running: Sequence[bool]) -> dict[str, Any]:
    """The bucket that is not over yet is a hollow dot at the end, which bends no line."""
    points = [None if r else v for v, r in zip(values, running, strict=True)]
    return {"points": points, "running": values[-1] if running and running[-1] else None}


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def axis(
    values: Sequence[float],
    write: Callable[[float | None], str],
    *,
    zero: bool,
    most: float | None,
    flat: float = 1.0,
) -> dict[str, Any]:
    """`domain` and `ticks` at round numbers around the values; `flat` is the height where all are 0."""
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    low = 0.0 if zero else low
    if high <= low:
        high = low + (abs(low) or flat)
    step = _round_step((high - low) / 3)
    first = math.floor(low / step) * step
    last = math.ceil(high / step - 1e-9) * step
    if most is not None:
        last = min(last, most)
    ticks = [first + i * step for i in range(round((last - first) / step + 0.499) + 1)]
    return {
        "domain": [first, max(last, ticks[-1]) if most is None else last],
        "ticks": [{"at": t, "label": write(t)} for t in ticks if t <= last + 1e-12],
    }


def _round_step(raw: float) -> float:
    size = 10 ** math.floor(math.log10(raw))
    return next(s * size for s in (1, 2, 2.5, 5, 10) if s * size >= raw * 0.999)
