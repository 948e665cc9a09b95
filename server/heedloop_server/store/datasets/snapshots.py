"""Frozen datasets: what they are made from, their rows, and which sources they used."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from heedloop.responses.datasets import NamedSnapshot, ReportedSnapshot
from heedloop.schema import DatasetForm, Feedback, Snapshot, Split, canonical_json, from_json, to_json
from heedloop_server.curate import Judgement, Row
from heedloop_server.filters import CallFilters
from heedloop_server.store.admin.erasure import delete_rows
from heedloop_server.store.admin.jobs import active_jobs
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.datasets.snapshot_calls import call_conditions
from heedloop_server.store.filters import PRODUCTION

INSERT_ROWS = 4000
READ_ROWS = 5000


# ------------------------------------------------------------------------------------------------------ making


def read_judgements(project: ProjectStore, filters: CallFilters, as_of: datetime) -> list[Judgement]:
    """Feedback on the calls that the filters take, as it stood at `as_of`: its newest version of that time, unless retracted.

    With it comes what makes no row and is counted: feedback on the calls' sessions, and feedback of the filters' period whose
    call is not stored. Which calls it is about is read from the newest rows; what it said, from the history.
    """
    where, params = call_conditions(filters, as_of)
    sql = f"""
        SELECT
            toString(feedback_id) AS id,
            max(version) AS newest,
            argMax(record, (version, received_at)) AS newest_record,
            argMax(is_deleted, (version, received_at)) AS gone
        FROM feedback_history FINAL
        WHERE project_id = {{project:String}}
          AND received_at <= {{as_of:DateTime64(6,'UTC')}}
          AND feedback_id IN (
              SELECT feedback_id
              FROM feedback
              ARRAY JOIN arrayPushBack(other_trace_ids, trace_id) AS judged
              WHERE project_id = {{project:String}}
                AND judged IN (SELECT trace_id FROM spans FINAL WHERE {where})
                AND {PRODUCTION}
              UNION DISTINCT
              SELECT feedback_id
              FROM feedback
              WHERE project_id = {{project:String}}
                AND target_session_id != ''
                AND target_session_id IN (SELECT session_id FROM spans FINAL WHERE {where})
              UNION DISTINCT
              SELECT feedback_id
              FROM feedback FINAL
              WHERE project_id = {{project:String}}
                AND target_session_id = ''
                AND call_time = toDateTime64(0, 6, 'UTC')
                AND created_at BETWEEN {{since:DateTime64(6,'UTC')}} AND {{until:DateTime64(6,'UTC')}}
          )
        GROUP BY feedback_id
        HAVING gone = 0
        ORDER BY id
    """  # noqa: S608  the conditions are ours, the values are bound
    return [
        Judgement(row["id"], row["newest"], from_json(Feedback, json.loads(row["newest_record"])))
        for row in project.rows(sql, {**params, "as_of": as_of})
    ]


AGAIN = {"insert_deduplicate": 0}
"""Settings of an insert whose rows may have been inserted before and deleted since (`drop_unfinished`): they are no repetition."""


def write_snapshot(
    project: ProjectStore,
    snapshot: ReportedSnapshot,
    *,
    rows: Mapping[DatasetForm, Sequence[Row]],
    texts: Mapping[DatasetForm, Sequence[str]],
) -> None:
    """Store the rows (`texts` is their JSON), then where they come from, then the snapshot: one that can be read is whole."""
    for form, of_form in rows.items():
        for start in range(0, len(of_form), INSERT_ROWS):
            batch = zip(of_form[start : start + INSERT_ROWS], texts[form][start:], strict=False)
            stored = [_row(snapshot.id, form, start + i, row, text) for i, (row, text) in enumerate(batch)]
            project.insert("snapshot_rows", stored, **AGAIN)
    sources = [
        {"kind": kind, "source_id": source, "snapshot_id": snapshot.id} for kind, source in _sources(rows)
    ]
    for start in range(0, len(sources), 50_000):
        project.insert("snapshot_sources", sources[start : start + 50_000], **AGAIN)
    _save(project, snapshot)


def _row(snapshot_id: str, form: DatasetForm, position: int, row: Row, text: str) -> dict[str, Any]:
    return {
        "snapshot_id": snapshot_id,
        "form": form,
        "position": position,
        "split": row.split,
        "feedback_ids": list(getattr(row, "feedback_ids", ())),
        "trace_ids": [bytes.fromhex(t) for t in row.trace_ids],
        "row": text,
    }


def row_texts(rows: Iterable[Row]) -> list[str]:
    """The rows as canonical JSON: what is hashed, stored and sent."""
    return [canonical_json(to_json(row)) for row in rows]


def _sources(rows: Mapping[DatasetForm, Sequence[Row]]) -> list[tuple[str, str]]:
    result: dict[tuple[str, str], None] = {}
    for of_form in rows.values():
        for row in of_form:
            result.update(dict.fromkeys(("feedback", f) for f in getattr(row, "feedback_ids", ())))
            result.update(dict.fromkeys(("trace", t) for t in row.trace_ids))
    return sorted(result)


def _save(project: ProjectStore, snapshot: ReportedSnapshot) -> None:
    own = {f.name for f in fields(Snapshot)}
    record = {name: value for name, value in to_json(snapshot).items() if name in own}
    row = {
        "snapshot_id": snapshot.id,
        "record": json.dumps(record, ensure_ascii=False),
        "report": json.dumps(snapshot.report, ensure_ascii=False),
        "num_erased": snapshot.num_erased,
        "created_at": snapshot.created_at,
        "version": time.time_ns(),
        "is_deleted": 0,
    }
    project.insert("snapshots", [row])


def drop_erased(project: ProjectStore, snapshot_id: str, since: datetime) -> int:
    """Take out the rows of what was erased after `since`, while the snapshot was being made; how many there were."""
    where = """
        project_id = {project:String}
          AND snapshot_id = {snapshot_id:String}
          AND (
              arrayExists(
                  t -> t IN (
                      SELECT trace_id
                      FROM erased_traces
                      WHERE project_id = {project:String} AND at >= {since:DateTime64(6,'UTC')}
                  ),
                  trace_ids
              )
              OR arrayExists(
                  f -> f IN (
                      SELECT feedback_id
                      FROM erased_feedback
                      WHERE project_id = {project:String} AND at >= {since:DateTime64(6,'UTC')}
                  ),
                  feedback_ids
              )
          )
    """
    params = {"snapshot_id": snapshot_id, "since": since}
    row = project.row(f"SELECT count() AS n FROM snapshot_rows FINAL WHERE {where}", params)  # noqa: S608
    num_erased = int(row["n"]) if row else 0
    if num_erased:
        store = project.store
        store.command(
            f"ALTER TABLE {store.topology.altered('snapshot_rows')} DELETE WHERE {where}",
            {**params, "project": project.project},
            mutations_sync=2,
            allow_nondeterministic_mutations=1,
        )
        stored = find_snapshot(project, snapshot_id)
        if stored is not None:
            _save(project, replace(stored, num_erased=stored.num_erased + num_erased))
    return num_erased


def count_erased(project: ProjectStore, snapshot: ReportedSnapshot) -> ReportedSnapshot:
    """The snapshot with what was erased of it counted from its rows: a server that ended may have deleted without a note."""
    row = project.row(
        """
        SELECT count() AS n
        FROM snapshot_rows FINAL
        WHERE project_id = {project:String} AND snapshot_id = {snapshot_id:String}
        """,
        {"snapshot_id": snapshot.id},
    )
    num = sum(n for splits in snapshot.num_rows.values() for n in splits.values()) - (row["n"] if row else 0)
    if num != snapshot.num_erased:
        snapshot = replace(snapshot, num_erased=num)
        _save(project, snapshot)
    return snapshot


def drop_unfinished(project: ProjectStore) -> None:
    """Take away the rows of snapshots that were not written to their end; nothing while another one may be written."""
    unfinished = """
        project_id = {project:String}
          AND snapshot_id NOT IN (SELECT snapshot_id FROM snapshots WHERE project_id = {project:String})
    """
    for table in ("snapshot_rows", "snapshot_sources"):
        row = project.row(f"SELECT count() AS n FROM {table} WHERE {unfinished}")  # noqa: S608
        if row and row["n"] and active_jobs(project, "snapshot") <= 1:
            delete_rows(project, table, unfinished, {})


# ----------------------------------------------------------------------------------------------------- reading


def find_snapshot(project: ProjectStore, snapshot_id: str) -> ReportedSnapshot | None:
    """One snapshot, or None."""
    sql = """
        SELECT
            record,
            report,
            num_erased
        FROM snapshots FINAL
        WHERE project_id = {project:String}
          AND snapshot_id = {snapshot_id:String}
    """
    row = project.row(sql, {"snapshot_id": snapshot_id})
    if row is None:
        return None
    more = {"report": json.loads(row["report"]), "num_erased": row["num_erased"]}
    return from_json(ReportedSnapshot, json.loads(row["record"]) | more)


def list_snapshots(project: ProjectStore) -> list[Snapshot]:
    """All snapshots, the newest first."""
    sql = """
        SELECT record
        FROM snapshots FINAL
        WHERE project_id = {project:String}
        ORDER BY created_at DESC, snapshot_id
    """
    return [_snapshot(row["record"]) for row in project.rows(sql)]


def _snapshot(record: str) -> Snapshot:
    return from_json(Snapshot, json.loads(record))


def snapshot_rows(
    project: ProjectStore, snapshot_id: str, *, form: DatasetForm, split: Split | None = None
) -> Iterator[str]:
    """The rows of one form as JSON texts, in the order they were frozen in, fetched 5,000 at a time."""
    sql = """
        SELECT
            position,
            row
        FROM snapshot_rows FINAL
        WHERE project_id = {project:String}
          AND snapshot_id = {snapshot_id:String}
          AND form = {form:String}
          AND position >= {first:UInt32}
          AND (split = {split:String} OR {split:String} = '')
        ORDER BY position
        LIMIT {limit:UInt32}
    """
    first = 0
    while True:
        params = {
            "snapshot_id": snapshot_id,
            "form": form,
            "first": first,
            "split": split or "",
            "limit": READ_ROWS,
        }
        result = project.rows(sql, params)
        for row in result:
            yield row["row"]
        if len(result) < READ_ROWS:
            return
        first = result[-1]["position"] + 1


# ----------------------------------------------------------------------------------------------------- lineage


def snapshots_of_feedback(project: ProjectStore, feedback_id: str) -> list[NamedSnapshot]:
    """The snapshots with a row that this feedback is behind, oldest first."""
    return _users(project, "feedback", [feedback_id])


def snapshots_of_traces(project: ProjectStore, trace_ids: Iterable[str]) -> list[NamedSnapshot]:
    """The snapshots with a row that one of these traces is behind, oldest first."""
    return _users(project, "trace", trace_ids)


def _users(project: ProjectStore, kind: str, source_ids: Iterable[str]) -> list[NamedSnapshot]:
    sql = """
        SELECT record
        FROM snapshots FINAL
        WHERE project_id = {project:String}
          AND snapshot_id IN (
              SELECT snapshot_id
              FROM snapshot_sources
              WHERE project_id = {project:String}
                AND kind = {kind:String}
                AND source_id IN {source_ids:Array(String)}
          )
        ORDER BY created_at, snapshot_id
    """
    found = project.rows(sql, {"kind": kind, "source_ids": list(source_ids)})
    return [NamedSnapshot(id=s.id, name=s.name) for s in (_snapshot(row["record"]) for row in found)]
