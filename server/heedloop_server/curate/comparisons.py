"""Comparison rows: from rankings, from corrections, and from thumbs on several answers to one prompt."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import product
from statistics import mean
from typing import Any

from heedloop.schema import THUMB, Comparison
from heedloop_server.curate.completions import corrected, opinions
from heedloop_server.curate.contexts import compatible
from heedloop_server.curate.drafts import Draft, sole_author
from heedloop_server.curate.evidence import Evidence, rescaled
from heedloop_server.curate.judged_calls import Answer, Judgement
from heedloop_server.curate.rules import Rules
from heedloop_server.curate.votes import PairVote, majority

Weights = Mapping[str | None, float]


def from_votes(
    votes: Sequence[PairVote], rules: Rules, evidence: Evidence, *, reliability: Weights | None
) -> Iterator[Draft]:
    """A row per vote, or (consensus `majority`) per pair of answers; decided pairs of equal texts are dropped."""
    if rules.consensus == "majority":
        yield from _majority_rows(votes, evidence, reliability)
        return
    for vote in votes:
        weight = vote.weight if reliability is None else vote.weight * reliability.get(vote.judge, 1.0)
        if weight <= 0:
            evidence.dropped["unreliable_judge"] += 1
        elif vote.side and vote.first.content == vote.second.content:
            evidence.dropped["same_text_compared"] += 1
        else:
            yield _row(vote, vote.side, weight, margin=vote.margin, judgements=[vote.judgement])


def _majority_rows(
    votes: Sequence[PairVote], evidence: Evidence, reliability: Weights | None
) -> Iterator[Draft]:
    pairs: dict[tuple[str, str], list[PairVote]] = {}
    for vote in votes:
        pairs.setdefault((vote.first.text_key, vote.second.text_key), []).append(vote)
    for of_pair in pairs.values():
        verdict = majority([(v.judge, v.side) for v in of_pair], reliability)
        if verdict.share == 0:
            evidence.dropped["unreliable_judge"] += 1
            continue
        if verdict.side and of_pair[0].first.content == of_pair[0].second.content:
            evidence.dropped["same_text_compared"] += 1
            continue
        # The strength of those who side with the majority: a dissenter's says how sure they were of the opposite.
        margins = [v.margin for v in of_pair if v.side == verdict.side and v.margin is not None]
        margin = sum(margins) / len(margins) if margins and verdict.side else None
        yield _row(
            of_pair[0],
            verdict.side,
            verdict.share * sum(v.weight for v in of_pair) / len(of_pair),
            margin=margin,
            judgements=[v.judgement for v in of_pair],
            # Equal texts of other traces: erasing one of them must find this row.
            others=[a for v in of_pair for a in (v.first, v.second)],
        )


def _row(
    vote: PairVote,
    side: int,
    weight: float,
    *,
    margin: float | None,
    judgements: Sequence[Judgement],
    others: Sequence[Answer] = (),
) -> Draft:
    better, worse = (vote.second, vote.first) if side < 0 else (vote.first, vote.second)
    author = sole_author(judgements)
    row = Comparison(
        prompt=better.prompt,
        **_sides(better, worse),
        margin=margin,
        weight=weight,
        tie=side == 0,
        source="comparison",
        author=author,
        feedback_ids=tuple(j.feedback_id for j in judgements),
        trace_ids=_traces(better, worse, *others),
    )
    return Draft(row, author, better)


def _sides(better: Answer, worse: Answer) -> dict[str, Any]:
    """The fields of a comparison that hold its two answers."""
    return {
        "chosen": better.completion,
        "rejected": worse.completion,
        "chosen_messages": better.messages,
        "rejected_messages": worse.messages,
        "tools": better.tools,
    }


def from_corrections(evidence: Evidence) -> Iterator[Draft]:
    """Each correction over the answer it corrects."""
    for key, answer_feedback in evidence.answer_feedback.items():
        answer = evidence.usable[key]
        for judgement in answer_feedback.corrections:
            f = judgement.feedback
            text, messages = corrected(answer, judgement)
            row = Comparison(
                prompt=answer.prompt,
                chosen=text,
                rejected=answer.completion,
                chosen_messages=messages,
                rejected_messages=answer.messages,
                tools=answer.tools,
                source="correction",
                author=f.author.id,
                feedback_ids=(judgement.feedback_id,),
                trace_ids=(answer.call.trace_id,),
            )
            yield Draft(row, f.author.id, answer)


@dataclass(slots=True)
class _Candidate:
    """One text that was given to one question, with the thumbs it got, in one or more calls."""

    answers: list[Answer]
    ups: list[Judgement]
    downs: list[Judgement]


def from_thumbs(evidence: Evidence, rules: Rules, *, ranked: Set[tuple[str, str]]) -> Iterator[Draft]:
    """Liked answers over disliked answers to the same prompt, unless the two were ranked: a ranking says more.

    A rejecting flag is a dislike here as well.

    A pair weighs as many thumbs as both of its sides have (the smaller count), and the pairs of one prompt together no
    more than the smaller of its counts of ups and downs: a popular prompt must not count by the square of its thumbs.
    """
    questions: dict[str, dict[str, _Candidate]] = {}
    for answer in evidence.usable.values():
        if votes := opinions(answer, evidence):
            texts = questions.setdefault(answer.question, {})
            same = answer.content if rules.context == "any" else answer.text_key
            result = texts.setdefault(same, _Candidate([], [], []))
            result.answers.append(answer)
            result.ups.extend(j for j, side in votes if side > 0)
            result.downs.extend(j for j, side in votes if side < 0)
    for candidates in questions.values():
        yield from _pairs(candidates, rules, ranked, evidence.dropped)


def _pairs(
    candidates: Mapping[str, _Candidate], rules: Rules, ranked: Set[tuple[str, str]], dropped: Counter[str]
) -> Iterable[Draft]:
    good = [k for k, c in candidates.items() if len(c.ups) > len(c.downs)]
    bad = [k for k, c in candidates.items() if len(c.downs) > len(c.ups)]
    both = [(g, b) for g, b in product(good, bad)]
    alike = [(g, b) for g, b in both if compatible(candidates[g].answers[0], candidates[b].answers[0], rules)]
    if len(alike) < len(both):
        dropped["thumbs_in_different_contexts"] += len(both) - len(alike)
    unranked = [(g, b) for g, b in alike if _names(candidates[g], candidates[b]) not in ranked]
    if not unranked:
        return
    pairs = _some([(candidates[g], candidates[b]) for g, b in unranked], rules.max_pairs_per_prompt)
    sizes = [min(len(g.ups), len(b.downs)) for g, b in pairs]
    limit = min(
        sum(len(candidates[k].ups) for k in {g for g, _ in unranked}),
        sum(len(candidates[k].downs) for k in {b for _, b in unranked}),
    )
    scale = min(1.0, limit / sum(sizes))
    for (g, b), size in zip(pairs, sizes, strict=True):
        judgements = g.ups + b.downs
        better, worse = g.answers[0], b.answers[0]
        author = sole_author(judgements)
        row = Comparison(
            prompt=better.prompt,
            **_sides(better, worse),
            margin=_margin(g.ups, b.downs, rules),
            weight=size * scale,
            source="thumbs",
            author=author,
            feedback_ids=tuple(j.feedback_id for j in judgements),
            trace_ids=_traces(*g.answers, *b.answers),
        )
        yield Draft(row, author, better)


def _margin(better: Sequence[Judgement], worse: Sequence[Judgement], rules: Rules) -> float | None:
    """How far apart two answers were rated on scales finer than a thumb's; None where either has no such rating."""
    ups, downs = (
        [rescaled(j.feedback) for j in judged if j.feedback.kind == "rating" and j.feedback.scale != THUMB]
        for judged in (better, worse)
    )
    return rules.margin_scale * (mean(ups) - mean(downs)) if ups and downs else None


def _names(a: _Candidate, b: _Candidate) -> tuple[str, str]:
    one, other = a.answers[0].text_key, b.answers[0].text_key
    return min(one, other), max(one, other)


def _some(pairs: list[tuple[_Candidate, _Candidate]], most: int) -> Sequence[tuple[_Candidate, _Candidate]]:
    """At most `most` of the pairs, chosen by their hashes: the same ones every time, and no end of the list favoured."""
    if len(pairs) <= most:
        return pairs
    return sorted(
        pairs,
        key=lambda p: hashlib.sha256(
            f"{p[0].answers[0].text_key}|{p[1].answers[0].text_key}".encode()
        ).digest(),
    )[:most]


def _traces(*answers: Answer) -> tuple[str, ...]:
    return tuple(dict.fromkeys(a.call.trace_id for a in answers))
