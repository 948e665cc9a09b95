"""Rows about single answers: demonstrations, unpaired likes and dislikes, rated completions, and the bare prompts."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from heedloop.schema import Call, Demonstration, Message, PromptRow, RatedCompletion, Unpaired, answer_text
from heedloop_server.curate.drafts import Draft, sole_author
from heedloop_server.curate.evidence import AnswerFeedback, Evidence, rescaled
from heedloop_server.curate.judged_calls import Answer, Judgement, question_text
from heedloop_server.curate.rules import Rules
from heedloop_server.curate.votes import majority

Weights = Mapping[str | None, float]


def demonstrations(evidence: Evidence) -> Iterator[Draft]:
    """Corrections, and answers with more likes than dislikes and no correction or rejection; once per text.

    The same answer given in several calls is one thing to judge: what was said of it in any of them counts.
    """
    seen: dict[tuple[object, ...], int] = {}
    drafts: list[Draft] = []
    of_text: dict[str, AnswerFeedback] = {}
    for answer in _judged(evidence):
        pooled = of_text.setdefault(answer.text_key, AnswerFeedback())
        if answer.key in evidence.answer_feedback:
            for f in fields(AnswerFeedback):
                getattr(pooled, f.name).extend(getattr(evidence.answer_feedback[answer.key], f.name))
        pooled.rejections.extend(_all_bad(answer, evidence))
    for key, answer_feedback in evidence.answer_feedback.items():
        answer = evidence.usable[key]
        for draft in _of_answer(answer, answer_feedback, of_text[answer.text_key], evidence):
            row = draft.row
            assert isinstance(row, Demonstration)  # noqa: S101  narrows the union for the reader
            same = (row.prompt, row.completion, row.completion_messages, row.tools)
            if same in seen:
                drafts[seen[same]] = _merged(drafts[seen[same]], draft)
            else:
                seen[same] = len(drafts)
                drafts.append(draft)
    yield from drafts


def _judged(evidence: Evidence) -> Iterator[Answer]:
    """The answers that anything was said of, oldest first: most have nothing."""
    for key, answer in evidence.usable.items():
        if key in evidence.answer_feedback or key in evidence.rankings_of:
            yield answer


def _of_answer(
    answer: Answer, answer_feedback: AnswerFeedback, of_text: AnswerFeedback, evidence: Evidence
) -> Iterator[Draft]:
    for judgement in answer_feedback.corrections:
        yield _demonstration(answer, corrected(answer, judgement), "correction", (judgement,))
    if of_text.corrections or not answer_feedback.likes:
        return
    if of_text.rejections:
        evidence.dropped["liked_but_rejected"] += 1
    elif len(of_text.likes) > len(of_text.dislikes) and answer.completion.strip():
        if reason := _unfinished(answer.written):
            evidence.dropped[reason] += 1
        else:
            yield _demonstration(
                answer, (answer.completion, answer.messages), "liked", tuple(answer_feedback.likes)
            )


_CUT = frozenset(
    {"length", "max_tokens", "max_output_tokens", "model_length", "incomplete", "token_limit", "max_length"}
)
_FILTERED = frozenset(
    {"content_filter", "safety", "recitation", "blocklist", "prohibited_content", "guardrail_intervened"}
)


def _unfinished(call: Call) -> str | None:
    """Why an answer is not to be imitated, however liked: it failed, or is not whole."""
    if call.status == "error":
        return "liked_but_failed"
    reasons = {r.lower() for r in call.finish_reasons}
    if reasons & _CUT:
        return "liked_but_cut"
    return "liked_but_filtered" if reasons & _FILTERED else None


def corrected(answer: Answer, judgement: Judgement) -> tuple[str, tuple[Message, ...]]:
    """What a correction makes of an answer: its text, and the messages where the answer called tools next to its own text."""
    text = judgement.feedback.correction or ""
    last = answer.messages[-1] if answer.messages else None
    if last is None or not answer.text or not (last.tool_calls or len(answer.messages) > 1):
        return text, ()
    if last.tool_calls and not last.text:
        return text, ()
    before = tuple(m if m.role == "tool" else replace(m, text="") for m in answer.messages[:-1])
    messages = (*before, replace(last, text=text, reasoning=None))
    return answer_text(messages), messages


def _all_bad(answer: Answer, evidence: Evidence) -> list[Judgement]:
    """The rankings whose judge found none of the answers acceptable, this one among them."""
    result: list[Judgement] = []
    for ranked in evidence.rankings_of.get(answer.key, ()):
        ranking = ranked.judgement.feedback.ranking
        if ranking is not None and ranking.all_bad:
            result.append(ranked.judgement)
    return result


def _demonstration(
    answer: Answer,
    completion: tuple[str, tuple[Message, ...]],
    source: str,
    judgements: tuple[Judgement, ...],
) -> Draft:
    text, messages = completion
    row = Demonstration(
        **_shared(answer, judgements), completion=text, completion_messages=messages, source=source
    )
    return Draft(row, sole_author(judgements), answer)


def _shared(answer: Answer, judgements: Iterable[Judgement], *others: Answer) -> dict[str, Any]:
    """The fields that every row about one answer has; `others` are calls that gave the same text."""
    return {
        "prompt": answer.prompt,
        "tools": answer.tools,
        "feedback_ids": tuple(j.feedback_id for j in judgements),
        "trace_ids": tuple(dict.fromkeys(a.call.trace_id for a in (answer, *others))),
    }


def _merged(first: Draft, second: Draft) -> Draft:
    a, b = first.row, second.row
    assert isinstance(a, Demonstration)  # noqa: S101
    assert isinstance(b, Demonstration)  # noqa: S101
    row = replace(
        a,
        source="correction" if "correction" in (a.source, b.source) else a.source,
        feedback_ids=tuple(dict.fromkeys(a.feedback_ids + b.feedback_ids)),
        trace_ids=tuple(dict.fromkeys(a.trace_ids + b.trace_ids)),
    )
    return Draft(row, first.author if first.author == second.author else None, first.answer)


def unpaired(
    evidence: Evidence,
    rules: Rules,
    *,
    reliability: Weights | None,
    exposure: Mapping[str, float],
) -> Iterator[Draft]:
    """Liked and disliked answers: a row per judgement, or per answer text where the consensus is `majority`.

    A rejecting flag and an "all bad" are dislikes.

    Args:
        exposure: weight of a rated answer by its key (see propensity.py); 1 where it has none.
    """
    judged = [(a, votes) for a in _judged(evidence) if (votes := opinions(a, evidence))]
    if rules.consensus == "majority":
        of_text: dict[str, list[tuple[Answer, list[tuple[Judgement, int]]]]] = {}
        for answer, votes in judged:
            of_text.setdefault(answer.text_key, []).append((answer, votes))
        for same in of_text.values():
            votes = [vote for _, of_answer in same for vote in of_answer]
            verdict = majority([(j.feedback.author.id, side) for j, side in votes], reliability)
            if verdict.side == 0:
                evidence.dropped["no_majority"] += 1
                continue
            answers = [a for a, _ in same]
            weight = verdict.share * sum(exposure.get(a.key, 1.0) for a in answers) / len(answers)
            yield _unpaired(answers, verdict.side > 0, weight, [j for j, _ in votes])
        return
    for answer, votes in judged:
        for judgement, side in votes:
            trust = 1.0 if reliability is None else reliability.get(judgement.feedback.author.id, 1.0)
            if trust <= 0:
                evidence.dropped["unreliable_judge"] += 1
            else:
                yield _unpaired([answer], side > 0, trust * exposure.get(answer.key, 1.0), [judgement])


def opinions(answer: Answer, evidence: Evidence) -> list[tuple[Judgement, int]]:
    """The likes (1) and dislikes (-1) of an answer; rejecting flags and "all bad" are dislikes."""
    answer_feedback = evidence.answer_feedback.get(answer.key, AnswerFeedback())
    votes = [(j, 1) for j in answer_feedback.likes] + [(j, -1) for j in answer_feedback.dislikes]
    # An author of a thumb down and a flag, or of two flags, counts once.
    spoken = {j.feedback.author.id for j in answer_feedback.dislikes} - {None}
    for judgement in answer_feedback.rejections + _all_bad(answer, evidence):
        author = judgement.feedback.author.id
        if author is None or author not in spoken:
            votes.append((judgement, -1))
            spoken.add(author)
    return votes


def _unpaired(answers: list[Answer], label: bool, weight: float, judgements: list[Judgement]) -> Draft:
    """A row about one answer's text, as it was given in one call or more."""
    author, answer = sole_author(judgements), answers[0]
    row = Unpaired(
        **_shared(answer, judgements, *answers),
        completion=answer.completion,
        completion_messages=answer.messages,
        label=label,
        weight=weight,
        author=author,
    )
    return Draft(row, author, answer)


def rated(evidence: Evidence, rules: Rules, *, exposure: Mapping[str, float]) -> Iterator[Draft]:
    """Each answer's ratings by name on 0..1: a row per author, or one of means where the consensus is `majority`."""
    for key, answer_feedback in evidence.answer_feedback.items():
        by_author: dict[str, list[Judgement]] = {}
        for judgement in answer_feedback.ratings:
            key_of_author = judgement.feedback.author.id or f"\x00{judgement.feedback_id}"
            by_author.setdefault("" if rules.consensus == "majority" else key_of_author, []).append(judgement)
        for judgements in by_author.values():
            author = sole_author(judgements)
            answer = evidence.usable[key]
            row = RatedCompletion(
                **_shared(answer, judgements),
                completion=answer.completion,
                completion_messages=answer.messages,
                ratings=_means(judgements),
                weight=exposure.get(key, 1.0),
                author=author,
            )
            yield Draft(row, author, answer)


def _means(judgements: list[Judgement]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for judgement in judgements:
        values.setdefault(judgement.feedback.name, []).append(rescaled(judgement.feedback))
    return {name: sum(v) / len(v) for name, v in sorted(values.items())}


def prompts(evidence: Evidence) -> Iterator[Draft]:
    """Each distinct prompt that was asked, once: its newest wording, weighing as often as it was asked.

    Prompts that differ in case and white space alone are one; near-copies are not, since a template's texts look like them.
    """
    by_prompt: dict[tuple[str, str], list[Answer]] = {}
    for answer in evidence.usable.values():
        words = unicodedata.normalize("NFC", question_text(answer.prompt)).casefold().split()
        by_prompt.setdefault((" ".join(words), answer.context), []).append(answer)
    for answers in by_prompt.values():
        newest = answers[-1]
        # The one trace whose words these are: erasing it takes the row away, erasing another's copy does not.
        row = PromptRow(
            prompt=newest.prompt,
            tools=newest.tools,
            weight=float(len(answers)),
            trace_ids=(newest.call.trace_id,),
        )
        yield Draft(row, None, newest)
