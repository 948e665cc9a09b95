"""Runs and their live metrics; and which runs a snapshot, a trace or a feedback went into."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from heedloop.responses.runs import RunSummary
from heedloop.schema import Run, from_json, to_json, utc_now
from heedloop_server.store.connection import ProjectStore


def save_run(project: ProjectStore, run: Run) -> None:
    """Store a run, or its newest state."""
    row = {
        "run_id": run.id,
        "snapshot_id": run.snapshot_id or "",
        "record": json.dumps(to_json(run), ensure_ascii=False),
        "started_at": run.started_at,
        "version": time.time_ns(),
    }
    project.insert("runs", [row])


def find_run(project: ProjectStore, run_id: str) -> Run | None:
    """The run's newest state."""
    sql = """
        SELECT record
        FROM runs FINAL
        WHERE project_id = {project:String}
          AND run_id = {run_id:String}
    """
    row = project.row(sql, {"run_id": run_id})
    return None if row is None else from_json(Run, json.loads(row["record"]))


def list_runs(project: ProjectStore) -> list[Run]:
    """All runs, the newest first."""
    sql = """
        SELECT record
        FROM runs FINAL
        WHERE project_id = {project:String}
        ORDER BY started_at DESC, run_id
    """
    return [from_json(Run, json.loads(row["record"])) for row in project.rows(sql)]


def add_history(project: ProjectStore, run_id: str, rows: Iterable[Mapping[str, float]]) -> int:
    """Store metrics by step; a step and name stored before is replaced. Returns how many values were stored."""
    now = utc_now()
    values = [
        {"run_id": run_id, "step": int(row["step"]), "name": name, "value": float(value), "received_at": now}
        for row in rows
        for name, value in row.items()
        if name != "step"
    ]
    project.insert("run_history", values)
    return len(values)


def read_history(
    project: ProjectStore, run_id: str, *, from_step: int = 0
) -> list[dict[str, int | float | None]]:
    """The metrics of a run, one dictionary per step, oldest first; a value that is no finite number is None."""
    sql = """
        SELECT
            step,
            groupArray(name) AS names,
            groupArray(if(isFinite(value), value, NULL)) AS finite,
            groupArray(isFinite(value)) AS known
        FROM run_history FINAL
        WHERE project_id = {project:String}
          AND run_id = {run_id:String}
          AND step >= {from_step:UInt64}
        GROUP BY step
        ORDER BY step
    """
    result = project.rows(sql, {"run_id": run_id, "from_step": from_step})
    return [_step(row) for row in result]


def _step(row: Mapping[str, Any]) -> dict[str, int | float | None]:
    # groupArray leaves NULLs out, so the finite values are dealt back to the names that have one.
    values = iter(row["finite"])
    metrics: dict[str, int | float | None] = {"step": row["step"]}
    for name, known in zip(row["names"], row["known"], strict=True):
        metrics[name] = next(values) if known else None
    return metrics


def runs_of_snapshots(project: ProjectStore, snapshot_ids: Iterable[str]) -> list[Run]:
    """Every run that used one of the snapshots, or a model that such a run made, oldest first.

    A run uses another's model where its parent, or any text in its configuration, is that run's id or checkpoint.
    """
    wanted = set(snapshot_ids)
    if not wanted:
        return []
    runs = sorted(list_runs(project), key=lambda r: (r.started_at, r.id))
    used = {r.id: r for r in runs if r.snapshot_id in wanted}
    grown = True
    while grown:
        names = {*used, *(r.checkpoint for r in used.values() if r.checkpoint)}
        more = [r for r in runs if r.id not in used and not names.isdisjoint([r.parent, *_texts(r.config)])]
        used.update((r.id, r) for r in more)
        grown = bool(more)
    return [r for r in runs if r.id in used]


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _texts(inner)


def run_summary(run: Run) -> RunSummary:
    """What lists of the runs that used something show of a run."""
    return RunSummary(**{f.name: getattr(run, f.name) for f in fields(RunSummary)})


def summaries_of_runs(project: ProjectStore, snapshot_ids: Iterable[str]) -> list[RunSummary]:
    """`runs_of_snapshots` as responses list them."""
    return [run_summary(r) for r in runs_of_snapshots(project, snapshot_ids)]
