"""Calls as rows of `spans`, and back."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from typing import Any, Literal, cast

from heedloop.schema import Call, Message, ToolDefinition, Usage, from_json
from heedloop_server.errors import Unavailable
from heedloop_server.filters import CallFilters
from heedloop_server.store.added_tags import with_added
from heedloop_server.store.connection import ProjectStore, Row, Store, StoreError
from heedloop_server.store.filters import conditions
from heedloop_server.store.quality.candidates import (
    any_version,
    is_judged,
    is_scattered,
    of_page,
    periods,
    position_before,
)
from heedloop_server.store.span_rows import ARROW_SCHEMA, ArrowTable, calls_to_arrow, ids_of, in_range, pc

log = logging.getLogger("heedloop.store")


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


# ------------------------------------------------------------------------------------------------------------ reading

_ID_COLUMNS = ("trace_id", "span_id", "parent_span_id")
_NOT_OF_CALLS = ("project_id", "model", "metadata", "question", "ingested_at")
"""Columns that are for queries alone: what they hold is in others as well."""
STORED_COLUMNS = [n for n in ARROW_SCHEMA.names if n not in _NOT_OF_CALLS]
"""The columns of `spans` that a call is made of."""
SENT_COLUMNS = ",\n    ".join(
    f"lower(hex({n})) AS {n}_hex" if n in _ID_COLUMNS else n for n in STORED_COLUMNS
)
"""What `call_from_row` needs of `spans`, as it was sent."""
TAGS = f"{with_added('tags')} AS tags"
CALL_COLUMNS = SENT_COLUMNS.replace("\n    tags,", f"\n    {TAGS},")
"""As `SENT_COLUMNS`, with the tags that were added later."""


_PLAIN = (
    "start_time", "duration_ns", "name", "service", "environment", "operation", "is_answer", "cost", "status", "stream",
    "sampling_probability", "attributes",
)  # fmt: skip
OR_NONE = (
    "provider", "model_requested", "model_answered", "error_message", "http_status", "response_id", "prompt_name",
    "prompt_version", "session_id", "user_id",
)  # fmt: skip
"""Columns in which an empty text, or 0, stands for None."""
USAGE = [f"{f.name}_tokens" for f in fields(Usage)]


def call_from_row(row: Row) -> Call:
    """The call behind a row of `CALL_COLUMNS`."""
    parent = row["parent_span_id_hex"]
    return Call(
        trace_id=row["trace_id_hex"],
        span_id=row["span_id_hex"],
        parent_span_id=None if parent == "0" * 16 else parent,
        params=cast(dict[str, Any], json.loads(row["params"])) if row["params"] else {},
        input_messages=_messages(row["input_messages"]),
        output_messages=_output_messages(row["output_messages"], row["answer"]),
        tool_definitions=_tool_definitions(row["tool_definitions"]),
        usage=Usage(*(row[n] for n in USAGE)),
        **{n: tuple(row[n]) for n in ("finish_reasons", "embedding_inputs", "tags")},
        **{n: row[n] or None for n in OR_NONE},
        **{n: row[n] for n in _PLAIN},
    )


def calls_from_arrow(rows: ArrowTable) -> list[Call]:
    """The calls behind rows of `ARROW_SCHEMA`, as they would come back from the store."""
    calls: list[Call] = []
    for row in rows.to_pylist():
        ids = {f"{c}_hex": row[c].hex() for c in _ID_COLUMNS}
        calls.append(call_from_row({**row, **ids, "attributes": dict(row["attributes"])}))
    return calls


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


SUMMARY_COLUMNS = f"""
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
    {TAGS},
    status,
    error_message,
    input_tokens,
    output_tokens,
    cost,
    substringUTF8(question, 1, 200) AS input_preview,
    substringUTF8(answer, 1, 200) AS output_preview
"""


Order = Literal[
    "newest", "oldest", "slowest", "fastest", "costliest", "cheapest", "most_tokens", "fewest_tokens"
]
_TOKENS = "ifNull(input_tokens, 0) + ifNull(output_tokens, 0)"
_ORDERS: dict[Order, tuple[str, str]] = {
    "newest": ("start_time", "DESC"),
    "oldest": ("start_time", "ASC"),
    "slowest": ("duration_ns", "DESC"),
    "fastest": ("duration_ns", "ASC"),
    "costliest": ("ifNull(cost, 0)", "DESC"),
    "cheapest": ("ifNull(cost, 0)", "ASC"),
    "most_tokens": (_TOKENS, "DESC"),
    "fewest_tokens": (_TOKENS, "ASC"),
}
"""Order of a list -> what it is sorted by first, and the direction of that, of the time and of the ids."""


def list_calls(
    project: ProjectStore,
    filters: CallFilters,
    *,
    limit: int,
    after: tuple[datetime, str, str] | None,
    order: Order = "newest",
) -> list[Row]:
    """Up to `limit` summaries in an order, from behind the position `after` (start time, trace id, span id).

    Not FINAL over the period, which would merge all of it before the first row: candidates come from any version of a
    span, then the newest versions of those few are asked whether they still match.
    """
    if order != "newest" or not is_scattered(filters):
        return _page(project, filters, limit=limit, after=after, order=order)
    found: list[Row] = []
    for part in periods(position_before(filters, after[0] if after else None)):
        found += _page(project, part, limit=limit - len(found), after=after)
        if len(found) >= limit:
            break
    return found


def _page(
    project: ProjectStore,
    filters: CallFilters,
    *,
    limit: int,
    after: Position | None,
    order: Order = "newest",
) -> list[Row]:
    found: list[Row] = []
    while len(found) < limit:
        wanted = limit - len(found)
        keys = _candidates(project, filters, limit=wanted, after=after, order=order)
        found += _newest(project, filters, list(dict.fromkeys(keys)))
        if len(keys) < wanted:
            break
        after = keys[-1]
    return found


Position = tuple[datetime, str, str]
"""Start time, trace id and span id of a call."""
_OF_ALL_VERSIONS = ("user", "cluster")
"""Filters that are about a span's ids, which do not change, and not about one version of it."""


def _behind(after: Position, order: Order, params: dict[str, Any]) -> str:
    """The condition that a span comes after a position; fills `params`."""
    params |= {"after_time": after[0], "after_trace": after[1], "after_span": after[2]}
    place = "{after_time:DateTime64(6,'UTC')}, unhex({after_trace:String}), unhex({after_span:String})"
    value, direction = _ORDERS[order]
    than = "<" if direction == "DESC" else ">"
    if value == "start_time":
        at = "{after_time:DateTime64(6,'UTC')}"
        return f" AND start_time {than}= {at} AND (start_time, trace_id, span_id) {than} ({place})"
    there = f"""(
        SELECT max({value})
        FROM spans
        WHERE project_id = {{project:String}} AND (start_time, trace_id, span_id) = ({place})
    )"""  # noqa: S608
    return f" AND ({value}, start_time, trace_id, span_id) {than} ({there}, {place})"


def candidate_conditions(
    filters: CallFilters, after: Position | None, order: Order = "newest"
) -> tuple[str, dict[str, Any]]:
    """The condition on spans any version of which matches, behind a position, and its parameters."""
    where, params = any_version(filters) if is_judged(filters) else conditions(filters)
    if after is not None:
        where += _behind(after, order, params)
    return where, params


def _candidates(
    project: ProjectStore, filters: CallFilters, *, limit: int, after: Position | None, order: Order
) -> list[Position]:
    """The first spans any version of which matches; one whose versions wait to be merged may stand there twice.

    `LIMIT 1 BY` would say each once, and read the whole period for it.
    """
    where, params = candidate_conditions(filters, after, order)
    value, direction = _ORDERS[order]
    first = "" if value == "start_time" else f"{value} {direction}, "
    rows = project.rows(
        f"""
        SELECT
            start_time,
            lower(hex(trace_id)) AS trace,
            lower(hex(span_id)) AS span
        FROM spans
        WHERE {where}
        ORDER BY {first}start_time {direction}, trace_id {direction}, span_id {direction}
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        {**params, "limit": limit},
    )
    return [(r["start_time"], r["trace"], r["span"]) for r in rows]


def version_conditions(filters: CallFilters) -> tuple[str, dict[str, Any]]:
    """The condition on the newest version of a candidate, and its parameters."""
    return conditions(filters.model_copy(update=dict.fromkeys(_OF_ALL_VERSIONS)))


def _newest(project: ProjectStore, filters: CallFilters, keys: Sequence[Position]) -> list[Row]:
    """Summaries of those of the spans whose newest version matches, in the order of `keys`.

    PREWHERE is by the table's key, which
    all versions share: with FINAL nothing else could be asked before the texts of whole granules are read.
    """
    if not keys:
        return []
    where, params = version_conditions(filters)
    if is_judged(filters):
        where = of_page(where)
    rows = project.rows(
        f"""
        SELECT {SUMMARY_COLUMNS}
        FROM spans FINAL
        PREWHERE start_time IN {{times:Array(DateTime64(6,'UTC'))}}
          AND concat(lower(hex(trace_id)), lower(hex(span_id))) IN {{ids:Array(String)}}
        WHERE {where}
        """,  # noqa: S608
        {
            **params,
            "times": [at.strftime("%Y-%m-%d %H:%M:%S.%f") for at, _, _ in keys],
            "ids": [trace + span for _, trace, span in keys],
        },
    )
    place = {(trace, span): n for n, (_, trace, span) in enumerate(keys)}
    return sorted(rows, key=lambda r: place[r["trace_id_hex"], r["span_id_hex"]])


def stored_in_traces(project: ProjectStore, rows: ArrowTable) -> dict[bytes, set[datetime]]:
    """Trace id and span id in one -> times of arrival, of what is stored of some rows' traces, at about their times."""
    # nearly nothing is found, and asking a granule's index for thousands of ids costs more than reading it
    return _stored(project, rows, _STORED, use_skip_indexes=0)


def stored_at_any_time(project: ProjectStore, rows: ArrowTable) -> dict[bytes, set[datetime]]:
    """As `stored_in_traces`, for spans whose stored start time depends on when they arrived."""
    return _stored(project, rows, _STORED.replace(_IN_PERIOD, ""))


def span_ids(rows: ArrowTable) -> list[bytes]:
    """Trace id and span id of every row, in one."""
    return list(map(bytes.__add__, ids_of(rows, "trace_id"), ids_of(rows, "span_id")))


def _stored(project: ProjectStore, rows: ArrowTable, sql: str, **settings: int) -> dict[bytes, set[datetime]]:
    arrivals: dict[bytes, set[datetime]] = {}
    if not len(rows):
        return arrivals
    period = pc.min_max(rows["start_time"]).as_py()
    times = {"first": period["min"] - TIME_APART, "last": period["max"] + TIME_APART}
    traces = list(set(ids_of(rows, "trace_id")))
    for first in range(0, len(traces), _MAX_IDS):
        ids = base64.b64encode(b"".join(traces[first : first + _MAX_IDS])).decode()
        # a server's log of queries needs no ids
        for row in project.rows(sql.replace("$ids", ids), times, log_queries_cut_to_length=1000, **settings):
            arrivals.setdefault(row["trace_id"] + row["span_id"], set()).add(row["ingested_at"])
    return arrivals


TIME_APART = timedelta(minutes=1)
"""How far apart in time the spans of one provider call can start: two clients' spans of one request, one inside the other."""
_MAX_IDS = 5_000
"""Ids in one query: 107 KB, below the 128 KiB that ClickHouse's HTTP interface takes as one value, and the 256 KiB of a statement."""

_IN_PERIOD = "AND start_time BETWEEN {first:DateTime64(6,'UTC')} AND {last:DateTime64(6,'UTC')}"
# the ids travel as one text within the statement: binding them, one by one or as one, costs more than the query
_STORED = f"""
    WITH base64Decode('$ids') AS ids
    SELECT
        trace_id,
        span_id,
        ingested_at
    FROM spans
    WHERE project_id = {{project:String}}
      {_IN_PERIOD}
      AND trace_id IN (
          SELECT arrayJoin(arrayMap(i -> toFixedString(substring(ids, i * 16 + 1, 16), 16), range(intDiv(length(ids), 16))))
      )
"""  # noqa: S608
