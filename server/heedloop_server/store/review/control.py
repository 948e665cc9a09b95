"""What quality control reads beside the judgements: facts of the answers, other people's labels; and adjudications."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from heedloop.schema import AuthorKind
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.review.assignments import ReviewItem

__all__ = ["Adjudication", "adjudications_of", "answer_facts", "insert_adjudication", "ratings_by"]

Answer = tuple[str, str]
"""(trace id, span id), hexadecimal."""
_AT_ONCE = 1_000
"""Answers in one query: their ids and times stay below the 128 KiB that ClickHouse's HTTP interface takes as one value."""


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
    row = {
        "queue_id": queue_id,
        "item_id": word.item_id,
        "reviewer": word.reviewer,
        "answers": json.dumps(word.answers, ensure_ascii=False),
        "reason": word.reason,
        "guideline": word.guideline,
        "judged_at": word.judged_at,
        "trace_ids": [bytes.fromhex(t) for t in word.trace_ids],
        "version": word.revision,
    }
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
    return Adjudication(
        row["item_id"],
        row["reviewer"],
        json.loads(row["answers"]),
        row["reason"],
        row["guideline"],
        row["judged_at"],
        row["version"],
        tuple(row["traces"]),
    )


def answer_facts(project: ProjectStore, items: Iterable[ReviewItem]) -> dict[Answer, Row]:
    """What is known of the items' answers: `model, prompt_name, prompt_version, service, environment, tags, metadata,
    num_chars`."""
    wanted = {target: at for item in items for target, at in zip(item.targets, item.call_times, strict=True)}
    found: dict[Answer, Row] = {}
    for part in _parts(sorted(wanted)):
        for row in _facts(project, part, [wanted[t] for t in part]):
            found[row["trace"], row["span"]] = row
    return found


def _parts(targets: Sequence[Answer]) -> Iterable[Sequence[Answer]]:
    for start in range(0, len(targets), _AT_ONCE):
        yield targets[start : start + _AT_ONCE]


def _facts(project: ProjectStore, targets: Sequence[Answer], times: Sequence[datetime]) -> list[Row]:
    return project.rows(
        """
        SELECT
            lower(hex(trace_id)) AS trace,
            lower(hex(span_id)) AS span,
            model,
            prompt_name,
            prompt_version,
            service,
            environment,
            tags,
            metadata,
            toUInt32(lengthUTF8(answer)) AS num_chars
        FROM spans FINAL
        WHERE project_id = {project:String}
          AND start_time IN {times:Array(DateTime64(6,'UTC'))}
          AND (hex(trace_id), hex(span_id)) IN (
              SELECT arrayJoin(arrayZip({traces:Array(String)}, {spans:Array(String)}))
          )
        """,
        {
            "times": [t.strftime("%Y-%m-%d %H:%M:%S.%f") for t in sorted(set(times))],
            "traces": [t.upper() for t, _ in targets],
            "spans": [s.upper() for _, s in targets],
        },
    )


def ratings_by(
    project: ProjectStore, author_kind: AuthorKind, name: str, targets: Sequence[Answer]
) -> dict[Answer, float | str]:
    """Answer -> the newest rating of this name by authors of this kind: its number, or its category."""
    found: dict[Answer, float | str] = {}
    for part in _parts(sorted(set(targets))):
        rows = project.rows(
            """
            SELECT
                lower(hex(trace_id)) AS trace,
                lower(hex(span_id)) AS span,
                argMax((score, label), created_at) AS said
            FROM feedback FINAL
            WHERE project_id = {project:String}
              AND kind = 'rating'
              AND name = {name:String}
              AND author_kind = {author_kind:String}
              AND lower(hex(trace_id)) IN {traces:Array(String)}
            GROUP BY trace_id, span_id
            """,
            {"name": name, "author_kind": author_kind, "traces": [t for t, _ in part]},
        )
        for row in rows:
            score, label = row["said"]
            found[row["trace"], row["span"]] = label if score is None else score
    return found
