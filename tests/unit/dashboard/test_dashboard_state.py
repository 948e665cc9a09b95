"""A view's state in the URL, rules of alerts in words and back, files: pure."""

from __future__ import annotations

import io
from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone

import pyarrow.parquet
import pytest

from heedloop.responses import Alert, CallSummary, Interval, Point
from heedloop_dashboard import export, ranges, rules
from heedloop_dashboard.charts.parts import Dot
from heedloop_dashboard.charts.plots import coverage, dots
from heedloop_dashboard.fetch import Ask, ask
from heedloop_dashboard.state import PERIODS, chosen_filters, merged, narrower, view_of, window
from heedloop_dashboard.theme import LIGHT
from heedloop_dashboard.views.alert_form import rule_of
from heedloop_dashboard.views.settings import prices_of
from heedloop_dashboard.views.traces import export_rows

NOW = datetime(2026, 11, 21, 15, 4, 3, tzinfo=timezone.utc)


def test_filters_are_what_the_api_filters_by_and_nothing_else() -> None:
    query = {
        "tag": ["a", "", "b", "a"],
        "metadata.language": ["de"],
        "metadata.region": [""],
        "model": [""],
        "rating": ["up", "down"],
        "cursor": ["x"],
        "trace_id": ["y"],
        "metadata.": ["z"],
        "author_kind": ["nobody"],
    }
    assert chosen_filters(query) == {
        "tag": ["a", "b"],
        "metadata.language": "de",
        "metadata.region": "",
        "rating": "down",
    }


def test_a_view_is_its_times_and_filters() -> None:
    query = {"period": ["7 d"], "since": [""], "model": ["m"], "alert_id": ["x"]}
    assert view_of(query) == {"period": "7 d", "model": "m"}


def test_a_view_is_narrowed_by_adding_tags_and_widened_by_none() -> None:
    view = {"tag": ["a"], "model": "m", "period": "7 d"}
    assert merged(view, {"tag": "b", "model": None, "rating": "down", "metadata.x": ""}) == {
        "tag": ["a", "b"],
        "period": "7 d",
        "rating": "down",
        "metadata.x": "",
    }
    assert view == {"tag": ["a"], "model": "m", "period": "7 d"}
    assert merged(view, {"tag": ["a", "c"], "status": ""})["tag"] == ["a", "c"]


@pytest.mark.parametrize(
    ("field", "value", "filter_"),
    [
        ("model", "large", {"model": "large"}),
        ("model", "", None),
        ("model", "(none)", None),
        ("metadata.topic", "", {"metadata.topic": ""}),
        ("tag", "a", {"tag": "a"}),
        ("something_else", "x", None),
    ],
)
def test_a_group_without_a_filter_has_no_link(field: str, value: str, filter_: dict | None) -> None:
    assert narrower(field, value) == filter_


def test_all_time_begins_where_the_first_call_is() -> None:
    first = datetime(2025, 3, 3, tzinfo=timezone.utc)
    assert window("All", NOW, first)["since"] == "2025-03-03T00:00:00.000000Z"
    assert window("All", NOW)["since"] < window("7 d", NOW)["since"]


@pytest.mark.parametrize("name", PERIODS)
@pytest.mark.parametrize(
    "now",
    [
        datetime(2026, 11, 20, 0, 0, 0, tzinfo=timezone.utc),
        datetime(2026, 11, 20, 4, 0, 0, 1, tzinfo=timezone.utc),
        datetime(2026, 11, 22, 12, 30, tzinfo=timezone.utc),
        datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc),
        datetime(2028, 2, 29, 23, 0, tzinfo=timezone.utc),
        datetime(2028, 3, 1, 1, 0, tzinfo=timezone.utc),
    ],
    ids=lambda at: f"{at:%Y-%m-%dT%H:%M}",
)
def test_a_period_has_its_length_and_holds_this_moment_at_any_hour_and_date(name: str, now: datetime) -> None:
    """Its first bucket is whole: it begins at midnight, or on the hour for a day; the last is the running one."""
    period = window(name, now, now - timedelta(days=400))
    since, until = (datetime.fromisoformat(period[k]) for k in ("since", "until"))
    assert now <= until < now + timedelta(seconds=10)
    days = PERIODS[name] or 400
    step = timedelta(hours=1) if days == 1 else timedelta(days=1)
    assert timedelta(days=days) - step <= now - since <= timedelta(days=days)
    if PERIODS[name]:
        assert (since.minute, since.second, since.microsecond) == (0, 0, 0)
        assert days == 1 or since.hour == 0


# --------------------------------------------------------------------------------------------------------- rules

FORM = {
    "name": " Refunds ",
    "metric": "rate",
    "filters": "tag=a\ntag=b\n\nmetadata.language = de",
    "of": "",
    "bad": "",
    "kind": "threshold",
    "threshold": 0.6,
    "baseline": None,
    "window_hours": 24,
    "min_count": 30,
    "webhook_url": " ",
    "webhook_format": "generic",
    "remind_hours": 0,
}


def test_the_form_becomes_a_rule() -> None:
    assert rule_of(FORM) == {
        "name": "Refunds",
        "metric": "rate",
        "filters": {"tag": ["a", "b"], "metadata.language": "de"},
        "kind": "threshold",
        "threshold": 0.6,
        "window_hours": 24,
        "min_count": 30,
        "webhook_url": None,
        "webhook_format": "generic",
        "remind_hours": 0,
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": " "}, "name"),
        ({"threshold": None}, "needs a number"),
        ({"metric": "share"}, "which answers"),
        ({"filters": "model small"}, "name=value"),
        ({"filters": "=x"}, "name=value"),
    ],
)
def test_a_form_that_says_too_little_is_answered_in_words(change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rule_of({**FORM, **change})


ALERT = Alert(
    id="a", name="Refunds", metric="rate", filters={}, of={}, bad="lower", kind="drift", threshold=None, window_hours=24,
    baseline=None, baseline_days=28, odds_ratio=1.5, min_count=30, webhook_url=None, remind_hours=0, enabled=True, state="ok",
    value=None, num=0, evidence=0.0, baseline_used=None, message="", evaluated_at=None, changed_at=None, acknowledged_by=None,
    acknowledged_at=None, error=None, created_at=NOW, link_filters={},
)  # fmt: skip


def test_a_rule_reads_as_a_sentence() -> None:
    rule = replace(ALERT, kind="threshold", threshold=0.6, filters={"tag": ["a", "b"]})
    assert rules.sentence(rule) == "Thumbs-up rate below 60.0%, where tag a, tag b"
    drifting = replace(ALERT, metric="errors", bad="higher")
    assert rules.sentence(drifting) == "Share of failed calls drifting above its own past"
    assert rules.sentence(replace(ALERT, baseline_used=0.8)) == "Thumbs-up rate drifting below 80.0%"
    assert rules.state_word(replace(ALERT, state="alarm", enabled=False)) == "Muted"


def test_an_undefined_value_is_a_dash_never_zero() -> None:
    assert rules.value_text("rate", None) == "–"


@pytest.mark.parametrize(
    ("metric", "threshold", "said"),
    [
        ("latency", 2500.0, "Latency (p95) above 2.5 s"),
        ("first_token", 400.0, "Time to first token (p95) above 400 ms"),
        ("cost", 12.5, "Cost above $12.50"),
        ("tokens", 2e6, "Tokens above 2,000,000"),
        ("errors", 0.05, "Share of failed calls above 5.0%"),
    ],
)
def test_a_threshold_is_read_in_the_unit_of_its_metric(metric, threshold, said) -> None:
    rule = replace(ALERT, metric=metric, kind="threshold", threshold=threshold, bad="higher")
    assert rules.sentence(rule) == said


@pytest.mark.parametrize(
    ("since", "until", "name"),
    [
        ("2026-11-16", "2026-11-23", "Last week"),
        ("2026-11-23", "2026-11-30", "This week"),
        ("2026-11-25", "2026-11-26", "Yesterday"),
        ("2026-11-02", "2026-11-03", "2 Nov"),
        ("2026-11-02", "2026-11-05", "2–4 Nov"),
        ("2026-10-30", "2026-11-05", "30 Oct–4 Nov"),
    ],
)
def test_a_range_is_named(since, until, name) -> None:
    times = (datetime.fromisoformat(t).replace(tzinfo=timezone.utc) for t in (since, until))
    assert ranges.range_name(*times, datetime(2026, 11, 26, 15, tzinfo=timezone.utc)) == name


def test_rows_of_the_price_table_are_prices() -> None:
    rows = [
        {"model": " gpt ", "input": 1, "output": 2.5, "cached_input": None},
        {"model": "", "input": None, "output": None},
        {"model": None},
    ]
    assert prices_of(rows) == {"gpt": {"input": 1.0, "output": 2.5}}
    with pytest.raises(ValueError, match="gpt needs a price"):
        prices_of([{"model": "gpt", "input": 1, "output": None}])


# --------------------------------------------------------------------------------------------------------- files


def test_parquet_holds_values_as_they_are_and_mixed_columns_as_text() -> None:
    rows = [{"a": "=1+1", "n": 1, "mixed": 1}, {"a": None, "n": None, "mixed": "x", "late": 2.5}]
    table = pyarrow.parquet.read_table(io.BytesIO(export.to_parquet(rows)))
    assert table.to_pylist() == [
        {"a": "=1+1", "n": 1, "mixed": "1", "late": None},
        {"a": None, "n": None, "mixed": "x", "late": 2.5},
    ]


def test_nothing_shown_is_an_empty_file_of_either_kind() -> None:
    assert export.to_csv([]) == "\r\n"
    assert pyarrow.parquet.read_table(io.BytesIO(export.to_parquet([]))).num_rows == 0


def test_an_exported_list_joins_its_tags() -> None:
    values = dict.fromkeys(f.name for f in fields(CallSummary))
    call = CallSummary(**{**values, "start_time": NOW, "tags": ["a", "b"], "flags": []})
    (row,) = export_rows([call])
    assert row["tags"] == "a b"
    assert row["flags"] == ""
    assert row["start_time"] == "2026-11-21T15:04:03.000000Z"
    assert "usage" not in row


# ---------------------------------------------------------------------------------------------- charts, questions


def test_coverage_bars_lie_inside_their_bucket() -> None:
    start = datetime(2026, 11, 16, tzinfo=timezone.utc)
    rated = Interval(0.2, 0.1, 0.3, 10, "wilson")
    counts = {"num_answers": 10, "num_rated": 2, "num_up": 0, "num_down": 2}
    point = Point(time=start, running=False, rate=None, coverage=rated, **counts)
    (row,) = coverage([point], LIGHT, bucket="week").rows
    assert row["time"] < row["left"] < row["right"] < "2026-11-23T00:00:00Z"
    assert row["right"] > "2026-11-21"


def test_a_share_that_is_no_rating_is_not_greyed_by_few() -> None:
    group = Dot("a", Interval(0.5, 0.4, 0.6, 3, "wilson"), 3, 3)
    plain = dots([group], LIGHT, what="Group", few=False, rule=0.5).spec["layer"]
    assert plain[0]["mark"]["type"] == "rule"
    assert all(layer["encoding"].get("color") in (None, {"value": LIGHT.primary}) for layer in plain)


def test_an_answer_is_fresh_for_as_long_as_its_question_says() -> None:
    question = ask(print, 1)
    assert question.is_fresh(1.0)
    assert not question.is_fresh(10.0)
    assert Ask(print, (1,), {}, keep_s=60.0).is_fresh(10.0)
