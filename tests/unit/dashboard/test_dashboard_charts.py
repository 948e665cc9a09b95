"""Charts from recorded answers: what is drawn, what is greyed, what is a gap, and the words for those who do not see it."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

import pytest

from heedloop.responses import Flags, Groups, Interval, Point, Trend
from heedloop.schema import from_json
from heedloop_dashboard.charts import plots
from heedloop_dashboard.charts.parts import Dot
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


def test_the_trend_has_a_gap_where_nobody_rated() -> None:
    trend = recorded("trend", Trend)
    drawn = plots.trend(trend.points, trend.releases, LIGHT)
    unrated = [v for v in drawn.rows if v["num_rated"] == 0]
    assert len(drawn.rows) == 30
    assert [v["rate"] for v in unrated] == [None]
    assert unrated[0]["shown"] == "no ratings"
    assert "1 day without ratings left out" in drawn.alt
    assert "Releases: v12" in drawn.alt


def test_the_trend_says_its_first_and_last_value() -> None:
    trend = recorded("trend", Trend)
    first = trend.points[0].rate
    alt = plots.trend(trend.points, [], LIGHT).alt
    assert f"{100 * first.estimate:.1f}%" in alt
    assert "Lowest" not in alt.split(".")[0]


def test_no_ratings_at_all_is_no_chart_of_zeros() -> None:
    drawn = plots.trend([point(1, 0, None)], [], LIGHT)
    assert drawn.alt == "No ratings in this period."
    assert drawn.rows[0]["rate"] is None


def test_an_isolated_bucket_is_visible() -> None:
    """A line through one point draws nothing: a lone rated bucket between gaps needs its dot."""
    points = [point(1, 0, None), point(2, 90, Interval(0.5, 0.4, 0.6, 90, "wilson")), point(3, 0, None)]
    assert [v["lone"] for v in plots.trend(points, [], LIGHT).rows] == [False, True, False]


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
        plots.trend(trend.points, trend.releases, colours),
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
