"""Calls and feedback as JSON Lines, Parquet or Arrow, written piece by piece. Pure: pages in, bytes out.

The columns of Parquet and Arrow are fixed, whatever the rows hold; what is nested stays JSON in one text column, and `record` or
`attributes` keep everything, so that the three formats say the same.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa
from pyarrow import ipc, parquet

from heedloop.schema import to_json
from heedloop_server.http.responses import json_value
from heedloop_server.store.datasets.exports import ExportedCall
from heedloop_server.store.feedback import StoredFeedback

ExportFormat = Literal["jsonl", "parquet", "arrow"]
MEDIA_TYPES: dict[ExportFormat, str] = {
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}

Json = dict[str, Any]
Schema = Any
"""A `pyarrow.Schema`; pyarrow ships no types."""

_text, _time, _list = pa.string(), pa.timestamp("us", "UTC"), pa.list_(pa.string())
_map = pa.map_(pa.string(), pa.string())

CALLS: Schema = pa.schema(
    [
        *((n, _text) for n in ("trace_id", "span_id", "parent_span_id")),
        ("start_time", _time),
        ("duration_ns", pa.int64()),
        *((n, _text) for n in ("name", "service", "environment", "operation")),
        ("is_answer", pa.bool_()),
        *((n, _text) for n in ("provider", "model_requested", "model_answered", "response_id")),
        ("stream", pa.bool_()),
        ("finish_reasons", _list),
        ("params", _text),
        ("input_messages", _text),
        ("output_messages", _text),
        ("tool_definitions", _text),
        ("embedding_inputs", _list),
        *((f"{n}_tokens", pa.int64()) for n in ("input", "output", "cache_read_input", "cache_write_input")),
        ("reasoning_output_tokens", pa.int64()),
        ("cost", pa.float64()),
        ("status", _text),
        ("error_message", _text),
        ("http_status", pa.int32()),
        *((n, _text) for n in ("prompt_name", "prompt_version", "session_id", "user_id")),
        ("tags", _list),
        ("sampling_probability", pa.float64()),
        ("attributes", _map),
        ("num_feedback", pa.int64()),
        ("thumb", pa.int8()),
        ("flags", _list),
        ("has_correction", pa.bool_()),
    ]
)
"""The columns of calls; messages and parameters are JSON."""

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


def write_calls(pages: Iterable[Sequence[ExportedCall]], fmt: ExportFormat) -> Iterator[bytes]:
    """Calls with what was said of them, in pieces of a page."""
    return _write(pages, fmt, CALLS, call_rows, lambda call: {**to_json(call[0]), **call[1]})


def write_feedback(pages: Iterable[Sequence[StoredFeedback]], fmt: ExportFormat) -> Iterator[bytes]:
    """Feedback as it counts now, in pieces of a page."""
    return _write(pages, fmt, FEEDBACK, feedback_rows, lambda stored: json_value(stored.response()))


def _write(
    pages: Iterable[Sequence[Any]],
    fmt: ExportFormat,
    schema: Schema,
    rows_of: Callable[[Sequence[Any]], list[Json]],
    json_of: Callable[[Any], Json],
) -> Iterator[bytes]:
    if fmt == "jsonl":
        for page in pages:
            yield "".join(f"{_json(json_of(one))}\n" for one in page).encode("utf-8", "replace")
        return
    batches = (pa.RecordBatch.from_pylist(rows_of(page), schema) for page in pages)
    yield from _framed(batches, schema, fmt)


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


_NESTED = ("params", "input_messages", "output_messages", "tool_definitions")


def call_rows(calls: Sequence[ExportedCall]) -> list[Json]:
    """Calls as rows of `CALLS`."""
    return [_call_row(call, said) for call, said in calls]


def _call_row(call: Any, said: Any) -> Json:
    usage = {f"{n}_tokens": getattr(call.usage, n) for n in type(call.usage).__dataclass_fields__}
    texts = {n: _json(to_json(call).get(n)) for n in _NESTED}
    plain = {n: getattr(call, n) for n in CALLS.names if hasattr(call, n) and n not in texts}
    return {**plain, **usage, **texts, "attributes": list(call.attributes.items()), **said}


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
