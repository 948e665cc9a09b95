"""Evaluations, their rows, what judges and annotators said of their answers, and the versions of case sets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heedloop.responses.evaluations import Evaluation, EvaluationRow
from heedloop.schema import Call, CaseSet, from_json, to_json
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.filters import SHARE
from heedloop_server.store.judges import BLIND, RANKED
from heedloop_server.store.review.queues import list_queues
from heedloop_server.store.spans import CALL_COLUMNS, call_from_row

_MAX_IDS = 2_000
"""Ids in one query, below what ClickHouse's HTTP interface takes as one value."""
_OF_TRACES = "trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))"


def save_evaluation(project: ProjectStore, one: Evaluation) -> None:
    """Store an evaluation, or its newest state."""
    row = {"name": one.name, "record": json.dumps(to_json(one)), "created_at": one.created_at}
    project.insert("evaluations", [row | {"version": time.time_ns()}])


def list_evaluations(project: ProjectStore, name: str = "") -> list[Evaluation]:
    """All evaluations or the one of a name, the newest first."""
    rows = project.rows(
        """
        SELECT record
        FROM evaluations FINAL
        WHERE project_id = {project:String} AND {name:String} IN ('', name)
        ORDER BY created_at DESC, name
        """,
        {"name": name},
    )
    return [from_json(Evaluation, json.loads(r["record"])) for r in rows]


def insert_evaluation_rows(project: ProjectStore, name: str, rows: Iterable[EvaluationRow]) -> None:
    """Store rows of an evaluation; the newest of a case counts."""
    version = time.time_ns()
    project.insert(
        "evaluation_rows",
        [
            {"name": name, "case_id": r.case_id, "record": json.dumps(to_json(r)), "version": version}
            for r in rows
        ],
    )


def list_evaluation_rows(project: ProjectStore, name: str) -> list[EvaluationRow]:
    """The rows of an evaluation, by case."""
    rows = project.rows(
        """
        SELECT record
        FROM evaluation_rows FINAL
        WHERE project_id = {project:String} AND name = {name:String}
        ORDER BY case_id
        """,
        {"name": name},
    )
    return [from_json(EvaluationRow, json.loads(r["record"])) for r in rows]


def read_calls_of(project: ProjectStore, trace_ids: Iterable[str]) -> dict[str, Call]:
    """The calls of some traces by `trace_id` + `span_id`."""
    wanted, found = sorted(set(trace_ids) - {""}), dict[str, Call]()
    for first in range(0, len(wanted), _MAX_IDS):
        rows = project.rows(
            f"SELECT {CALL_COLUMNS} FROM spans FINAL WHERE project_id = {{project:String}} AND {_OF_TRACES}",  # noqa: S608
            {"traces": wanted[first : first + _MAX_IDS]},
        )
        calls = map(call_from_row, rows)
        found |= {c.trace_id + c.span_id: c for c in calls}
    return found


@dataclass(frozen=True, slots=True)
class Shares:
    """What was said of answers under one question, each a share from 0 to 1 by the answer's key (or by a pair's).

    Attributes:
        judge: of one judge.
        people: the mean of the annotators who judged a drawn answer without suggestions.
    """

    judge: Mapping[str, float]
    people: Mapping[str, float]


def read_shares(
    project: ProjectStore, judge_id: str, question: str, trace_ids: Sequence[str], *, pairs: bool
) -> Shares:
    """A judge's and the annotators' words on the answers of some traces, or on pairs of them (1: the first by id is better)."""
    kind = "comparison" if pairs else "rating"
    read = RANKED if pairs else f"concat(lower(hex(trace_id)), lower(hex(span_id))) AS key, {SHARE} AS share"
    queues = [q.queue_id for q in list_queues(project) if not q.suggestions]
    judge: dict[str, float] = {}
    people: dict[str, list[float]] = {}
    for first in range(0, len(trace_ids), _MAX_IDS):
        rows = project.rows(
            f"""
            SELECT
                author_kind = 'model' AS is_judge,
                {read}
            FROM feedback FINAL
            WHERE project_id = {{project:String}}
              AND {_OF_TRACES}
              AND kind = '{kind}'
              AND name = {{question:String}}
              AND ((author_kind = 'model' AND author_id = {{judge:String}}) OR ({BLIND}))
              AND share IS NOT NULL
            """,  # noqa: S608
            {
                "traces": trace_ids[first : first + _MAX_IDS],
                "question": question,
                "judge": judge_id,
                "queues": queues,
            },
        )
        for r in rows:
            if r["is_judge"]:
                judge[r["key"]] = float(r["share"])
            else:
                people.setdefault(r["key"], []).append(float(r["share"]))
    return Shares(judge, {k: sum(v) / len(v) for k, v in people.items()})


# -------------------------------------------------------------------------------------------------------- case sets


def save_case_set(project: ProjectStore, one: CaseSet) -> None:
    """Store a version of a case set."""
    row: dict[str, Any] = {"name": one.name, "set_version": one.version, "record": json.dumps(to_json(one))}
    project.insert("case_sets", [row | {"version": time.time_ns()}])


def list_case_sets(project: ProjectStore, name: str = "") -> list[CaseSet]:
    """All versions of all case sets or of one, the newest first."""
    rows = project.rows(
        """
        SELECT record
        FROM case_sets FINAL
        WHERE project_id = {project:String} AND {name:String} IN ('', name)
        ORDER BY name, set_version DESC
        """,
        {"name": name},
    )
    return [from_json(CaseSet, json.loads(r["record"])) for r in rows]
