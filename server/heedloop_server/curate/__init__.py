"""From calls and feedback to dataset rows: pure functions, no clock, no store. docs/datasets.md has the rules in words.

judged_calls.py calls as answers to prompts         evidence.py     judgements by answer
votes.py        rankings as pairs, majority         reliability.py  how far to trust a judge (off by default)
comparisons.py  which of two is better              completions.py  what to say, liked or not, rated, prompts
contexts.py     what else the model saw              near_copies.py  near-copies, told from templates
groups.py       what a split keeps together          caps.py         one author's share
propensity.py   who gets rated at all               report.py       what a snapshot holds, and what it supports
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from heedloop.schema import Call, DatasetForm, PromptRow
from heedloop_server.curate.caps import capped_scales
from heedloop_server.curate.comparisons import from_corrections, from_thumbs, from_votes
from heedloop_server.curate.completions import Weights, demonstrations, prompts, rated, unpaired
from heedloop_server.curate.drafts import Draft, Row
from heedloop_server.curate.evidence import Evidence, gather, placed
from heedloop_server.curate.groups import Placement, place
from heedloop_server.curate.judged_calls import AnswerIndex, Judgement
from heedloop_server.curate.propensity import Exposure, exposure_of
from heedloop_server.curate.reliability import judge_accuracies, judge_weights
from heedloop_server.curate.rules import Rules
from heedloop_server.curate.votes import PairVote, pair_votes

__all__ = ["Curated", "Judgement", "Row", "Rules", "count_rows", "curate"]


@dataclass(frozen=True, slots=True)
class Curated:
    """The rows of every form that was asked for, in a fixed order, and how they came about.

    Attributes:
        used: the judgements that count, whether or not they made a row of their own.
        dropped: reason -> number of judgements or answers left out.
        accuracies: judge -> probability to be right, where the rules ask for reliability.
        capped: form -> authors whose weight was reduced.
        exposure: how many answers were rated, and what the weights are worth.
    """

    rows: dict[DatasetForm, list[Row]]
    used: list[Judgement]
    votes: list[PairVote]
    dropped: dict[str, int]
    exposure: Exposure
    rules: Rules = field(default_factory=Rules)
    accuracies: dict[str, float] = field(default_factory=dict)
    capped: dict[DatasetForm, list[str]] = field(default_factory=dict)


def curate(
    calls: Iterable[Call],
    judgements: Iterable[Judgement],
    rules: Rules | None = None,
    *,
    relatives: Iterable[Call] = (),
) -> Curated:
    """Dataset rows by form. The same calls, judgements and rules give the same rows, in whatever order they come.

    Args:
        relatives: further spans of the calls' traces, which make no rows: they tell which answer of a trace its user saw.
    """
    rules = rules or Rules()
    evidence = gather(AnswerIndex(calls, relatives), judgements, rules)
    placements = place(
        list(evidence.usable.values()),
        rules,
        judged={*evidence.answer_feedback, *evidence.rankings_of},
        reserved=_reserved(evidence, rules),
    )
    evidence = placed(evidence, placements)
    votes = pair_votes(evidence.rankings, rules)
    accuracies = judge_accuracies(_opinions(evidence, votes)) if rules.reliability else {}
    of_judges: Weights = {**rules.judges} if rules.consensus == "majority" else {}
    reliability = judge_weights(accuracies) if rules.reliability else of_judges or None
    exposure = exposure_of(evidence, rules)
    drafts = _drafts(evidence, votes, rules, reliability, exposure.weights)
    rows: dict[DatasetForm, list[Row]] = {}
    capped: dict[DatasetForm, list[str]] = {}
    for form in rules.forms:
        capped_now = _scales(drafts[form], rules)
        scales = {a: rules.judges.get(a, 1.0) * capped_now.get(a, 1.0) for a in {*rules.judges, *capped_now}}
        rows[form] = [_finished(d, scales, placements) for d in drafts[form]]
        if capped_now:
            capped[form] = sorted(capped_now)
    dropped = dict(sorted(evidence.dropped.items()))
    return Curated(rows, evidence.used, votes, dropped, exposure, rules, accuracies, capped)


def _drafts(
    evidence: Evidence,
    votes: Sequence[PairVote],
    rules: Rules,
    reliability: Mapping[str | None, float] | None,
    exposure: Mapping[str, float],
) -> dict[DatasetForm, list[Draft]]:
    makers: dict[DatasetForm, list[Iterable[Draft]]] = {
        "demonstrations": [demonstrations(evidence)],
        "comparisons": [
            from_votes(votes, rules, evidence, reliability=reliability),
            from_corrections(evidence),
            from_thumbs(evidence, rules, ranked={(v.first.text_key, v.second.text_key) for v in votes}),
        ],
        "unpaired": [unpaired(evidence, rules, reliability=reliability, exposure=exposure)],
        "prompts": [prompts(evidence)],
        "rated": [rated(evidence, rules, exposure=exposure)],
    }
    return {form: [d for maker in makers[form] for d in maker] for form in rules.forms}


def _scales(drafts: Sequence[Draft], rules: Rules) -> dict[str, float]:
    weights = [d.row.weight for d in drafts]
    return capped_scales(weights, [d.author for d in drafts], rules.max_author_share)


def _finished(draft: Draft, scales: Mapping[str, float], placements: Mapping[str, Placement]) -> Row:
    where = placements[draft.answer.key]
    scale = scales.get(draft.author, 1.0) if draft.author is not None else 1.0
    weight = draft.row.weight if isinstance(draft.row, PromptRow) else draft.row.weight * scale
    return replace(draft.row, group=where.group, split=where.split, weight=weight)


def _opinions(evidence: Evidence, votes: Sequence[PairVote]) -> list[tuple[str, str, int]]:
    """`(what was judged, judge, side)` of all decided votes by named judges, pairs and thumbs alike."""
    result = [
        (f"{v.first.text_key}|{v.second.text_key}", v.judge, v.side)
        for v in votes
        if v.judge is not None and v.side
    ]
    for key, answer_feedback in evidence.answer_feedback.items():
        for judgements, side in ((answer_feedback.likes, 1), (answer_feedback.dislikes, -1)):
            result += [
                (key, j.feedback.author.id, side) for j in judgements if j.feedback.author.id is not None
            ]
    return result


def _reserved(evidence: Evidence, rules: Rules) -> set[str]:
    """Answers that were chosen at random for judgement, where the rules keep them for the test split."""
    if not rules.reserve_random:
        return set()
    keys = set[str]()
    for key, answer_feedback in evidence.answer_feedback.items():
        everything = answer_feedback.ratings + answer_feedback.corrections + answer_feedback.rejections
        if any(j.feedback.sampling_probability is not None for j in everything):
            keys.add(key)
    for ranked in evidence.rankings:
        if ranked.judgement.feedback.sampling_probability is not None:
            keys.update(a.key for a in ranked.answers)
    return keys


def count_rows(rows: Mapping[DatasetForm, Sequence[Row]]) -> dict[str, dict[str, int]]:
    """form -> split -> number of rows; forms and splits without rows are there with 0."""
    counts: dict[str, dict[str, int]] = {}
    for form, of_form in rows.items():
        result = Counter(r.split for r in of_form)
        counts[form] = {s: result.get(s, 0) for s in ("train", "validation", "test")}
    return counts
