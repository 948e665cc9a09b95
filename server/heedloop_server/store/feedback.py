"""Feedback as rows: the newest word of each identity in `feedback`, every word in `feedback_history`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from heedloop import responses
from heedloop.schema import Feedback, Target, from_json, to_json
from heedloop_server.seen_answers import ASKS_FOR_TOOLS, seen_rank
from heedloop_server.store.connection import ProjectStore, Row, Store
from heedloop_server.store.filters import PRODUCTION, has_words
from heedloop_server.store.judged_calls import COPIED_OF_CALL, copied_columns

_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_OF_CALL = ("model", "prompt_name", "prompt_version", "service", "environment", "user_id", "session_id")
"""Columns of `feedback` that are copied of its call, empty where it is not known."""
MAX_CLOCK_SKEW = timedelta(minutes=5)
"""How far in the future a judgement's own time is believed; a clock that runs ahead must not win for ever."""


@dataclass(frozen=True, slots=True)
class JudgedCall:
    """The call that a feedback was found to mean, with what is copied onto the feedback's row."""

    trace_id: str
    span_id: str
    call_time: datetime
    model: str = ""
    prompt_name: str = ""
    prompt_version: str = ""
    service: str = ""
    environment: str = ""
    user_id: str = ""
    session_id: str = ""
    copied: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredFeedback:
    """A feedback with what the server knows about it.

    Attributes:
        version: microseconds of the judgement's own time; of one identity the greatest counts.
        call: the judged call, None while it is not known.
        record: the feedback as its rows have it, in JSON; made when it is stored where it is empty.
    """

    feedback: Feedback
    feedback_id: UUID
    version: int
    received_at: datetime
    call: JudgedCall | None = None
    key_id: str = ""
    record: str = ""

    @classmethod
    def of(cls, project: str, feedback: Feedback, received_at: datetime, key_id: str = "") -> StoredFeedback:
        """What is stored of a feedback that arrives now."""
        said_at = min(feedback.created_at, received_at + MAX_CLOCK_SKEW)
        version = max(0, int((said_at - _EPOCH) / timedelta(microseconds=1)))
        record = _record(feedback)
        return cls(feedback, feedback.identity(project), version, received_at, key_id=key_id, record=record)

    def response(self) -> responses.StoredFeedback:
        """What the REST API says of it."""
        call = self.call
        of_call: dict[str, Any] = {}
        if call is not None:
            of_call = {
                "call_trace_id": call.trace_id,
                "call_span_id": call.span_id,
                "call_time": call.call_time,
            }
            of_call |= {n: getattr(call, n) or None for n in ("model", "prompt_name", "prompt_version")}
        return responses.extended(
            responses.StoredFeedback,
            self.feedback,
            feedback_id=str(self.feedback_id),
            version=self.version,
            received_at=self.received_at,
            **of_call,
        )


# ------------------------------------------------------------------------------------------------------------ writing


def insert_feedback(project: ProjectStore, entries: Sequence[StoredFeedback], **settings: Any) -> None:
    """Store new words: what counts now."""
    project.insert("feedback", [_row(e) for e in entries], **project.stored, **settings)


def insert_history(project: ProjectStore, entries: Sequence[StoredFeedback]) -> None:
    """Store new words in the history, whose row makes a resend a duplicate where what counts is stored too."""
    project.insert("feedback_history", [_history_row(e) for e in entries], **project.stored)


def rebind_feedback(project: ProjectStore, entries: Sequence[StoredFeedback]) -> None:
    """Store the rows again with their call; the same version, so that a newer word is never overwritten."""
    project.insert("feedback", [_row(e) for e in entries], **project.stored)


def _history_row(stored: StoredFeedback) -> Row:
    f = stored.feedback
    return {
        "client_id": f.id,
        "feedback_id": stored.feedback_id,
        "key_id": stored.key_id,
        "record": stored.record or _record(stored.feedback),
        "created_at": _column_time(f.created_at),
        "received_at": stored.received_at,
        "version": stored.version,
        "is_deleted": int(f.retracted),
    }


def _record(feedback: Feedback) -> str:
    return json.dumps(to_json(feedback), ensure_ascii=False, separators=(",", ":"))


def _column_time(at: datetime) -> datetime:
    """DateTime64(6) holds 1900 to 2299; the record keeps what was said."""
    return min(max(at, _EPOCH), datetime(2262, 1, 1, tzinfo=timezone.utc))


def _row(stored: StoredFeedback) -> Row:
    f, call = stored.feedback, stored.call
    target = f.target
    others = f.ranking.answers if f.ranking is not None else ()
    return {
        "feedback_id": stored.feedback_id,
        "trace_id": _hex(call.trace_id if call else target.trace_id, _NO_TRACE),
        "span_id": _hex(call.span_id if call else target.span_id, _NO_SPAN),
        "target_trace_id": _hex(target.trace_id, _NO_TRACE),
        "target_span_id": _hex(target.span_id, _NO_SPAN),
        "target_session_id": target.session_id or "",
        "target_response_id": target.response_id or "",
        "kind": f.kind,
        "name": f.name,
        "score": f.value if isinstance(f.value, float) else None,
        "label": f.category or (f.value if isinstance(f.value, str) else ""),
        "is_thumb": f.is_thumb,
        "severity": f.severity or "",
        "has_comment": bool(f.comment),
        "author_kind": f.author.kind,
        "author_id": f.author.id or "",
        "queue_item": f.queue_item or "",
        "guideline": f.guideline or "",
        "sampling_probability": f.sampling_probability,
        "solicited": f.solicited,
        "other_trace_ids": [bytes.fromhex(a.trace_id) for a in others if a.trace_id],
        "call_time": call.call_time if call else _EPOCH,
        **{n: getattr(call, n) if call else "" for n in _OF_CALL},
        "session_id": call.session_id if call else target.session_id or "",
        "record": stored.record or _record(stored.feedback),
        "created_at": _column_time(f.created_at),
        "received_at": stored.received_at,
        "version": stored.version,
        "is_deleted": int(f.retracted),
        **copied_columns(call.copied if call else None),
    }


def _hex(value: str | None, none: bytes) -> bytes:
    return bytes.fromhex(value) if value else none


# ------------------------------------------------------------------------------------------------------------ reading

FEEDBACK_COLUMNS = """
    feedback_id,
    version,
    record,
    received_at,
    lower(hex(trace_id)) AS trace_id_hex,
    lower(hex(span_id)) AS span_id_hex,
    call_time,
    model,
    prompt_name,
    prompt_version,
    service,
    environment,
    user_id,
    session_id
"""
"""What `feedback_from_row` needs of `feedback`."""


def feedback_from_row(row: Row) -> StoredFeedback:
    """The feedback behind a row of `FEEDBACK_COLUMNS`."""
    call = None
    if row["call_time"] > _EPOCH:
        call = JudgedCall(
            row["trace_id_hex"], row["span_id_hex"], row["call_time"], **{n: row[n] for n in _OF_CALL}
        )
    record = row["record"]
    feedback = from_json(Feedback, json.loads(record))
    return StoredFeedback(
        feedback, row["feedback_id"], row["version"], row["received_at"], call, record=record
    )


def known_client_ids(project: ProjectStore, client_ids: Iterable[str]) -> dict[str, tuple[UUID, int]]:
    """Which of the senders' ids are in the history, with the feedback they belong to and its version."""
    rows = project.rows(
        """
        SELECT
            client_id,
            argMax(feedback_id, received_at) AS feedback_id,
            argMax(version, received_at) AS version
        FROM feedback_history
        WHERE project_id = {project:String} AND client_id IN {ids:Array(String)}
        GROUP BY client_id
        """,
        {"ids": list(client_ids)},
    )
    return {r["client_id"]: (r["feedback_id"], r["version"]) for r in rows}


def newest_versions(project: ProjectStore, feedback_ids: Iterable[UUID]) -> dict[UUID, int]:
    """The newest stored version of each of these feedbacks, retracted ones too."""
    rows = project.rows(
        """
        SELECT
            feedback_id,
            max(version) AS newest
        FROM feedback
        WHERE project_id = {project:String} AND feedback_id IN {ids:Array(UUID)}
        GROUP BY feedback_id
        """,
        {"ids": list(feedback_ids)},
    )
    return {r["feedback_id"]: r["newest"] for r in rows}


def read_feedback(
    project: ProjectStore, where: str, params: Mapping[str, Any], *, order: str = "", among: str = ""
) -> list[StoredFeedback]:
    """The feedback that meets a condition, as it counts now.

    Args:
        order: what follows the condition.
        among: a condition that chooses few in any version, without FINAL, which would merge all feedback there is; then
            the newest of those few is asked.
    """
    few = "SELECT feedback_id FROM feedback WHERE project_id = {project:String} AND "
    rows = project.rows(
        f"""
        SELECT {FEEDBACK_COLUMNS}
        FROM feedback FINAL
        {f"PREWHERE feedback_id IN ({few}{among})" if among else ""}
        WHERE project_id = {{project:String}}
          AND {where}
        {order}
        """,  # noqa: S608
        params,
    )
    return [feedback_from_row(r) for r in rows]


def feedback_of_trace(
    project: ProjectStore, trace_id: str, session_ids: Sequence[str] = ()
) -> list[StoredFeedback]:
    """All feedback on a trace, its spans, the comparisons it takes part in, and its sessions; newest first."""
    about = """(
              trace_id = unhex({trace_id:String})
              OR target_trace_id = unhex({trace_id:String})
              OR has(other_trace_ids, unhex({trace_id:String}))
              OR (target_session_id != '' AND target_session_id IN {sessions:Array(String)})
          )"""
    params = {"trace_id": trace_id, "sessions": list(session_ids)}
    return read_feedback(project, about, params, order="ORDER BY created_at DESC, feedback_id", among=about)


SAID = "concat(JSONExtractString(record, 'comment'), ' ', JSONExtractString(record, 'correction'))"
"""The texts of a feedback: its comment and its correction."""
_FEEDBACK_FILTERS = {
    "kind": "kind = {kind:String}",
    "name": "name = {name:String}",
    "author_id": "author_id = {author_id:String}",
    "author_kind": "author_kind = {author_kind:String}",
    "trace_id": "(trace_id = unhex({trace_id:String}) OR target_trace_id = unhex({trace_id:String}))",
    "span_id": "(span_id = unhex({span_id:String}) OR target_span_id = unhex({span_id:String}))",
    "user_id": "user_id = {user_id:String}",
    "session_id": "(session_id = {session_id:String} OR target_session_id = {session_id:String})",
    "model": "model = {model:String}",
    "prompt_version": "prompt_version = {prompt_version:String}",
    "category": "label = {category:String}",
    "has_comment": "has_comment = {has_comment:Bool}",
    "rating": "is_thumb AND (ifNull(score, 0) > 0.5) = ({rating:String} = 'up')",
    "since": "created_at >= {since:DateTime64(6,'UTC')}",
    "until": "created_at < {until:DateTime64(6,'UTC')}",
}


def list_feedback(
    project: ProjectStore, filters: dict[str, Any], *, limit: int, after: tuple[datetime, str] | None
) -> list[StoredFeedback]:
    """Up to `limit` feedbacks, newest first, from below the position `after` (created at, feedback id)."""
    params = {n: v for n, v in filters.items() if v is not None}
    text = params.pop("text", None)
    parts = [_FEEDBACK_FILTERS[n] for n in params]
    if text is not None:
        parts.append("(has_comment OR kind = 'correction')")
        parts.append(has_words(SAID, text, params))
    if not params.keys() & {"trace_id", "span_id", "author_id"}:
        parts.append(PRODUCTION)
    if after is not None:
        parts.append("(created_at, feedback_id) < ({after_time:DateTime64(6,'UTC')}, {after_id:UUID})")
        params |= {"after_time": after[0], "after_id": after[1]}
    where, order = (
        " AND ".join(parts or ["1"]),
        "ORDER BY created_at DESC, feedback_id DESC LIMIT {limit:UInt32}",
    )
    return read_feedback(project, where, {**params, "limit": limit}, order=order)


def get_feedback(
    project: ProjectStore, feedback_id: UUID
) -> tuple[StoredFeedback | None, list[StoredFeedback]]:
    """One feedback as it counts now (None where retracted or unknown), and every word of its history, newest first."""
    params = {"id": feedback_id}
    now = read_feedback(project, "feedback_id = {id:UUID}", params)
    words = project.rows(
        """
        SELECT
            record,
            version,
            received_at
        FROM feedback_history FINAL
        WHERE project_id = {project:String} AND feedback_id = {id:UUID}
        ORDER BY version DESC, received_at DESC
        """,
        params,
    )
    history = [
        StoredFeedback(
            from_json(Feedback, json.loads(w["record"])), feedback_id, w["version"], w["received_at"]
        )
        for w in words
    ]
    return now[0] if now else None, history


def num_history(project: ProjectStore) -> int:
    """How many words were stored, replaced and retracted ones too."""
    row = project.row("SELECT count() AS n FROM feedback_history FINAL WHERE project_id = {project:String}")
    return int(row["n"]) if row else 0


# ------------------------------------------------------------------------------------------------------------ binding

_CALL_COLUMNS = (
    """
    lower(hex(trace_id)) AS trace_id_hex,
    lower(hex(span_id)) AS span_id_hex,
    start_time AS call_time,
    model,
    prompt_name,
    prompt_version,
    service,
    environment,
    user_id,
    session_id,
    response_id,
    is_answer,
    operation,
    parent_span_id = toFixedString('', 8) AS is_root,
    answer != '' OR output_messages != '' AS answered,
    notEmpty(trimBoth(answer)) AS has_text,
    hasAny(finish_reasons, {tool_reasons:Array(String)})
        OR JSONHas(JSONExtractArrayRaw(output_messages)[-1], 'tool_calls') AS asks_for_tools,
"""
    + COPIED_OF_CALL
)


def find_calls(project: ProjectStore, targets: Iterable[Target]) -> dict[str, JudgedCall]:
    """Target key -> the call it means, for those whose call is stored.

    A span means itself, but for a framework's span around a whole trace, which means the trace; a trace means the answer that
    its user saw (`seen_answers`); a response means the answer that carries its id. A session is many calls and means none.
    """
    wanted = {bare.key: bare for t in targets if t.session_id is None for bare in [whole(t)]}
    traces = {t.trace_id for t in wanted.values() if t.trace_id}
    responses = {t.response_id for t in wanted.values() if t.response_id}
    if not traces and not responses:
        return {}
    rows = _candidate_calls(project, traces, responses)
    found = {key: _choose(target, rows) for key, target in wanted.items()}
    return {key: call for key, call in found.items() if call is not None}


def whole(target: Target) -> Target:
    """The target without its range."""
    return target if target.range is None else replace(target, range=None)


def _candidate_calls(project: ProjectStore, traces: set[str], responses: set[str]) -> dict[str, list[Row]]:
    """Rows by trace id and, for responses, by `response:<id>`; the one that the user saw first."""
    rows = _calls_where(project, _OF_TRACES, traces) + _calls_where(project, _OF_RESPONSES, responses)
    rows.sort(key=_seen, reverse=True)
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["trace_id_hex"], []).append(row)
        if row["response_id"] in responses:
            found.setdefault(f"response:{row['response_id']}", []).append(row)
    return found


_OF_TRACES = "trace_id IN (SELECT toFixedString(unhex(arrayJoin({names:Array(String)})), 16))"
_OF_RESPONSES = "response_id != '' AND response_id IN {names:Array(String)}"


def _calls_where(project: ProjectStore, which: str, names: set[str]) -> list[Row]:
    """The newest versions of the spans that a skip index finds; both conditions at once would leave both indices unused."""
    if not names:
        return []
    return project.rows(
        f"""
        SELECT {_CALL_COLUMNS}
        FROM spans FINAL
        PREWHERE (start_time, trace_id) IN (
            SELECT
                start_time,
                trace_id
            FROM spans
            WHERE project_id = {{project:String}} AND {which}
        )
        WHERE project_id = {{project:String}} AND {which}
        """,  # noqa: S608
        {"names": sorted(names), "tool_reasons": sorted(ASKS_FOR_TOOLS)},
    )


def _seen(row: Row) -> Any:
    return seen_rank(
        is_answer=row["is_answer"],
        answered=row["answered"],
        has_text=row["has_text"],
        asks_for_tools=row["asks_for_tools"],
        start_time=row["call_time"],
        span_id=row["span_id_hex"],
    )


def _choose(target: Target, rows: dict[str, list[Row]]) -> JudgedCall | None:
    candidates = rows.get(target.trace_id or target.key, [])
    if target.span_id is not None:
        own = [r for r in candidates if r["span_id_hex"] == target.span_id]
        around = own and not own[0]["operation"] and own[0]["is_root"]
        candidates = candidates if around else own
    if not candidates:
        return None
    best = candidates[0]
    return JudgedCall(
        best["trace_id_hex"],
        best["span_id_hex"],
        best["call_time"],
        **{n: best[n] for n in _OF_CALL},
        copied=copied_columns(best),
    )


def unbound_feedback(project: ProjectStore, *, limit: int = 10_000) -> list[StoredFeedback]:
    """Feedback whose call is not known yet, newest first; sessions are never bound."""
    where = "call_time = toDateTime64(0, 6, 'UTC') AND target_session_id = ''"
    return read_feedback(
        project, where, {"limit": limit}, order="ORDER BY received_at DESC LIMIT {limit:UInt32}"
    )


def feedback_on_traces(project: ProjectStore, trace_ids: Iterable[str]) -> list[StoredFeedback]:
    """Feedback on these traces as wholes that is bound to one of their calls; another may have come that is the answer."""
    where = """trace_id IN (SELECT toFixedString(unhex(arrayJoin({names:Array(String)})), 16))
          AND target_session_id = ''
          AND call_time != toDateTime64(0, 6, 'UTC')
          AND span_id != target_span_id"""
    return read_feedback(project, where, {"names": sorted(trace_ids)})


def projects_with_unbound(store: Store) -> list[str]:
    """The projects that hold feedback of the last week whose call is not known yet."""
    rows = store.rows(
        """
        SELECT DISTINCT project_id
        FROM feedback FINAL
        WHERE call_time = toDateTime64(0, 6, 'UTC')
          AND target_session_id = ''
          AND received_at > now() - INTERVAL 7 DAY
        """
    )
    return [r["project_id"] for r in rows]
