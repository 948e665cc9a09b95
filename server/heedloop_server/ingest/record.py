"""One accepted OTLP request as a record of the request log: a header, then the request's own protobuf bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["LOGS", "TRACES", "LoggedRequest", "halves", "lost_with", "pack", "parsed", "pieces_of", "unpack"]

TRACES, LOGS = 1, 2
_HEAD = struct.Struct("<BHQIH")  # signal, project bytes, received µs, accepted count, reasons bytes
_SMALLEST_SPAN = 28  # bytes: its two ids
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """What the loader reads back.

    Attributes:
        received_us: arrival in microseconds since 1970; no two requests of one server share it.
        num_accepted: spans (or log records) in the payload.
        rejected: reason -> how many were taken out before logging.
        payload: the Export…ServiceRequest in protobuf.
    """

    signal: int
    project: str
    received_us: int
    num_accepted: int
    payload: bytes
    rejected: Mapping[str, int] = field(default_factory=dict)

    @property
    def received_at(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.received_us)


def pack(request: LoggedRequest) -> bytes:
    """The record's bytes."""
    project = request.project.encode()
    reasons = json.dumps(dict(request.rejected)).encode() if request.rejected else b""
    head = _HEAD.pack(request.signal, len(project), request.received_us, request.num_accepted, len(reasons))
    return b"".join((head, project, reasons, request.payload))


def unpack(body: bytes) -> LoggedRequest:
    """The request behind a record's bytes."""
    signal, project_size, received_us, num, reasons_size = _HEAD.unpack_from(body)
    a = _HEAD.size
    b = a + project_size
    c = b + reasons_size
    reasons = json.loads(body[b:c]) if reasons_size else {}
    return LoggedRequest(signal, body[a:b].decode(), received_us, num, body[c:], reasons)


def lost_with(damaged: bytes) -> tuple[str, int]:
    """(project, how many spans) of a damaged record, as far as its bytes still tell; the project may be any text.

    Raises:
        ValueError: they do not tell.
    """
    try:
        signal, project_size, _, num, _ = _HEAD.unpack_from(damaged)
    except struct.error as err:
        raise ValueError(f"the record is too short: {err}") from None
    if signal not in (TRACES, LOGS):
        raise ValueError(f"{signal} is no signal")
    is_likely = num <= len(damaged) // _SMALLEST_SPAN
    return damaged[_HEAD.size : _HEAD.size + project_size].decode(), num if is_likely and num else 1


def parsed(request: LoggedRequest) -> Any:
    """The Export…ServiceRequest in the payload; raises `DecodeError` where it is none."""
    kind = ExportTraceServiceRequest if request.signal == TRACES else ExportLogsServiceRequest
    return kind.FromString(request.payload)


def halves(request: LoggedRequest) -> list[LoggedRequest]:
    """The request as two, of the first and of the last half of its spans or log records; none where it has only one.

    What was rejected before logging stays with the first.
    """
    num = sum(len(records) for records in _records(parsed(request)))
    if num < 2:
        return []
    first, last = _part(request, 0, num // 2), _part(request, num // 2, num)
    return [first, replace(last, rejected={})]


def _part(request: LoggedRequest, first: int, last: int) -> LoggedRequest:
    message = parsed(request)
    at = 0
    for records in _records(message):
        num = len(records)
        del records[max(0, last - at) :]
        del records[: max(0, first - at)]
        at += num
    num_accepted = last - first if request.signal == TRACES else 0
    return replace(request, payload=message.SerializeToString(), num_accepted=num_accepted)


def _records(message: Any) -> Iterator[Any]:
    if isinstance(message, ExportTraceServiceRequest):
        return (s.spans for r in message.resource_spans for s in r.scope_spans)
    return (s.log_records for r in message.resource_logs for s in r.scope_logs)


def pieces_of(
    requests: Sequence[LoggedRequest], most_bytes: int
) -> Iterator[tuple[int, list[LoggedRequest]]]:
    """(index of the first request, requests) of at most so many bytes, or of one request; the same cuts every time."""
    piece: list[LoggedRequest] = []
    first = size = 0
    for index, request in enumerate(requests):
        if size and size + len(request.payload) > most_bytes:
            yield first, piece
            piece, first, size = [], index, 0
        piece.append(request)
        size += len(request.payload)
    if piece:
        yield first, piece
