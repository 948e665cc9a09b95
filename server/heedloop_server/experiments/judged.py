"""The metric `judge`: annotators' rate in each arm, from a judge's word on every judged answer and annotators' on audited ones."""

from __future__ import annotations

from collections import Counter, defaultdict

from heedloop.responses.experiments import Experiment
from heedloop_server.experiments.hash_line import step_ends
from heedloop_server.filters import CallFilters
from heedloop_server.judges.audits import read_audits
from heedloop_server.statistics.randomised import UnitSums
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.experiment_outcomes import Outcomes, UnitAnswer, judged_units
from heedloop_server.store.judges import list_judges

MIN_AUDITS = 30
"""Audited answers of the experiment before anything is said: an unmeasured judge says nothing."""


def judged_outcomes(project: ProjectStore, experiment: Experiment, judge_id: str) -> Outcomes:
    """Sums by step and arm of f + (y - f) / π over judged answers; the second part is that of audited ones alone.

    f is the judge's share, y the annotators', π the probability with which the answer was drawn for the audit; so the
    expectation is the annotators' rate whatever the judge is worth.

    Source: Angelopoulos et al. 2023, Science 382:669-674 (prediction-powered inference); Robins, Rotnitzky & Zhao 1994.
    """
    found = list_judges(project, judge_id)
    answers = judged_units(project, experiment, judge_id) if found else []
    if not answers:
        return Outcomes([], 0)
    filters = CallFilters(since=experiment.started_at).of_all_times()
    known = read_audits(project, found[0].spec, found[0].spec.names[0], filters)
    values = {j.key: j.share for j in known.judged}
    units = {a.key: a for a in answers}
    audits = [a for a in known.audits if a.key in units]
    if len(audits) < MIN_AUDITS:
        return Outcomes([], 0)
    for audit in audits:
        values[audit.key] += (audit.people - audit.judge) / audit.probability
    return _summed(experiment, answers, values)


def _summed(experiment: Experiment, answers: list[UnitAnswer], values: dict[str, float]) -> Outcomes:
    first: dict[str, str] = {}
    arms_of: defaultdict[str, set[str]] = defaultdict(set)
    n, y = Counter[str](), defaultdict[str, float](float)
    for answer in answers:
        if answer.key in values:
            first.setdefault(answer.unit, answer.arm)
            arms_of[answer.unit].add(answer.arm)
            n[answer.unit] += 1
            y[answer.unit] += values[answer.key]
    places = {arm.name: place for place, arm in enumerate(experiment.spec.arms)}
    ends = step_ends(experiment.steps)
    cells: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for unit, arm in first.items():
        step = sum(end <= int(unit[:8], 16) for end in ends)
        if arm in places and step < len(ends):
            cells[step, places[arm]].append(unit)
    sums = [
        UnitSums(
            step=step,
            arm=arm,
            probability=experiment.steps[step].probabilities[arm],
            units=len(units),
            n=sum(n[u] for u in units),
            y=sum(y[u] for u in units),
            nn=sum(n[u] ** 2 for u in units),
            ny=sum(n[u] * y[u] for u in units),
            yy=sum(y[u] ** 2 for u in units),
        )
        for (step, arm), units in sorted(cells.items())
    ]
    return Outcomes(sums, sum(len(arms) > 1 for arms in arms_of.values()))
