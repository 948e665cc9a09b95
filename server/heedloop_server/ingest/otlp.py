"""OTLP/HTTP by the specification's 1.11 rules: bytes in any encoding -> a checked protobuf request, and the answers. Pure.

Specification: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heedloop_server.errors import ServerError, TooLarge, Unreadable, UnsupportedMedia
from heedloop_server.ingest.otlp_json import MalformedJson, logs_from_json, traces_from_json

__all__ = [
    "Encoding",
    "check_metrics",
    "check_spans",
    "decompress",
    "encode_error",
    "encode_success",
    "encoding_of",
    "parse_logs",
    "parse_traces",
]

Encoding = Literal["protobuf", "json"]
MEDIA_TYPES: dict[Encoding, str] = {"protobuf": "application/x-protobuf", "json": "application/json"}

_GZIP_OR_ZLIB = 47  # zlib.decompressobj reads both headers with 32 + 15 window bits
_MAX_REASONS = 16

# google.rpc.Code of an HTTP status: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
_RPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 413: 3, 415: 3, 422: 3, 429: 8, 503: 14}


def encoding_of(content_type: str) -> Encoding:
    """The encoding a Content-Type names; raises `UnsupportedMedia` where it is neither of OTLP's two."""
    media = content_type.partition(";")[0].strip().lower()
    if media in ("application/x-protobuf", "application/protobuf"):
        return "protobuf"
    if media == "application/json":
        return "json"
    raise UnsupportedMedia(
        f"Content-Type {media!r} is not OTLP's; send application/x-protobuf or application/json"
    )


def decompress(body: bytes, content_encoding: str, *, limit: int) -> bytes:
    """The body without its Content-Encoding (gzip, deflate or identity), at most `limit` bytes of it.

    Raises:
        TooLarge: it is larger than `limit` once decompressed; decompression stops there.
        Unreadable: it is not what the header says.
    """
    name = content_encoding.strip().lower()
    if name in ("", "identity"):
        if len(body) > limit:
            raise _too_large(limit)
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        raise UnsupportedMedia(f"Content-Encoding {name!r} is not known; send gzip, deflate or identity")
    try:
        return _inflate(body, limit)
    except zlib.error as err:
        raise Unreadable(f"the body is no {name}: {err}") from None


def _inflate(body: bytes, limit: int) -> bytes:
    """All members of a gzip file (or one zlib stream), never holding more than `limit` bytes."""
    parts: list[bytes] = []
    left, rest = limit, body
    while rest:
        stream = zlib.decompressobj(_GZIP_OR_ZLIB)
        part = stream.decompress(rest, left + 1)
        if len(part) > left:
            raise _too_large(limit)
        if not stream.eof:
            raise Unreadable("the compressed body ends too early")
        parts.append(part)
        left -= len(part)
        rest = stream.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit:,} bytes after decompression; send smaller batches")


def parse_traces(body: bytes, encoding: Encoding) -> ExportTraceServiceRequest:
    """A traces request; raises `Unreadable` where the body is none."""
    try:
        return (
            ExportTraceServiceRequest.FromString(body) if encoding == "protobuf" else traces_from_json(body)
        )
    except (DecodeError, MalformedJson, RecursionError) as err:
        raise _unreadable(err, "ExportTraceServiceRequest") from None


def parse_logs(body: bytes, encoding: Encoding) -> ExportLogsServiceRequest:
    """A logs request; raises `Unreadable` where the body is none."""
    try:
        return ExportLogsServiceRequest.FromString(body) if encoding == "protobuf" else logs_from_json(body)
    except (DecodeError, MalformedJson, RecursionError) as err:
        raise _unreadable(err, "ExportLogsServiceRequest") from None


def check_metrics(body: bytes, encoding: Encoding) -> None:
    """Raises `Unreadable` where the body is no metrics request. JSON is looked at no further than that it is an object."""
    try:
        if encoding == "protobuf":
            ExportMetricsServiceRequest.FromString(body)
        elif not isinstance(json.loads(body), dict):
            raise MalformedJson("it is no JSON object")
    except (DecodeError, MalformedJson, ValueError, RecursionError) as err:
        raise _unreadable(err, "ExportMetricsServiceRequest") from None


def _unreadable(err: Exception, message: str) -> Unreadable:
    reason = "it is nested too deeply" if isinstance(err, RecursionError) else str(err)
    return Unreadable(f"the body is no OTLP {message}: {reason}")


@dataclass(frozen=True, slots=True)
class Checked:
    """A traces request without its unusable spans.

    Attributes:
        num_spans: spans that are left.
        rejected: reason -> how many spans were taken out for it.
    """

    num_spans: int
    rejected: Counter[str]


def check_spans(request: ExportTraceServiceRequest) -> Checked:
    """Take the spans without usable ids out of the request (in place) and count both."""
    rejected: Counter[str] = Counter()
    num = 0
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            spans = scope_spans.spans
            bad = [i for i, s in enumerate(spans) if len(s.trace_id) != 16 or len(s.span_id) != 8 or _zero(s)]
            for i in reversed(bad):
                rejected[_reason(spans[i])] += 1
                del spans[i]
            num += len(spans)
    return Checked(num, rejected)


_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)


def _zero(span: Any) -> bool:
    return span.trace_id == _NO_TRACE or span.span_id == _NO_SPAN


def _reason(span: Any) -> str:
    if len(span.trace_id) != 16 or span.trace_id == _NO_TRACE:
        return "bad_trace_id"
    return "bad_span_id"


# ------------------------------------------------------------------------------------------------------------ answers


def encode_success(encoding: Encoding, *, rejected: int = 0, message: str = "", what: str = "spans") -> bytes:
    """An Export…ServiceResponse: empty, or with `partial_success` where something was rejected or there is a message.

    `what` is `spans`, `log_records` or `data_points`.
    """
    if not rejected and not message:
        return b"{}" if encoding == "json" else b""
    if encoding == "json":
        first, *more = f"rejected_{what}".split("_")
        name = first + "".join(m.capitalize() for m in more)
        partial: dict[str, Any] = {name: str(rejected), "errorMessage": message}
        return json.dumps({"partialSuccess": partial}).encode()
    partial_bytes = (b"\x08" + _varint(rejected) if rejected else b"") + _text_field(2, message)
    return _bytes_field(1, partial_bytes)


def encode_error(encoding: Encoding, error: ServerError) -> bytes:
    """A google.rpc.Status with the error's sentence."""
    code = _RPC_CODES.get(error.status, 2)
    if encoding == "json":
        return json.dumps({"code": code, "message": error.message}).encode()
    return b"\x08" + _varint(code) + _text_field(2, error.message)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _text_field(number: int, text: str) -> bytes:
    return _bytes_field(number, text.encode()) if text else b""
