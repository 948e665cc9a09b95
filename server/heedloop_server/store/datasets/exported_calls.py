"""Calls as the engine exports them: columns of Arrow, or the very lines of JSON, with a summary of the feedback on each."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pyarrow as pa

from heedloop.schema import Call
from heedloop_server.store.filters import THUMBS
from heedloop_server.store.quality.hourly import listed, newest_feedback
from heedloop_server.store.spans import OR_NONE, USAGE

Schema = Any
"""A `pyarrow.Schema`; pyarrow ships no types."""

_text, _time, _list = pa.string(), pa.timestamp("us", "UTC"), pa.list_(pa.string())

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
        *((n, pa.int64()) for n in USAGE),
        ("cost", pa.float64()),
        ("status", _text),
        ("error_message", _text),
        ("http_status", pa.int32()),
        *((n, _text) for n in ("prompt_name", "prompt_version", "session_id", "user_id")),
        ("tags", _list),
        ("sampling_probability", pa.float64()),
        ("attributes", pa.map_(_text, _text)),
        ("num_feedback", pa.int64()),
        ("thumb", pa.int8()),
        ("flags", _list),
        ("has_correction", pa.bool_()),
    ]
)
"""The columns of calls; messages and parameters are JSON."""

_PARENT = "if(parent_span_id = toFixedString(unhex('0000000000000000'), 8), '', lower(hex(parent_span_id)))"
# one plain message of an assistant is stored as its text alone
_OUTPUT = (
    "multiIf(output_messages != '', output_messages, answer != '', "
    """concat('[{"role":"assistant","text":', toJSONString(answer), '}]'), '')"""
)
_JSON = {
    "params": "params",
    "input_messages": "input_messages",
    "output_messages": _OUTPUT,
    "tool_definitions": "tool_definitions",
}
"""Columns that hold JSON, empty where there is none."""

FEEDBACK_OF_PERIOD = f"""(
            SELECT *
            FROM (
                {newest_feedback("call_time >= {since:DateTime64(6,'UTC')} AND call_time < {until:DateTime64(6,'UTC')}")}
            )
            WHERE NOT is_deleted
        )"""  # noqa: S608
"""The feedback on calls of a period, as it counts now."""

SUMMARIES = f"""
        SELECT
            trace_id AS judged_trace,
            span_id AS judged_span,
            count() AS num_feedback,
            if(countIf({THUMBS}) > 0, argMaxIf(score, (version, feedback_id), {THUMBS}), NULL) AS thumb,
            arraySort(groupUniqArrayIf(label, kind = 'flag')) AS flags,
            countIf(kind = 'correction') > 0 AS has_correction
        FROM {FEEDBACK_OF_PERIOD}
        WHERE project_id = {{project:String}}
        GROUP BY
            judged_trace,
            judged_span"""  # noqa: S608
"""What `judgements_of` gives, of the calls of a period."""


def _column(name: str) -> str:
    """An expression over `spans` and `SUMMARIES` for a column of `CALLS`."""
    if name in ("trace_id", "span_id"):
        return f"lower(hex({name}))"
    if name == "parent_span_id":
        return f"nullIf({_PARENT}, '')"
    if name in _JSON:
        return f"nullIf({_JSON[name]}, '')"
    if name in OR_NONE:
        return f"nullIf({name}, {0 if name == 'http_status' else repr('')})"
    return name


ARROW_COLUMNS = listed(f"{_column(n)} AS `{n}`" for n in CALLS.names)
"""The columns of `CALLS`."""


def _float(column: str) -> str:
    """A number of 64 bits as JSON that stays one: `1.0`, not `1`."""
    return f"if(isFinite({column}) AND {column} = trunc({column}) AND abs({column}) < 1e15, concat(toString({column}), '.0'), toJSONString({column}))"


def _field(name: str) -> str:
    """A field of a line with the comma before it, or an empty text where `to_json` leaves it out."""
    named = f"""',"{name}":'"""
    if name in ("trace_id", "span_id"):
        return f"""concat({named}, '"', lower(hex({name})), '"')"""
    if name == "parent_span_id":
        return f"""if({_PARENT} = '', '', concat({named}, '"', {_PARENT}, '"'))"""
    if name == "start_time":
        return f"""concat({named}, '"', replaceOne(toString(start_time), ' ', 'T'), 'Z"')"""
    if name in _JSON:
        return f"if({_JSON[name]} = '', '', concat({named}, {_JSON[name]}))"
    if name == "http_status":
        return f"if(http_status = 0, '', concat({named}, toString(http_status)))"
    if name in OR_NONE:
        return f"if({name} = '', '', concat({named}, toJSONString({name})))"
    if name in ("finish_reasons", "embedding_inputs", "tags", "attributes"):
        return f"if(empty({name}), '', concat({named}, toJSONString({name})))"
    if name == "cost":
        return f"if(isNull(cost), '', concat({named}, {_float('assumeNotNull(cost)')}))"
    if name == "sampling_probability":
        return f"concat({named}, {_float(name)})"
    if name == "usage":
        return f"if({_USAGE} = '', '', concat({named}, '{{', substring({_USAGE}, 2), '}}'))"
    return f"concat({named}, toJSONString({name}))"


_USAGE = "concat({})".format(
    ", ".join(
        f"if(isNull({n}), '', concat(',\"{n.removesuffix('_tokens')}\":', toString(assumeNotNull({n}))))"
        for n in USAGE
    )
)
_SUMMARY = """concat(',"num_feedback":', toString(num_feedback), ',"thumb":', ifNull(toString(toInt8(thumb)), 'null'),
    ',"flags":', toJSONString(flags), ',"has_correction":', if(has_correction, 'true', 'false'))"""
LINE = """concat('{{', substring(concat({}), 2), '}}\\n')""".format(
    ",\n    ".join([*(_field(f.name) for f in fields(Call)), _SUMMARY])
)
"""A call as `to_json` writes it and its summary, as one line with its end."""
