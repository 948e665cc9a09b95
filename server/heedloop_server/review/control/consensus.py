"""One label out of several annotators' for every unit of a question, and how sure it is.

Majority counts heads; `weighted` counts them by reliability; `dawid_skene` estimates how each annotator errs. Where
gold answers are known they hold: an annotator is measured against them as well as against the others. A reviewer's
adjudication overrules all of it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal, cast

from heedloop.responses import ConsensusRow
from heedloop_server.review.control.labels import Judged, Label, Unit, labels
from heedloop_server.review.questions import Question
from heedloop_server.statistics.consensus import (
    Consensus,
    DawidSkene,
    dawid_skene,
    majority_vote,
    reliability_weights,
    weighted_vote,
)

Method = Literal["majority", "dawid_skene", "weighted"]
METHODS: tuple[Method, ...] = ("majority", "dawid_skene", "weighted")


def gold_units(question: Question, gold: Mapping[str, Judged]) -> dict[Hashable, Label]:
    """Unit -> the expected label, from the expected answers by item."""
    return {unit: label for _, unit, label in labels(question, gold.values())}


def fit(question: Question, judged: Sequence[Judged], gold: Mapping[str, Judged]) -> DawidSkene | None:
    """Dawid and Skene's model of a question's annotators; None without judgements."""
    return dawid_skene(labels(question, judged), known=gold_units(question, gold))


def consensus_of_question(
    question: Question,
    judged: Sequence[Judged],
    *,
    method: Method,
    gold: Mapping[str, Judged] | None = None,
    adjudicated: Mapping[str, Judged] | None = None,
) -> list[ConsensusRow]:
    """The label of every unit by the method, or by adjudication, sorted by unit."""
    result = _vote(question, list(judged), method, gold or {})
    adjudicated_labels = {unit: label for _, unit, label in labels(question, (adjudicated or {}).values())}
    units = sorted({cast(Unit, u) for u in result} | set(adjudicated_labels))
    return [_row(unit, result.get(unit), adjudicated_labels.get(unit), method) for unit in units]


def _vote(
    question: Question, judged: Sequence[Judged], method: Method, gold: Mapping[str, Judged]
) -> Mapping[Hashable, Consensus]:
    votes = list(labels(question, judged))
    if method == "majority" or not votes:
        return majority_vote(votes)
    model = fit(question, judged, gold)
    assert model is not None  # noqa: S101  there are judgements
    return model.consensus if method == "dawid_skene" else weighted_vote(votes, reliability_weights(model))


def _row(unit: Unit, found: Consensus | None, adjudicated: Label | None, method: Method) -> ConsensusRow:
    label = found.label if found else None
    return ConsensusRow(
        item_id=unit[0],
        unit=list(unit[1:]),
        label=cast(Label | None, label) if adjudicated is None else adjudicated,
        confidence=1.0 if adjudicated is not None else found.confidence if found else 0.0,
        num=found.num if found else 0,
        by="adjudication" if adjudicated is not None else method,
    )
