"""What quality control reads next to the judgements: facts of the answers, other authors' ratings; and adjudications."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from heedloop.schema import AuthorKind
from heedloop_server.filters import CallFilters
from heedloop_server.store.added_tags import with_added
from heedloop_server.store.call_rows import IDS, MAX_CALLS, Key, rows_of_calls
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.filters import conditions
from heedloop_server.store.review.assignments import LEAD_NOTE, ReviewItem
from heedloop_server.store.spans import TAGS

Answer = Key


@dataclass(frozen=True, slots=True)
class Adjudication:
    """A reviewer's word on an item; `answers` in the item's own order, `revision` from 1."""

    item_id: str
    reviewer: str
    answers: Mapping[str, Any]
    reason: str
    guideline: int
    judged_at: datetime
    revision: int
    trace_ids: tuple[str, ...] = ()


def insert_adjudication(project: ProjectStore, queue_id: str, word: Adjudication) -> None:
    """Store the newest word on an item."""
    row = asdict(word) | {
        "queue_id": queue_id,
        "answers": json.dumps(word.answers, ensure_ascii=False),
        "trace_ids": [bytes.fromhex(t) for t in word.trace_ids],
        "version": word.revision,
    }
    del row["revision"]
    project.insert("review_adjudications", [row])


def adjudications_of(
    project: ProjectStore, queue_id: str, item_ids: Sequence[str] | None = None
) -> dict[str, Adjudication]:
    """Item id -> the newest word on it, of a queue or of some of its items."""
    only = "" if item_ids is None else "AND item_id IN {items:Array(String)}"
    rows = project.rows(
        f"""
        SELECT
            item_id,
            reviewer,
            answers,
            reason,
            guideline,
            judged_at,
            version,
            arrayMap(t -> lower(hex(t)), trace_ids) AS traces
        FROM review_adjudications FINAL
        WHERE project_id = {{project:String}} AND queue_id = {{queue:String}} {only}
        """,  # noqa: S608
        {"queue": queue_id, "items": list(item_ids or ())},
    )
    return {r["item_id"]: _adjudication(r) for r in rows}


def _adjudication(row: Row) -> Adjudication:
    values = {f.name: row[f.name] for f in fields(Adjudication) if f.name in row}
    values |= {"answers": json.loads(row["answers"]), "revision": row["version"]}
    return Adjudication(**values, trace_ids=tuple(row["traces"]))


def lead_notes(project: ProjectStore) -> dict[str, list[Row]]:
    """Item id -> notes to the lead as `annotator, text, at`, the oldest first."""
    rows = project.rows(
        """
        SELECT
            queue_item,
            author_id AS annotator,
            JSONExtractString(record, 'comment') AS text,
            created_at AS at
        FROM feedback FINAL
        WHERE project_id = {project:String} AND name = {note:String} AND author_kind = 'annotator'
        ORDER BY created_at
        """,
        {"note": LEAD_NOTE},
    )
    result: dict[str, list[Row]] = {}
    for row in rows:
        result.setdefault(row["queue_item"], []).append(row)
    return result


def answer_facts(project: ProjectStore, items: Iterable[ReviewItem]) -> dict[Answer, Row]:
    """The items' answers: `model, prompt_name, prompt_version, service, environment, tags, metadata, num_chars`."""
    times = {target: at for item in items for target, at in zip(item.targets, item.call_times, strict=True)}
    columns = f"""{IDS},
                model,
                prompt_name,
                prompt_version,
                service,
                environment,
                {TAGS},
                metadata,
                toUInt32(lengthUTF8(answer)) AS num_chars"""
    return {(row["trace"], row["span"]): row for row in rows_of_calls(project, columns, times)}


def count_coverage(project: ProjectStore, queue_id: str, filters: CallFilters, by: str) -> list[Row]:
    """`value, num, num_queued, num_judged` of the answers that the filters take, the value with the most of them first."""
    where, params = conditions(filters)
    value = f"arrayStringConcat(arraySort({with_added('tags')}), ', ')" if by == "tag" else by
    if by.startswith("metadata."):
        value, params = "metadata[{key:String}]", {**params, "key": by.removeprefix("metadata.")}
    queued = """
            SELECT arrayJoin(arrayZip(trace_ids, span_ids))
            FROM review_items FINAL
            WHERE project_id = {project:String} AND queue_id = {queue:String} AND gold != 'removed'"""
    judged = """
              AND item_id IN (
                  SELECT item_id
                  FROM review_assignments FINAL
                  WHERE project_id = {project:String} AND queue_id = {queue:String} AND state = 'done'
              )"""
    return project.rows(
        f"""
        SELECT
            toString({value}) AS value,
            count() AS num,
            countIf((trace_id, span_id) IN ({queued})) AS num_queued,
            countIf((trace_id, span_id) IN ({queued}{judged})) AS num_judged
        FROM spans FINAL
        WHERE {where} AND is_answer
        GROUP BY value
        ORDER BY num DESC, value
        LIMIT 500
        """,  # noqa: S608
        {**params, "queue": queue_id},
    )


def ratings_by(
    project: ProjectStore, author_kind: AuthorKind, name: str, targets: Sequence[Answer]
) -> dict[Answer, float | str]:
    """Answer -> the newest rating of this name by authors of this kind: its number, or its category."""
    result: dict[Answer, float | str] = {}
    traces = sorted({t for t, _ in targets})
    for first in range(0, len(traces), MAX_CALLS):
        rows = project.rows(
            f"""
            SELECT
                {IDS},
                argMax((score, label), created_at) AS rating
            FROM feedback FINAL
            WHERE project_id = {{project:String}}
              AND kind = 'rating'
              AND name = {{name:String}}
              AND author_kind = {{author_kind:String}}
              AND lower(hex(trace_id)) IN {{traces:Array(String)}}
            GROUP BY
                trace_id,
                span_id
            """,  # noqa: S608
            {"name": name, "author_kind": author_kind, "traces": traces[first : first + MAX_CALLS]},
        )
        for row in rows:
            score, label = row["rating"]
            result[row["trace"], row["span"]] = label if score is None else score
    return result
