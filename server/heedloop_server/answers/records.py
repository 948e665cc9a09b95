"""The records of `heedloop.schema` as `to_json` writes them and `from_json` reads them, derived from the records themselves."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from heedloop.schema import Call, Feedback, Run, Snapshot, Usage

__all__ = [
    "CallRecord",
    "FeedbackRecord",
    "FeedbackSent",
    "RunRecord",
    "RunSent",
    "RunSummary",
    "SnapshotAnswer",
    "SnapshotRecord",
    "StoredFeedback",
    "UsageRecord",
]

RUN_SUMMARY_FIELDS = (
    "id",
    "method",
    "name",
    "status",
    "snapshot_id",
    "parent",
    "model_name",
    "started_at",
    "finished_at",
)

Fields = dict[str, Any]


def typed_dict(name: str, fields: Fields, description: str = "") -> Any:
    """A TypedDict that holds nothing but these fields."""
    made = cast(Any, TypedDict)(name, fields)
    made.__pydantic_config__ = ConfigDict(extra="forbid")
    made.__doc__ = description
    return made


def written_fields(record: type[Any]) -> Fields:
    """Field -> type as `to_json` writes them: what may be None or empty may be missing, and nothing is null."""
    hints = get_type_hints(record)
    return {f.name: _written(hints[f.name]) for f in dataclasses.fields(record)}


def _written(hint: Any) -> Any:
    parts = [a for a in get_args(hint) if a is not type(None)]
    if get_origin(hint) in (Union, types.UnionType):
        inner = [_plain(p) for p in parts]
        optional = len(parts) < len(get_args(hint))
        joined = Union[tuple(inner)] if len(inner) > 1 else inner[0]  # noqa: UP007  # made at run time
        return NotRequired[joined] if optional else Required[joined]
    plain = _plain(hint)
    may_be_empty = get_origin(hint) in (tuple, Mapping, dict) or hint is Mapping
    if may_be_empty or (dataclasses.is_dataclass(hint) and not _always(cast(type[Any], hint))):
        return NotRequired[plain]
    return Required[plain]


def _plain(hint: Any) -> Any:
    """The JSON type of a value that is there."""
    if dataclasses.is_dataclass(hint):
        return _record(cast(type[Any], hint))
    if get_origin(hint) is tuple:
        return list[_plain(get_args(hint)[0])]
    if get_origin(hint) is not None and get_origin(hint) is not Literal and get_args(hint)[0] is str:
        return dict[str, _plain(get_args(hint)[1])]
    return hint


@cache
def _record(record: type[Any]) -> Any:
    description = (record.__doc__ or "").partition("\n")[0]
    return typed_dict(record.__name__, written_fields(record), description)


@cache
def _always(record: type[Any]) -> bool:
    """True where at least one field of the record is always written."""
    return any(get_origin(h) is Required for h in written_fields(record).values())


@cache
def _sent(record: type[Any]) -> Any:
    """A record as it may be sent: fields with a default may be missing, and null is the same as missing."""
    hints = get_type_hints(record)
    fields: Fields = {}
    for f in dataclasses.fields(record):
        optional = f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
        given = _without_none(hints[f.name])
        fields[f.name] = NotRequired[given | None] if optional else Required[given]
    return typed_dict(f"New{record.__name__}", fields, (record.__doc__ or "").partition("\n")[0])


def _sent_by_handle(feedback: Any) -> Any:
    """Feedback as it may be sent, whose answer is named by a target or by a handle."""
    fields = get_type_hints(feedback, include_extras=True)
    target = next(iter(get_args(fields["target"])), fields["target"])
    named = {"target": NotRequired[target | None], "handle": NotRequired[str | None]}
    return typed_dict("NewFeedback", {**fields, **named}, feedback.__doc__ or "")


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        inner = [_without_none(p) for p in get_args(hint) if p is not type(None)]
        return Union[tuple(inner)] if len(inner) > 1 else inner[0]  # noqa: UP007  # made at run time
    if dataclasses.is_dataclass(hint):
        return _sent(cast(type[Any], hint))
    if get_origin(hint) is tuple:
        return list[_without_none(get_args(hint)[0])]
    if hint is datetime:
        return Annotated[datetime, Field(description="RFC 3339, with an offset")]
    return _plain(hint)


if TYPE_CHECKING:  # made at run time; for the reader of types they are JSON objects
    CallRecord = dict[str, Any]
    FeedbackRecord = dict[str, Any]
    StoredFeedback = dict[str, Any]
    RunRecord = dict[str, Any]
    RunSummary = dict[str, Any]
    SnapshotRecord = dict[str, Any]
    SnapshotAnswer = dict[str, Any]
    UsageRecord = dict[str, Any]
    FeedbackSent = dict[str, Any]
    RunSent = dict[str, Any]
else:
    CallRecord = _record(Call)
    FeedbackRecord = _record(Feedback)
    RunRecord = _record(Run)
    SnapshotRecord = _record(Snapshot)
    UsageRecord = _record(Usage)
    FeedbackSent = _sent_by_handle(_sent(Feedback))
    RunSent = _sent(Run)
    StoredFeedback = typed_dict(
        "StoredFeedback",
        written_fields(Feedback)
        | {"feedback_id": str, "version": int, "received_at": datetime}
        | dict.fromkeys(("call_trace_id", "call_span_id"), NotRequired[str])
        | dict.fromkeys(("model", "prompt_name", "prompt_version"), NotRequired[str | None])
        | {"call_time": NotRequired[datetime]},
        "A feedback with what the server knows of it; the call's fields are there where the call was found.",
    )
    RunSummary = typed_dict(
        "RunSummary",
        {n: t for n, t in written_fields(Run).items() if n in RUN_SUMMARY_FIELDS},
        "What a list of runs shows of each.",
    )
    SnapshotAnswer = typed_dict(
        "SnapshotAnswer",
        written_fields(Snapshot)
        | {"report": dict[str, Any], "num_erased": int, "runs": NotRequired[list[RunSummary]]},
        "A snapshot with its report, how many of its rows were erased since, and, of one alone, the runs that used it.",
    )
