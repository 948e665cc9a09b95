"""A judge's card: how far it is to be believed, from the audits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, time, timezone

import numpy as np

from heedloop.responses.intervals import Interval
from heedloop.responses.judges import (
    Deferral,
    GuidelineAgreement,
    JudgeCard,
    JudgeComparison,
    JudgeDrift,
    JudgeState,
)
from heedloop.schema import JudgeSpec
from heedloop_server.judges.audits import Audit, JudgedAnswers, side
from heedloop_server.statistics.agreement import agreement_interval
from heedloop_server.statistics.deferral import deferral, labels_left
from heedloop_server.statistics.drift import AlarmRule, watch
from heedloop_server.statistics.intervals import difference, wilson
from heedloop_server.statistics.means import bootstrap_mean
from heedloop_server.statistics.prediction_powered import (
    CombinedRate,
    combined_rate,
    combined_rate_of_sample,
    paired_difference,
)
from heedloop_server.statistics.weighted import wilson_from_sums

MIN_AUDITS = 30
"""Fewer say nothing that a rate could be built on."""
ODDS_OF_DRIFT = 2.0
"""How many times the odds of disagreement must have grown to matter."""


def judge_card(
    judge_id: str,
    spec: JudgeSpec,
    question: str,
    found: JudgedAnswers,
    *,
    half_width: float = 0.05,
    max_error: float = 0.1,
) -> JudgeCard:
    """The card of a judge about one question; `heedloop.responses.JudgeCard` says what each number is.

    Args:
        half_width: of the interval that is aimed at, for `labels_left`.
        max_error: how often the judge may be wrong where it decides alone.
    """
    audits, measured = found.audits, len(found.audits) >= MIN_AUDITS
    ups = _share_of(audits, lambda a: (1 + side(a.judge)) / 2, lambda a: side(a.people) > 0)
    downs = _share_of(audits, lambda a: (1 - side(a.judge)) / 2, lambda a: side(a.people) < 0)
    informed = _informedness(ups, downs)
    drift = _drift(audits) if measured else None
    state, reasons = _state(found, informed, drift)
    combined = combined_of(audits, found.others) if state in ("measured", "stale") else None
    people = combined_of(audits, [])
    rate = None if combined is None else combined.interval
    return JudgeCard(
        judge_id=judge_id,
        question=question,
        state=state,
        reasons=reasons,
        num_judged=len(found.judged),
        num_audits=len(audits),
        num_examples=len(found.shown),
        judge_rate=bootstrap_or_wilson([j.share for j in found.judged]),
        people_rate=None if people is None else people.interval,
        combined=rate,
        weight=None if combined is None else combined.weight,
        worth=None if combined is None else combined.effective_n,
        agreement=_share_of(audits, lambda a: a.agreement),
        sensitivity=ups,
        specificity=downs,
        informedness=informed,
        people_agreement=_ceiling(audits),
        length_effect=_effect(audits, spec, _is_longer),
        own_family=_effect(audits, spec, _is_own),
        drift=drift,
        deferral=_deferral(found, max_error) if measured else None,
        guidelines=_by_guideline(audits),
        half_width=half_width,
        labels_left=None
        if combined is None
        else labels_left(combined.interval, combined.effective_n, half_width, len(found.others)),
        last_judged_at=max((j.at for j in found.judged), default=None),
        last_audit_at=max((a.at for a in audits), default=None),
    )


def combined_of(audits: Sequence[Audit], others: Sequence[float]) -> CombinedRate | None:
    """People's rate from the audits and the judge's shares of other answers; prompt groups are clusters."""
    people, judge = [a.people for a in audits], [a.judge for a in audits]
    probability, groups = [a.probability for a in audits], [a.group for a in audits]
    if len(set(probability)) <= 1:
        return combined_rate(people, judge, others, groups=groups)
    return combined_rate_of_sample(people, judge, others, probability, groups=groups)


def bootstrap_or_wilson(shares: Sequence[float]) -> Interval | None:
    """The mean of shares: Wilson's interval where all are 0 or 1, else the bootstrap's."""
    if set(shares) <= {0.0, 1.0}:
        return wilson(sum(shares), len(shares))
    return bootstrap_mean(shares, scale=(0, 1), num_samples=400)


def _share_of(
    audits: Iterable[Audit], value: Callable[[Audit], float], among: Callable[[Audit], bool] | None = None
) -> Interval | None:
    """The mean of a share or a truth by the audits' probabilities."""
    of = [(1 / a.probability, value(a)) for a in audits if among is None or among(a)]
    w, y = np.array([w for w, _ in of]), np.array([float(t) for _, t in of])
    sums = (float(v.sum()) for v in (w, w**2, w * y, w**2 * y))
    return wilson_from_sums(len(of), *sums)


def _informedness(ups: Interval | None, downs: Interval | None) -> Interval | None:
    """Sensitivity + specificity - 1 as the difference of the judge's approval of good and of bad answers."""
    if downs is None:
        return None
    refused = Interval(1 - downs.estimate, 1 - downs.high, 1 - downs.low, downs.n, downs.method, downs.level)
    return difference(ups, refused)


def _state(
    found: JudgedAnswers, informed: Interval | None, drift: JudgeDrift | None
) -> tuple[JudgeState, list[str]]:
    num = len(found.audits)
    if num < MIN_AUDITS:
        return "unmeasured", [f"{num} audits; {MIN_AUDITS} are needed before anything can be said"]
    if informed is None:
        return "weak", [
            "annotators found all audited answers alike: whether the judge tells them apart is unknown"
        ]
    if informed.low <= 0:
        low, high = f"{informed.low:.2f}", f"{informed.high:.2f}"
        return "weak", [
            f"sensitivity + specificity - 1 is between {low} and {high}: it may be no better than chance"
        ]
    reasons: list[str] = []
    newest = max(a.judged_at for a in found.audits)
    later = sum(j.at > newest for j in found.judged)
    if later > len(found.judged) / 2:
        reasons.append(f"{later:,} of {len(found.judged):,} judged answers came after the last audited one")
    if drift is not None and drift.state == "alarm":
        reasons.append("it agrees with annotators less than it did")
    return ("stale", reasons) if reasons else ("measured", [])


def _drift(audits: Sequence[Audit]) -> JudgeDrift:
    """The second half of the audits against the first, day by day."""
    first, later = audits[: len(audits) // 2], audits[len(audits) // 2 :]
    baseline = (sum(a.agrees for a in first) + 0.5) / (len(first) + 1)
    days: dict[datetime, tuple[int, int]] = {}
    for a in later:
        day = datetime.combine(a.at.astimezone(timezone.utc).date(), time(), timezone.utc)
        ups, num = days.get(day, (0, 0))
        days[day] = (ups + a.agrees, num + 1)
    alarm = watch("agreement", AlarmRule(baseline, ODDS_OF_DRIFT, min_ratings=15), days)
    since = next((c.at for c in reversed(alarm.history) if c.after == alarm.state), None)
    return JudgeDrift(state=alarm.state, evidence=alarm.evidence, baseline=baseline, since=since)


def _ceiling(audits: Iterable[Audit]) -> Interval | None:
    twice = [a for a in audits if len(a.labels) > 1]
    counts = [[sum(side(v) == s for v in a.labels) for s in (-1, 0, 1)] for a in twice]
    return agreement_interval("percent", counts, clusters=[a.group for a in twice]) if twice else None


# ------------------------------------------------------------------------------------------------------------ biases

Trait = Callable[[Sequence[Audit], JudgeSpec], list[tuple[float, int]]]
"""For each audit the judge's share less people's, and whether the answer has the trait: 1, -1, or 0 where unknown."""


def _effect(audits: Sequence[Audit], spec: JudgeSpec, trait: Trait) -> Interval | None:
    """The judge's rating less people's: of answers with the trait less that of those without; of pairs, towards the one with it."""
    signed = [(r, s) for r, s in trait(audits, spec) if s]
    if spec.form == "pairwise":
        return bootstrap_mean([r * s for r, s in signed], scale=(-1, 1), num_samples=400)
    having, lacking = ([r for r, s in signed if s == wanted] for wanted in (1, -1))
    means = [bootstrap_mean(part, scale=(-1, 1), num_samples=400) for part in (having, lacking)]
    return difference(*means)


def _is_longer(audits: Sequence[Audit], spec: JudgeSpec) -> list[tuple[float, int]]:
    if spec.form == "pairwise":
        sizes = [[f.num_chars if f else 0 for f in a.facts] for a in audits]
        return [
            (a.judge - a.people, (s[0] > s[1]) - (s[0] < s[1])) for a, s in zip(audits, sizes, strict=True)
        ]
    known = [(a, a.facts[0].num_chars) for a in audits if a.facts[0]]
    middle = float(np.median([n for _, n in known])) if known else 0.0
    return [(a.judge - a.people, 1 if n > middle else -1) for a, n in known]


def _is_own(audits: Sequence[Audit], spec: JudgeSpec) -> list[tuple[float, int]]:
    own = family(spec.model)
    result: list[tuple[float, int]] = []
    for a in audits:
        mine = [family(f.model) == own if f and f.model else None for f in a.facts]
        if spec.form == "pairwise":
            result.append((a.judge - a.people, (mine[0] is True) - (mine[1] is True)))
        elif mine[0] is not None:
            result.append((a.judge - a.people, 1 if mine[0] else -1))
    return result


def family(model: str) -> str:
    """The family of a model by its name: the letters it begins with, its owner left out (`org/qwen3-4b` is `qwen`)."""
    match = re.match(r"[a-z]+", model.rsplit("/", 1)[-1].lower())
    return match[0] if match else model


def _deferral(found: JudgedAnswers, max_error: float) -> Deferral:
    audits = found.audits
    return deferral(
        [j.share for j in found.judged],
        [a.judge for a in audits],
        [1 - a.agreement for a in audits],
        [a.probability for a in audits],
        max_error=max_error,
    )


def _by_guideline(audits: Iterable[Audit]) -> list[GuidelineAgreement]:
    groups: dict[str, list[Audit]] = {}
    for a in audits:
        groups.setdefault(a.guideline, []).append(a)
    return [
        GuidelineAgreement(guideline=g, num_audits=len(of), agreement=_share_of(of, lambda a: a.agreement))
        for g, of in sorted(groups.items())
    ]


def compare_judges(ours: Iterable[Audit], theirs: Iterable[Audit]) -> JudgeComparison:
    """How often each of two judges is right on the audits that both have, and the paired difference."""
    by_key = {a.key: a for a in ours}
    pairs = [(by_key[b.key], b) for b in theirs if b.key in by_key]
    right = ([b.agreement for _, b in pairs], [a.agreement for a, _ in pairs])
    none = [0.0] * len(pairs)
    found = paired_difference(right, (none, none), ([], []), groups=[a.group for a, _ in pairs])
    return JudgeComparison(
        judge=_share_of([a for a, _ in pairs], lambda a: a.agreement),
        other=_share_of([b for _, b in pairs], lambda a: a.agreement),
        difference=None if found is None else found.interval,
        num_answers=len(pairs),
    )
