"""An evaluation as text, and what about it makes a release stop."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

from heedloop.responses import EvaluatedPairs, EvaluationResult, EvaluationRow, MetricDifference


def result_text(result: EvaluationResult) -> str:
    """Every metric in a line, then the slices in which one is worse."""
    one = result.evaluation
    lines = [
        f"{one.name}: {one.target} on {one.source}: {one.num_answered:,} answered, {one.num_failed:,} failed; "
        f"{result.num_cases:,} next to {result.against or 'production'} ({result.num_groups:,} groups)"
    ]
    lines += [f"  {_metric(m)}" for m in result.metrics]
    for part in result.slices:
        lines += [
            f"  worse where {part.name} is {part.value} ({part.num_cases}): {_metric(m)}"
            for m in part.metrics
            if m.verdict == "worse"
        ]
    return "\n".join(lines)


def _metric(m: MetricDifference) -> str:
    d = m.difference
    shown = "not known" if d is None else f"{d.estimate:+.4g} [{d.low:+.4g}, {d.high:+.4g}]"
    people = f", {m.num_people} by annotators too" if m.num_people else ""
    verdict = f" {m.verdict}" if m.better else ""  # of a length neither side is better
    return f"{m.name}: {m.new:.4g}, was {m.baseline:.4g}: {shown}{verdict} ({m.num_cases}{people})"


def scores_text(rows: Sequence[EvaluationRow]) -> str:
    """The mean of every score of the answers by themselves, for want of others to compare them with."""
    by_name: dict[str, list[float]] = {}
    for row in rows:
        for name, score in row.scores.items():
            by_name.setdefault(name, []).append(score)
    return "\n".join(f"  {n}: {fmean(s):.4g} ({len(s):,}), compared with nothing" for n, s in by_name.items())


def regressions_text(pairs: EvaluatedPairs, limit: int = 5) -> str:
    """The cases that lost most, with their traces."""
    lost = [p for p in pairs.pairs if p.new is not None and p.baseline is not None and p.new < p.baseline]
    lines = [
        f"  {p.row.trace_id} (was {p.row.baseline_trace_id}): {p.baseline:.3g} became {p.new:.3g}: "
        f"{next((m.text for m in reversed(p.prompt) if m.role == 'user'), '')!r:.80}"
        for p in lost[:limit]
    ]
    return "\n".join([f"regressions by {pairs.metric}:", *lines]) if lines else ""


def is_decidable(
    rows: Sequence[EvaluationRow], metrics: Sequence[MetricDifference], allowed: Collection[str]
) -> bool:
    """False where nothing speaks for or against a release: no case has a check, and no metric that the gate heeds was compared."""
    heeded = [m for m in metrics if m.better == "higher" or m.name in allowed]
    return bool(heeded) or any(r.failed_checks or "checks" in r.scores for r in rows)


def failures(
    rows: Sequence[EvaluationRow],
    metrics: Sequence[MetricDifference],
    *,
    tolerance: float,
    allowed: Mapping[str, float],
) -> list[str]:
    """Why the gate stays closed, a sentence each.

    Args:
        tolerance: share of the cases with checks that may fail one.
        allowed: metric -> the largest loss that its interval may reach; others may not be worse beyond chance.
    """
    found: list[str] = []
    checked = [r for r in rows if "checks" in r.scores or r.failed_checks]
    wrong = [r for r in checked if r.failed_checks]
    if len(wrong) > tolerance * len(checked) + 1e-9:
        found.append(f"{len(wrong)} of {len(checked)} cases fail a check; {tolerance:.1%} may")
    if num := sum(bool(r.error) for r in rows):
        found.append(f"{num} of {len(rows)} cases have no answer")
    known = {m.name: m for m in metrics}
    for name, loss in allowed.items():
        d = known[name].difference if name in known else None
        if d is None:
            found.append(f"{name} is not known")
            continue
        worst = -d.low if known[name].better != "lower" else d.high
        if worst > loss:
            found.append(f"{name} may be worse by {worst:.4g}; {loss:g} is allowed")
    found += [
        f"{m.name} is worse: {m.new:.4g}, was {m.baseline:.4g}"
        for m in metrics
        if m.verdict == "worse" and m.better == "higher" and m.name not in allowed
    ]
    return found
