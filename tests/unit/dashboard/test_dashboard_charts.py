"""Charts from recorded answers: what is drawn, what is greyed, what is a gap, and the words for those who do not see it."""

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TypeVar

import pytest

from heedloop.responses import (
    AlarmPeriod,
    AppHealth,
    Flags,
    Groups,
    HealthCounts,
    HealthPoint,
    Interval,
    Point,
    Trend,
)
from heedloop.schema import from_json
from heedloop_dashboard.charts import plots, timelines
from heedloop_dashboard.charts.parts import Dot
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.theme import DARK, LIGHT, palette, streamlit_options

T = TypeVar("T")
GOLDEN = Path(__file__).parents[2] / "golden" / "dashboard"


def recorded(name: str, record: type[T]) -> T:
    """A response that was recorded."""
    return from_json(record, json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8")), strict=False)


def point(day: int, num_rated: int, rate: Interval | None) -> Point:
    time = datetime(2026, 11, day, tzinfo=timezone.utc)
    counts = {"num_answers": 5, "num_rated": num_rated, "num_up": 0, "num_down": num_rated}
    return Point(time=time, running=False, rate=rate, coverage=None, **counts)


def _trend(points, releases=(), bucket="day"):
    return timelines.trend(points, releases, bucket=bucket, open=Open("traces"), brush=Open(""))


def test_the_trend_has_a_gap_where_nobody_rated() -> None:
    trend = recorded("trend", Trend)
    drawn = _trend(trend.points, trend.releases)
    unrated = [v for v in drawn.rows if v["num_rated"] == 0]
    assert len(drawn.rows) == 30
    assert [v["rate"] for v in unrated] == [None]
    assert unrated[0]["shown"] == "no ratings"
    (panel,) = drawn.drawing["panels"]
    assert panel["lines"][0]["points"].count(None) == 1
    assert panel["band"]["low"].count(None) == 1
    assert "1 day without ratings left out" in panel["alt"]
    assert "Releases: v12" in panel["alt"]
    assert next(r["label"] for r in drawn.drawing["releases"]) == "v12"


def test_the_trend_says_its_first_and_last_value() -> None:
    trend = recorded("trend", Trend)
    first = trend.points[0].rate
    alt = _trend(trend.points).drawing["panels"][0]["alt"]
    assert f"{100 * first.estimate:.1f}%" in alt
    assert "Lowest" not in alt.split(".")[0]


def test_no_ratings_at_all_is_no_chart_of_zeros() -> None:
    drawn = _trend([point(1, 0, None)])
    assert drawn.drawing["panels"][0]["alt"] == "No ratings in this period."
    assert drawn.rows == []


def test_the_running_bucket_bends_no_line() -> None:
    rate = Interval(0.5, 0.4, 0.6, 90, "wilson")
    now = replace(point(2, 1, Interval(0.0, 0.0, 0.8, 1, "wilson")), running=True)
    (line,) = _trend([point(1, 90, rate), now]).drawing["panels"][0]["lines"]
    assert line == {"points": [0.5, None], "running": 0.0}


@pytest.mark.parametrize(
    ("values", "zero", "most", "low", "high"),
    [
        ([0.41, 0.58], False, 1.0, 0.4, 0.6),
        ([0.97, 1.0], False, 1.0, 0.97, 1.0),
        ([0.0, 0.0], True, None, 0.0, 1.0),
        ([1234.0], True, None, 0.0, 1500.0),
        ([], True, None, 0.0, 1.0),
        ([3e-7], True, None, 0.0, 3e-7),
    ],
)
def test_an_axis_has_round_numbers_around_the_values(values, zero, most, low, high) -> None:
    axis = timelines.axis(values, str, zero=zero, most=most)
    assert axis["domain"] == pytest.approx([low, high])
    ticks = [t["at"] for t in axis["ticks"]]
    assert low - 1e-12 <= ticks[0] and ticks[-1] <= high * (1 + 1e-9) and len(ticks) >= 2


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (9_999, "9,999"), (12_345, "12.3k"), (4_100_000, "4.1M"), (2e9, "2G")]
)
def test_large_counts_are_short(count, text) -> None:
    assert timelines.compact(count) == text


def test_alarms_are_drawn_on_the_measure_they_watch() -> None:
    at = datetime(2026, 11, 1, tzinfo=timezone.utc)
    counts = {
        "num_answers": 10, "num_errors": 1, "num_calls": 10, "error_share": Interval(0.1, 0.0, 0.4, 10, "wilson"),
        "p50_ms": 800.0, "p95_ms": 2100.0, "first_token_p50_ms": None, "first_token_p95_ms": None,
        "input_tokens": 9000, "output_tokens": 4000, "cost": 0.25, "num_unpriced": 0,
    }  # fmt: skip
    points = [HealthPoint(time=at + timedelta(days=i), running=False, **counts) for i in range(3)]
    alarm = AlarmPeriod(alert_id="a", name="Errors!", metric="errors", since=at, until=None)
    found = AppHealth(
        total=HealthCounts(**counts), points=points, by=None, groups=[], releases=[], alarms=[alarm]
    )
    opens = {m.key: Open("traces") for m in timelines.MEASURES}
    drawn = timelines.health(found, bucket="day", opens=opens)
    panels = {p["key"]: p for p in drawn.drawing["panels"]}
    assert [len(panels[k]["alarms"]) for k in ("errors", "latency", "cost")] == [1, 0, 0]
    assert panels["latency"]["value"] == "p95 2.1 s \u00b7 p50 800 ms"
    assert panels["first_token"]["value"] == "\u2013"
    assert drawn.rows[0]["tokens"] == "13k"


def test_a_cell_with_few_ratings_is_left_blank_but_stays_in_the_table() -> None:
    groups = recorded("by_topic_version", Groups).groups
    few = [g for g in groups if g.num_rated < plots.FEW]
    assert few, "the recording holds a cell with few ratings"
    drawn = plots.heatmap(groups, LIGHT, rows="Topic", columns="Version")
    assert len(drawn.spec["data"]["values"]) == len(groups) - len(few)
    assert len(drawn.rows) == len(groups)
    assert "refunds with support-v13, 36.0%" in drawn.alt


def test_a_group_with_two_ratings_does_not_flatten_the_others() -> None:
    groups = recorded("by_prompt_version", Groups).groups
    low, high = plots.dots(groups, LIGHT, what="Version").spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert 0.3 < low < high < 0.8


def test_a_group_without_ratings_is_not_drawn_as_zero() -> None:
    assert plots.dots([Dot("new", None, 0, 4)], LIGHT, what="Version").rows == []


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_no_chart_loads_anything(colours) -> None:
    """Specs hold their data: no `url`, no `href`, no image mark could ask another host for anything."""
    trend = recorded("trend", Trend)
    flags = [(f.category, f.count) for f in recorded("reasons", Flags).flags]
    history = json.loads((GOLDEN / "run_history.json").read_text(encoding="utf-8"))["rows"]
    drawn = [
        plots.coverage(trend.points, colours),
        plots.dots(recorded("by_model", Groups).groups, colours, what="Model"),
        plots.heatmap(recorded("by_topic_version", Groups).groups, colours, rows="Topic", columns="Version"),
        plots.bars(flags, colours, title="Category"),
        plots.curves(history, "objective/kl", colours),
    ]
    for chart in drawn:
        text = json.dumps({**chart.spec, "$schema": ""})
        assert '"url"' not in text and '"href"' not in text and '"image"' not in text
        assert chart.alt.endswith(".")
        assert chart.rows


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio by WCAG 2.2, definition "contrast ratio"."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_text_and_marks_hold_contrast_in_both_themes(name: str) -> None:
    colours, options = palette(name), streamlit_options()
    for behind in (
        colours.background,
        options[f"theme.{name}.secondaryBackgroundColor"],
        options[f"theme.{name}.sidebar.backgroundColor"],
    ):
        for text in (
            colours.text,
            colours.muted,
            options[f"theme.{name}.redTextColor"],
            options[f"theme.{name}.greenTextColor"],
            options[f"theme.{name}.linkColor"],
        ):
            assert contrast(text, behind) >= 4.5, (text, behind)
    for mark in (colours.primary, colours.bar, colours.bad):
        assert contrast(mark, colours.background) >= 3, mark
    assert contrast("#ffffff", options[f"theme.{name}.primaryColor"]) >= 4
