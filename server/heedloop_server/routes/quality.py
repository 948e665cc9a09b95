"""Quality over REST: rates with their intervals, trends, groups, comparisons, findings. Every number is made elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import Depends, Query

from heedloop import responses
from heedloop.schema import format_time, utc_now
from heedloop_server.errors import Invalid
from heedloop_server.filters import CallFilters, Filters
from heedloop_server.http.services import ReadProject
from heedloop_server.http.shared_responses import SharedRouter
from heedloop_server.routes.verdicts import compared_ratings, judge, last_day
from heedloop_server.statistics.counts import Group
from heedloop_server.statistics.drift import LIMIT, AlarmRule, watch
from heedloop_server.statistics.findings import Finding, most_important, worst_of
from heedloop_server.statistics.intervals import difference, wilson
from heedloop_server.statistics.patterns import Attribute, Cell, Pattern, PatternReport, overrepresented
from heedloop_server.statistics.selection import nonresponse_bounds
from heedloop_server.statistics.sentences import compare_sentence, finding_sentence, group_name
from heedloop_server.statistics.stratified import stratified_comparison
from heedloop_server.statistics.versions import VersionComparison, compare_versions
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.quality import counts as store
from heedloop_server.store.quality import pairs
from heedloop_server.store.quality.counts import Bucket, Metric, View
from heedloop_server.store.quality.patterns import pattern_cells

router = SharedRouter()

FEW = 30
"""Ratings below which a group is said to have too few: its interval is wider than 30 points."""
BUCKET_LENGTH: dict[Bucket, timedelta] = {
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
def summary(project: ReadProject, view: Chosen) -> responses.Summary:
    """Counts, rate and coverage of the period and of the equal one before, with the change between them."""
    now, before = store.count_with_before(project, view)
    return _summary(
        now, before, store.count_feedback(project, view).kinds, whole=_has_whole_before(project, view)
    )


def _has_whole_before(project: ProjectStore, view: View) -> bool:
    """Whether the project had answers already when the period before began: less than a whole period compares with nothing."""
    since, _ = store.before(view).filters.period()
    first = store.first_call(project)
    return first is not None and first <= since


def _summary(now: Group, before: Group, kinds: dict[str, int], *, whole: bool) -> responses.Summary:
    return now.as_record(
        responses.Summary,
        previous=before.as_record(responses.Counts),
        previous_is_whole=whole,
        change=difference(now.rate, before.rate) if whole else None,
        coverage_change=difference(now.coverage, before.coverage) if whole else None,
        num_corrections=kinds.get("correction", 0),
        num_flags=kinds.get("flag", 0),
        num_comparisons=kinds.get("comparison", 0),
        num_comments=kinds.get("comment", 0),
    )


@router.get("/v1/quality/overview")
def overview(
    project: ReadProject, view: Chosen, interval: Bucket = "day", segment: str = "tag"
) -> responses.Overview:
    """A page's worth at once: the other routes' responses, from a few queries that they share."""
    starts = bucket_starts(view.filters, interval)
    store.look_back(project, view)
    with ThreadPoolExecutor(1) as beside:
        others = beside.submit(_others_of_overview, project, view)
        counted = store.count_overview(project, view, interval, segment)
        found = store.releases(project, view)
    feedback, before, cells = others.result()
    report = overrepresented(cells, min_ratings=FEW, q=FALSE_SHARE)
    return responses.Overview(
        summary=_summary(counted.total, before, feedback.kinds, whole=_has_whole_before(project, view)),
        trend=_trend(starts, interval, counted.over_time, found),
        versions=_groups(counted.versions),
        models=_groups(counted.models),
        segments=_groups(counted.segments),
        reasons=_flags(feedback.flags),
        finding=_finding(view, worst_of(cells, report)),
        overrepresented=_overrepresented(view, report, FEW, FALSE_SHARE),
    )


def _others_of_overview(project: ProjectStore, view: View) -> tuple[store.FeedbackCounts, Group, list[Cell]]:
    """Feedback by kind, all answers of the period before, and the cells of patterns: half the work of an overview."""
    feedback, before = store.count_feedback(project, view), store.count_total(project, store.before(view))
    return feedback, before, pattern_cells(project, view)


@router.get("/v1/quality/trend")
def trend(project: ReadProject, view: Chosen, interval: Bucket = "day") -> responses.Trend:
    """The rate per hour, day or week; every bucket of the period is there, without ratings its rate is null."""
    starts = bucket_starts(view.filters, interval)
    store.look_back(project, view)
    groups = store.count_over_time(project, view, interval)
    return _trend(starts, interval, groups, store.releases(project, view))


def _trend(
    starts: list[datetime],
    interval: Bucket,
    groups: dict[datetime, Group],
    releases: list[tuple[datetime, str, str]],
) -> responses.Trend:
    now, step, empty = utc_now(), BUCKET_LENGTH[interval], Group()
    return responses.Trend(
        points=[
            groups.get(at, empty).as_record(responses.Point, time=at, running=at + step > now)
            for at in starts
        ],
        releases=[responses.Release(time=at, field=field, value=value) for at, field, value in releases],
    )


def bucket_starts(filters: CallFilters, interval: Bucket) -> list[datetime]:
    """The start of every bucket of the period; raises `Invalid` where there are too many."""
    since, until = filters.period()
    step = BUCKET_LENGTH[interval]
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
def by(project: ReadProject, view: Chosen, field: str, field2: str | None = None) -> responses.Groups:
    """The rate per value of one field, or per pair of values of two; those with the most answers first."""
    fields = [field] if field2 is None else [field, field2]
    return responses.Groups(groups=_groups(store.count_by(project, view, fields)))


def _groups(groups: store.Groups) -> list[responses.Group]:
    return [
        group.as_record(responses.Group, **dict(zip(("value", "value2"), values, strict=False)))
        for values, group in groups.items()
    ]


@router.get("/v1/quality/heatmap")
def heatmap(
    project: ReadProject,
    view: Chosen,
    field: str,
    field2: str,
    min_ratings: Annotated[int, Query(ge=1)] = FEW,
) -> responses.Heatmap:
    """Two fields against each other: rows, columns, and a cell per pair that occurs."""
    groups = store.count_by(project, view, [field, field2])
    cells = [
        group.as_record(responses.Cell, value=a, value2=b, enough=group.ratings.num >= min_ratings)
        for (a, b), group in groups.items()
    ]
    return responses.Heatmap(
        field=field,
        field2=field2,
        rows=sorted({a for a, _ in groups}),
        columns=sorted({b for _, b in groups}),
        cells=cells,
        min_ratings=min_ratings,
    )


@router.get("/v1/quality/compare")
def compare(
    project: ReadProject, view: Chosen, field: str, a: str, b: str, stratify: str | None = None
) -> responses.ComparedValues:
    """Two values of one field: difference, always-valid test, what is still needed; within strata where asked."""
    if a == b:
        raise Invalid(f"a and b are both {a!r}; name two values to compare", field="b")
    groups = store.count_by(project, view, [field], values=[a, b])
    sides = {value: groups.get((value,), Group()).as_record(responses.Group, value=value) for value in (a, b)}
    days = pairs.days_of_pair(pairs.count_days(project, view, field), a, b)
    found = compare_versions(*days, as_of=last_day(view))
    verdict = judge(project, view, (field, a, [b]), found)
    return responses.ComparedValues(
        a=sides[a],
        b=sides[b],
        compared=compared_ratings(found),
        difference=found.difference,
        e_value=min(found.test.e_value, 1e300),
        decided=verdict.decided,
        confounding=verdict.confounding,
        num_needed=verdict.num_needed,
        design=found.design,
        sentence=compare_sentence((a, b), found, verdict.confounding),
        stratified=None if stratify is None else _stratified(project, view, (field, a, b), found, stratify),
    )


def _stratified(
    project: ProjectStore,
    view: View,
    sides: tuple[str, str, str],
    found: VersionComparison,
    stratify: str,
) -> responses.Stratified:
    field, a, b = sides
    if stratify == field:
        raise Invalid(
            f"stratify by another field than {field!r}, which is what is compared", field="stratify"
        )
    pair = pairs.Pair(field, a, (b,), found.days_a, found.days_b)
    tables = pairs.count_strata(project, view, pair, [stratify])[stratify]
    within = stratified_comparison({" + ".join(values): tables[values] for values in sorted(tables)})
    return responses.picked(responses.Stratified, within, strata=list(within.strata))


@router.get("/v1/quality/reasons")
def reasons(project: ReadProject, view: Chosen) -> responses.Flags:
    """Flagged answers by category."""
    return _flags(store.count_feedback(project, view).flags)


def _flags(flags: dict[str, int]) -> responses.Flags:
    return responses.Flags(flags=[responses.Flag(category=c, count=n) for c, n in flags.items()])


@router.get("/v1/quality/overrepresented")
def over_represented(
    project: ReadProject,
    view: Chosen,
    min_ratings: Annotated[int, Query(ge=1)] = FEW,
    q: Annotated[float, Query(gt=0, lt=1)] = FALSE_SHARE,
) -> responses.Overrepresented:
    """Groups of one or two attributes that are more common among thumbs-down than among rated answers."""
    report = overrepresented(pattern_cells(project, view), min_ratings=min_ratings, q=q)
    return _overrepresented(view, report, min_ratings, q)


def _overrepresented(
    view: View, report: PatternReport, min_ratings: int, q: float
) -> responses.Overrepresented:
    return responses.picked(
        responses.Overrepresented,
        report,
        patterns=[_pattern(view, p) for p in report.patterns],
        explained=[_pattern(view, p) for p in report.explained],
        num_down=report.num_bad,
        q=q,
        min_ratings=min_ratings,
    )


def _pattern(view: View, pattern: Pattern) -> responses.Pattern:
    return responses.picked(
        responses.Pattern,
        pattern,
        label=group_name(pattern.attributes),
        attributes=_attributes(pattern.attributes),
        num_down=pattern.num_bad,
        down_rate=pattern.bad,
        explained_by=None if pattern.explained_by is None else group_name(pattern.explained_by),
        filters=_parameters(view, pattern.attributes, rating="down"),
    )


def _attributes(attributes: tuple[Attribute, ...]) -> list[responses.Attribute]:
    return [responses.Attribute(field, value) for field, value in attributes]


def _parameters(view: View, attributes: Iterable[Attribute], **more: str) -> dict[str, Any]:
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
def finding(
    project: ReadProject, view: Chosen, min_ratings: Annotated[int, Query(ge=1)] = FEW
) -> responses.Finding | None:
    """The one finding to see first; null where nothing is significant over all groups looked at."""
    return _finding(view, most_important(pattern_cells(project, view), min_ratings=min_ratings))


def _finding(view: View, found: Finding | None) -> responses.Finding | None:
    if found is None:
        return None
    lead, sentence = finding_sentence(found)
    field, value = found.attributes[-1]
    return responses.picked(
        responses.Finding,
        found,
        field=field,
        value=value,
        attributes=_attributes(found.attributes),
        n=found.rate.n,
        num_answers=found.num_down,
        filters=_parameters(view, found.attributes, rating="down"),
        lead=lead,
        sentence=sentence,
        tone="bad",
    )


@router.get("/v1/quality/raters")
def raters(
    project: ReadProject, view: Chosen, field: Annotated[list[str] | None, Query()] = None
) -> responses.Raters:
    """Who rates: coverage of new and returning users, and by each field asked for."""
    names = field or ["answer_chars", "language", "status"]
    total, by_field = store.count_each(project, view, list(dict.fromkeys(["user", *names])))
    users = {v: g for v, g in by_field["user"].items() if v in ("new", "returning")}
    by_field = {"user": dict(sorted(users.items())), **{n: by_field[n] for n in names if n != "user"}}
    segments = [
        group.as_record(
            responses.Segment, field=name, value=value, filters=_parameters(view, [(name, value)])
        )
        for name, groups in by_field.items()
        for value, group in groups.items()
    ]
    return total.as_record(responses.Raters, segments=segments)


@router.get("/v1/quality/drift")
def drift(
    project: ReadProject, view: Chosen, interval: Bucket = "day", metric: Metric = "rate"
) -> responses.Drift | None:
    """Has it become worse than in the period before? Null where that period has no rate strictly within 0 to 1."""
    before = store.measured_total(project, store.before(view), metric)
    baseline = wilson(*before)
    if baseline is None or not 0 < baseline.estimate < 1:
        return None
    rule = AlarmRule(baseline=baseline.estimate, direction="higher" if metric == "errors" else "lower")
    alarm = watch("all", rule, store.measured(project, view, metric, interval))
    return responses.Drift(
        metric=metric,
        state=alarm.state,
        baseline=baseline,
        evidence=alarm.evidence / LIMIT,
        num_rated=alarm.num_ratings,
        history=[
            responses.DriftChange(time=c.at, before=c.before, after=c.after, evidence=c.evidence / LIMIT)
            for c in alarm.history
        ],
    )


@router.get("/v1/quality/sample")
def sample(project: ReadProject, view: Chosen) -> responses.Sample:
    """The rate of a random review sample beside that of those who chose to rate, and what coverage alone allows."""
    chosen = store.count_total(project, View(view.filters, "end_user"))
    drawn = store.count_sample(project, view).rate_by_design(store.design_weights(project))
    bounds = nonresponse_bounds(chosen.ratings.num_up, chosen.ratings.num, chosen.num_answers)
    return responses.Sample(
        self_selected=chosen.rate,
        random_sample=drawn,
        difference=difference(chosen.rate, drawn),
        coverage=chosen.coverage,
        bounds=None if bounds is None else responses.Bounds(*bounds),
    )
