"""Training and evaluation runs: registered, followed live, read back."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, cast

from fastapi import Body, Query
from fastapi.responses import Response
from typing_extensions import TypedDict

from heedloop.responses.runs import HistoryRows, RunList, StoredRows
from heedloop.schema import Run, SchemaError, from_json, to_json
from heedloop_server.errors import Conflict, Invalid, NotFound
from heedloop_server.http.openapi import accepts, responds
from heedloop_server.http.responses import Router, json_response
from heedloop_server.http.services import ReadProject, TrainProject
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.datasets.runs import add_history, find_run, list_runs, read_history, save_run
from heedloop_server.store.datasets.snapshots import find_snapshot

router = Router()

MAX_HISTORY_ROWS = 10_000
MAX_METRIC_NAME = 256


class RunChanges(TypedDict, total=False):
    """What may change of a run; metrics are merged by name."""

    status: str | None
    metrics: dict[str, float | None]
    evaluation: dict[str, Any] | None
    finished_at: str | None
    checkpoint: str | None
    model_name: str | None
    error: str | None


class NewHistory(TypedDict):
    """Live metrics: each row has `step` and numbers."""

    rows: list[dict[str, float | None]]


Json = Annotated[dict[str, Any], Body()]

_changing = threading.Lock()
"""Two changes of one run at once must not lose either. Replicas of the server are not held by it: one trainer owns a run."""


@router.post("/v1/runs", status_code=201)
@responds(also=[200, 409])
@accepts(Run)
def create_run(project: TrainProject, body: Json) -> Run | Response:
    """Register a run. The same run sent again answers 200; another run under a used id is a conflict."""
    run = _finite_run(body)
    with _changing:
        known = find_run(project, run.id)
        if known is not None:
            if (known.method, known.snapshot_id, known.seed) != (run.method, run.snapshot_id, run.seed):
                raise Conflict(f"there is another run {run.id!r} already, a {known.method}", field="id")
            return json_response(Run, known, 200)
        if run.snapshot_id is not None and find_snapshot(project, run.snapshot_id) is None:
            raise Invalid(f"there is no snapshot {run.snapshot_id!r} in this project", field="snapshot_id")
        save_run(project, run)
    return run


@router.patch("/v1/runs/{run_id}")
@accepts(RunChanges)
def change_run(project: TrainProject, run_id: str, body: Json) -> Run:
    """Change what may change of a run; metrics are merged by name, everything else is replaced."""
    fixed = sorted(set(body) - set(RunChanges.__annotations__))
    if fixed:
        raise Invalid(
            f"{fixed[0]} cannot be changed; {', '.join(sorted(RunChanges.__annotations__))} can",
            field=fixed[0],
        )
    with _changing:
        run = _run(project, run_id)
        changed = _finite_run({**to_json(run), **body, "metrics": _merged(run, body)})
        changed = replace(changed, started_at=run.started_at)
        save_run(project, changed)
    return changed


@router.post("/v1/runs/{run_id}/history")
@accepts(NewHistory)
def post_history(project: TrainProject, run_id: str, body: Json) -> StoredRows:
    """Live metrics: `{"rows": [{"step": 3, "loss": 0.7}]}`; a step sent again replaces what it names."""
    unknown = sorted(set(body) - {"rows"})
    if unknown:
        raise Invalid(f"{unknown[0]!r:.80} stands beside rows, which is all there may be", field=unknown[0])
    rows = body.get("rows")
    if not isinstance(rows, list):
        raise Invalid("needs rows: a list of objects, each with step and numbers", field="rows")
    rows = cast(list[Any], rows)
    if len(rows) > MAX_HISTORY_ROWS:
        raise Invalid(f"holds {len(rows):,} rows; send at most {MAX_HISTORY_ROWS:,} at once", field="rows")
    checked = [_history_row(row, f"rows[{i}]") for i, row in enumerate(rows)]
    _run(project, run_id)
    return StoredRows(stored=add_history(project, run_id, checked))


@router.get("/v1/runs")
def get_runs(project: ReadProject) -> RunList:
    """All runs, the newest first."""
    return RunList(runs=list_runs(project))


@router.get("/v1/runs/{run_id}")
def get_run(project: ReadProject, run_id: str) -> Run:
    """One run."""
    return _run(project, run_id)


@router.get("/v1/runs/{run_id}/history")
def get_history(project: ReadProject, run_id: str, from_step: Annotated[int, Query(ge=0)] = 0) -> HistoryRows:
    """The run's metrics by step; null where a number was not finite."""
    _run(project, run_id)
    return HistoryRows(rows=read_history(project, run_id, from_step=from_step))


def _run(project: ProjectStore, run_id: str) -> Run:
    run = find_run(project, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id!r} in this project")
    return run


def _merged(run: Run, body: Mapping[str, Any]) -> dict[str, Any]:
    metrics = body.get("metrics", {})
    if not isinstance(metrics, Mapping):
        raise Invalid(f"metrics must be an object of numbers, not {metrics!r}", field="metrics")
    return {**run.metrics, **cast(Mapping[str, Any], metrics)}


def _finite_run(body: Mapping[str, Any]) -> Run:
    """A run from JSON. A number that is none (a diverged loss) is left out: no JSON can hold it, the history can."""
    run = from_json(Run, cast(dict[str, Any], _without_nan(body)))
    for name, value in run.metrics.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise SchemaError(f"metrics.{name}", f"{value!r} is not a number")
    return run


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        cleaned = {k: _without_nan(v) for k, v in cast(Mapping[str, Any], value).items()}
        return {k: v for k, v in cleaned.items() if v is not None}
    if isinstance(value, list):
        return [_without_nan(v) for v in cast(list[Any], value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _history_row(row: object, where: str) -> dict[str, float]:
    if not isinstance(row, Mapping):
        raise Invalid(f"{where} must be an object with step and numbers", field=where)
    metrics = cast(Mapping[str, Any], row)
    step = metrics.get("step")
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < 2**63:
        raise Invalid(
            f"{where}.step must be a whole number of 0 or more, not {step!r}", field=f"{where}.step"
        )
    for name, value in metrics.items():
        if not name or len(name) > MAX_METRIC_NAME:
            raise Invalid(f"{where}: a metric's name has 1 to {MAX_METRIC_NAME} characters", field=where)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise Invalid(f"{where}.{name} must be a number, not {value!r}", field=f"{where}.{name}")
    return {k: float("nan") if v is None else v for k, v in metrics.items()}
