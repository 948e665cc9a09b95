"""Judges on both answers of an evaluation's cases, by the worker of `heedloop judge run`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from heedloop.client import Client
from heedloop.responses import EvaluationRow
from heedloop.schema import Case, JudgeSpec, to_json
from heedloop.scores import failed_checks
from heedloop_cli.judges.items import Item, fetched, target_of_call

_AT_ONCE = 100


def judged_items(
    client: Client, spec: JudgeSpec, rows: Sequence[EvaluationRow], cases: Mapping[str, Case]
) -> Iterator[Item]:
    """Of a pairwise judge the two answers of each case, the evaluation's first; of others each answer by itself."""
    answered = [r for r in rows if r.trace_id]
    named = (
        [(t, s) for t, s in ((r.trace_id, r.span_id), (r.baseline_trace_id, r.baseline_span_id)) if t]
        for r in answered
    )
    for row, calls in zip(answered, fetched(client, named), strict=True):
        case = cases.get(row.case_id)
        reference = case.reference if case else ""
        if spec.form != "pairwise":
            yield from (Item((target_of_call(c),), (c,), reference) for c in calls)
        elif len(calls) == 2 and calls[0].output_text != calls[1].output_text:
            yield Item(tuple(map(target_of_call, calls)), tuple(calls), reference)


def against_rows(client: Client, rows: Sequence[EvaluationRow], against: str) -> list[EvaluationRow]:
    """The rows with the answers of an earlier evaluation in place of production's."""
    before = {r.case_id: r for r in client.evaluation_rows(against)}
    return [
        replace(r, baseline_trace_id=b.trace_id, baseline_span_id=b.span_id)
        for r in rows
        if (b := before.get(r.case_id)) is not None
    ]


def check_by_judge(
    client: Client, name: str, spec: JudgeSpec, rows: Sequence[EvaluationRow], cases: Mapping[str, Case]
) -> list[EvaluationRow]:
    """The rows, with the checks that ask for the judge's question decided by what it said; changed ones are stored."""
    changed: dict[str, EvaluationRow] = {}
    for row in rows:
        case = cases.get(row.case_id)
        asked = (
            tuple(c for c in case.checks if c.kind == "judge" and c.value in ("", spec.question))
            if case
            else ()
        )
        if case is None or not asked or not row.trace_id:
            continue
        said = client.iter_feedback(author_id=spec.id, trace_id=row.trace_id)
        value = next((spec.share(float(f.value or 0.0)) for f in said if f.name == spec.question), None)
        if value is None:
            continue
        failures = failed_checks(replace(case, checks=asked), "", judge=lambda _q, _a, v=value: v)
        kept = tuple(f for f in row.failed_checks if not f.startswith("the judge"))
        passed = not (*kept, *failures)
        changed[row.case_id] = replace(
            row, failed_checks=(*kept, *failures), scores={**row.scores, "checks": float(passed)}
        )
    stored = [to_json(r) for r in changed.values()]
    for first in range(0, len(stored), _AT_ONCE):
        client.add_evaluation_rows(name, stored[first : first + _AT_ONCE])
    return [changed.get(r.case_id, r) for r in rows]
