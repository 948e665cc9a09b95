"""Votes: rankings taken apart into pairs, and the consensus of several judges on one pair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from heedloop_server.curate.evidence import Ranked
from heedloop_server.curate.judged_calls import Answer, Judgement
from heedloop_server.curate.rules import Rules


@dataclass(frozen=True, slots=True)
class PairVote:
    """One judge's word on two answers.

    Attributes:
        first, second: the answers in the order of their texts' hashes, so that all votes on a pair name it alike.
        side: 1 where `first` is better, -1 where `second` is, 0 for a tie.
        weight: the pair's share of its ranking; the shares of one ranking sum to one.
        margin: strength of the preference on the reward's scale; None where it was not stated, or for a tie.
    """

    first: Answer
    second: Answer
    side: int
    weight: float
    margin: float | None
    judgement: Judgement

    @property
    def judge(self) -> str | None:
        """The judge's id, None where unknown."""
        return self.judgement.feedback.author.id


@dataclass(frozen=True, slots=True)
class Verdict:
    """The majority of the judges of a pair (or of an answer): `side` as in `PairVote`, `share` their part."""

    side: int
    share: float


def pair_votes(rankings: Iterable[Ranked], rules: Rules) -> list[PairVote]:
    """A ranking of K answers as K(K-1)/2 votes of weight 2/(K(K-1)) each; equal ranks are ties."""
    votes: list[PairVote] = []
    for ranked in rankings:
        votes.extend(_of_ranking(ranked, rules))
    return votes


def _of_ranking(ranked: Ranked, rules: Rules) -> Iterable[PairVote]:
    ranking = ranked.judgement.feedback.ranking
    assert ranking is not None  # noqa: S101  `Ranked` is only made of comparisons
    order = sorted(
        range(len(ranked.answers)), key=lambda i: (ranked.answers[i].text_key, ranked.answers[i].key)
    )
    weight = 2 / (len(order) * (len(order) - 1))
    margin = None if ranking.strength is None else ranking.strength * rules.margin_scale
    for i, j in combinations(order, 2):
        side = (ranking.ranks[j] > ranking.ranks[i]) - (ranking.ranks[j] < ranking.ranks[i])
        yield PairVote(
            ranked.answers[i],
            ranked.answers[j],
            side,
            weight,
            margin if side else None,
            ranked.judgement,
        )


def majority(
    sides: Sequence[tuple[str | None, int]], reliability: Mapping[str | None, float] | None = None
) -> Verdict:
    """The side with the most weight among `(judge, side)`; a tie where no side has more than the others.

    Args:
        reliability: weight per judge; a negative one turns the judge's word around (they are wrong more often than
            right), and leaves their ties out.
    """
    totals = {1: 0.0, 0: 0.0, -1: 0.0}
    for judge, side in sides:
        w = 1.0 if reliability is None else reliability.get(judge, 1.0)
        if w >= 0:
            totals[side] += w
        elif side:
            totals[-side] -= w
    whole = sum(totals.values())
    best = max(totals.values())
    leaders = [s for s, t in totals.items() if t == best]
    side = leaders[0] if len(leaders) == 1 else 0
    if whole == 0:
        return Verdict(0, 0.0)
    return Verdict(side, best / whole)
