"""The two sides of an evaluation and their differences: pure but for `read_sides`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from heedloop.responses.evaluations import (
    Better,
    EvaluationRow,
    MetricDifference,
    SliceDifferences,
)
from heedloop_server.errors import Invalid
from heedloop_server.statistics.clusters import Cluster, cluster_texts
from heedloop_server.statistics.paired import mean_difference
from heedloop_server.statistics.prediction_powered import paired_difference
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.evaluations import list_evaluation_rows, read_shares
from heedloop_server.store.judges import answer_facts, list_judges

MIN_SLICE = 10
"""Cases that a slice needs to be shown."""
LOWER_IS_BETTER, UNJUDGED = ("latency_ms", "cost"), ("characters",)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of the cases: case id -> (new, baseline), and (of a judge) annotators' shares of the same two answers."""

    name: str
    values: Mapping[str, tuple[float, float]]
    people: Mapping[str, tuple[float, float]]

    @property
    def better(self) -> Better:
        """Which way is better."""
        return "lower" if self.name in LOWER_IS_BETTER else "" if self.name in UNJUDGED else "higher"


@dataclass(frozen=True, slots=True)
class Sides:
    """The rows of an evaluation with what they are compared with, and their metrics, those of judges first."""

    rows: list[EvaluationRow]
    metrics: list[Metric]

    def metric(self, name: str | None) -> Metric:
        """The metric of a name, else the first; raises `Invalid` for one that there is not."""
        for metric in self.metrics:
            if name in (None, metric.name):
                return metric
        known = ", ".join(m.name for m in self.metrics) or "none: nothing is answered on both sides"
        raise Invalid(f"there is no metric {name!r:.80} here; there are {known}", field="metric")


def read_sides(project: ProjectStore, name: str, against: str, judges: Iterable[str]) -> Sides:
    """An evaluation next to production's answers, or next to those of the evaluation `against`."""
    rows = list_evaluation_rows(project, name)
    if against:
        before = {r.case_id: r for r in list_evaluation_rows(project, against)}
        rows = [_against(r, before.get(r.case_id)) for r in rows]
    answered = [r for r in rows if r.trace_id]
    metrics = [m for j in judges for m in _judged(project, answered, j)]
    names = sorted(
        dict.fromkeys(n for r in answered for n in r.scores), key=(*UNJUDGED, *LOWER_IS_BETTER).__contains__
    )  # regressions are listed by the first
    metrics += [_scored(answered, n) for n in names]
    return Sides(rows, [m for m in metrics if m.values])


def _against(row: EvaluationRow, before: EvaluationRow | None) -> EvaluationRow:
    if before is None:
        return replace(row, baseline_trace_id="", baseline_span_id="", baseline_scores={})
    return replace(
        row,
        baseline_trace_id=before.trace_id,
        baseline_span_id=before.span_id,
        baseline_scores=before.scores,
    )


def _scored(rows: Iterable[EvaluationRow], name: str) -> Metric:
    both = {
        r.case_id: (r.scores[name], r.baseline_scores[name])
        for r in rows
        if name in r.scores and name in r.baseline_scores
    }
    return Metric(name, both, {})


def _judged(project: ProjectStore, rows: Sequence[EvaluationRow], judge_id: str) -> list[Metric]:
    """A metric per question of a judge; of a pairwise one the new answer's share of wins, against one half."""
    found = list_judges(project, judge_id)
    if not found or found[0].spec.form == "session":
        return []
    spec = found[0].spec
    traces = sorted({t for r in rows for t in (r.trace_id, r.baseline_trace_id) if t})
    result: list[Metric] = []
    for question in spec.names:
        shares = read_shares(project, judge_id, question, traces, pairs=spec.form == "pairwise")
        of = _wins if spec.form == "pairwise" else _two
        both = [of(r, shares.judge) for r in rows], [of(r, shares.people) for r in rows]
        values, people = (
            {r.case_id: v for r, v in zip(rows, side, strict=True) if v is not None} for side in both
        )
        name = judge_id if len(spec.names) == 1 else f"{judge_id} {question}"
        result.append(Metric(name, values, {k: v for k, v in people.items() if k in values}))
    return result


def _two(row: EvaluationRow, shares: Mapping[str, float]) -> tuple[float, float] | None:
    new = shares.get(row.trace_id + row.span_id)
    baseline = shares.get(row.baseline_trace_id + row.baseline_span_id)
    return None if new is None or baseline is None else (new, baseline)


def _wins(row: EvaluationRow, shares: Mapping[str, float]) -> tuple[float, float] | None:
    own, other = row.trace_id + row.span_id, row.baseline_trace_id + row.baseline_span_id
    first, last = sorted((own, other))
    share = shares.get(f"{first}|{last}")
    return None if share is None else (share if own == first else 1 - share, 0.5)


# ------------------------------------------------------------------------------------------------------ differences


def differences(
    sides: Sides, among: Callable[[EvaluationRow], bool] = lambda _: True
) -> list[MetricDifference]:
    """Every metric's difference among some of the rows."""
    groups = {r.case_id: r.group or r.case_id for r in sides.rows if among(r)}
    return [_difference(m, groups) for m in sides.metrics if m.values.keys() & groups.keys()]


def _difference(metric: Metric, groups: Mapping[str, str]) -> MetricDifference:
    """The judge's shares alone are people's shares of that judge: they say what it would say, not what annotators would."""
    cases = [c for c in metric.values if c in groups]
    new, baseline = ([metric.values[c][side] for c in cases] for side in (0, 1))
    labelled = [c for c in cases if c in metric.people]
    if labelled:
        others = [metric.values[c] for c in cases if c not in metric.people]
        combined = paired_difference(
            _columns([metric.people[c] for c in labelled]),
            _columns([metric.values[c] for c in labelled]),
            _columns(others),
            groups=[groups[c] for c in labelled],
        )
        interval = None if combined is None else combined.interval
    else:
        interval = mean_difference(new, baseline, [groups[c] for c in cases])
    difference = MetricDifference(
        name=metric.name,
        better=metric.better,
        new=sum(new) / len(new),
        baseline=sum(baseline) / len(baseline),
        difference=interval,
        num_cases=len(cases),
        num_people=len(labelled),
    )
    return replace(difference, verdict=_verdict(difference))


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [a for a, _ in pairs], [b for _, b in pairs]


def _verdict(metric: MetricDifference) -> str:
    d = metric.difference
    if d is None or not metric.better or d.low <= 0 <= d.high:
        return "undecided"
    return "better" if (d.low > 0) == (metric.better == "higher") else "worse"


def with_topics(project: ProjectStore, sides: Sides) -> Sides:
    """The same with the slice `topic`: clusters of the questions, where there are enough to be clustered."""
    facts = answer_facts(project, (r.trace_id for r in sides.rows if r.trace_id))
    rows = [r for r in sides.rows if r.trace_id + r.span_id in facts]
    clusters = _clusters(tuple(facts[r.trace_id + r.span_id].question for r in rows))
    topics = {rows[i].case_id: c.name for c in clusters for i in c.members}
    topic = {r.case_id: {"topic": topics[r.case_id]} if r.case_id in topics else {} for r in sides.rows}
    return Sides([replace(r, slices={**r.slices, **topic[r.case_id]}) for r in sides.rows], sides.metrics)


@lru_cache(maxsize=4)
def _clusters(questions: tuple[str, ...]) -> list[Cluster]:
    """Clusters of questions, which take seconds, remembered while a page is looked at."""
    return cluster_texts(questions)


def slice_differences(sides: Sides) -> list[SliceDifferences]:
    """The differences of each slice that has enough cases, the largest first."""
    sizes: dict[tuple[str, str], int] = {}
    for row in sides.rows:
        for key in row.slices.items():
            sizes[key] = sizes.get(key, 0) + bool(row.trace_id)
    wanted = sorted((k for k, n in sizes.items() if n >= MIN_SLICE), key=lambda k: (-sizes[k], k))
    return [
        SliceDifferences(
            name=name,
            value=value,
            num_cases=sizes[name, value],
            metrics=differences(sides, lambda r, n=name, v=value: r.slices.get(n) == v),
        )
        for name, value in wanted
    ]


def in_order(sides: Sides, metric: Metric, order: str) -> list[EvaluationRow]:
    """The rows that have a metric: the worst losses first, the best gains first, or the least decided first."""
    sign = -1.0 if metric.better == "lower" else 1.0
    gains = {c: sign * (new - baseline) for c, (new, baseline) in metric.values.items()}
    keys: dict[str, Callable[[EvaluationRow], tuple[float, str]]] = {
        "worst": lambda r: (gains[r.case_id], r.case_id),
        "best": lambda r: (-gains[r.case_id], r.case_id),
        "doubtful": lambda r: (abs(gains[r.case_id]), r.case_id),
    }
    return sorted((r for r in sides.rows if r.case_id in gains), key=keys[order])
