"""Audits: a judge's word and annotators' on the same drawn answers, without the prompts that the judge was shown."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from heedloop.schema import JudgeSpec, Target
from heedloop_server.curate.near_copies import near_duplicate_groups
from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.judges import (
    AnswerFacts,
    AuditLabel,
    Judged,
    answer_facts,
    audit_labels,
    judged_answers,
)
from heedloop_server.store.review.queues import list_queues

EXAMPLE_SHARE = 0.3
"""Of the prompt groups, those whose answers may be shown to judges; the others examine them."""
NEAR_COPY = 0.8
"""Prompts that are this alike are one group, as in datasets."""


@dataclass(frozen=True, slots=True)
class Audit:
    """One answer (or pair) that was drawn and judged by both.

    Attributes:
        judge, people: shares from 0 to 1; people's is the mean of the annotators, or the reviewer's who adjudicated. A judge's
            that is not a number, since its reply could not be read, agrees with no annotator.
        labels: each annotator's; `words`: those that count, the reviewer's alone where there is one.
        group: name of its prompt's group; near-copies of a prompt are one.
        facts: of its answers, in the order of the key.
    """

    key: str
    judge: float
    people: float
    labels: tuple[float, ...]
    words: tuple[float, ...]
    probability: float
    guideline: str
    at: datetime
    judged_at: datetime
    group: str
    facts: tuple[AnswerFacts | None, ...]

    @property
    def agreement(self) -> float:
        """The share of annotators whose verdict is the judge's: above the middle, below it, or on it."""
        if math.isnan(self.judge):
            return 0.0
        return sum(side(w) == side(self.judge) for w in self.words) / len(self.words)

    @property
    def target(self) -> Target:
        """The answer, of a pair the first."""
        return Target(trace_id=self.key[:32], span_id=self.key[32:48])

    @property
    def agrees(self) -> bool:
        """True where at least half of the annotators say what the judge says."""
        return self.agreement >= 0.5


def side(share: float) -> int:
    """1 above the middle, -1 below, 0 on it."""
    return (share > 0.5) - (share < 0.5)


@dataclass(frozen=True, slots=True)
class JudgedAnswers:
    """All that a judge judged of some calls, and the audits among it.

    Attributes:
        audits: those that may measure it, oldest first.
        shown: audits of prompts whose answers the judge was shown.
    """

    judged: list[Judged]
    audits: list[Audit]
    shown: list[Audit]

    @property
    def others(self) -> list[float]:
        """The judge's shares of the answers without an audit."""
        audited = {a.key for a in [*self.audits, *self.shown]}
        return [j.share for j in self.judged if j.key not in audited]


def read_audits(project: ProjectStore, spec: JudgeSpec, question: str, filters: CallFilters) -> JudgedAnswers:
    """What the judge said of the filters' answers, next to annotators' judgements of drawn ones."""
    blind = [q.queue_id for q in list_queues(project) if not q.suggestions]
    judged = judged_answers(project, spec, question, filters)
    by_key = {j.key: j for j in judged}
    labels: dict[str, list[AuditLabel]] = {}
    for label in audit_labels(project, spec, question, filters, blind):
        if label.key in by_key and (not spec.guideline or label.guideline == spec.guideline):
            labels.setdefault(label.key, []).append(label)
    examples = [_key(e.target.trace_id, e.target.span_id) for e in spec.examples]
    facts = answer_facts(project, (k[:32] for key in [*labels, *examples] for k in key.split("|")))
    groups = _groups([*labels, *examples], facts)
    audits = [_audit(by_key[k], of, groups[k], facts) for k, of in labels.items()]
    audits.sort(key=lambda a: (a.at, a.key))
    seen = {groups[e] for e in examples}
    return JudgedAnswers(
        judged, [a for a in audits if a.group not in seen], [a for a in audits if a.group in seen]
    )


def _key(trace_id: str | None, span_id: str | None) -> str:
    return f"{trace_id}{span_id}"


def _groups(keys: Sequence[str], facts: Mapping[str, AnswerFacts]) -> dict[str, str]:
    """Key -> the hash of the first text of its prompt's group; one whose prompt is not known is a group of its own."""
    first = [facts.get(k.split("|")[0]) for k in keys]
    texts = [f.question if f and f.question else k for k, f in zip(keys, first, strict=True)]
    order = sorted(range(len(keys)), key=lambda i: (texts[i], keys[i]))
    roots = near_duplicate_groups([texts[i] for i in order], NEAR_COPY)
    return {
        keys[i]: hashlib.sha256(texts[order[root]].encode("utf-8", "replace")).hexdigest()
        for i, root in zip(order, roots, strict=True)
    }


def _audit(
    judged: Judged, labels: Sequence[AuditLabel], group: str, facts: Mapping[str, AnswerFacts]
) -> Audit:
    words = [lb for lb in labels if lb.adjudicated] or list(labels)
    shares = tuple(lb.share for lb in words)
    guideline = Counter(lb.guideline for lb in words).most_common(1)[0][0]
    return Audit(
        key=judged.key,
        judge=judged.share,
        people=sum(shares) / len(shares),
        labels=tuple(lb.share for lb in labels if not lb.adjudicated),
        words=shares,
        probability=max(lb.probability for lb in words),
        guideline=guideline,
        at=max(lb.at for lb in words),
        judged_at=judged.at,
        group=group,
        facts=tuple(facts.get(k) for k in judged.key.split("|")),
    )


def may_be_example(audit: Audit) -> bool:
    """True where the prompt's group is one whose answers may be shown to judges: by its hash, for good."""
    return int(audit.group[:8], 16) / 2**32 < EXAMPLE_SHARE


def exam(audits: Iterable[Audit]) -> list[Audit]:
    """The audits by which versions of a judge are compared: of prompts that none of them may be shown."""
    return [a for a in audits if not may_be_example(a)]
