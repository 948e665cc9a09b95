"""Snapshots: datasets frozen in time, their rows, and their reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, NotRequired, cast

from fastapi import Body, Query
from fastapi.responses import Response, StreamingResponse
from typing_extensions import TypedDict

from heedloop.responses.datasets import ReportedSnapshot, SnapshotList
from heedloop.responses.jobs import JobResult
from heedloop.schema import DatasetForm, SchemaError, Split, format_time, from_json, parse_time, utc_now
from heedloop_server.curate import Rules
from heedloop_server.errors import Invalid, NotFound, Unavailable
from heedloop_server.filters import read_filters
from heedloop_server.http.openapi import accepts, responds
from heedloop_server.http.responses import Router, json_response
from heedloop_server.http.services import Jobs, ReadProject, TrainKey, TrainProject
from heedloop_server.ingest.intake import Intake
from heedloop_server.jobs.kinds import Finished, JobContext, Kind
from heedloop_server.judges.training import measured_weights
from heedloop_server.snapshots import SnapshotRequest, freeze
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.datasets.runs import summaries_of_runs
from heedloop_server.store.datasets.snapshots import (
    drop_unfinished,
    find_snapshot,
    list_snapshots,
    snapshot_rows,
)
from heedloop_server.store.filters import of_evaluation

router = Router()

MAX_NAME_CHARS = 256
LINES_AT_ONCE = 500
LOADED_WITHIN_S = 30.0


class NewSnapshot(TypedDict):
    """A dataset to freeze; `filters` as of `GET /v1/calls`, `rules` as in docs/datasets.md."""

    name: str
    filters: NotRequired[dict[str, Any] | None]
    rules: NotRequired[dict[str, Any] | None]
    as_of: NotRequired[str | None]


@router.post("/v1/snapshots", status_code=201)
@responds(also=[200, 202])
@accepts(NewSnapshot)
def create_snapshot(
    jobs: Jobs, who: TrainKey, project: TrainProject, body: Annotated[dict[str, Any], Body()]
) -> ReportedSnapshot | Response:
    """Freeze a dataset: `{"name", "filters", "rules", "as_of"}`; 200 where the same one is there already.

    202 with the job where it takes longer.
    """
    unknown = sorted(set(body) - set(NewSnapshot.__annotations__))
    if unknown:
        raise Invalid(
            f"{unknown[0]} is not a field of a snapshot; it has name, filters, rules, as_of", field=unknown[0]
        )
    name = _name(body.get("name"))
    filters = read_filters(body.get("filters"))
    if of_evaluation(filters):
        raise Invalid("an evaluation's answers make no rows to train on", field="filters.environment")
    rules = from_json(Rules, _with_measured_judges(project, body.get("rules")), field="rules")
    as_of = _as_of(body.get("as_of"))
    asked = SnapshotRequest(name, filters, rules, as_of, utc_now())
    made = jobs.outcome(jobs.start("snapshot", who, _as_json(asked)))
    if isinstance(made, Response):
        return made
    snapshot, is_new = made
    return snapshot if is_new else json_response(ReportedSnapshot, snapshot, 200)


def _as_json(asked: SnapshotRequest) -> dict[str, Any]:
    times = {"as_of": format_time(asked.as_of), "begun": format_time(asked.begun)}
    return {"name": asked.name, **asked.query, **times}


def _freeze(job: JobContext) -> Finished:
    request, intake = job.request, cast(Intake, job.parts.intake)
    asked = SnapshotRequest(
        request["name"],
        read_filters(request["filters"]),
        from_json(Rules, request["rules"], field="rules"),
        parse_time(request["as_of"]),
        parse_time(request["begun"]),
    )
    # Calls that were acknowledged before this request are in it, also those that only the request log has.
    if not intake.wait_until_loaded(LOADED_WITHIN_S):
        raise Unavailable("calls that came before still wait for the store; send the snapshot again")
    snapshot, is_new = freeze(job.project, asked)
    return Finished((snapshot, is_new), JobResult(path=f"/v1/snapshots/{snapshot.id}"))


SNAPSHOT = Kind("snapshot", "train", _freeze, clean=lambda job: drop_unfinished(job.project))


def _with_measured_judges(project: ProjectStore, rules: Any) -> Any:
    """The rules with the measured weight of each of the judges that they list by id."""
    if not isinstance(rules, dict) or "judges" not in rules:
        return {} if rules is None else rules
    given = cast(dict[str, Any], rules)
    return {**given, "judges": measured_weights(project, given["judges"])}


@router.get("/v1/snapshots")
def get_snapshots(project: ReadProject) -> SnapshotList:
    """All snapshots, the newest first."""
    return SnapshotList(snapshots=list_snapshots(project))


@router.get("/v1/snapshots/{snapshot_id}")
def get_snapshot(project: ReadProject, snapshot_id: str) -> ReportedSnapshot:
    """One snapshot with its report, and the runs that used it."""
    return replace(_stored(project, snapshot_id), runs=summaries_of_runs(project, [snapshot_id]))


@router.get("/v1/snapshots/{snapshot_id}/rows")
@responds(media={"application/x-ndjson": {"type": "string"}})
def get_rows(
    project: TrainProject,
    snapshot_id: str,
    form: Annotated[DatasetForm, Query()],
    split: Annotated[Split | None, Query()] = None,
) -> StreamingResponse:
    """The rows of one form as JSON Lines, the same ones in the same order every time."""
    _stored(project, snapshot_id)
    lines = _lines(snapshot_rows(project, snapshot_id, form=form, split=split))
    return StreamingResponse(lines, media_type="application/x-ndjson")


def _lines(rows: Iterator[str]) -> Iterator[bytes]:
    """The rows as lines, many at a time: each piece of a streamed answer costs a change of threads."""
    while batch := list(islice(rows, LINES_AT_ONCE)):
        yield "".join(f"{row}\n" for row in batch).encode()


def _stored(project: ProjectStore, snapshot_id: str) -> ReportedSnapshot:
    stored = find_snapshot(project, snapshot_id)
    if stored is None:
        raise NotFound(f"there is no snapshot {snapshot_id!r} in this project")
    return stored


def _name(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_NAME_CHARS:
        raise SchemaError("name", f"must be a text of 1 to {MAX_NAME_CHARS} characters, not {value!r:.80}")
    return value.strip()


def _as_of(value: object) -> datetime:
    now = utc_now()
    if value is None:
        return now
    as_of = parse_time(value, field="as_of")  # type: ignore[arg-type]  # it refuses what is no text
    if as_of > now:
        raise SchemaError("as_of", f"{value} is in the future; what has not arrived cannot be frozen")
    return as_of
