"""Snapshots: datasets frozen in time, their rows, and their reports."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, NotRequired, cast

from fastapi import Body, Query
from fastapi.responses import Response, StreamingResponse
from typing_extensions import TypedDict

from heedloop.responses.datasets import ReportedSnapshot, SnapshotList
from heedloop.schema import (
    DATASET_FORMS,
    DatasetForm,
    SchemaError,
    Split,
    canonical_json,
    format_time,
    from_json,
    parse_time,
    to_json,
    utc_now,
)
from heedloop_server.curate import Curated, Rules, count_rows, curate
from heedloop_server.curate.report import describe
from heedloop_server.errors import Invalid, NotFound, Unavailable
from heedloop_server.filters import CallFilters, read_filters
from heedloop_server.http.openapi import accepts, responds
from heedloop_server.http.responses import Router, json_response
from heedloop_server.http.services import Intakes, ReadProject, TrainProject
from heedloop_server.judges.training import measured_weights
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.datasets.runs import summaries_of_runs
from heedloop_server.store.datasets.snapshot_calls import read_calls, read_compared, read_relatives
from heedloop_server.store.datasets.snapshots import (
    drop_erased,
    find_snapshot,
    list_snapshots,
    read_judgements,
    row_texts,
    snapshot_rows,
    write_snapshot,
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
@responds(also=[200])
@accepts(NewSnapshot)
def create_snapshot(
    intake: Intakes, project: TrainProject, body: Annotated[dict[str, Any], Body()]
) -> ReportedSnapshot | Response:
    """Freeze a dataset: `{"name", "filters", "rules", "as_of"}`; 200 where the same one is there already."""
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
    started = utc_now()
    # Calls that were acknowledged before this request are in it, also those that only the request log has.
    if not intake.wait_until_loaded(LOADED_WITHIN_S):
        raise Unavailable("calls that came before still wait for the store; send the snapshot again")
    judgements = read_judgements(project, filters, as_of)
    calls = list(read_calls(project, filters, as_of))
    calls += read_compared(project, calls, judgements, as_of)
    relatives = read_relatives(project, calls, judgements, as_of)
    made = curate(calls, judgements, rules, relatives=relatives)
    query = {"filters": _written(filters), "rules": to_json(rules)}
    texts: dict[DatasetForm, list[str]] = {form: row_texts(r) for form, r in made.rows.items()}
    snapshot = _snapshot(project, made, texts, name=name, as_of=as_of, query=query)
    known = find_snapshot(project, snapshot.id)
    if known is not None:
        return json_response(ReportedSnapshot, known, 200)
    write_snapshot(project, snapshot, rows=made.rows, texts=texts)
    return _stored(project, snapshot.id) if drop_erased(project, snapshot.id, started) else snapshot


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


def _written(filters: CallFilters) -> dict[str, Any]:
    """The filters as JSON in one form: what differs from the default, times in UTC."""
    given = filters.model_dump(exclude_defaults=True)
    return {k: format_time(v) if isinstance(v, datetime) else v for k, v in sorted(given.items())}


def _as_of(value: object) -> datetime:
    now = utc_now()
    if value is None:
        return now
    as_of = parse_time(value, field="as_of")  # type: ignore[arg-type]  # it refuses what is no text
    if as_of > now:
        raise SchemaError("as_of", f"{value} is in the future; what has not arrived cannot be frozen")
    return as_of


def _snapshot(
    project: ProjectStore,
    made: Curated,
    texts: Mapping[DatasetForm, Sequence[str]],
    *,
    name: str,
    as_of: datetime,
    query: Mapping[str, Any],
) -> ReportedSnapshot:
    """The snapshot; its id is a hash of the project, the query, the feedback and the rows themselves."""
    feedback = hashlib.sha256()
    for judgement in sorted(made.used, key=lambda j: j.feedback_id):
        feedback.update(f"{judgement.feedback_id}:{judgement.version}\n".encode())
    rows = hashlib.sha256()
    for form in DATASET_FORMS:
        for text in texts.get(form, ()):
            rows.update(f"{form}\n{text}\n".encode("utf-8", "replace"))
    parts = [project.project, canonical_json(query), feedback.hexdigest(), rows.hexdigest()]
    return ReportedSnapshot(
        id=hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32],
        name=name,
        created_at=utc_now(),
        as_of=as_of,
        query=query,
        feedback_hash=feedback.hexdigest(),
        num_feedback=len(made.used),
        num_rows=count_rows(made.rows),
        report=describe(made),
        num_erased=0,
    )
