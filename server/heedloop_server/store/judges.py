"""Judges, what they did, and their judgements next to annotators' on the same answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from heedloop.responses.judges import Judge, JudgeCalls, JudgeCallStatus
from heedloop.schema import JudgeSpec, from_json, to_json, utc_now
from heedloop_server.curate.evidence import ADJUDICATION
from heedloop_server.filters import CallFilters
from heedloop_server.statistics.intervals import wilson
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.filters import SHARE
from heedloop_server.store.quality.rows import View, judged_condition

MAX_JUDGED = 500_000
"""The newest judged answers of one card."""
_MAX_IDS = 2_000
"""Ids in one query, below what ClickHouse's HTTP interface takes as one value."""


@dataclass(frozen=True, slots=True)
class JudgeCall:
    """What a judge did with one item, all attempts together; `error` is a kind such as `http 429`."""

    item: str
    status: JudgeCallStatus
    error: str
    num_calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    latency_ms: float


def insert_judge(project: ProjectStore, spec: JudgeSpec, created_by: str) -> None:
    """Store a judge."""
    record = json.dumps(to_json(spec), ensure_ascii=False)
    row = {"judge_id": spec.id, "record": record, "created_by": created_by}
    project.insert("judges", [row | {"created_at": utc_now(), "version": time.time_ns()}])


def list_judges(project: ProjectStore, judge_id: str = "") -> list[Judge]:
    """All judges, or one of them, the newest first."""
    rows = project.rows(
        """
        SELECT
            judge_id,
            record,
            created_by,
            created_at
        FROM judges FINAL
        WHERE project_id = {project:String} AND {judge:String} IN ('', judge_id)
        ORDER BY created_at DESC, judge_id
        """,
        {"judge": judge_id},
    )
    calls = _calls(project, judge_id)
    return [
        Judge(
            id=r["judge_id"],
            spec=from_json(JudgeSpec, json.loads(r["record"])),
            created_by=r["created_by"],
            created_at=r["created_at"],
            calls=_summary(calls.get(r["judge_id"], {})),
        )
        for r in rows
    ]


def _calls(project: ProjectStore, judge_id: str) -> dict[str, Row]:
    rows = project.rows(
        """
        SELECT
            judge_id,
            countIf(status = 'judged') AS num_judged,
            countIf(status = 'unparsable') AS num_unparsable,
            countIf(status = 'failed') AS num_failed,
            countIf(status = 'same') AS num_same,
            countIf(status = 'changed') AS num_changed,
            toUInt64(sum(num_calls)) AS num_calls,
            sum(judge_calls.input_tokens) AS input_tokens,
            sum(judge_calls.output_tokens) AS output_tokens,
            sum(judge_calls.cost) AS cost,
            quantilesExact(0.5, 0.95)(latency_ms) AS latencies,
            max(at) AS last_at
        FROM judge_calls FINAL
        WHERE project_id = {project:String} AND {judge:String} IN ('', judge_id)
        GROUP BY judge_id
        """,
        {"judge": judge_id},
    )
    return {r["judge_id"]: r for r in rows}


def _summary(row: Mapping[str, Any]) -> JudgeCalls:
    names = ("num_judged", "num_unparsable", "num_failed", "num_calls", "input_tokens", "output_tokens")
    p50, p95 = row.get("latencies") or (None, None)
    changed, same = int(row.get("num_changed", 0)), int(row.get("num_same", 0))
    return JudgeCalls(
        **{n: int(row.get(n, 0)) for n in names},
        cost=float(row.get("cost", 0.0)),
        latency_ms_p50=p50,
        latency_ms_p95=p95,
        last_at=row.get("last_at"),
        rechecked=wilson(changed, changed + same),
    )


def insert_judge_calls(project: ProjectStore, judge_id: str, calls: Iterable[JudgeCall]) -> int:
    """Store what became of items; the newest word on an item counts. Returns how many there were."""
    now, version = utc_now(), time.time_ns()
    rows = [
        {name: getattr(c, name) for name in JudgeCall.__slots__}
        | {"judge_id": judge_id, "at": now, "version": version}
        for c in calls
    ]
    project.insert("judge_calls", rows)
    return len(rows)


def unjudged_items(project: ProjectStore, judge_id: str, items: Sequence[str]) -> list[str]:
    """Those of the items that are not judged yet, nor could not be understood; what failed counts as not judged."""
    rows = project.rows(
        """
        SELECT item
        FROM judge_calls FINAL
        WHERE project_id = {project:String}
          AND judge_id = {judge:String}
          AND item IN {items:Array(String)}
          AND status != 'failed'
        """,
        {"judge": judge_id, "items": list(items)},
    )
    done = {r["item"] for r in rows}
    return [i for i in items if i not in done]


# -------------------------------------------------------------------------------------------------------- judgements


@dataclass(frozen=True, slots=True)
class Judged:
    """A judge's word on one answer (or pair): `share` 0 to 1, of a pair 1 where the first answer by id wins."""

    key: str
    share: float
    at: datetime


@dataclass(frozen=True, slots=True)
class AuditLabel:
    """An annotator's word on the same, in an item that was drawn with a known probability and judged without suggestions."""

    key: str
    share: float
    annotator: str
    probability: float
    guideline: str
    at: datetime
    adjudicated: bool


_RATED = f"""
    concat(lower(hex(trace_id)), lower(hex(span_id))) AS key,
    {SHARE} AS share"""
RANKED = """
    arraySort(r -> r.1, arrayZip(
        arrayMap(a -> concat(JSONExtractString(a, 'trace_id'), JSONExtractString(a, 'span_id')),
            JSONExtractArrayRaw(record, 'ranking', 'answers')),
        JSONExtract(record, 'ranking', 'ranks', 'Array(UInt32)'))) AS sides,
    arrayStringConcat(arrayMap(s -> s.1, sides), '|') AS key,
    if(length(sides) = 2, multiIf(sides[1].2 < sides[2].2, 1., sides[1].2 > sides[2].2, 0., 0.5), NULL) AS share"""


def judged_answers(
    project: ProjectStore, spec: JudgeSpec, question: str, filters: CallFilters
) -> list[Judged]:
    """What a judge said of the answers of the filters under one name, newest first."""
    rows = _judgements(project, spec, question, filters, "call_time AS at", _BY_JUDGE, {"judge": spec.id})
    return [Judged(r["key"], float(r["share"]), r["at"]) for r in rows]


_BY_JUDGE = "author_kind = 'model' AND author_id = {judge:String}"
BLIND = """author_kind = 'annotator'
          AND sampling_probability IS NOT NULL
          AND queue_item IN (SELECT item_id FROM review_items FINAL
              WHERE project_id = {project:String} AND queue_id IN {queues:Array(String)} AND gold = '')"""
"""What may calibrate a judge: never what users chose to rate, nor what was judged next to a model's suggestion."""


def audit_labels(
    project: ProjectStore, spec: JudgeSpec, question: str, filters: CallFilters, blind_queues: Sequence[str]
) -> list[AuditLabel]:
    """Annotators' judgements of drawn answers of the filters, in queues that show no suggestions, oldest first."""
    columns = """author_id,
        sampling_probability AS probability,
        guideline,
        queue_item,
        created_at,
        JSONHas(record, 'metadata', {adjudication:String}) AS adjudicated"""
    params = {"queues": list(blind_queues), "adjudication": ADJUDICATION}
    rows = _judgements(project, spec, question, filters, columns, BLIND, params)
    queue_of = _queues_of(project, {r["queue_item"] for r in rows}, blind_queues)
    return [
        AuditLabel(
            r["key"],
            float(r["share"]),
            r["author_id"],
            float(r["probability"]),
            f"{queue_of.get(r['queue_item'], '')}/{r['guideline'] or 0}",
            r["created_at"],
            bool(r["adjudicated"]),
        )
        for r in reversed(rows)
    ]


def _judgements(
    project: ProjectStore,
    spec: JudgeSpec,
    question: str,
    filters: CallFilters,
    columns: str,
    author: str,
    params: Mapping[str, Any],
) -> list[Row]:
    bound: dict[str, Any] = {**params, "question": question, "limit": MAX_JUDGED}
    where = judged_condition(View(filters), bound)
    kind, read = ("comparison", RANKED) if spec.form == "pairwise" else ("rating", _RATED)
    return project.rows(
        f"""
        SELECT
            {columns},
            {read}
        FROM feedback FINAL
        WHERE {where}
          AND kind = '{kind}'
          AND name = {{question:String}}
          AND {author}
          AND share IS NOT NULL
        ORDER BY call_time DESC, key
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        bound,
    )


def _queues_of(project: ProjectStore, items: Iterable[str], queues: Sequence[str]) -> dict[str, str]:
    wanted, found = sorted(items), dict[str, str]()
    for first in range(0, len(wanted), _MAX_IDS):
        rows = project.rows(
            """
            SELECT
                item_id,
                any(queue_id) AS queue
            FROM review_items FINAL
            WHERE project_id = {project:String}
              AND queue_id IN {queues:Array(String)}
              AND item_id IN {items:Array(String)}
            GROUP BY item_id
            """,
            {"queues": list(queues), "items": wanted[first : first + _MAX_IDS]},
        )
        found |= {r["item_id"]: r["queue"] for r in rows}
    return found


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """What was asked, how long the answer is in characters, and which model gave it."""

    question: str
    num_chars: int
    model: str


def answer_facts(project: ProjectStore, trace_ids: Iterable[str]) -> dict[str, AnswerFacts]:
    """The calls of these traces by `key`: trace id and span id in one."""
    wanted, found = sorted(set(trace_ids)), dict[str, AnswerFacts]()
    for first in range(0, len(wanted), _MAX_IDS):
        rows = project.rows(
            """
            SELECT
                concat(lower(hex(trace_id)), lower(hex(span_id))) AS key,
                question,
                lengthUTF8(answer) AS num_chars,
                model
            FROM spans FINAL
            WHERE project_id = {project:String}
              AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))
            """,
            {"traces": wanted[first : first + _MAX_IDS]},
        )
        found |= {r["key"]: AnswerFacts(r["question"], int(r["num_chars"]), r["model"]) for r in rows}
    return found
