"""Joining what the loader has just received with what is stored: log content and the other spans of a provider call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import pyarrow as pa

from heedloop.schema import Call
from heedloop_server.normalise import LogContent, duplicate_key, log_spans
from heedloop_server.normalise.heedloop_sdk import is_own
from heedloop_server.normalise.joins import Key, duplicate_target, join, key_of, wants_content
from heedloop_server.store.connection import ProjectStore, Store
from heedloop_server.store.spans import CALL_COLUMNS, call_from_row

__all__ = ["Arrived", "insert_contents", "join_with_stored", "span_contents"]

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
_APART = timedelta(minutes=1)
"""How far apart in time the spans of one provider call can start: two clients' spans of one request, one inside the other."""
_LONGEST = timedelta(hours=2)
"""How long a call can run before its logs come."""
_MAX_IDS = 3_000
"""Ids in one query; more are asked for in several."""


@dataclass(slots=True)
class Arrived:
    """What one project received: its spans with the times of their arrival, and the log content that came with them."""

    calls: list[tuple[Call, datetime]] = field(default_factory=list)
    contents: list[LogContent] = field(default_factory=list)


def join_with_stored(project: ProjectStore, arrived: Arrived) -> list[tuple[Call, datetime]]:
    """The rows to write: the arrived spans joined with what is stored, and new versions of stored spans they change.

    Store the contents first (`insert_contents`): what a crash then interrupts is joined when the spans come again.
    """
    fresh = [c for c, _ in arrived.calls]
    received = {key_of(c): at for c, at in arrived.calls}
    stored = _relatives(project, fresh, arrived.contents)
    told = {(c.trace_id, c.span_id) for c in arrived.contents}
    told |= {key_of(c) for c in fresh if wants_content(c) or duplicate_target(c) is not None}
    told |= {span for c in stored for span in log_spans(c)} if arrived.contents else set()
    contents = arrived.contents + span_contents(project, told)
    now = datetime.now(timezone.utc)
    return [(c, received.get(key_of(c), now)) for c in join(fresh, stored, contents)]


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
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=time_ns // 1000)


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


def _relatives(project: ProjectStore, fresh: Sequence[Call], contents: Sequence[LogContent]) -> list[Call]:
    """The stored spans that the fresh ones, or the log content, may belong to."""
    here = {key_of(c) for c in fresh}
    apart = [c for c in contents if (c.trace_id, c.span_id) not in here]
    found: dict[Key, Call] = {}
    if apart:
        times = [_time(c.time_ns, datetime.now(timezone.utc)) for c in apart]
        traces = {c.trace_id for c in apart}
        found |= _of_traces(project, traces, min(times) - _LONGEST, max(times) + _APART)
        wanted = {(c.trace_id, c.span_id) for c in apart}
        found = {k: c for k, c in found.items() if k in wanted}
        found |= _standing_for(project, found)
    found |= _same_responses(project, fresh)
    found |= _families(project, fresh)
    found |= _inside(project, fresh)
    return list(found.values())


def _same_responses(project: ProjectStore, fresh: Sequence[Call]) -> dict[Key, Call]:
    """Stored calls with a fresh call's response id. heedloop's own spans are no provider calls and need no search."""
    calls = [c for c in fresh if duplicate_key(c) and not is_own(c.attributes)]
    if not calls:
        return {}
    first = min(c.start_time for c in calls) - _APART
    last = max(c.start_time for c in calls) + _APART
    hits: set[Key] = set()
    for ids in _batches({c.response_id or "" for c in calls}):
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


def _families(project: ProjectStore, fresh: Sequence[Call]) -> dict[Key, Call]:
    """Stored parents and children of fresh calls that have no response id: failed ones and embeddings."""
    calls = [c for c in fresh if c.operation and not c.response_id and not is_own(c.attributes)]
    if not calls:
        return {}
    first, last = min(c.start_time for c in calls), max(c.start_time for c in calls)
    near = _of_traces(project, {c.trace_id for c in calls}, first - _APART, last + _APART)
    parents = {(c.trace_id, c.parent_span_id or "") for c in calls}
    own = {key_of(c) for c in calls}
    return {
        k: c
        for k, c in near.items()
        if k in own or (c.operation and (k in parents or (c.trace_id, c.parent_span_id) in own))
    }


def _inside(project: ProjectStore, fresh: Sequence[Call]) -> dict[Key, Call]:
    """The stored spans of traces with calls that lack the session or user which a fresh span around them may have.

    An agent's span ends after its calls, often in another request, and is the only one to name them.
    """
    around = [
        c for c in fresh if not c.operation and (c.session_id or c.user_id) and not is_own(c.attributes)
    ]
    if not around:
        return {}
    first = min(c.start_time for c in around)
    last = max(c.start_time + timedelta(microseconds=c.duration_ns // 1000) for c in around)
    sessions = {c.trace_id for c in around if c.session_id}
    users = {c.trace_id for c in around if c.user_id}
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
    near = _of_traces(project, {t for t, _ in targets}, min(times) - _APART, max(times) + _APART)
    return {k: c for k, c in near.items() if k in targets}


def _of_traces(project: ProjectStore, traces: set[str], first: datetime, last: datetime) -> dict[Key, Call]:
    """The stored spans of traces that started in a period."""
    found: dict[Key, Call] = {}
    for ids in _batches(traces):
        rows = project.rows(
            f"""
            SELECT {CALL_COLUMNS}
            FROM spans FINAL
            WHERE project_id = {{project:String}}
              AND start_time BETWEEN {{first:DateTime64(6,'UTC')}} AND {{last:DateTime64(6,'UTC')}}
              AND trace_id IN (SELECT toFixedString(unhex(arrayJoin({{ids:Array(String)}})), 16))
            """,  # noqa: S608
            {"ids": ids, "first": first, "last": last},
        )
        found |= {key_of(c): c for c in map(call_from_row, rows)}
    return found


def _batches(ids: set[str]) -> Iterable[list[str]]:
    ordered = sorted(ids)
    return (ordered[i : i + _MAX_IDS] for i in range(0, len(ordered), _MAX_IDS))
