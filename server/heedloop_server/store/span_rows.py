"""Calls as Arrow rows of `spans`. Apart from the store, because the processes that decode requests build rows and have no store."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from json.encoder import encode_basestring
from typing import Any

import pyarrow as pa
import pyarrow.compute

from heedloop.schema import Call, Message, to_json

ArrowTable = Any
"""A `pyarrow.Table`; pyarrow ships no types."""
pc: Any = pyarrow.compute
"""Arrow's functions over columns, which pyarrow makes at its import, so that a type checker sees none."""

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


def ids_of(rows: ArrowTable, name: str) -> list[bytes]:
    """A column of ids; `to_pylist` takes twenty times as long for these."""
    return rows[name].to_numpy().tolist()


METADATA_PREFIX = "heedloop.metadata."
_NO_SPAN = bytes(8)
_MAX_TOKENS = 2**32 - 1
SENT_START = "heedloop.sent_start_time"
"""Attribute of a span whose clock was out of range: the start time that was sent."""
_LONGEST_AGO = timedelta(days=7305)
_FURTHEST_AHEAD = timedelta(days=1)


def calls_to_arrow(entries: Iterable[tuple[str, Call, datetime]]) -> ArrowTable:
    """(project, call, received at) triples as an Arrow table of `ARROW_SCHEMA`."""
    columns = list(zip(*(_values(*e) for e in entries), strict=True)) or [()] * len(ARROW_SCHEMA)
    arrays = [_array(c, f.type) for c, f in zip(columns, ARROW_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=ARROW_SCHEMA)


def _array(column: Sequence[Any], kind: Any) -> Any:
    """A column's values as Arrow has them; maps from their keys and values, not pair by pair, which takes four times as long."""
    if not pa.types.is_map(kind):
        return pa.array(column, kind)
    ends = itertools.accumulate((len(m) for m in column), initial=0)
    keys = pa.array([k for m in column for k in m], kind.key_type)
    texts = pa.array([v for m in column for v in m.values()], kind.item_type)
    return pa.MapArray.from_arrays(pa.array(ends, pa.int32()), keys, texts, type=kind)


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
        metadata_of(call.attributes),
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
        call.attributes,
        received_at,
    )


def metadata_of(attributes: Mapping[str, str]) -> dict[str, str]:
    """The app's own metadata among a span's attributes."""
    if METADATA_PREFIX not in "\n".join(attributes):  # most spans have none
        return {}
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
    if not messages:
        return ""
    first = messages[0]
    if (
        answer
        and len(messages) == 1
        and first.text == answer
        and first.role == "assistant"
        and _is_plain(first)
    ):
        return ""
    return _messages_json(messages)


def _messages_json(messages: Sequence[Message]) -> str:
    """The messages as `to_json` writes them; the plain ones, which are most, without asking each field."""
    return f"[{','.join([_message_json(m) for m in messages])}]"


def _message_json(message: Message) -> str:
    if _is_plain(message):
        return f'{{"role":{encode_basestring(message.role)},"text":{encode_basestring(message.text)}}}'
    return _json(to_json(message))


def _is_plain(message: Message) -> bool:
    """True for a message of nothing but text."""
    return (
        not (message.tool_calls or message.media)
        and message.reasoning is None
        and message.tool_call_id is None
    )


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
