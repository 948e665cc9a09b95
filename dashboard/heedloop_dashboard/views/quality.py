"""The quality page: is it good, for whom not, since when, and which answers are behind that."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Counts, Finding, Group, Interval, Overview, Summary, Trend
from heedloop.responses.calls import CallsPage
from heedloop.responses.feedback import FeedbackPage
from heedloop.schema import format_time, parse_time
from heedloop_dashboard import components, export, filters, panels, words
from heedloop_dashboard.charts import plots, timelines
from heedloop_dashboard.charts.parts import BUCKETS
from heedloop_dashboard.fetch import Answer, Ask, ask, read, read_page
from heedloop_dashboard.navigation import Open, go
from heedloop_dashboard.state import narrower
from heedloop_dashboard.views import (
    calls_table,
    failures,
    feedback,
    health,
    judges,
    named_ratings,
    trust,
    welcome,
)


def show() -> None:
    """Draw the page."""
    title = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
    with title:
        st.subheader("Quality overview", anchor=False, width="stretch")
        filters.period_and_model()
        filters.raters()
    chosen = filters.filters()
    bucket = filters.bucket(chosen)
    asked = read_page(
        overview=ask(Client.quality_overview, interval=bucket, segment=segment_field(), **chosen),
        recent=_ask_recent(chosen),
        ratings=named_ratings.request(chosen, segment_field(), bucket),
    )
    overview: Answer[Overview] = asked["overview"]
    with title:
        export.button("quality", lambda: _export_rows(overview))
    if panels.failed(overview):
        return
    found = overview.value
    if not found.summary.num_answers and welcome.is_empty():
        welcome.show()
        return
    _cards(found.summary, found.trend)
    _finding(found.finding, found.summary)
    _other_kinds(found.summary, chosen)
    _over_time(Answer(found.trend), bucket)
    health_slot = st.container()
    _by_group(found)
    _reasons_and_recent(found, asked["recent"])
    named_ratings.show(asked["ratings"], segment_field(), found.trend, bucket)
    judges.show_combined(chosen)
    # it reads every call of the period: nothing else waits for it
    with health_slot:
        health.show(read(health=health.request(chosen, bucket))["health"], bucket)
    trust.show(chosen, bucket)


def _ask_recent(chosen: Mapping[str, Any]) -> Ask[Any]:
    if "author_kind" in chosen:
        given = {k: v for k, v in chosen.items() if k in ("author_kind", "since", "until")}
        return ask(Client.feedback, limit=8, kind="rating", **given)
    return ask(Client.calls, limit=8, **{**chosen, "rating": "down"})


def segment_field() -> str:
    """What the heatmap's rows are: `segment` in the URL, tags where it is not named."""
    return st.query_params.get("segment") or "tag"


# ------------------------------------------------------------------------------------------------------ figures


def _cards(summary: Summary, trend: Trend) -> None:
    # the bucket that is not over yet would end every line in a drop
    points = [p for p in trend.points if not p.running]
    before = summary.previous if summary.previous_is_whole else None
    rate = summary.rate
    totals = (
        ("answers", "Answers", summary.num_answers, before and before.num_answers, [p.num_answers for p in points], {}),
        (
            "down", "Thumbs-down", summary.num_down, before and before.num_down, [p.num_rated - p.num_up for p in points],
            {"rating": "down"},
        ),
    )  # fmt: skip
    components.cards(
        "cards",
        [
            _rate_card(summary, [words.estimate(p.rate) for p in points], rate),
            _coverage_card(summary, before, [words.estimate(p.coverage) for p in points]),
            *(
                components.Card(
                    key,
                    label,
                    words.count(now),
                    delta=_count_delta(now, then),
                    points=line,
                    open=_answers(**more),
                )
                for key, label, now, then, line, more in totals
            ),
        ],
    )


def _answers(**more: Any) -> Open:
    return Open("traces", filters.link_params(**more))


def _rate_card(summary: Summary, points: list[float | None], rate: Interval | None) -> components.Card:
    change = summary.change
    is_clear = change is not None and (change.low > 0 or change.high < 0)
    against = (
        ""
        if change is None
        else (
            f"Against the period before: {words.change(change)}. Coloured only where the interval excludes zero."
        )
    )
    return components.Card(
        "rate",
        "Thumbs-up rate",
        words.percent(words.estimate(rate)),
        words.spread(rate, "no ratings"),
        f"Share of rated answers that got a thumbs-up. {against}",
        delta=None if change is None else f"{_arrow(change.estimate)} {words.points(change.estimate)}",
        tone="" if change is None or not is_clear else "good" if change.estimate > 0 else "bad",
        points=points,
        open=_answers(rating="any"),
    )


def _coverage_card(summary: Summary, before: Counts | None, points: list[float | None]) -> components.Card:
    now, then = words.estimate(summary.coverage), words.estimate(before and before.coverage)
    return components.Card(
        "coverage",
        "Rated answers",
        words.percent(now),
        f"{words.count(summary.num_rated)} ratings",
        "Share of answers with a rating. The thumbs-up rate covers only these.",
        delta=None if now is None or then is None else f"{_arrow(now - then)} {words.points(now - then)}",
        points=points,
        open=_answers(rating="any"),
    )


def _count_delta(now: float, then: float | None) -> str | None:
    if not then:
        return None
    # a percentage of next to nothing says nothing
    return (
        f"was {words.count(then)}"
        if now > 5 * then
        else f"{_arrow(now - then)} {100 * (now / then - 1):+.1f}%"
    )


def _arrow(change: float) -> str:
    """For a share's or a count's change; what is shown as 0.0 has no direction."""
    return "→" if abs(change) < 0.0005 else "↑" if change > 0 else "↓"


def _finding(found: Finding | None, summary: Summary) -> None:
    if found:
        components.finding(
            "finding",
            lead=found.lead,
            text=found.sentence,
            tone=found.tone,
            action=f"Show {words.count(found.num_answers)} answers",
            open=Open("traces", filters.link_params(**found.filters)),
        )
        return
    lead, text, tone = _whole_period(summary)
    components.finding(
        "finding", lead=lead, text=text, tone=tone, action=f"Show {words.count(summary.num_down)} thumbs-down",
        open=Open("traces", filters.link_params(rating="down")) if summary.num_down else None,
    )  # fmt: skip


def _other_kinds(summary: Summary, chosen: Mapping[str, str]) -> None:
    """What people said beyond thumbs, each count leading to its list."""
    entries: list[tuple[str, Open | None]] = []
    counts = {
        "correction": summary.num_corrections,
        "flag": summary.num_flags,
        "comparison": summary.num_comparisons,
        "comment": summary.num_comments,
    }
    for kind, count in counts.items():
        target = Open("feedback", {"kind": kind, "since": chosen["since"], "until": chosen["until"]})
        if count:
            entries.append((f"{words.count(count)} {kind if count == 1 else kind + 's'}", target))
    if entries:
        components.links("kinds", entries, label="Other feedback in this period", left=True)


def _whole_period(summary: Summary) -> tuple[str, str, str]:
    """What the summary alone can say, where the server names no finding."""
    rate, change = summary.rate, summary.change
    if rate is None:
        return "No ratings yet", ": ratings appear here as soon as someone rates an answer.", ""
    if change is None:
        young = not summary.previous_is_whole
        return (
            "The project is younger than two such periods" if young else "No ratings in the period before",
            f", so there is nothing to compare with. Now: {words.interval(rate)}.",
            "",
        )
    spread = f"{words.percent(rate.estimate, digits=0)} thumbs-up now, change {words.change(change)}, {words.count(rate.n)} ratings."
    if change.high < 0:
        return "Answers are worse than in the period before", f": {spread}", "bad"
    if change.low > 0:
        return "Answers are better than in the period before", f": {spread}", "good"
    return "No clear change against the period before", f": {spread}", ""


# ------------------------------------------------------------------------------------------------------- charts


def _over_time(trend: Answer[Trend], bucket: str) -> None:
    left, right = st.columns([2, 1], gap="small")

    def open_bucket(row: Mapping[str, Any]) -> None:
        start = parse_time(_as_time(row["time"]))
        end = start + BUCKETS[bucket]
        go(
            Open(
                "traces", filters.link_params(since=format_time(start), until=format_time(end), rating="any")
            )
        )

    with left:
        panels.timeline_panel(
            "trend",
            "Thumbs-up rate",
            f"Band: 95% interval; dashed lines: releases. Click a {bucket} for its answers, drag to choose a period",
            timelines.trend(
                trend.value.points,
                trend.value.releases,
                bucket=bucket,
                open=Open("traces", filters.link_params(rating="any")),
                brush=Open("", filters.link_params(period=None)),
            ),
            empty_text="No ratings in this period.",
        )
    with right:
        panels.chart(
            "coverage",
            "Share of answers rated",
            f"In each {bucket}",
            trend,
            lambda v: plots.coverage(
                v.points if any(p.num_answers for p in v.points) else [],
                panels.colours(),
                bucket=bucket,
            ),
            select="bucket",
            on_select=open_bucket,
            empty_text="No answers in this period.",
        )


def _as_time(value: Any) -> str:
    """A selected time as RFC 3339: Vega gives milliseconds since 1970 for temporal fields."""
    if isinstance(value, (int, float)):
        return format_time(datetime.fromtimestamp(value / 1000, tz=timezone.utc))
    return str(value)


def _by_group(found: Overview) -> None:
    first, second, third = st.columns(3, gap="small")
    with first:
        _dots("by_version", "By prompt version", "prompt_version", "Prompt version", Answer(found.versions))
    with second:
        field = segment_field()
        name = field.removeprefix("metadata.").replace("_", " ").capitalize()
        panels.chart(
            "segments",
            f"{_plain(name)} by version",
            f"Cells under {plots.FEW} ratings are left blank",
            Answer(found.segments),
            lambda v: plots.heatmap(v, panels.colours(), rows=name, columns="Version"),
            height=200,
            select="cell",
            on_select=lambda row: _open_cell(field, row),
            empty_text=f"No ratings with a {_plain(name).lower()} yet.",
        )
    with third:
        _dots("by_model", "By model", "model", "Model", Answer(found.models))


def _dots(key: str, title: str, field: str, what: str, answer: Answer[list[Group]]) -> None:
    panels.chart(
        key,
        title,
        "95% intervals; grey under 30 ratings",
        answer,
        lambda v: plots.dots(_in_order(v, field), panels.colours(), what=what),
        height=200,
        select="group",
        on_select=lambda row: filters.open_group(field, row["value"], rating="any"),
    )


def _open_cell(field: str, row: Mapping[str, Any]) -> None:
    version = narrower("prompt_version", row["value2"])
    if version is not None:
        filters.open_group(field, row["value"], rating="any", **version)


def _in_order(groups: list[Group], field: str) -> list[Group]:
    """The largest groups; versions by their name, because one follows the other."""
    largest = groups[: plots.MAX_GROUPS]
    return sorted(largest, key=lambda g: g.value) if field == "prompt_version" else largest


def _plain(text: str) -> str:
    """A field's name without anything that markdown would read."""
    return "".join(c for c in text if c.isalnum() or c in " .-")[:40] or "Segment"


def _reasons_and_recent(found: Overview, recent: Answer[Any]) -> None:
    left, right = st.columns([1, 2], gap="small")
    with left:
        patterns = found.overrepresented
        if patterns.patterns:
            panels.chart(
                "patterns",
                "Over-represented in thumbs-down",
                "Times more common than in rated answers; false-discovery rate under 5%",
                Answer(patterns),
                lambda v: failures.pattern_bars(v, panels.colours()),
                select="bar",
                on_select=lambda row: failures.open_pattern(patterns, row),
            )
        else:
            panels.chart(
                "reasons",
                "Flags",
                "Flagged answers by category in this period",
                Answer(found.reasons),
                lambda v: failures.flag_bars(v, panels.colours()),
                select="bar",
                on_select=lambda row: go(Open("traces", filters.link_params(flag=row["label"]))),
                empty_text="No flagged answers in this period.",
            )
    with right, panels.panel("recent", stretch=True):
        _recent(recent)


def _recent(recent: Answer[Any]) -> None:
    rater = st.query_params.get("author_kind")
    if rater in filters.RATERS and rater:
        panels.header(f"Recent ratings by {filters.RATERS[rater].lower()}", "Select a row to open the rating")
    else:
        panels.header("Recent thumbs-down", "Select a row to open the trace")
    if recent.error is not None:
        panels.problem(recent.error)
    elif isinstance(recent.value, FeedbackPage) and recent.value.feedback:
        feedback.rows("recent_ratings", recent.value.feedback)
    elif not isinstance(recent.value, CallsPage) or not recent.value.calls:
        panels.empty("None in this period.")
    else:
        columns = ("time", "answer", "tags", "version", "model")
        calls_table.show(
            "recent_down",
            recent.value.calls,
            columns=columns,
            params=filters.link_params(rating="down"),
            caption="Recent thumbs-down",
        )


# ------------------------------------------------------------------------------------------------------- export


def _export_rows(overview: Answer[Overview]) -> list[dict[str, Any]]:
    if overview.error is not None:
        return []
    found = overview.value
    rows = [export.rate_row("trend", "time", format_time(p.time), p) for p in found.trend.points]
    for field, groups in (("prompt_version", found.versions), ("model", found.models)):
        rows += [export.rate_row("by " + field, field, g.value, g) for g in groups]
    for g in found.segments:
        rows.append(export.rate_row("segments", segment_field(), f"{g.value} × {g.value2}", g))
    return rows
