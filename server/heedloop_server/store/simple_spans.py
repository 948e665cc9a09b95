"""Spans of heedloop's own SDK in their simple form, decoded and normalised by the embedded engine itself.

The Python normaliser (`heedloop_server.normalise`) is the reference for every client; it costs about 100 µs a span. Most
spans of our own SDK are nothing but names, numbers and plain text messages. For those the engine reads the logged protobuf
and computes the same rows in a tenth of the time and without the interpreter's lock. `is_simple` is true only where the
two are known to agree; a test holds both roads to equal rows on everything that it claims. A request that has any other
span goes the Python road as a whole, because the spans of a request settle what each of them is (`normalise.family`).

How: the requests of a piece are written to a file as length-delimited protobuf, each with its place, project and time of
arrival behind it (protobuf messages may be concatenated), and read into a temporary table of one client.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Collection, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from clickhouse_connect.driver.client import Client

from heedloop_server.store.connection import Store
from heedloop_server.store.simple_select import READING, quoted, select_simple

__all__ = ["SimpleRequest", "Staged", "Staging", "stage"]

_COLUMNS = """
    project_id, trace_id, span_id, parent_span_id, start_time, duration_ns, name, service, environment, operation, is_answer, status,
    provider, model, model_requested, model_answered, response_id, stream, finish_reasons, params, prompt_name, prompt_version, user_id,
    session_id, tags, metadata, input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens, reasoning_output_tokens,
    cost, sampling_probability, question, answer, input_messages, output_messages, attributes, ingested_at
"""
"""The columns of `spans` that a simple span fills; the others have their defaults."""


@dataclass(frozen=True, slots=True)
class SimpleRequest:
    """A traces request that may be simple.

    Attributes:
        place: its place in the piece; names it in all that follows.
        num_spans: spans in the payload.
        payload: an ExportTraceServiceRequest in protobuf.
    """

    place: int
    project: str
    received_us: int
    num_spans: int
    payload: bytes


class Staged:
    """Requests that the engine has read into a temporary table of one client.

    `refuse` names those that the Python road must take; the others are counted and inserted.
    """

    def __init__(self, client: Client, requests: Sequence[SimpleRequest]) -> None:
        self._client = client
        self._requests = {r.place: r for r in requests}
        self.places = set(self._requests)
        """The requests that this road takes."""

    def refuse(self, places: Collection[int]) -> None:
        """Leave requests to the Python road."""
        self.places -= set(places)

    def refuse_unclear(self, until: datetime) -> None:
        """Leave all requests that are not simple, or that something else has a say in, to the Python road.

        Args:
            until: when the last request of the log segment arrived; see `_KNOWN`.
        """
        found = {r[0]: r[1] for r in self._rows(_PLACES)}
        self.refuse([p for p, r in self._requests.items() if found.get(p) != r.num_spans])
        params = {"until": until.strftime("%Y-%m-%d %H:%M:%S.%f")}
        for question in (_TWICE, _SAME_RESPONSE, _ENCLOSED, _ERASED, _TOLD, _KNOWN):
            if self.places:
                self.refuse([r[0] for r in self._rows(question, params)])

    def refuse_responses(self, project: str, response_ids: Collection[str]) -> set[int]:
        """Leave those requests to the Python road that have one of these response ids; returns them."""
        if not response_ids or not self.places:
            return set()
        rows = self._rows(_RESPONSES, {"named": project, "ids": list(response_ids)})
        hit = {r[0] for r in rows} & self.places
        self.refuse(hit)
        return hit

    def count(self) -> dict[str, int]:
        """Project -> spans of the requests that this road takes; none of them is a duplicate."""
        sums: dict[str, int] = {}
        for place in self.places:
            request = self._requests[place]
            sums[request.project] = sums.get(request.project, 0) + request.num_spans
        return sums

    def names(self, project: str) -> set[str]:
        """The trace ids and response ids of the project's spans that this road takes."""
        rows = self._rows(_NAMES_OF, {"named": project, "places": sorted(self.places)})
        return set(rows[0][0]) | set(rows[0][1])

    def insert(self, token: str) -> None:
        """Store the spans; returns when they are on disk."""
        if not self.places:
            return
        places = sorted(self.places)
        which = hashlib.blake2b(repr(places).encode(), digest_size=8).hexdigest()
        self._client.command(
            f"INSERT INTO spans ({_COLUMNS}) SELECT {_COLUMNS} FROM staged "  # noqa: S608
            + ("" if len(places) == len(self._requests) else "WHERE place IN {places:Array(UInt32)} ")
            + f"SETTINGS insert_deduplication_token = {quoted(f'{token}/{which}')}, max_threads = 1, max_insert_threads = 1",
            parameters={"places": places},
        )

    def _rows(self, sql: str, parameters: dict[str, Any] | None = None) -> Sequence[Sequence[Any]]:
        return self._client.query(sql, parameters=parameters).result_rows


# the place of every request all of whose spans are claimed, with how many there are
_PLACES = "SELECT place, count() FROM staged GROUP BY place HAVING min(is_simple)"
_TWICE = """
SELECT DISTINCT arrayJoin(groupArray(place))
FROM staged
GROUP BY project_id, trace_id, span_id
HAVING count() > 1
"""
_SAME_RESPONSE = """
SELECT DISTINCT arrayJoin(groupArray(place))
FROM staged
WHERE response_id != ''
GROUP BY project_id, response_id
HAVING count() > 1
"""
# an answer whose parent stands in the same request may be a part of that one's answer
_ENCLOSED = """
SELECT DISTINCT place
FROM staged
WHERE is_answer AND parent_span_id != toFixedString('', 8) AND (place, trace_id, parent_span_id) IN (SELECT place, trace_id, span_id FROM staged)
"""
_ERASED = """
SELECT DISTINCT place
FROM staged
WHERE (project_id, trace_id) IN (
    SELECT project_id, trace_id
    FROM erased_traces
    WHERE (project_id, trace_id) IN (SELECT project_id, trace_id FROM staged)
)
"""
# whatever came as logs for one of the spans
_TOLD = """
SELECT DISTINCT place
FROM staged
WHERE (project_id, trace_id, span_id) IN (
    SELECT project_id, trace_id, span_id
    FROM contents
    WHERE (project_id, trace_id) IN (SELECT project_id, trace_id FROM staged)
)
"""
_RESPONSES = """
SELECT DISTINCT place
FROM staged
WHERE project_id = {named:String} AND response_id IN {ids:Array(String)}
"""
# resends; a row from this arrival to the end of the segment is ourselves, or a resend behind us, before a crash. The skip index on
# trace ids would only cost: nearly nothing matches
_KNOWN = """
SELECT DISTINCT f.place
FROM (
    SELECT
        project_id,
        trace_id,
        span_id,
        groupUniqArray(ingested_at) AS arrivals
    FROM spans
    WHERE project_id IN (SELECT project_id FROM staged)
      AND start_time BETWEEN (SELECT min(start_time) FROM staged) AND (SELECT max(start_time) FROM staged)
      AND (trace_id, span_id) IN (SELECT trace_id, span_id FROM staged)
    GROUP BY project_id, trace_id, span_id
) AS k
INNER JOIN staged AS f ON f.project_id = k.project_id AND f.trace_id = k.trace_id AND f.span_id = k.span_id
WHERE arrayExists(a -> a < f.ingested_at OR a > {until:DateTime64(6,'UTC')}, k.arrivals)
SETTINGS use_skip_indexes = 0
"""
_NAMES_OF = """
SELECT
    groupUniqArray(lower(hex(trace_id))),
    groupUniqArrayIf(response_id, response_id != '')
FROM staged
WHERE project_id = {named:String} AND place IN {places:Array(UInt32)}
"""


@contextlib.contextmanager
def stage(store: Store, folder: Path | None, requests: Sequence[SimpleRequest]) -> Generator[Staged]:
    """Read requests into a temporary table; it is gone afterwards.

    Args:
        store: an embedded one: another engine cannot read our files.
        folder: where the file that the engine reads is made; None for the system's own.

    Raises:
        StoreError: the engine cannot read a request that protobuf's own decoder could.
        OSError: the file cannot be written.
    """
    with store.client() as client:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".piece") as file:
            file.writelines(part for r in requests for part in _framed(r))
            file.flush()
            client.command("DROP TEMPORARY TABLE IF EXISTS staged")
            client.command(
                f"CREATE TEMPORARY TABLE staged ENGINE = Memory AS {select_simple(Path(file.name))} SETTINGS {READING}"
            )
        yield Staged(client, requests)
        client.command(
            "DROP TEMPORARY TABLE IF EXISTS staged"
        )  # after an error the client is closed, and its tables with it


class Staging:
    """`stage`, begun on another thread: the next piece is read while the last is inserted.

    A context manager, entered once; `discard` instead where nobody wants it any more.
    """

    def __init__(
        self, hand: ThreadPoolExecutor, store: Store, folder: Path | None, requests: Sequence[SimpleRequest]
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._staged = hand.submit(self._stack.enter_context, stage(store, folder, requests))

    def __enter__(self) -> Staged:
        """Raises what `stage` raises."""
        return self._staged.result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def discard(self) -> None:
        """Let go of what was read."""
        with contextlib.suppress(Exception):  # it failed, and nobody needs it
            self._staged.result()
            self._stack.close()


def _framed(request: SimpleRequest) -> tuple[bytes, bytes, bytes]:
    """A request as the engine reads it: its length, its bytes, and our fields behind them."""
    project = request.project.encode()
    behind = b"".join(
        (
            *(varint(1000 << 3 | 2), varint(len(project)), project),
            *(varint(1001 << 3), varint(request.received_us)),
            *(varint(1002 << 3), varint(request.place)),
        )
    )
    return varint(len(request.payload) + len(behind)), request.payload, behind


def varint(value: int) -> bytes:
    """A whole number of 0 or more as protobuf writes it."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
