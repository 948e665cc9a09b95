"""Calls and feedback as JSON Lines, Parquet or Arrow, written piece by piece. Pure: pages in, bytes out.

The columns of Parquet and Arrow are fixed, whatever the rows hold; what is nested stays JSON in one text column, and `record` or
`attributes` keep everything, so that the three formats say the same.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa
from pyarrow import ipc, parquet

from heedloop.schema import to_json
from heedloop_server.http.responses import json_value
from heedloop_server.store.datasets.exported_calls import CALLS, Schema
from heedloop_server.store.datasets.exports import CallBlock
from heedloop_server.store.feedback import StoredFeedback

ExportFormat = Literal["jsonl", "parquet", "arrow"]
MEDIA_TYPES: dict[ExportFormat, str] = {
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}

Json = dict[str, Any]
_text, _time, _list = pa.string(), pa.timestamp("us", "UTC"), pa.list_(pa.string())
_map = pa.map_(pa.string(), pa.string())

FEEDBACK: Schema = pa.schema(
    [
        *((n, _text) for n in ("feedback_id", "id", "kind", "name")),
        ("score", pa.float64()),
        *((n, _text) for n in ("label", "comment", "correction", "category", "severity")),
        *((n, _text) for n in ("author_kind", "author_id")),
        *((n, _text) for n in ("trace_id", "span_id", "session_id", "response_id")),
        ("sampling_probability", pa.float64()),
        ("solicited", pa.bool_()),
        ("metadata", _map),
        ("created_at", _time),
        ("received_at", _time),
        ("version", pa.int64()),
        *((n, _text) for n in ("call_trace_id", "call_span_id", "model", "prompt_name", "prompt_version")),
        ("call_time", _time),
        ("record", _text),
    ]
)
"""The columns of feedback; `record` is all of it as JSON."""


def write_calls(blocks: Iterable[CallBlock], fmt: ExportFormat) -> Iterator[bytes]:
    """Calls with what was said of them, in pieces of a block."""
    if fmt == "jsonl":
        return (block.lines() for block in blocks)
    return _framed((batch for block in blocks for batch in block.batches()), CALLS, fmt)


def write_feedback(pages: Iterable[Sequence[StoredFeedback]], fmt: ExportFormat) -> Iterator[bytes]:
    """Feedback as it counts now, in pieces of a page."""
    if fmt == "jsonl":
        return (_lines(page) for page in pages)
    batches = (pa.RecordBatch.from_pylist(feedback_rows(page), FEEDBACK) for page in pages)
    return _framed(batches, FEEDBACK, fmt)


def _lines(page: Sequence[StoredFeedback]) -> bytes:
    return "".join(f"{_json(json_value(one.response()))}\n" for one in page).encode("utf-8", "replace")


def _framed(batches: Iterable[Any], schema: Schema, fmt: ExportFormat) -> Iterator[bytes]:
    """The file's bytes as they are written: head, one piece per batch, foot."""
    sink = _Sink()
    if fmt == "parquet":
        writer = parquet.ParquetWriter(sink, schema, compression="zstd")
    else:
        writer = ipc.new_stream(sink, schema)
    with writer:
        yield sink.take()
        for batch in batches:
            writer.write_batch(batch)
            yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file that keeps what was written only until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def feedback_rows(stored: Sequence[StoredFeedback]) -> list[Json]:
    """Feedback as rows of `FEEDBACK`."""
    return [_feedback_row(one) for one in stored]


def _feedback_row(stored: StoredFeedback) -> Json:
    said, call = stored.feedback, stored.call
    plain = {n: getattr(said, n) for n in FEEDBACK.names if hasattr(said, n) and n != "metadata"}
    is_number = isinstance(said.value, (int, float))
    return {
        **plain,
        "feedback_id": str(stored.feedback_id),
        "score": said.value if is_number else None,
        "label": None if is_number else said.value,
        "author_kind": said.author.kind,
        "author_id": said.author.id,
        **{n: getattr(said.target, n) for n in ("trace_id", "span_id", "session_id", "response_id")},
        "metadata": list(said.metadata.items()),
        "received_at": stored.received_at,
        "version": stored.version,
        **({} if call is None else _of_call(call)),
        "record": _json(to_json(said)),
    }


def _of_call(call: Any) -> Json:
    named = {n: getattr(call, n) or None for n in ("model", "prompt_name", "prompt_version", "call_time")}
    return {"call_trace_id": call.trace_id, "call_span_id": call.span_id, **named}


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
