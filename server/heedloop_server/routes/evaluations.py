"""Evaluations: stored by the worker that makes them, compared with production or with an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from heedloop.responses.evaluations import (
    EvaluatedPair,
    EvaluatedPairs,
    Evaluation,
    EvaluationList,
    EvaluationResult,
    EvaluationRow,
    EvaluationRows,
    EvaluationStatus,
)
from heedloop.responses.judges import StoredCalls
from heedloop.schema import Call
from heedloop_server.errors import Conflict, NotFound
from heedloop_server.evaluations.comparison import (
    Metric,
    Sides,
    differences,
    in_order,
    read_sides,
    slice_differences,
    with_topics,
)
from heedloop_server.filters import Time
from heedloop_server.http.openapi import responds
from heedloop_server.http.responses import Router
from heedloop_server.http.services import ReadProject, TrainProject
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.evaluations import (
    insert_evaluation_rows,
    list_evaluation_rows,
    list_evaluations,
    read_calls_of,
    save_evaluation,
)

router = Router()

Name = Annotated[str, Query(max_length=64)]


TraceId = Annotated[str, Field(pattern="^([0-9a-f]{32})?$")]
SpanId = Annotated[str, Field(pattern="^([0-9a-f]{16})?$")]
Short = Annotated[str, Field(max_length=256)]
Count = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
Amount = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Scores = Annotated[dict[Short, Amount], Field(max_length=100)]


class NewEvaluation(BaseModel):
    """An evaluation as `Evaluation` describes it."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_.-]{0,63}$")]
    target: Annotated[str, Field(max_length=1024)]
    source: Annotated[str, Field(max_length=1024)]
    status: EvaluationStatus
    created_at: Time
    judges: Annotated[tuple[Short, ...], Field(max_length=20)] = ()
    num_cases: Count = 0
    num_answered: Count = 0
    num_failed: Count = 0
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = 0.0
    finished_at: Time | None = None


class NewRow(BaseModel):
    """A row as `EvaluationRow` describes it."""

    model_config = ConfigDict(extra="forbid")
    case_id: Annotated[str, Field(min_length=1, max_length=256)]
    group: Short = ""
    trace_id: TraceId = ""
    span_id: SpanId = ""
    baseline_trace_id: TraceId = ""
    baseline_span_id: SpanId = ""
    scores: Scores = {}
    baseline_scores: Scores = {}
    slices: Annotated[dict[Short, Short], Field(max_length=20)] = {}
    failed_checks: Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=100)] = ()
    error: Short = ""


class NewRows(BaseModel):
    """Up to 1,000 rows."""

    model_config = ConfigDict(extra="forbid")
    rows: Annotated[list[NewRow], Field(max_length=1_000)]


@router.post("/v1/evaluations")
@responds(also=[409])
def post_evaluation(project: TrainProject, body: NewEvaluation) -> Evaluation:
    """Store an evaluation, or its newest state; what answers and what is answered never change."""
    one = Evaluation(**body.model_dump())
    for known in list_evaluations(project, one.name):
        if (known.target, known.source) != (one.target, one.source):
            raise Conflict(
                f"the evaluation {one.name} is of {known.target} on {known.source}; choose another name",
                field="name",
            )
    save_evaluation(project, one)
    return one


@router.get("/v1/evaluations")
def get_evaluations(project: ReadProject) -> EvaluationList:
    """All evaluations, the newest first."""
    return EvaluationList(evaluations=list_evaluations(project))


@router.post("/v1/evaluations/{evaluation}/rows")
def post_rows(project: TrainProject, evaluation: str, body: NewRows) -> StoredCalls:
    """Store up to 1,000 rows; the newest of a case counts."""
    _evaluation(project, evaluation)
    rows = [EvaluationRow(**r.model_dump()) for r in body.rows]
    insert_evaluation_rows(project, evaluation, rows)
    return StoredCalls(stored=len(rows))


@router.get("/v1/evaluations/{evaluation}/rows")
def get_rows(project: ReadProject, evaluation: str) -> EvaluationRows:
    """The rows of an evaluation, by case."""
    _evaluation(project, evaluation)
    return EvaluationRows(rows=list_evaluation_rows(project, evaluation))


@router.get("/v1/evaluations/{evaluation}")
def get_result(project: ReadProject, evaluation: str, against: Name = "") -> EvaluationResult:
    """An evaluation next to production's answers, or next to those of an earlier one: `against` names it."""
    one, sides = _sides(project, evaluation, against)
    sides = with_topics(project, sides)
    paired = [r for r in sides.rows if r.trace_id and r.baseline_trace_id]
    checked = [r for r in sides.rows if "checks" in r.scores]
    return EvaluationResult(
        evaluation=one,
        against=against,
        num_cases=len(paired),
        num_groups=len({r.group or r.case_id for r in paired}),
        num_checked=len(checked),
        num_passed=sum(not r.failed_checks for r in checked),
        metrics=differences(sides),
        slices=slice_differences(sides),
    )


@router.get("/v1/evaluations/{evaluation}/pairs")
def get_pairs(
    project: ReadProject,
    evaluation: str,
    against: Name = "",
    metric: Annotated[str | None, Query(max_length=512)] = None,
    order: Literal["worst", "best", "doubtful"] = "worst",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> EvaluatedPairs:
    """Cases side by side, in the order of one metric's difference; the first metric where none is named."""
    _, sides = _sides(project, evaluation, against)
    if not sides.metrics:
        return EvaluatedPairs(metric="", pairs=[])
    chosen = sides.metric(metric)
    rows = in_order(sides, chosen, order)[:limit]
    calls = read_calls_of(project, (t for r in rows for t in (r.trace_id, r.baseline_trace_id)))
    return EvaluatedPairs(metric=chosen.name, pairs=[_pair(r, chosen, calls) for r in rows])


def _pair(row: EvaluationRow, metric: Metric, calls: Mapping[str, Call]) -> EvaluatedPair:
    own = calls.get(row.trace_id + row.span_id)
    baseline = calls.get(row.baseline_trace_id + row.baseline_span_id)
    shown = own or baseline
    new, before = metric.values[row.case_id]
    return EvaluatedPair(
        row=row,
        prompt=shown.input_messages if shown else (),
        answer=own.output_text if own else "",
        baseline_answer=baseline.output_text if baseline else "",
        new=new,
        baseline=before,
    )


def _sides(project: ProjectStore, name: str, against: str) -> tuple[Evaluation, Sides]:
    one = _evaluation(project, name)
    judges = one.judges
    if against:
        other = _evaluation(project, against)
        judges = tuple(j for j in judges if j in other.judges or not other.judges)
    return one, read_sides(project, name, against, judges)


def _evaluation(project: ProjectStore, name: str) -> Evaluation:
    found = list_evaluations(project, name) if name else []
    if not found:
        raise NotFound(f"there is no evaluation {name!r:.80} in this project")
    return found[0]
