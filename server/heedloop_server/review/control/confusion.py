"""The annotators' consensus against other labels of the same answers: a judge model's, the model's own, the users'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from heedloop.responses import Confusion, ConsensusRow, LeftOut
from heedloop_server.review.control.agreement import cohen_interval
from heedloop_server.review.control.labels import Label, Unit, known_categories
from heedloop_server.review.questions import Question
from heedloop_server.statistics.agreement import confusion_table
from heedloop_server.statistics.intervals import wilson

MAX_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labels by others than the annotators: `labels` of the question, and `unknown` texts that are none of them."""

    labels: Mapping[Unit, Label]
    unknown: Mapping[Unit, str] = field(default_factory=dict[Unit, str])


def confusion(question: Question, consensus: Mapping[Unit, Label], compared: Labelled) -> Confusion:
    """The table of both over the units that both have: rows are the annotators' consensus, columns the other's label.

    Also `accuracy` (how often the other label is the annotators', Wilson) and `kappa` (Cohen's, bootstrap), null where
    undefined, and `left_out`: the annotators' units that the other has no label for.
    """
    other = compared.labels
    both = sorted(set(consensus) & set(other))
    categories = known_categories(question, [*consensus.values(), *other.values()])
    ours, theirs = [consensus[u] for u in both], [other[u] for u in both]
    votes = {("consensus", u): consensus[u] for u in both} | {("other", u): other[u] for u in both}
    return Confusion(
        categories=cast(list[Label], categories),
        table=confusion_table(ours, theirs, categories).astype(int).tolist(),
        n=len(both),
        accuracy=wilson(sum(a == b for a, b in zip(ours, theirs, strict=True)), len(both)),
        kappa=cohen_interval(votes, ("consensus", "other"), categories),
        left_out=_left_out(consensus, compared),
    )


def _left_out(consensus: Mapping[Unit, Label], compared: Labelled) -> LeftOut:
    missing = [u for u in consensus if u not in compared.labels]
    unknown = [compared.unknown[u] for u in missing if u in compared.unknown]
    examples = [text for text, _ in Counter(t[:200] for t in unknown).most_common(MAX_EXAMPLES)]
    return LeftOut(none=len(missing) - len(unknown), unknown=len(unknown), examples=examples)


def confusion_by_slice(
    question: Question,
    consensus: Mapping[Unit, Label],
    other: Labelled,
    slice_of: Mapping[str, str],
) -> list[Confusion]:
    """The same per slice of the items, the largest first."""
    groups: dict[str, dict[Unit, Label]] = {}
    for unit, label in consensus.items():
        groups.setdefault(slice_of.get(unit[0], ""), {})[unit] = label
    found = [replace(confusion(question, own, other), value=value) for value, own in groups.items()]
    return sorted(found, key=lambda s: -s.n)


def as_labels(rows: Sequence[ConsensusRow]) -> dict[Unit, Label]:
    """Unit -> label from the consensus rows of a question; ties are left out."""
    return {(row.item_id, *row.unit): row.label for row in rows if row.label is not None}
