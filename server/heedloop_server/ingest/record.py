"""One accepted OTLP request as a record of the request log: a header, then the request's own protobuf bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

__all__ = ["LOGS", "TRACES", "LoggedRequest", "pack", "unpack"]

TRACES, LOGS = 1, 2
_HEAD = struct.Struct("<BHQIH")  # signal, project bytes, received µs, accepted count, reasons bytes
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
