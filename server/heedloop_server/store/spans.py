"""Calls as rows of `spans`, and back."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import pyarrow as pa

from heedloop.schema import Call, Message, ToolDefinition, Usage, from_json, to_json
from heedloop_server.errors import Unavailable
from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import ArrowTable, ProjectStore, Row, Store, StoreError
from heedloop_server.store.filters import conditions
from heedloop_server.store.quality.candidates import (
    any_version,
    is_judged,
    is_scattered,
    of_page,
    periods,
    position_before,
)

__all__ = [
    "ARROW_SCHEMA",
    "CALL_COLUMNS",
    "SENT_START",
    "call_from_row",
    "calls_to_arrow",
    "in_range",
    "insert_calls",
    "known_at_any_time",
    "known_spans",
    "list_calls",
    "metadata_of",
    "takes_spans",
    "trace_calls",
]

log = logging.getLogger("heedloop.store")

_text, _low = pa.string(), pa.string()
_tokens = pa.uint32()
ARROW_SCHEMA = pa.schema(
    [
        ("project_id", _low),
        ("trace_id", pa.binary(16)),
        ("span_id", pa.binary(8)),
        ("parent_span_id", pa.binary(8)),
        ("start_time", pa.timestamp("us", "UTC")),
        ("duration_ns", pa.uint64()),
        ("name", _low),
        ("service", _low),
        ("environment", _low),
        ("operation", _low),
        ("is_answer", pa.bool_()),
        ("status", _low),
        ("error_message", _text),
        ("http_status", pa.uint16()),
        ("provider", _low),
        ("model", _low),
        ("model_requested", _low),
        ("model_answered", _low),
        ("response_id", _text),
        ("stream", pa.bool_()),
        ("finish_reasons", pa.list_(_low)),
        ("params", _text),
        ("prompt_name", _low),
        ("prompt_version", _low),
        ("user_id", _text),
        ("session_id", _text),
        ("tags", pa.list_(_low)),
        ("metadata", pa.map_(_low, _text)),
        ("input_tokens", _tokens),
        ("output_tokens", _tokens),
        ("cache_read_input_tokens", _tokens),
        ("cache_write_input_tokens", _tokens),
        ("reasoning_output_tokens", _tokens),
        ("cost", pa.float64()),
        ("sampling_probability", pa.float64()),
        ("question", _text),
        ("answer", _text),
        ("input_messages", _text),
        ("output_messages", _text),
        ("tool_definitions", _text),
        ("embedding_inputs", pa.list_(_text)),
        ("attributes", pa.map_(_low, _text)),
        ("ingested_at", pa.timestamp("us", "UTC")),
    ]
)
"""The columns of `spans` as the loader inserts them, in the order of `_values`."""

METADATA_PREFIX = "heedloop.metadata."
_NO_SPAN = bytes(8)
_MAX_TOKENS = 2**32 - 1
SENT_START = "heedloop.sent_start_time"
"""Attribute of a span whose clock was out of range: the start time that was sent."""
_LONGEST_AGO = timedelta(days=7305)
_FURTHEST_AHEAD = timedelta(days=1)
_FIRST = datetime(1970, 1, 2, tzinfo=timezone.utc)
_LAST = datetime(2262, 1, 1, tzinfo=timezone.utc)


# ------------------------------------------------------------------------------------------------------------ writing


def calls_to_arrow(entries: Iterable[tuple[str, Call, datetime]]) -> ArrowTable:
    """(project, call, received at) triples as an Arrow table of `ARROW_SCHEMA`."""
    columns: list[list[Any]] = [[] for _ in ARROW_SCHEMA]
    appends = [c.append for c in columns]
    for project, call, received_at in entries:
        for append, value in zip(appends, _values(project, call, received_at), strict=True):
            append(value)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, ARROW_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=ARROW_SCHEMA)


def insert_calls(
    project: ProjectStore, calls: Iterable[Call], *, received_at: datetime | None = None
) -> None:
    """Store calls directly, without the request log: for tests and repairs."""
    at = received_at or datetime.now(timezone.utc)
    entries = [(project.project, in_range(c, at), at) for c in calls]
    project.store.insert_arrow("spans", calls_to_arrow(entries))


def takes_spans(store: Store) -> bool:
    """True where the store takes a span now: one of no project, the same one every month."""
    now = datetime.now(timezone.utc)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    probe = Call(trace_id="0" * 32, span_id="0" * 16, start_time=month, operation="", is_answer=False)
    try:
        store.insert_arrow("spans", calls_to_arrow([("", probe, now)]))
    except (StoreError, Unavailable) as err:
        log.warning("the store takes no spans: %s", err)
        return False
    return True


def _values(project: str, call: Call, received_at: datetime) -> tuple[Any, ...]:
    usage = call.usage
    answer = call.output_text
    return (
        project,
        bytes.fromhex(call.trace_id),
        bytes.fromhex(call.span_id),
        bytes.fromhex(call.parent_span_id) if call.parent_span_id else _NO_SPAN,
        call.start_time,
        max(0, call.duration_ns),
        call.name,
        call.service,
        call.environment,
        call.operation,
        call.is_answer,
        call.status,
        call.error_message or "",
        call.http_status if call.http_status and 0 < call.http_status < 65536 else 0,
        call.provider or "",
        call.model or "",
        call.model_requested or "",
        call.model_answered or "",
        call.response_id or "",
        call.stream,
        call.finish_reasons,
        _json(call.params) if call.params else "",
        call.prompt_name or "",
        call.prompt_version or "",
        call.user_id or "",
        call.session_id or "",
        call.tags,
        list(metadata_of(call.attributes).items()),
        _count(usage.input),
        _count(usage.output),
        _count(usage.cache_read_input),
        _count(usage.cache_write_input),
        _count(usage.reasoning_output),
        call.cost,
        call.sampling_probability,
        question_of(call.input_messages),
        answer,
        _messages_json(call.input_messages) if call.input_messages else "",
        _output_json(call.output_messages, answer),
        _json([to_json(t) for t in call.tool_definitions]) if call.tool_definitions else "",
        call.embedding_inputs,
        list(call.attributes.items()),
        received_at,
    )


def metadata_of(attributes: Mapping[str, str]) -> dict[str, str]:
    """The app's own metadata among a span's attributes."""
    n = len(METADATA_PREFIX)
    return {k[n:]: v for k, v in attributes.items() if k.startswith(METADATA_PREFIX)}


def question_of(messages: Sequence[Message]) -> str:
    """The last user message's text; the last message's where no user spoke."""
    for message in reversed(messages):
        if message.role == "user" and message.text:
            return message.text
    return messages[-1].text if messages else ""


def _output_json(messages: Sequence[Message], answer: str) -> str:
    # an empty answer is written out, so that it is told from one that was not recorded
    if not messages or (answer and len(messages) == 1 and messages[0] == Message("assistant", answer)):
        return ""
    return _messages_json(messages)


def _messages_json(messages: Sequence[Message]) -> str:
    """The messages as `to_json` writes them; the plain ones, which are most, without asking each field."""
    return _json([_message_json(m) for m in messages])


def _message_json(message: Message) -> dict[str, Any]:
    if (
        message.reasoning is None
        and not message.tool_calls
        and message.tool_call_id is None
        and not message.media
    ):
        return {"role": message.role, "text": message.text}
    return to_json(message)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode
"""One encoder for all: `json.dumps` makes a new one for every call with options."""


def in_range(call: Call, received_at: datetime) -> Call:
    """The call with a start time that its partition may have: from twenty years before its arrival to a day after it.

    A clock that is not set (1970) or absurd counts as the time of arrival; what was sent is kept as an attribute.
    """
    if received_at - _LONGEST_AGO < call.start_time < received_at + _FURTHEST_AHEAD:
        return call
    sent = {**call.attributes, SENT_START: call.start_time.isoformat()}
    return replace(call, start_time=received_at, attributes=sent)


def _count(value: int | None) -> int | None:
    return None if value is None else min(max(0, value), _MAX_TOKENS)


def _json(value: Any) -> str:
    try:
        return _encode(value)
    except (
        ValueError,
        TypeError,
        RecursionError,
    ):  # nested too deeply, or a number that Python does not write
        return ""


# ------------------------------------------------------------------------------------------------------------ reading

CALL_COLUMNS = """
    lower(hex(trace_id)) AS trace_id_hex,
    lower(hex(span_id)) AS span_id_hex,
    lower(hex(parent_span_id)) AS parent_span_id_hex,
    start_time,
    duration_ns,
    name,
    service,
    environment,
    operation,
    is_answer,
    status,
    error_message,
    http_status,
    provider,
    model_requested,
    model_answered,
    response_id,
    stream,
    finish_reasons,
    params,
    prompt_name,
    prompt_version,
    user_id,
    session_id,
    tags,
    input_tokens,
    output_tokens,
    cache_read_input_tokens,
    cache_write_input_tokens,
    reasoning_output_tokens,
    cost,
    sampling_probability,
    answer,
    input_messages,
    output_messages,
    tool_definitions,
    embedding_inputs,
    attributes
"""
"""What `call_from_row` needs of `spans`."""


def call_from_row(row: Row) -> Call:
    """The call behind a row of `CALL_COLUMNS`."""
    parent = row["parent_span_id_hex"]
    return Call(
        trace_id=row["trace_id_hex"],
        span_id=row["span_id_hex"],
        start_time=row["start_time"],
        duration_ns=row["duration_ns"],
        parent_span_id=None if parent == "0" * 16 else parent,
        name=row["name"],
        service=row["service"],
        environment=row["environment"],
        operation=row["operation"],
        is_answer=row["is_answer"],
        provider=row["provider"] or None,
        model_requested=row["model_requested"] or None,
        model_answered=row["model_answered"] or None,
        params=cast(dict[str, Any], json.loads(row["params"])) if row["params"] else {},
        input_messages=_messages(row["input_messages"]),
        output_messages=_output_messages(row["output_messages"], row["answer"]),
        tool_definitions=_tool_definitions(row["tool_definitions"]),
        finish_reasons=tuple(row["finish_reasons"]),
        usage=Usage(
            row["input_tokens"],
            row["output_tokens"],
            row["cache_read_input_tokens"],
            row["cache_write_input_tokens"],
            row["reasoning_output_tokens"],
        ),
        cost=row["cost"],
        status=row["status"],
        error_message=row["error_message"] or None,
        http_status=row["http_status"] or None,
        response_id=row["response_id"] or None,
        stream=row["stream"],
        embedding_inputs=tuple(row["embedding_inputs"]),
        prompt_name=row["prompt_name"] or None,
        prompt_version=row["prompt_version"] or None,
        session_id=row["session_id"] or None,
        user_id=row["user_id"] or None,
        tags=tuple(row["tags"]),
        sampling_probability=row["sampling_probability"],
        attributes=row["attributes"],
    )


def _messages(text: str) -> tuple[Message, ...]:
    return tuple(from_json(Message, m) for m in json.loads(text)) if text else ()


def _tool_definitions(text: str) -> tuple[ToolDefinition, ...]:
    return tuple(from_json(ToolDefinition, t) for t in json.loads(text)) if text else ()


def _output_messages(text: str, answer: str) -> tuple[Message, ...]:
    if text:
        return _messages(text)
    return (Message("assistant", answer),) if answer else ()


def trace_calls(project: ProjectStore, trace_id: str) -> list[Call]:
    """Every span of a trace by start time; empty where there is none.

    The skip index finds the times at once, without FINAL, which would widen what it chose; times and ids together are a
    part of the table's key, so that FINAL then reads a few granules.
    """
    rows = project.rows(
        f"""
        SELECT {CALL_COLUMNS}
        FROM spans FINAL
        PREWHERE (start_time, trace_id) IN (
            SELECT
                start_time,
                trace_id
            FROM spans
            WHERE project_id = {{project:String}} AND trace_id = unhex({{trace_id:String}})
        )
        WHERE project_id = {{project:String}}
        ORDER BY start_time, span_id
        """,  # noqa: S608
        {"trace_id": trace_id},
    )
    return [call_from_row(r) for r in rows]


SUMMARY_COLUMNS = """
    lower(hex(trace_id)) AS trace_id_hex,
    lower(hex(span_id)) AS span_id_hex,
    start_time,
    duration_ns,
    name,
    service,
    environment,
    model,
    provider,
    prompt_name,
    prompt_version,
    user_id,
    session_id,
    tags,
    status,
    error_message,
    input_tokens,
    output_tokens,
    cost,
    substringUTF8(question, 1, 200) AS input_preview,
    substringUTF8(answer, 1, 200) AS output_preview
"""


def list_calls(
    project: ProjectStore, filters: CallFilters, *, limit: int, after: tuple[datetime, str, str] | None
) -> list[Row]:
    """Up to `limit` summaries, newest first, from below the position `after` (start time, trace id, span id).

    Not FINAL over the period, which would merge all of it before the first row: candidates come from any version of a
    span, then the newest versions of those few are asked whether they still match.
    """
    if not is_scattered(filters):
        return _page(project, filters, limit=limit, after=after)
    found: list[Row] = []
    for part in periods(position_before(filters, after[0] if after else None)):
        found += _page(project, part, limit=limit - len(found), after=after)
        if len(found) >= limit:
            break
    return found


def _page(project: ProjectStore, filters: CallFilters, *, limit: int, after: _Position | None) -> list[Row]:
    found: list[Row] = []
    while len(found) < limit:
        wanted = limit - len(found)
        keys = _candidates(project, filters, limit=wanted, after=after)
        found += _newest(project, filters, list(dict.fromkeys(keys)))
        if len(keys) < wanted:
            break
        after = keys[-1]
    return found


_Position = tuple[datetime, str, str]
_OF_ALL_VERSIONS = ("user", "cluster")
"""Filters that are about a span's ids, which do not change, and not about one version of it."""


def _candidates(
    project: ProjectStore, filters: CallFilters, *, limit: int, after: _Position | None
) -> list[_Position]:
    """The newest spans any version of which matches; one whose versions wait to be merged may stand there twice.

    `LIMIT 1 BY` would say each once, and read the whole period for it.
    """
    where, params = any_version(filters) if is_judged(filters) else conditions(filters)
    if after is not None:
        where += """
 AND start_time <= {after_time:DateTime64(6,'UTC')}
 AND (start_time, trace_id, span_id) < ({after_time:DateTime64(6,'UTC')}, unhex({after_trace:String}), unhex({after_span:String}))"""
        params |= {"after_time": after[0], "after_trace": after[1], "after_span": after[2]}
    rows = project.rows(
        f"""
        SELECT
            start_time,
            lower(hex(trace_id)) AS trace,
            lower(hex(span_id)) AS span
        FROM spans
        WHERE {where}
        ORDER BY start_time DESC, trace_id DESC, span_id DESC
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        {**params, "limit": limit},
    )
    return [(r["start_time"], r["trace"], r["span"]) for r in rows]


def _newest(project: ProjectStore, filters: CallFilters, keys: Sequence[_Position]) -> list[Row]:
    """Summaries of those of the spans whose newest version matches, newest first.

    PREWHERE is by the table's key, which
    all versions share: with FINAL nothing else could be asked before the texts of whole granules are read.
    """
    if not keys:
        return []
    where, params = conditions(filters.model_copy(update=dict.fromkeys(_OF_ALL_VERSIONS)))
    if is_judged(filters):
        where = of_page(where)
    return project.rows(
        f"""
        SELECT {SUMMARY_COLUMNS}
        FROM spans FINAL
        PREWHERE start_time IN {{times:Array(DateTime64(6,'UTC'))}}
          AND concat(lower(hex(trace_id)), lower(hex(span_id))) IN {{ids:Array(String)}}
        WHERE {where}
        ORDER BY start_time DESC, trace_id DESC, span_id DESC
        """,  # noqa: S608
        {
            **params,
            "times": [at.strftime("%Y-%m-%d %H:%M:%S.%f") for at, _, _ in keys],
            "ids": [trace + span for _, trace, span in keys],
        },
    )


def known_spans(
    project: ProjectStore, keys: Sequence[tuple[datetime, bytes, bytes]]
) -> dict[tuple[bytes, bytes], set[datetime]]:
    """(trace id, span id) -> times of arrival, of those (start time, trace id, span id) that are stored already."""
    return _known(project, keys, _KNOWN)


def known_at_any_time(
    project: ProjectStore, keys: Sequence[tuple[datetime, bytes, bytes]]
) -> dict[tuple[bytes, bytes], set[datetime]]:
    """As `known_spans`, for spans whose stored start time depends on when they arrived."""
    return _known(project, keys, _KNOWN.replace(_IN_PERIOD, _OF_TRACES))


def _known(
    project: ProjectStore, keys: Sequence[tuple[datetime, bytes, bytes]], sql: str
) -> dict[tuple[bytes, bytes], set[datetime]]:
    found: dict[tuple[bytes, bytes], set[datetime]] = {}
    for first in range(0, len(keys), _MAX_IDS):
        part = keys[first : first + _MAX_IDS]
        times = [k[0] for k in part]
        ids = base64.b64encode(b"".join(trace_id + span_id for _, trace_id, span_id in part)).decode()
        rows = project.rows(sql, {"first": min(times), "last": max(times), "ids": ids})
        for row in rows:
            found.setdefault((row["trace_id"], row["span_id"]), set()).add(row["ingested_at"])
    return found


_MAX_IDS = 3_000
"""Ids in one query: 96 KB, below the 128 KiB that ClickHouse's HTTP interface takes as one value."""

_IN_PERIOD = "start_time BETWEEN {first:DateTime64(6,'UTC')} AND {last:DateTime64(6,'UTC')}"
# here the index on trace ids helps
_OF_TRACES = """trace_id IN (
          SELECT arrayJoin(arrayMap(i -> toFixedString(substring(base64Decode({ids:String}), i * 24 + 1, 16), 16), range(intDiv(length(ids), 24))))
      )"""
# the ids travel as one text: binding thousands of values one by one costs more than the query
_KNOWN = """
    WITH (SELECT base64Decode({ids:String})) AS ids
    SELECT
        trace_id,
        span_id,
        ingested_at
    FROM spans
    WHERE project_id = {project:String}
      AND start_time BETWEEN {first:DateTime64(6,'UTC')} AND {last:DateTime64(6,'UTC')}
      AND concat(trace_id, span_id) IN (
          SELECT arrayJoin(arrayMap(i -> substring(base64Decode({ids:String}), i * 24 + 1, 24), range(intDiv(length(ids), 24))))
      )
"""
