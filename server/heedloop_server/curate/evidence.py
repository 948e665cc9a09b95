"""Evidence: the judgements that count, sorted by the answer they are about."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Set
from dataclasses import dataclass, field, replace
from typing import cast

from heedloop.schema import Feedback, Scale
from heedloop_server.curate.contexts import compatible
from heedloop_server.curate.judged_calls import Answer, AnswerIndex, Judgement
from heedloop_server.curate.rules import Rules

ADJUDICATION = "adjudication"
"""Metadata of the feedback with which a reviewer settles an item of a review queue (review/control, docs/review.md)."""

UNORDERED = "unordered_categories"
"""Metadata of a rating whose categories are in no order: its place among them says nothing of how good the answer is."""


@dataclass(slots=True)
class AnswerFeedback:
    """The feedback on one answer, each list in the order of feedback ids."""

    likes: list[Judgement] = field(default_factory=list)
    dislikes: list[Judgement] = field(default_factory=list)
    corrections: list[Judgement] = field(default_factory=list)
    rejections: list[Judgement] = field(default_factory=list)
    ratings: list[Judgement] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A ranking whose answers are all there, and answer one question."""

    judgement: Judgement
    answers: tuple[Answer, ...]


@dataclass(slots=True)
class Evidence:
    """All that counts.

    Attributes:
        answer_feedback: by answer key; only answers that rows may be made of.
        usable: the answers that rows may be made of, oldest first: no excluding flag.
        rankings_of: the rankings that an answer is in, by its key.
        used: the judgements behind `answer_feedback` and `rankings`.
        dropped: reason -> number of judgements (or answers) left out.
    """

    usable: dict[str, Answer]
    answer_feedback: dict[str, AnswerFeedback] = field(default_factory=dict)
    rankings: list[Ranked] = field(default_factory=list)
    rankings_of: dict[str, list[Ranked]] = field(default_factory=dict)
    used: list[Judgement] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter[str])


def placed(evidence: Evidence, keys: Container[str]) -> Evidence:
    """The evidence about the answers that have a place in the split; the others are counted and left out."""
    usable = {k: a for k, a in evidence.usable.items() if k in keys}
    if len(usable) == len(evidence.usable):
        return evidence
    dropped = evidence.dropped + Counter(answer_newer_than_its_split=len(evidence.usable) - len(usable))
    rankings = [r for r in evidence.rankings if all(a.key in usable for a in r.answers)]
    rankings_of: dict[str, list[Ranked]] = {}
    for ranked in rankings:
        for answer in ranked.answers:
            rankings_of.setdefault(answer.key, []).append(ranked)
    answer_feedback = {k: s for k, s in evidence.answer_feedback.items() if k in usable}
    return replace(
        evidence,
        usable=usable,
        answer_feedback=answer_feedback,
        rankings=rankings,
        rankings_of=rankings_of,
        dropped=dropped,
    )


def gather(index: AnswerIndex, judgements: Iterable[Judgement], rules: Rules) -> Evidence:
    """The judgements that the rules take, by answer, with a count of every reason to leave one out."""
    ordered = sorted(judgements, key=lambda j: j.feedback_id)
    excluded = excluded_by_flag(index, ordered, rules)
    settled = adjudicated_items(ordered)
    evidence = Evidence({k: a for k, a in index.answers.items() if k not in excluded})
    evidence.dropped.update({f"answer_{reason}": n for reason, n in index.dropped.items()})
    if excluded:
        evidence.dropped["answer_excluded_by_flag"] = len(excluded)
    for judgement in ordered:
        reason = "overruled_by_reviewer" if overruled(judgement.feedback, settled) else None
        reason = reason or _file(judgement, index, evidence, rules)
        if reason is None:
            evidence.used.append(judgement)
        else:
            evidence.dropped[reason] += 1
    evidence.answer_feedback = {
        k: evidence.answer_feedback[k] for k in evidence.usable if k in evidence.answer_feedback
    }
    return evidence


def adjudicated_items(judgements: Iterable[Judgement]) -> set[str]:
    """The review items that a reviewer has adjudicated."""
    return {
        j.feedback.queue_item
        for j in judgements
        if j.feedback.queue_item and ADJUDICATION in j.feedback.metadata and not j.feedback.retracted
    }


def overruled(feedback: Feedback, settled: Set[str]) -> bool:
    """True for an annotator's feedback on an item that a reviewer adjudicated: also a flag that the reviewer did not repeat."""
    return feedback.queue_item in settled and ADJUDICATION not in feedback.metadata


def rescaled(feedback: Feedback) -> float:
    """A rating's value on 0 (worst) to 1 (best); a category's place among its scale's, worst first."""
    scale = cast(Scale, feedback.scale)
    if scale.categories:
        if len(scale.categories) == 1:
            return 1.0
        return scale.categories.index(str(feedback.value)) / (len(scale.categories) - 1)
    low, high = cast(float, scale.min), cast(float, scale.max)
    return (float(cast(float, feedback.value)) - low) / (high - low)


def excluded_by_flag(index: AnswerIndex, judgements: Iterable[Judgement], rules: Rules) -> set[str]:
    """Keys of answers that may be in no row. Here every author counts: a detector in code finds personal data."""
    keys = set[str]()
    for judgement in judgements:
        f = judgement.feedback
        if f.kind == "flag" and not f.retracted and rules.excludes(f.category or ""):
            answer = index.resolve(f.target)
            if answer is not None:
                keys.add(answer.key)
    return keys


def _file(judgement: Judgement, index: AnswerIndex, evidence: Evidence, rules: Rules) -> str | None:
    """Put one judgement where it belongs; the reason where it cannot count."""
    f = judgement.feedback
    if not rules.takes(f):
        return "author_or_asking_not_in_rules"
    if f.kind == "comment":
        return "comment_only"
    if f.kind == "comparison":
        return _file_ranking(judgement, index, evidence, rules)
    answer = index.resolve(f.target)
    if answer is None:
        return index.reason(f.target)
    if answer.key not in evidence.usable:
        return "answer_excluded"
    if f.kind == "correction" and (reason := no_correction(f.correction or "", answer)):
        return reason
    return _file_one(judgement, evidence.answer_feedback.setdefault(answer.key, AnswerFeedback()), rules)


def _file_one(judgement: Judgement, answer_feedback: AnswerFeedback, rules: Rules) -> str | None:
    f = judgement.feedback
    if f.kind == "correction":
        answer_feedback.corrections.append(judgement)
    elif f.kind == "flag":
        if not rules.rejects(f.category or ""):
            return "flag_not_in_rules"
        answer_feedback.rejections.append(judgement)
    elif UNORDERED in f.metadata:
        return "categories_without_order"
    else:
        answer_feedback.ratings.append(judgement)
        if f.name in rules.like_names:
            value = rescaled(f)
            if value >= rules.like_from:
                answer_feedback.likes.append(judgement)
            elif value <= rules.dislike_to:
                answer_feedback.dislikes.append(judgement)
    return None


# Joiners between letters are spelling (Persian, Indic scripts) or one sign (emoji); elsewhere nothing is seen of them.
_INVISIBLE = re.compile(
    "[\u200b\u200e\u200f\u2060\ufeff\u00ad]|(?<!\\w)[\u200c\u200d](?!\\S)|(?<!\\S)[\u200c\u200d]"
)
_INSIDE = re.compile(r"(?<=\S)\s+")


def no_correction(text: str, answer: Answer) -> str | None:
    """Why a correction is no text to learn: it is empty, differs from the answer in white space alone, or writes a tool call
    as text; None where it is one.

    What a line begins with counts: in code it has a meaning.
    """
    corrected = _plain(text)
    if not corrected:
        return "correction_empty"
    if corrected in (_plain(answer.text), _plain(answer.completion)):
        return "correction_equals_answer"
    tools = {t.name for t in answer.tools} | {t.name for m in answer.messages for t in m.tool_calls}
    calls = tuple(f"{name}(" for name in tools)
    return "correction_writes_tool_call" if any(line.startswith(calls) for line in corrected) else None


def _plain(text: str) -> list[str]:
    visible = _INVISIBLE.sub("", unicodedata.normalize("NFC", text)).strip()
    lines = (_INSIDE.sub(" ", line.expandtabs()).rstrip() for line in visible.splitlines())
    return [line for line in lines if line]


def _file_ranking(judgement: Judgement, index: AnswerIndex, evidence: Evidence, rules: Rules) -> str | None:
    ranking = judgement.feedback.ranking
    assert ranking is not None  # noqa: S101  the schema holds a comparison to it
    result = [index.resolve(t) for t in ranking.answers]
    answers = tuple(a for a in result if a is not None)
    if len(answers) < len(result):
        return next(index.reason(t) for t, a in zip(ranking.answers, result, strict=True) if a is None)
    if any(a.key not in evidence.usable for a in answers):
        return "answer_excluded"
    if len({a.question for a in answers}) > 1:
        return "ranking_over_different_prompts"
    if not all(compatible(answers[0], a, rules) for a in answers[1:]):
        return "ranking_over_different_contexts"
    if len({a.key for a in answers}) < len(answers):
        return "ranking_names_an_answer_twice"
    ranked = Ranked(judgement, answers)
    evidence.rankings.append(ranked)
    for answer in answers:
        evidence.rankings_of.setdefault(answer.key, []).append(ranked)
    return None
