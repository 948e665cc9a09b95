"""Frozen datasets: what they are made from, their rows, and which sources they used."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

from heedloop.responses.datasets import NamedSnapshot, ReportedSnapshot
from heedloop.schema import DatasetForm, Feedback, Snapshot, Split, canonical_json, from_json, to_json
from heedloop_server.curate import Judgement, Row
from heedloop_server.filters import CallFilters
from heedloop_server.store.admin.erasure import delete_rows
from heedloop_server.store.admin.jobs import active_jobs
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.datasets.snapshot_calls import call_conditions
from heedloop_server.store.erasure_mask import matches
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
    since: datetime,
) -> ReportedSnapshot:
    """Store the rows (`texts` is their JSON), then where they come from, then the snapshot: one that can be read is whole.

    What was erased after `since` is taken out again.
    """
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
    return _save_counted(project, snapshot, rows, since)


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


def _save(project: ProjectStore, snapshot: ReportedSnapshot, version: int) -> None:
    own = {f.name for f in fields(Snapshot)}
    record = {name: value for name, value in to_json(snapshot).items() if name in own}
    row = {
        "snapshot_id": snapshot.id,
        "record": json.dumps(record, ensure_ascii=False),
        "report": json.dumps(snapshot.report, ensure_ascii=False),
        "num_erased": snapshot.num_erased,
        "created_at": snapshot.created_at,
        "version": version,
        "is_deleted": 0,
    }
    project.insert("snapshots", [row])


_ERASED_SINCE = "project_id = {project:String} AND at >= {since:DateTime64(6,'UTC')}"
_NOTED_WITHIN = timedelta(minutes=10)
"""An erasure's lists bear the time of its begin; far longer than it takes to write them."""


def _save_counted(
    project: ProjectStore,
    snapshot: ReportedSnapshot,
    rows: Mapping[DatasetForm, Sequence[Row]],
    since: datetime,
) -> ReportedSnapshot:
    """Store the snapshot without the rows of what was erased meanwhile, and with their number.

    They are counted by the ids in the erasures' lists, not by what is left in the table: a removal may have come first. An
    erasure whose lists came after the look did not find this snapshot, or counts on top of it: there is another look.
    """
    since -= _NOTED_WITHIN
    num_erased = None
    while True:
        version = time.time_ns()
        now = _num_erased(project, rows, since)
        if now == num_erased:
            return snapshot
        if now:
            _drop_erased(project, snapshot.id, since)
        num_erased = now
        snapshot = replace(snapshot, num_erased=now)
        _save(project, snapshot, version)


def _num_erased(project: ProjectStore, rows: Mapping[DatasetForm, Sequence[Row]], since: datetime) -> int:
    """How many of the rows an erasure means that has been noted since."""
    found = project.rows(
        f"""
        SELECT lower(hex(trace_id)) AS id FROM erased_traces WHERE {_ERASED_SINCE}
        UNION ALL
        SELECT toString(feedback_id) AS id FROM erased_feedback WHERE {_ERASED_SINCE}
        """,  # noqa: S608
        {"since": since},
        **project.fresh,
    )
    erased = {r["id"] for r in found}
    return sum(
        not erased.isdisjoint((*row.trace_ids, *map(str, getattr(row, "feedback_ids", ()))))
        for of_form in rows.values()
        for row in (of_form if erased else ())
    )


def _drop_erased(project: ProjectStore, snapshot_id: str, since: datetime) -> None:
    where = f"snapshot_id = {{snapshot_id:String}} AND ({matches(_ERASED_SINCE)['snapshot_rows']})"
    delete_rows(project, "snapshot_rows", where, {"snapshot_id": snapshot_id, "since": since})


def drop_unfinished(project: ProjectStore) -> None:
    """Take away the rows of snapshots that were not written to their end; nothing while another one may be written."""
    for table in ("snapshot_rows", "snapshot_sources"):
        found = project.rows(
            f"""
            SELECT DISTINCT snapshot_id
            FROM {table}
            WHERE project_id = {{project:String}}
              AND snapshot_id NOT IN (SELECT snapshot_id FROM snapshots WHERE project_id = {{project:String}})
            """,  # noqa: S608
            **project.fresh,
        )
        # of these alone: a job that begins after the look may have written some of its rows by now
        unfinished = [r["snapshot_id"] for r in found]
        if unfinished and active_jobs(project, "snapshot") <= 1:
            where = "snapshot_id IN {unfinished:Array(String)}"
            delete_rows(project, table, where, {"unfinished": unfinished})


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
