"""Cases: corrections, flags and adjudicated judgements as prompts with what their next answer is held to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from heedloop.schema import Call, Case, CaseFeedback, Check, Feedback, slices_of
from heedloop.scores import is_json, words
from heedloop_server.curate.evidence import (
    ADJUDICATION,
    adjudicated_items,
    excluded_by_flag,
    overruled,
    rescaled,
)
from heedloop_server.curate.judged_calls import Answer, AnswerIndex, Judgement, question_text
from heedloop_server.curate.near_copies import near_duplicate_groups
from heedloop_server.curate.rules import Rules

NEAR_COPY = 0.8
MAX_FACTS = 5
_FACT = re.compile(r"\d|@|://|/\w")


def make_cases(
    project: str, calls: Iterable[Call], judgements: Iterable[Judgement], *, least_f1: float, judge: str = ""
) -> list[Case]:
    """A case for each answer that was corrected, flagged, or judged by a reviewer who settled it, oldest answer first.

    Args:
        project: what pseudonyms are made with.
        least_f1: token F1 with a correction that an answer must reach, where the corrected answer itself does not.
        judge: a question that a judge shall answer about the next answer; empty for none.
    """
    index = AnswerIndex(calls)
    ordered = sorted(judgements, key=lambda j: (j.feedback.created_at, j.feedback_id))
    settled = adjudicated_items(ordered)
    excluded = excluded_by_flag(index, ordered, Rules())
    of_answer: dict[str, list[Judgement]] = {}
    for judgement in ordered:
        answer = None if overruled(judgement.feedback, settled) else index.resolve(judgement.feedback.target)
        if answer is not None and answer.key not in excluded and _makes_a_case(judgement.feedback):
            of_answer.setdefault(answer.key, []).append(judgement)
    found = [
        _case(project, a, of_answer[k], least_f1, judge) for k, a in index.answers.items() if k in of_answer
    ]
    return _grouped(list({c.id: c for c in found}.values()))


def _makes_a_case(feedback: Feedback) -> bool:
    if feedback.retracted or feedback.author.kind == "model":
        return False
    return feedback.kind in ("correction", "flag") or (
        feedback.kind == "rating" and ADJUDICATION in feedback.metadata
    )


def _case(project: str, answer: Answer, said: Sequence[Judgement], least_f1: float, judge: str) -> Case:
    corrections = [j.feedback.correction for j in said if j.feedback.correction]
    good = [rescaled(j.feedback) > 0.5 for j in said if j.feedback.kind == "rating"]
    is_good = not corrections and all(good) and bool(good) and all(j.feedback.kind == "rating" for j in said)
    reference = corrections[-1] if corrections else answer.completion if is_good else ""
    digest = hashlib.sha256(f"{answer.question}|{answer.content}".encode()).hexdigest()
    case = Case(
        id=digest[:16],
        prompt=answer.prompt,
        tools=answer.tools,
        reference=reference,
        reference_tool_calls=tuple(t for m in answer.messages for t in m.tool_calls) if is_good else (),
        wrong="" if is_good else answer.text,
        feedback=tuple(_pseudonymous(project, j) for j in said),
        slices=slices_of(answer.call),
        trace_id=answer.call.trace_id,
        span_id=answer.call.span_id,
    )
    asked = [Check("judge", judge)] if judge else []
    return replace(case, checks=(*_checks(case, least_f1), *asked))


def _checks(case: Case, least_f1: float) -> list[Check]:
    """What follows from the case's texts: the correction's new facts, nearness to it, its form, and not to be wrong again."""
    checks: list[Check] = []
    if case.reference_tool_calls:
        return [Check("tool_calls")]
    if case.wrong:
        checks.append(Check("differs"))
    if not case.reference:
        return checks
    if case.wrong:
        checks += [Check("contains", fact) for fact in _facts(case.reference, case.wrong)]
        checks.append(Check("nearer"))
    if case.reference.lstrip()[:1] in "{[" and is_json(case.reference):
        return [*checks, Check("json")]
    return [*checks, Check("token_f1", least=least_f1)]


def _facts(reference: str, wrong: str) -> list[str]:
    """Numbers, dates, addresses and paths of a correction that the wrong answer had not, at most five."""
    had = set(words(wrong))
    return list(dict.fromkeys(w for w in words(reference) if _FACT.search(w) and w not in had))[:MAX_FACTS]


def _pseudonymous(project: str, judgement: Judgement) -> CaseFeedback:
    f = judgement.feedback
    author = (
        hashlib.sha256(f"{project}|{f.author.id}".encode()).hexdigest()[:10] if f.author.id else "unknown"
    )
    text = f.correction or ": ".join(t for t in (f.category, f.comment) if t) or f"{f.name} {f.value}"
    return CaseFeedback(judgement.feedback_id, f.kind, author, f.author.kind, f.created_at, text)


def _grouped(cases: Sequence[Case]) -> list[Case]:
    roots = near_duplicate_groups([question_text(c.prompt) for c in cases], NEAR_COPY)
    return [replace(c, group=cases[r].id) for c, r in zip(cases, roots, strict=True)]
