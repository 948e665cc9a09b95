"""How each annotator works: right on gold, harsh or mild, trustworthy, quick, steady. And by what they should not go.

Everything is an estimate with an interval; `careless` is said only where the interval says so, with its reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median

import numpy as np

from heedloop import responses
from heedloop.responses import Interval
from heedloop_server.review.control.consensus import fit, gold_units
from heedloop_server.review.control.copying import Copied, copied_pairs
from heedloop_server.review.control.drift import accuracy_changes, combined_change, is_less_accurate
from heedloop_server.review.control.labels import Judged, Label, Unit, labels
from heedloop_server.review.questions import Question
from heedloop_server.statistics.consensus import AnnotatorQuality
from heedloop_server.statistics.intervals import wilson
from heedloop_server.statistics.means import bootstrap_mean

ByUnit = Mapping[Unit, Mapping[str, Label]]
"""Unit -> annotator -> label."""

FEWEST = 10
"""Judgements below which no annotator is called careless."""
SAME_ANSWER = 0.95
"""Share of one and the same answer from which it is said that an annotator hardly varies, where the others do."""
QUICK = 1 / 3
"""Share of the others' median time below which it is said that an annotator is quick."""


@dataclass(slots=True)
class Annotator:
    """What is known of one annotator."""

    author_id: str
    num_items: int = 0
    num_judgements: int = 0
    gold: Interval | None = None
    gold_by_question: dict[str, Interval | None] = field(default_factory=dict[str, "Interval | None"])
    severity: dict[str, Interval | None] = field(default_factory=dict[str, "Interval | None"])
    reliability: dict[str, AnnotatorQuality] = field(default_factory=dict[str, AnnotatorQuality])
    median_s: float | None = None
    drift: Interval | None = None
    careless: bool = False
    reasons: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])

    def response(self) -> responses.Annotator:
        """What the REST API says of the annotator."""
        reliability = {
            q: responses.Reliability(accuracy=r.accuracy, informedness=r.informedness)
            for q, r in self.reliability.items()
        }
        return responses.extended(responses.Annotator, self, reliability=reliability)


def annotators(
    questions: Sequence[Question], judged: Sequence[Judged], gold: Mapping[str, Judged]
) -> list[Annotator]:
    """Every annotator of a queue, by id. `gold`: the expected answers by item id."""
    result = {a: Annotator(a) for a in sorted({j.annotator for j in judged})}
    for author_id, one in result.items():
        own = [j for j in judged if j.annotator == author_id]
        one.num_items = len({j.item_id for j in own})
        times = [j.duration_ms / 1000 for j in own if j.duration_ms]
        one.median_s = median(times) if times else None
    for question in questions:
        _question(question, judged, gold, result)
    _overall(result)
    _copying(result, copied_pairs(questions, judged))
    # a copy or a guess is no evidence of the truth: it makes a steady annotator look as if they had changed
    _drift(result, questions, [j for j in judged if not result[j.annotator].careless], gold)
    _speed(result)
    return list(result.values())


def _question(
    question: Question,
    judged: Sequence[Judged],
    gold: Mapping[str, Judged],
    result: Mapping[str, Annotator],
) -> None:
    by_unit: dict[Unit, dict[str, Label]] = {}
    for annotator, unit, label in labels(question, judged):
        by_unit.setdefault(unit, {})[annotator] = label
    if not by_unit:
        return
    expected = gold_units(question, gold)
    model = fit(question, judged, gold)
    for author_id, one in result.items():
        own = {u: votes[author_id] for u, votes in by_unit.items() if author_id in votes}
        if not own:
            continue
        one.num_judgements += len(own)
        checked = [own[u] == expected[u] for u in own if u in expected]
        one.gold_by_question[question.name] = wilson(sum(checked), len(checked))
        one.severity[question.name] = _severity(question, author_id, by_unit)
        if model is not None and author_id in model.annotators:
            one.reliability[question.name] = model.annotators[author_id]
        one.notes += _hardly_varies(question, author_id, by_unit)


def _severity(question: Question, author_id: str, by_unit: ByUnit) -> Interval | None:
    """The mean of own rating minus the mean of the others', on 0 to 1, over the units that others judged too."""
    if not question.is_ordered:
        return None
    gaps = [
        scaled(question, votes[author_id])
        - mean(scaled(question, v) for a, v in votes.items() if a != author_id)
        for votes in by_unit.values()
        if author_id in votes and len(votes) > 1
    ]
    return bootstrap_mean(gaps, scale=(-1, 1), num_samples=1000)


def scaled(question: Question, label: Label) -> float:
    """A rating on 0 (worst) to 1 (best)."""
    if question.kind == "category":
        last = len(question.choices) - 1
        return question.choices.index(str(label)) / last if last > 0 and label in question.choices else 0.0
    if question.kind == "thumb":
        return float(label)
    return (float(label) - question.min) / (question.max - question.min)


def _hardly_varies(question: Question, author_id: str, by_unit: ByUnit) -> list[str]:
    own, others = list[Label](), list[Label]()
    for votes in by_unit.values():
        if author_id in votes:
            own.append(votes[author_id])
            others += [v for a, v in votes.items() if a != author_id]
    if len(own) < 2 * FEWEST or len(others) < 2 * FEWEST:
        return []
    commonest = max(set(own), key=own.count)
    share, usual = own.count(commonest) / len(own), others.count(commonest) / len(others)
    low = wilson(others.count(commonest), len(others))
    if share < SAME_ANSWER or low is None or low.high >= SAME_ANSWER:
        return []
    return [f"{question.name}: {share:.0%} of the answers are {commonest!r}, of the others' {usual:.0%}"]


def _overall(result: Mapping[str, Annotator]) -> None:
    for one in result.values():
        gold = [i for i in one.gold_by_question.values() if i is not None]
        n = sum(i.n for i in gold)
        one.gold = wilson(sum(round(i.estimate * i.n) for i in gold), n) if n else None
        _judge(one)


def _drift(
    result: Mapping[str, Annotator],
    questions: Sequence[Question],
    judged: Sequence[Judged],
    gold: Mapping[str, Judged],
) -> None:
    """How much less often right in the later half than in the earlier one, over all questions."""
    ordered = sorted(judged, key=lambda j: j.submitted_at)
    by_question = [accuracy_changes(list(labels(q, ordered)), gold_units(q, gold)) for q in questions]
    changes = {a: combined_change([c[a] for c in by_question if a in c]) for a in result}
    num = sum(c is not None for c in changes.values())
    for author_id, change in changes.items():
        if change is not None:
            one = result[author_id]
            one.drift = change.interval
            if one.drift is not None and is_less_accurate(change, num):
                one.notes.append(f"right less often lately, by {-one.drift.estimate:.0%}")


def _judge(one: Annotator) -> None:
    """Careless is whose labels say next to nothing of the truth, beyond what chance leaves open."""
    for question, quality in one.reliability.items():
        if quality.careless:
            one.reasons.append(
                f"{question}: {quality.accuracy.n} judgements say next to nothing of what the others agree on "
                f"({quality.accuracy.estimate:.0%} right; informedness {quality.informedness:.2f}, where a blind guess has "
                f"0 and a perfect annotator 1)"
            )
    if one.gold is not None and one.gold.n >= FEWEST and one.gold.high < 0.5:
        one.reasons.append(
            f"{one.gold.estimate:.0%} of {one.gold.n} gold answers right (at most {one.gold.high:.0%})"
        )
    one.careless = bool(one.reasons)


def _copying(result: Mapping[str, Annotator], pairs: Sequence[Copied]) -> None:
    """Name the one who was later as the copier; where neither was, both are only noted."""
    for pair in pairs:
        what = f"{pair.num_equal} of {pair.num} judgements alike, where neither agrees with anybody else on more than {pair.usual:.0%}"
        for author_id, other in ((pair.first, pair.second), (pair.second, pair.first)):
            if pair.copier == author_id:
                result[author_id].reasons.append(f"later than {other} and the same: {what}")
                result[author_id].careless = True
            elif pair.copier is None:
                result[author_id].notes.append(f"the same as {other}: {what}")


def _speed(result: Mapping[str, Annotator]) -> None:
    timed = {a: o.median_s for a, o in result.items() if o.median_s is not None and o.num_items >= FEWEST}
    for author_id, own in timed.items():
        others = [t for a, t in timed.items() if a != author_id]
        if others and own < QUICK * float(np.median(others)):
            result[author_id].notes.append(
                f"takes {own:.0f} s an item, the others {float(np.median(others)):.0f} s"
            )
