"""Joining what the loader has just received with what is stored: log content and the other spans of a provider call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa

from heedloop.schema import Call
from heedloop_server.normalise import LogContent, log_spans
from heedloop_server.normalise.duplicates import Key, duplicate_target
from heedloop_server.normalise.heedloop_sdk import ANSWER, SCOPE
from heedloop_server.normalise.joins import join, key_of
from heedloop_server.store.connection import ProjectStore, Store
from heedloop_server.store.span_rows import ARROW_SCHEMA, ArrowTable, calls_to_arrow, ids_of, pc
from heedloop_server.store.spans import SENT_COLUMNS, TIME_APART, call_from_row, calls_from_arrow

_CONTENTS = pa.schema(
    [
        ("project_id", pa.string()),
        ("trace_id", pa.binary(16)),
        ("span_id", pa.binary(8)),
        ("record_hash", pa.binary(16)),
        ("record", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
        ("ingested_at", pa.timestamp("us", "UTC")),
    ]
)
_LONGEST = timedelta(hours=2)
"""How long a call can run before its logs come."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LATEST_US = 9 * 10**15
_MAX_DEPTH = 64
"""Spans around a call that are looked at."""
_MAX_IDS = 3_000
"""Ids in one query; more are asked for in several."""


@dataclass(slots=True)
class Arrived:
    """What one project received.

    Attributes:
        rows: its spans as rows of `MARKED_SCHEMA` (`ingest.decode`), each once.
        contents: the log content that came with them.
        known_traces: those of their traces that spans are stored of (`stored_in_traces`).
    """

    rows: ArrowTable
    contents: list[LogContent] = field(default_factory=list)
    known_traces: set[str] = field(default_factory=set)


def join_with_stored(project: ProjectStore, arrived: Arrived) -> ArrowTable:
    """The rows to write: the arrived spans joined with what is stored, and new versions of stored spans they change.

    Most spans have no relatives but those of their own request, which are joined already; their rows stay as they are.
    Store the contents first (`insert_contents`): what a crash then interrupts is joined when the spans come again.
    """
    rows = arrived.rows
    keys = _keys(rows)
    stored = _relatives(project, arrived, set(keys))
    wanted = {(c.trace_id, c.span_id) for c in arrived.contents}
    wanted |= {k for k, seeks in zip(keys, rows["seeks_content"].to_pylist(), strict=True) if seeks}
    wanted |= {span for c in stored for span in log_spans(c)} if arrived.contents else set()
    contents = arrived.contents + span_contents(project, wanted)
    traces = {c.trace_id for c in (*stored, *contents)}
    is_related = _related(rows, traces, {c.response_id for c in stored if c.response_id})
    plain = rows.select(ARROW_SCHEMA.names)
    if not stored and not any(is_related):
        return plain
    mask = pa.array(is_related, pa.bool_())
    related = plain.filter(mask)
    received = dict(zip(_keys(related), related["ingested_at"].to_pylist(), strict=True))
    now = datetime.now(timezone.utc)
    joined = join(calls_from_arrow(related), stored, contents)
    entries = [(project.project, c, received.get(key_of(c), now)) for c in joined]
    return pa.concat_tables([plain.filter(pc.invert(mask)), calls_to_arrow(entries)])


def recent_relatives(store: Store, since: datetime) -> dict[str, set[str]]:
    """Project -> traces in which servers that share the store may have missed each other's spans.

    Those of a response id that two calls have, and those with a call that another program than heedloop's SDK made and whose spans
    came in several requests. Spans that arrived from `since` on are looked at.
    """
    rows = store.rows(
        """
        SELECT
            project_id AS project,
            arrayJoin(groupUniqArray(lower(hex(trace_id)))) AS trace
        FROM spans
        WHERE ingested_at >= {since:DateTime64(6,'UTC')}
          AND start_time >= {oldest:DateTime64(6,'UTC')}
          AND operation != ''
          AND response_id != ''
        GROUP BY project_id, response_id
        HAVING uniqExact(trace_id, span_id) > 1
        UNION DISTINCT
        SELECT
            project_id AS project,
            lower(hex(trace_id)) AS trace
        FROM spans
        WHERE ingested_at >= {since:DateTime64(6,'UTC')}
          AND start_time >= {oldest:DateTime64(6,'UTC')}
        GROUP BY project_id, trace_id
        HAVING uniqExact(ingested_at) > 1
           AND countIf(operation != ''
                       AND attributes['otel.scope.name'] != {own_scope:String}
                       AND attributes[{answer:String}] != 'true') > 0
        """,
        {"since": since, "oldest": since - _LONGEST, "own_scope": SCOPE, "answer": ANSWER},
    )
    result: dict[str, set[str]] = {}
    for row in rows:
        result.setdefault(row["project"], set()).add(row["trace"])
    return result


def join_stored(project: ProjectStore, traces: set[str], since: datetime) -> int:
    """Join the stored spans of some traces, which two servers may have stored without seeing the other's; returns how many changed."""
    now = datetime.now(timezone.utc)
    stored = list(_of_traces(project, traces, since - _LONGEST, now + TIME_APART).values())
    changed = join([], stored, [])
    if changed:
        project.store.insert_arrow("spans", calls_to_arrow([(project.project, c, now) for c in changed]))
    return len(changed)


def _keys(rows: ArrowTable) -> list[Key]:
    return list(zip(_hex(rows, "trace_id"), _hex(rows, "span_id"), strict=True))


def _hex(rows: ArrowTable, name: str) -> list[str]:
    return [i.hex() for i in ids_of(rows, name)]


def _related(rows: ArrowTable, traces: set[str], responses: set[str]) -> list[bool]:
    """Which rows another request's rows, stored spans or log content may belong to: with any row of a trace all of it.

    Args:
        traces: of stored spans and log content that may belong to some.
        responses: response ids of such stored spans.
    """
    own_traces, response_ids = _hex(rows, "trace_id"), rows["response_id"].to_pylist()
    arrivals = rows["ingested_at"].cast(pa.int64()).to_pylist()
    foreign_calls = _foreign_calls(rows).to_pylist()
    request_of: dict[str, int] = {}
    in_several = {t for t, at in zip(own_traces, arrivals, strict=True) if request_of.setdefault(t, at) != at}
    traces = traces | {
        t for t, is_call in zip(own_traces, foreign_calls, strict=True) if is_call and t in in_several
    }
    request_of = {"": 0}
    responses = responses | {
        r for r, at in zip(response_ids, arrivals, strict=True) if r and request_of.setdefault(r, at) != at
    }
    while True:
        found = [t in traces or r in responses for t, r in zip(own_traces, response_ids, strict=True)]
        more = {t for t, is_found in zip(own_traces, found, strict=True) if is_found}
        named = {r for r, is_found in zip(response_ids, found, strict=True) if is_found and r}
        if more <= traces and named <= responses:
            return found
        traces, responses = traces | more, responses | named


def _foreign_calls(rows: ArrowTable) -> Any:
    """Which rows are calls that heedloop's own SDK did not make."""
    return pc.and_(pc.not_equal(rows["operation"], ""), pc.invert(rows["is_own"]))


def insert_contents(
    store: Store, entries: Iterable[tuple[str, LogContent]], *, received_at: datetime, token: str = ""
) -> None:
    """Store (project, log content) pairs; storing one again changes nothing."""
    rows = [
        {
            "project_id": project,
            "trace_id": bytes.fromhex(c.trace_id),
            "span_id": bytes.fromhex(c.span_id),
            "record_hash": hashlib.blake2b(c.identity.encode(), digest_size=16).digest(),
            "record": c.to_json(),
            "at": _time(c.time_ns, received_at),
            "ingested_at": received_at,
        }
        for project, c in entries
        if len(c.trace_id) == 32 and len(c.span_id) == 16
    ]
    if rows:
        store.insert_arrow("contents", pa.Table.from_pylist(rows, schema=_CONTENTS), token=token)


def _time(time_ns: int, received_at: datetime) -> datetime:
    """The record's time, or that of its arrival where its clock was not set or is absurd."""
    if not 10**15 < time_ns < 9 * 10**18:
        return received_at
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def span_contents(project: ProjectStore, spans: Iterable[Key]) -> list[LogContent]:
    """The stored log content of the given spans."""
    wanted = set(spans)
    found: list[LogContent] = []
    for ids in _batches({t for t, _ in wanted}):
        rows = project.rows(
            """
            SELECT
                lower(hex(span_id)) AS span,
                lower(hex(trace_id)) AS trace,
                record
            FROM contents FINAL
            WHERE project_id = {project:String}
              AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({ids:Array(String)})), 16))
            """,
            {"ids": ids},
        )
        found += [LogContent.from_json(r["record"]) for r in rows if (r["trace"], r["span"]) in wanted]
    return found


def _relatives(project: ProjectStore, arrived: Arrived, keys: set[Key]) -> list[Call]:
    """The stored spans that the fresh rows, or the log content, may belong to."""
    rows = arrived.rows
    apart = [c for c in arrived.contents if (c.trace_id, c.span_id) not in keys]
    found: dict[Key, Call] = {}
    if apart:
        times = [_time(c.time_ns, datetime.now(timezone.utc)) for c in apart]
        traces = {c.trace_id for c in apart}
        found |= _of_traces(project, traces, min(times) - _LONGEST, max(times) + TIME_APART)
        wanted = {(c.trace_id, c.span_id) for c in apart}
        found = {k: c for k, c in found.items() if k in wanted}
        found |= _standing_for(project, found)
    calls = rows.filter(_foreign_calls(rows))
    found |= _same_responses(project, calls.filter(pc.not_equal(calls["response_id"], "")))
    if arrived.known_traces:
        found |= _families(project, rows.filter(pc.invert(rows["is_own"])), arrived.known_traces)
    found |= _inside(project, rows)
    return list(found.values())


def _period(rows: ArrowTable) -> tuple[datetime, datetime]:
    ends = pc.min_max(rows["start_time"]).as_py()
    return ends["min"], ends["max"]


def _same_responses(project: ProjectStore, calls: ArrowTable) -> dict[Key, Call]:
    """Stored calls with a fresh call's response id. heedloop's own spans are no provider calls and need no search."""
    if not len(calls):
        return {}
    first, last = _period(calls)
    first, last = first - TIME_APART, last + TIME_APART
    hits: set[Key] = set()
    for ids in _batches(set(calls["response_id"].to_pylist())):
        # first the ids alone: nearly always there is nothing, and the ids are a hundredth of a row
        rows = project.rows(
            """
            SELECT DISTINCT
                lower(hex(trace_id)) AS trace,
                lower(hex(span_id)) AS span
            FROM spans
            PREWHERE response_id IN {ids:Array(String)}
            WHERE project_id = {project:String}
              AND start_time BETWEEN {first:DateTime64(6,'UTC')} AND {last:DateTime64(6,'UTC')}
            """,
            {"ids": ids, "first": first, "last": last},
        )
        hits |= {(r["trace"], r["span"]) for r in rows}
    near = _of_traces(project, {t for t, _ in hits}, first, last) if hits else {}
    return {k: c for k, c in near.items() if k in hits}


def _families(project: ProjectStore, rows: ArrowTable, known_traces: set[str]) -> dict[Key, Call]:
    """The stored spans of calls inside calls, with what lies between them, where a fresh span is one of them.

    A client's call and the server's span of it, and an agent and its calls, come in requests of their own.
    """
    traces = known_traces.intersection(_hex(rows, "trace_id"))
    if not traces:
        return {}
    first, last = _period(rows)
    first, last = first - TIME_APART, last + TIME_APART
    fresh, parents = _keys(rows), _hex(rows, "parent_span_id")
    places = _places(project, traces, first, last)
    hits = places.keys() & set(fresh)
    for key, parent, operation in zip(fresh, parents, rows["operation"].to_pylist(), strict=True):
        places.setdefault(key, (parent, bool(operation)))
    hits |= _enclosing(places, set(fresh))
    if not hits:
        return {}
    found = _of_traces(project, {t for t, _ in hits}, first, last, hits)
    return found | _standing_for(project, found)


def _places(
    project: ProjectStore, traces: set[str], first: datetime, last: datetime
) -> dict[Key, tuple[str, bool]]:
    """Of each stored span of some traces its parent, and whether it is a call: a hundredth of its row."""
    found: dict[Key, tuple[str, bool]] = {}
    for ids in _batches(traces):
        rows = project.rows(
            """
            SELECT
                lower(hex(trace_id)) AS trace,
                lower(hex(span_id)) AS span,
                lower(hex(parent_span_id)) AS parent,
                operation != '' AS is_call
            FROM spans FINAL
            WHERE project_id = {project:String}
              AND start_time BETWEEN {first:DateTime64(6,'UTC')} AND {last:DateTime64(6,'UTC')}
              AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({ids:Array(String)})), 16))
            """,
            {"ids": ids, "first": first, "last": last},
        )
        found |= {(r["trace"], r["span"]): (r["parent"], bool(r["is_call"])) for r in rows}
    return found


def _enclosing(places: Mapping[Key, tuple[str, bool]], fresh: set[Key]) -> set[Key]:
    """The spans on the ways from calls up to the outermost call around them, where any span of a way is fresh."""
    found: set[Key] = set()
    for key, (parent, is_call) in places.items():
        if not is_call:
            continue
        way, length, at = [key], 0, (key[0], parent)
        while at in places and len(way) < _MAX_DEPTH:
            way.append(at)
            parent, is_call = places[at]
            length = len(way) if is_call else length
            at = key[0], parent
        if not fresh.isdisjoint(way[:length]):
            found.update(way[:length])
    return found


def _inside(project: ProjectStore, rows: ArrowTable) -> dict[Key, Call]:
    """The stored spans of traces with calls that lack the session or user which a fresh span around them may have.

    An agent's span ends after its calls, often in another request, and is the only one to name them.
    """
    named = pc.or_(pc.not_equal(rows["session_id"], ""), pc.not_equal(rows["user_id"], ""))
    outer = pc.and_(pc.equal(rows["operation"], ""), pc.invert(rows["is_own"]))
    around = rows.filter(pc.and_(named, outer))
    if not len(around):
        return {}
    first = _period(around)[0]
    lengths = pc.divide(around["duration_ns"], pa.scalar(1000, pa.uint64()))
    ends = pc.add(around["start_time"].cast(pa.int64()), lengths.cast(pa.int64()))
    last = _EPOCH + timedelta(microseconds=min(pc.max(ends).as_py(), _LATEST_US))
    sessions = set(_hex(around.filter(pc.not_equal(around["session_id"], "")), "trace_id"))
    users = set(_hex(around.filter(pc.not_equal(around["user_id"], "")), "trace_id"))
    hits: set[str] = set()
    for ids in _batches(sessions | users):
        rows = project.rows(
            """
            SELECT lower(hex(trace_id)) AS trace
            FROM spans
            WHERE project_id = {project:String}
              AND start_time BETWEEN {first:DateTime64(6,'UTC')} AND {last:DateTime64(6,'UTC')}
              AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({ids:Array(String)})), 16))
              AND operation != ''
            GROUP BY trace_id
            HAVING countIf(session_id = '' AND trace IN {sessions:Array(String)}) > 0
                OR countIf(user_id = '' AND trace IN {users:Array(String)}) > 0
            """,
            {
                "ids": ids,
                "first": first,
                "last": last,
                "sessions": sorted(sessions.intersection(ids)),
                "users": sorted(users.intersection(ids)),
            },
        )
        hits |= {r["trace"] for r in rows}
    return _of_traces(project, hits, first, last) if hits else {}


def _standing_for(project: ProjectStore, found: dict[Key, Call]) -> dict[Key, Call]:
    """The spans that stand for those of the found ones that were folded."""
    targets = {t: c for c in found.values() if (t := duplicate_target(c)) is not None and t not in found}
    if not targets:
        return {}
    times = [c.start_time for c in targets.values()]
    near = _of_traces(project, {t for t, _ in targets}, min(times) - TIME_APART, max(times) + TIME_APART)
    return {k: c for k, c in near.items() if k in targets}


def _of_traces(
    project: ProjectStore, traces: set[str], first: datetime, last: datetime, only: set[Key] | None = None
) -> dict[Key, Call]:
    """The stored spans of traces that started in a period; of all of them where `only` does not name some."""
    found: dict[Key, Call] = {}
    spans = sorted({span for _, span in only or ()})
    spans = spans if len(spans) <= _MAX_IDS else []
    for ids in _batches(traces):
        rows = project.rows(
            f"""
            SELECT {SENT_COLUMNS}
            FROM spans FINAL
            WHERE project_id = {{project:String}}
              AND start_time BETWEEN {{first:DateTime64(6,'UTC')}} AND {{last:DateTime64(6,'UTC')}}
              AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({{ids:Array(String)}})), 16))
              AND (length({{spans:Array(String)}}) = 0 OR lower(hex(span_id)) IN {{spans:Array(String)}})
            """,  # noqa: S608
            {"ids": ids, "spans": spans, "first": first, "last": last},
        )
        calls = {key_of(c): c for c in map(call_from_row, rows)}
        found |= calls if only is None else {k: c for k, c in calls.items() if k in only}
    return found


def _batches(ids: set[str]) -> Iterable[list[str]]:
    ordered = sorted(ids)
    return (ordered[i : i + _MAX_IDS] for i in range(0, len(ordered), _MAX_IDS))
