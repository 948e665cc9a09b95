"""Quality over REST: rates with their intervals, trends, groups, comparisons, findings. Every number is made elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from heedloop.schema import format_time, utc_now
from heedloop_server.answers.quality import (
    ComparedValues,
    Drift,
    FindingRecord,
    Flags,
    Groups,
    Heatmap,
    Overrepresented,
    Overview,
    Raters,
    Sample,
    Summary,
    Trend,
)
from heedloop_server.errors import Invalid
from heedloop_server.filters import CallFilters, Filters
from heedloop_server.http.auth import scoped
from heedloop_server.http.openapi import responds
from heedloop_server.routes.verdicts import compared_json, confounding_json, judge, last_day
from heedloop_server.statistics.counts import Group, as_json
from heedloop_server.statistics.drift import LIMIT, AlarmRule, watch
from heedloop_server.statistics.findings import Finding, most_important, worst_of
from heedloop_server.statistics.intervals import difference, wilson
from heedloop_server.statistics.patterns import Attribute, Cell, Pattern, PatternReport, overrepresented
from heedloop_server.statistics.selection import nonresponse_bounds
from heedloop_server.statistics.sentences import compare_sentence, finding_sentence, group_name
from heedloop_server.statistics.stratified import StratifiedComparison, stratified_comparison
from heedloop_server.statistics.versions import VersionComparison, compare_versions
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.quality import counts as store
from heedloop_server.store.quality.counts import Bucket, Metric, View
from heedloop_server.store.quality.patterns import pattern_cells

__all__ = ["router"]

router = APIRouter()

Reader = Annotated[ProjectStore, Depends(scoped("read"))]
FEW = 30
"""Ratings below which a group is said to have too few: its interval is wider than 30 points."""
_STEPS: dict[Bucket, timedelta] = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
FALSE_SHARE = 0.05
"""The expected share of false ones among the groups that are named as over-represented."""


def _view(filters: Filters) -> View:
    since, until = filters.period()
    if since >= until:
        raise Invalid(f"since {format_time(since)} is not before until {format_time(until)}", field="since")
    # the period is settled once, so that every query of a request has the same end
    settled = filters.model_copy(update={"since": since, "until": until})
    return View.of(settled)


Chosen = Annotated[View, Depends(_view)]


@router.get("/v1/quality/summary")
@responds(Summary)
def summary(project: Reader, view: Chosen) -> dict[str, Any]:
    """Counts, rate and coverage of the period and of the equal one before, with the change between them."""
    now, before = store.count_with_before(project, view)
    return _summary_json(
        now, before, store.count_feedback(project, view).kinds, whole=_has_whole_before(project, view)
    )


def _has_whole_before(project: ProjectStore, view: View) -> bool:
    """Whether the project had answers already when the period before began: less than a whole period compares with nothing."""
    since, _ = store.before(view).filters.period()
    first = store.first_call(project)
    return first is not None and first <= since


def _summary_json(now: Group, before: Group, kinds: dict[str, int], *, whole: bool) -> dict[str, Any]:
    return {
        **now.to_json(),
        "previous": before.to_json(),
        "previous_is_whole": whole,
        "change": as_json(difference(now.rate, before.rate)) if whole else None,
        "coverage_change": as_json(difference(now.coverage, before.coverage)) if whole else None,
        "num_corrections": kinds.get("correction", 0),
        "num_flags": kinds.get("flag", 0),
        "num_comparisons": kinds.get("comparison", 0),
        "num_comments": kinds.get("comment", 0),
    }


@router.get("/v1/quality/overview")
@responds(Overview)
def overview(project: Reader, view: Chosen, interval: Bucket = "day", segment: str = "tag") -> dict[str, Any]:
    """A page's worth at once: the other routes' answers, from a few queries that they share."""
    starts = _starts(view.filters, interval)
    store.look_back(project, view)
    with ThreadPoolExecutor(1) as beside:
        others = beside.submit(_others_of_overview, project, view)
        counted = store.count_overview(project, view, interval, segment)
        found = store.releases(project, view)
    said, before, cells = others.result()
    report = overrepresented(cells, min_ratings=FEW, q=FALSE_SHARE)
    return {
        "summary": _summary_json(counted.total, before, said.kinds, whole=_has_whole_before(project, view)),
        "trend": _trend_json(starts, interval, counted.over_time, found),
        "versions": _groups_json(counted.versions),
        "models": _groups_json(counted.models),
        "segments": _groups_json(counted.segments),
        "reasons": _flags_json(said.flags),
        "finding": _finding_json(view, worst_of(cells, report)),
        "overrepresented": _overrepresented_json(view, report, FEW, FALSE_SHARE),
    }


def _others_of_overview(project: ProjectStore, view: View) -> tuple[store.FeedbackCounts, Group, list[Cell]]:
    """What was said, all answers of the period before, and the cells of patterns: half the work of an overview."""
    said, before = store.count_feedback(project, view), store.count_total(project, store.before(view))
    return said, before, pattern_cells(project, view)


@router.get("/v1/quality/trend")
@responds(Trend)
def trend(project: Reader, view: Chosen, interval: Bucket = "day") -> dict[str, Any]:
    """The rate per hour, day or week; every bucket of the period is there, without ratings its rate is null."""
    starts = _starts(view.filters, interval)
    store.look_back(project, view)
    groups = store.count_over_time(project, view, interval)
    return _trend_json(starts, interval, groups, store.releases(project, view))


def _trend_json(
    starts: list[datetime],
    interval: Bucket,
    groups: dict[datetime, Group],
    releases: list[tuple[datetime, str, str]],
) -> dict[str, Any]:
    now = utc_now()
    return {
        "points": [
            {
                "time": format_time(at),
                **groups.get(at, Group()).to_json(),
                "running": at + _STEPS[interval] > now,
            }
            for at in starts
        ],
        "releases": [
            {"time": format_time(at), "field": field, "value": value} for at, field, value in releases
        ],
    }


def _starts(filters: CallFilters, interval: Bucket) -> list[datetime]:
    """The start of every bucket of the period; raises `Invalid` where there are too many."""
    since, until = filters.period()
    step = _STEPS[interval]
    if (until - since) / step > store.MAX_BUCKETS:
        raise Invalid(
            f"{(until - since).days} days hold more than {store.MAX_BUCKETS:,} {interval}s; ask for a longer interval",
            field="interval",
        )
    start = since.replace(minute=0, second=0, microsecond=0)
    if interval != "hour":
        start = start.replace(hour=0)
    if interval == "week":
        start -= timedelta(days=start.weekday())
    starts: list[datetime] = []
    while start < until:
        starts.append(start)
        start += step
    return starts


@router.get("/v1/quality/by")
@responds(Groups)
def by(project: Reader, view: Chosen, field: str, field2: str | None = None) -> dict[str, Any]:
    """The rate per value of one field, or per pair of values of two; those with the most answers first."""
    fields = [field] if field2 is None else [field, field2]
    return {"groups": _groups_json(store.count_by(project, view, fields))}


def _groups_json(groups: store.Groups) -> list[dict[str, Any]]:
    return [
        {**dict(zip(("value", "value2"), values, strict=False)), **group.to_json()}
        for values, group in groups.items()
    ]


@router.get("/v1/quality/heatmap")
@responds(Heatmap)
def heatmap(
    project: Reader, view: Chosen, field: str, field2: str, min_ratings: Annotated[int, Query(ge=1)] = FEW
) -> dict[str, Any]:
    """Two fields against each other: rows, columns, and a cell per pair that occurs."""
    groups = store.count_by(project, view, [field, field2])
    cells = [
        {"value": a, "value2": b, **group.to_json(), "enough": group.ratings.num >= min_ratings}
        for (a, b), group in groups.items()
    ]
    return {
        "field": field,
        "field2": field2,
        "rows": sorted({a for a, _ in groups}),
        "columns": sorted({b for _, b in groups}),
        "cells": cells,
        "min_ratings": min_ratings,
    }


@router.get("/v1/quality/compare")
@responds(ComparedValues)
def compare(
    project: Reader, view: Chosen, field: str, a: str, b: str, stratify: str | None = None
) -> dict[str, Any]:
    """Two values of one field: difference, always-valid test, what is still needed; within strata where asked."""
    if a == b:
        raise Invalid(f"a and b are both {a!r}; name two values to compare", field="b")
    groups = store.count_by(project, view, [field], values=[a, b])
    sides = {value: groups.get((value,), Group()) for value in (a, b)}
    days = store.days_of_pair(store.count_days(project, view, field), a, b)
    found = compare_versions(*days, as_of=last_day(view))
    verdict = judge(project, view, (field, a, [b]), found)
    strata = None if stratify is None else _stratified(project, view, (field, a, b), found, stratify)
    return {
        "a": {"value": a, **sides[a].to_json()},
        "b": {"value": b, **sides[b].to_json()},
        "compared": compared_json(found),
        "difference": as_json(found.difference),
        "e_value": min(found.test.e_value, 1e300),
        "decided": verdict.decided,
        "confounding": confounding_json(verdict.confounding),
        "num_needed": verdict.num_needed,
        "design": found.design,
        "sentence": compare_sentence((a, b), found, verdict.confounding),
        "stratified": None if strata is None else _strata_json(strata),
    }


def _stratified(
    project: ProjectStore,
    view: View,
    sides: tuple[str, str, str],
    found: VersionComparison,
    stratify: str,
) -> StratifiedComparison:
    field, a, b = sides
    if stratify == field:
        raise Invalid(
            f"stratify by another field than {field!r}, which is what is compared", field="stratify"
        )
    pair = store.Pair(field, a, (b,), found.days_a, found.days_b)
    strata = store.count_strata(project, view, pair, [stratify])[stratify]
    return stratified_comparison({" + ".join(values): strata[values] for values in sorted(strata)})


def _strata_json(found: StratifiedComparison) -> dict[str, Any]:
    return {
        "strata": [
            {"value": s.name, "a": as_json(s.a), "b": as_json(s.b), "difference": as_json(s.difference)}
            for s in found.strata
        ],
        "difference": as_json(found.difference),
        "odds_ratio": as_json(found.odds_ratio),
        "p_value": found.p_value,
        "reversal": found.reversal,
    }


@router.get("/v1/quality/reasons")
@responds(Flags)
def reasons(project: Reader, view: Chosen) -> dict[str, Any]:
    """What people flagged, by category: how many answers."""
    return _flags_json(store.count_feedback(project, view).flags)


def _flags_json(flags: dict[str, int]) -> dict[str, Any]:
    return {"flags": [{"category": category, "count": count} for category, count in flags.items()]}


@router.get("/v1/quality/overrepresented")
@responds(Overrepresented)
def over_represented(
    project: Reader,
    view: Chosen,
    min_ratings: Annotated[int, Query(ge=1)] = FEW,
    q: Annotated[float, Query(gt=0, lt=1)] = FALSE_SHARE,
) -> dict[str, Any]:
    """Groups of one or two attributes that are more common among thumbs-down than among rated answers."""
    report = overrepresented(pattern_cells(project, view), min_ratings=min_ratings, q=q)
    return _overrepresented_json(view, report, min_ratings, q)


def _overrepresented_json(view: View, report: PatternReport, min_ratings: int, q: float) -> dict[str, Any]:
    return {
        "patterns": [_pattern_json(view, p) for p in report.patterns],
        "explained": [_pattern_json(view, p) for p in report.explained],
        "num_tested": report.num_tested,
        "num_rated": report.num_rated,
        "num_down": report.num_bad,
        "q": q,
        "min_ratings": min_ratings,
    }


def _pattern_json(view: View, pattern: Pattern) -> dict[str, Any]:
    return {
        "label": group_name(pattern.attributes),
        "attributes": _attributes_json(pattern.attributes),
        "num_rated": pattern.num_rated,
        "num_down": pattern.num_bad,
        "down_rate": as_json(pattern.bad),
        "lift": pattern.lift,
        "lift_low": pattern.lift_low,
        "p_value": pattern.p_value,
        "q_value": pattern.q_value,
        "explained_by": None if pattern.explained_by is None else group_name(pattern.explained_by),
        "filters": _filters_json(view, pattern.attributes, rating="down"),
    }


def _attributes_json(attributes: tuple[Attribute, ...]) -> list[dict[str, str]]:
    return [{"field": field, "value": value} for field, value in attributes]


def _filters_json(view: View, attributes: Iterable[Attribute], **more: str) -> dict[str, Any]:
    """Query parameters of /v1/calls, but the period, that list exactly the view's answers with these attributes."""
    filters = view.filters.parameters()
    if view.author_kind != "end_user":
        filters["author_kind"] = view.author_kind
    for field, value in attributes:
        if field == "tag":
            tags = filters.get("tag", [])
            filters["tag"] = tags if value in tags else [*tags, value]
        else:
            filters[field] = value
    return filters | more


@router.get("/v1/quality/finding")
@responds(FindingRecord | None)
def finding(
    project: Reader, view: Chosen, min_ratings: Annotated[int, Query(ge=1)] = FEW
) -> dict[str, Any] | None:
    """The one finding to see first; null where nothing is significant over all groups looked at."""
    return _finding_json(view, most_important(pattern_cells(project, view), min_ratings=min_ratings))


def _finding_json(view: View, found: Finding | None) -> dict[str, Any] | None:
    if found is None:
        return None
    lead, sentence = finding_sentence(found)
    field, value = found.attributes[-1]
    return {
        "field": field,
        "value": value,
        "attributes": _attributes_json(found.attributes),
        "rate": as_json(found.rate),
        "other_rate": as_json(found.other_rate),
        "n": found.rate.n,
        "change": as_json(found.change),
        "num_answers": found.num_down,
        "lift": found.lift,
        "q_value": found.q_value,
        "num_tested": found.num_tested,
        "filters": _filters_json(view, found.attributes, rating="down"),
        "lead": lead,
        "sentence": sentence,
        "tone": "bad",
    }


@router.get("/v1/quality/raters")
@responds(Raters)
def raters(
    project: Reader, view: Chosen, field: Annotated[list[str] | None, Query()] = None
) -> dict[str, Any]:
    """Who rates: coverage of new and returning users, and by each field asked for."""
    names = field or ["answer_chars", "language", "status"]
    total, by_field = store.count_each(project, view, list(dict.fromkeys(["user", *names])))
    users = {v: g for v, g in by_field["user"].items() if v in ("new", "returning")}
    by_field = {"user": dict(sorted(users.items())), **{n: by_field[n] for n in names if n != "user"}}
    segments = [
        {"field": name, "value": value, **group.to_json(), "filters": _filters_json(view, [(name, value)])}
        for name, groups in by_field.items()
        for value, group in groups.items()
    ]
    return {**total.to_json(), "segments": segments}


@router.get("/v1/quality/drift")
@responds(Drift | None)
def drift(
    project: Reader, view: Chosen, interval: Bucket = "day", metric: Metric = "rate"
) -> dict[str, Any] | None:
    """Has it become worse than in the period before? Null where that period has no rate strictly within 0 to 1."""
    before = store.measured_total(project, store.before(view), metric)
    baseline = wilson(*before)
    if baseline is None or not 0 < baseline.estimate < 1:
        return None
    rule = AlarmRule(baseline=baseline.estimate, direction="higher" if metric == "errors" else "lower")
    alarm = watch("all", rule, store.measured(project, view, metric, interval))
    return {
        "metric": metric,
        "state": alarm.state,
        "baseline": as_json(baseline),
        "evidence": alarm.evidence / LIMIT,
        "num_rated": alarm.num_ratings,
        "history": [
            {"time": format_time(c.at), "before": c.before, "after": c.after, "evidence": c.evidence / LIMIT}
            for c in alarm.history
        ],
    }


@router.get("/v1/quality/sample")
@responds(Sample)
def sample(project: Reader, view: Chosen) -> dict[str, Any]:
    """The rate of a random review sample beside that of those who chose to rate, and what coverage alone allows."""
    chosen = store.count_total(project, View(view.filters, "end_user"))
    drawn = store.count_sample(project, view).rate_by_design(store.design_weights(project))
    return {
        "self_selected": as_json(chosen.rate),
        "random_sample": as_json(drawn),
        "difference": as_json(difference(chosen.rate, drawn)),
        "coverage": as_json(chosen.coverage),
        "bounds": _bounds_json(chosen),
    }


def _bounds_json(group: Group) -> dict[str, float] | None:
    bounds = nonresponse_bounds(group.ratings.num_up, group.ratings.num, group.num_answers)
    return None if bounds is None else {"low": bounds[0], "high": bounds[1]}
