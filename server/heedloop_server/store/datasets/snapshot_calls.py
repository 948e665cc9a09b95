"""The calls that a snapshot is made of: those that a filter takes, as they stood at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from heedloop.schema import LANGUAGE_KEYS, Call, Target
from heedloop_server.curate import Judgement
from heedloop_server.curate.judged_calls import TRUNCATED
from heedloop_server.errors import TooLarge
from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.filters import PRODUCTION, conditions
from heedloop_server.store.spans import CALL_COLUMNS, call_from_row

MAX_CALLS = 500_000
"""A snapshot of more calls than this is refused: it is made in memory."""
PAGE_ROWS = 5_000
TRACES_AT_ONCE = 2_000

_FIRST = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SKEW = timedelta(days=400)
"""Clocks that run ahead: the store takes times up to a year after their arrival."""


def read_calls(project: ProjectStore, filters: CallFilters, as_of: datetime) -> Iterator[Call]:
    """The calls that the filters take and that had arrived by `as_of`, oldest first; of all time unless they say.

    Raises:
        TooLarge: there are more than 500,000.
    """
    where, params = call_conditions(filters, as_of)
    num_calls = 0
    for page in _pages(project, where, params, as_of):
        num_calls += len(page)
        if num_calls > MAX_CALLS:
            raise TooLarge(
                f"the filters take more than {MAX_CALLS:,} calls; narrow them, such as by since, model or tag",
                field="filters",
            )
        yield from page


def count_calls(project: ProjectStore, filters: CallFilters, as_of: datetime) -> int:
    """How many calls the filters take, about: later ones and older versions of a call count as well."""
    where, params = call_conditions(filters, as_of)
    return project.rows(f"SELECT count() AS num FROM spans WHERE {where}", params)[0]["num"]  # noqa: S608


def call_conditions(filters: CallFilters, as_of: datetime) -> tuple[str, dict[str, Any]]:
    """The filters as a condition on `spans` with its parameters; of all time unless they name a period."""
    period = {"since": filters.since or _FIRST, "until": filters.until or as_of + _SKEW}
    return conditions(filters.model_copy(update=period))


def read_compared(
    project: ProjectStore, calls: Iterable[Call], judgements: Iterable[Judgement], as_of: datetime
) -> list[Call]:
    """The answers that were compared with one of `calls`, but are not among them: a ranking needs all of its answers."""
    have = {(c.trace_id, c.span_id) for c in calls}
    traces = {t for t, _ in have}
    missing: set[str] = set()
    for judgement in judgements:
        ranking = judgement.feedback.ranking
        if ranking is not None and any(a.trace_id in traces for a in ranking.answers):
            missing.update(a.trace_id for a in ranking.answers if a.trace_id and a.trace_id not in traces)
    return list(_of_traces(project, missing, as_of))


def read_relatives(
    project: ProjectStore, calls: Iterable[Call], judgements: Iterable[Judgement], as_of: datetime
) -> list[Call]:
    """The other spans of judged traces: which of a trace's answers its user saw does not depend on a filter."""
    have = {(c.trace_id, c.span_id) for c in calls}
    traces = {t.trace_id for j in judgements for t in _targets(j) if t.trace_id}
    return [c for c in _of_traces(project, traces, as_of) if (c.trace_id, c.span_id) not in have]


def _targets(judgement: Judgement) -> Iterable[Target]:
    ranking = judgement.feedback.ranking
    return (judgement.feedback.target,) if ranking is None else ranking.answers


def _of_traces(project: ProjectStore, traces: Iterable[str], as_of: datetime) -> Iterator[Call]:
    wanted = sorted(traces)
    of_traces = "trace_id IN (SELECT toFixedString(unhex(arrayJoin({traces:Array(String)})), 16))"
    where = f"project_id = {{project:String}} AND {PRODUCTION} AND {of_traces}"
    for start in range(0, len(wanted), TRACES_AT_ONCE):
        params = {"traces": wanted[start : start + TRACES_AT_ONCE]}
        for page in _pages(project, where, params, as_of):
            yield from page


def _call(row: Row) -> Call:
    """A call without its raw attributes, but those that curate reads: half a million calls must fit into memory."""
    kept = {k: row["attributes"][k] for k in (TRUNCATED, *LANGUAGE_KEYS) if k in row["attributes"]}
    return call_from_row({**row, "attributes": kept})


def _pages(
    project: ProjectStore, where: str, params: Mapping[str, Any], as_of: datetime
) -> Iterator[Sequence[Call]]:
    """Pages of calls by the table's own order, each starting after the last one's end."""
    sql = f"""
        SELECT {CALL_COLUMNS}
        FROM spans FINAL
        WHERE {where}
          AND ingested_at <= {{as_of:DateTime64(6,'UTC')}}
          AND start_time >= {{after_time:DateTime64(6,'UTC')}}
          AND (start_time, trace_id, span_id)
              > ({{after_time:DateTime64(6,'UTC')}}, unhex({{after_trace:String}}), unhex({{after_span:String}}))
        ORDER BY start_time, trace_id, span_id
        LIMIT {{limit:UInt32}}
    """  # noqa: S608  the conditions are ours, the values are bound
    bound = {**params, "as_of": as_of, "limit": PAGE_ROWS}
    bound |= {"after_time": _FIRST, "after_trace": "0" * 32, "after_span": "0" * 16}
    while True:
        page = [_call(row) for row in project.rows(sql, bound)]
        yield page
        if len(page) < PAGE_ROWS:
            return
        last = page[-1]
        bound |= {"after_time": last.start_time, "after_trace": last.trace_id, "after_span": last.span_id}
