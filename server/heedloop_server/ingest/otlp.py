"""OTLP/HTTP by the specification's 1.11 rules: bytes in any encoding -> a checked protobuf request, and the answers. Pure.

Specification: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status  # type: ignore[import-not-found]
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace

from heedloop_server.errors import ServerError, TooLarge, Unreadable, UnsupportedMedia
from heedloop_server.ingest.otlp_json import (
    MAX_OBJECTS,
    MalformedJson,
    check_metrics_json,
    logs_from_json,
    traces_from_json,
)

Encoding = Literal["protobuf", "json"]
MEDIA_TYPES: dict[Encoding, str] = {"protobuf": "application/x-protobuf", "json": "application/json"}

_GZIP_OR_ZLIB = 47  # zlib.decompressobj reads both headers with 32 + 15 window bits

# google.rpc.Code of an HTTP status: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
_RPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 408: 4, 409: 6, 413: 3, 415: 3, 422: 3, 429: 8, 503: 14}


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
    """The body without its Content-Encoding, at most `limit` bytes of it.

    Raises:
        TooLarge: it is larger than `limit` once decompressed; decompression stops there.
        Unreadable: it is not what the header says.
        UnsupportedMedia: the coding is none of `CODINGS`.
    """
    name = content_encoding.strip().lower()
    if name in ("", "identity"):
        if len(body) > limit:
            raise _too_large(limit)
        return body
    if name not in _READERS:
        raise UnsupportedMedia(f"Content-Encoding {name!r} is not known; send {', '.join(CODINGS)} or none")
    try:
        return _READERS[name](body, limit) if body else body
    except (zlib.error, OSError, ValueError) as err:
        raise Unreadable(f"the body is no {name}: {err}") from None


def _inflate(body: bytes, limit: int) -> bytes:
    """All members of a gzip file (or one zlib stream), in a time that grows with the body alone, never holding more than `limit` bytes."""
    parts: list[bytes] = []
    left, at = limit, 0
    for _ in range(_MAX_MEMBERS):
        stream = zlib.decompressobj(_GZIP_OR_ZLIB)
        step = _FIRST_STEP
        while not stream.eof:
            chunk = body[at : at + step]
            if not chunk:
                raise Unreadable("the compressed body ends too early")
            part = stream.decompress(chunk, left + 1)
            at += len(chunk) - len(stream.unused_data)
            if len(part) > left:
                raise _too_large(limit)
            parts.append(part)
            left -= len(part)
            step *= 2  # a member costs at most twice its size, and a short one little
        if (after := _NOT_PADDING.search(body, at)) is None:
            return b"".join(parts)
        at = after.start()
    raise Unreadable(f"the compressed body has more than {_MAX_MEMBERS:,} members")


def _stream_reader(codec: str) -> Callable[[bytes, int], bytes]:
    """A reader of one of Arrow's codecs."""

    def read(body: bytes, limit: int) -> bytes:
        with pa.CompressedInputStream(pa.BufferReader(body), codec) as stream:
            plain = stream.read(limit + 1)
        if len(plain) > limit:
            raise _too_large(limit)
        return plain

    return read


def _unsnap(body: bytes, limit: int) -> bytes:
    """Snappy, a bare block or the framing format; the Collector has sent both under this name."""
    if not body.startswith(_SNAPPY_STREAM):
        return _unsnap_block(body, limit)
    parts: list[bytes] = []
    left, at = limit, 0
    while at < len(body):
        kind, end = body[at], at + 4 + int.from_bytes(body[at + 1 : at + 4], "little")
        if end > len(body):
            raise Unreadable("the compressed body ends too early")
        if kind in (0, 1):
            part = body[at + 8 : end]  # behind the checksum of what it holds
            part = _unsnap_block(part, left) if kind == 0 else part
            if len(part) > left:
                raise _too_large(limit)
            parts.append(part)
            left -= len(part)
        elif kind < 0x80:
            raise Unreadable(f"the snappy stream has a chunk of the unknown kind {kind}")
        at = end
    return b"".join(parts)


def _unsnap_block(block: bytes, limit: int) -> bytes:
    size = shift = 0
    for byte in block[:5]:
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    if size > limit:
        raise _too_large(limit)
    return pa.Codec("snappy").decompress(block, size, asbytes=True)


_SNAPPY_STREAM = b"\xff\x06\x00\x00sNaPpY"
_MAX_MEMBERS = 10_000
_FIRST_STEP = 1 << 10
_NOT_PADDING = re.compile(rb"[^\0]")
CODINGS = ("gzip", "deflate", "zstd", "snappy", "lz4")
"""The Content-Encodings that are read."""
_READERS: dict[str, Callable[[bytes, int], bytes]] = {
    **dict.fromkeys(("gzip", "x-gzip", "deflate"), _inflate),
    "zstd": _stream_reader("zstd"),
    "lz4": _stream_reader("lz4"),
    **dict.fromkeys(("snappy", "x-snappy-framed"), _unsnap),
}


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit:,} bytes after decompression; send smaller batches")


def parse_traces(body: bytes, encoding: Encoding) -> trace.ExportTraceServiceRequest:
    """A traces request; raises `Unreadable` where the body is none."""
    try:
        return (
            trace.ExportTraceServiceRequest.FromString(body)
            if encoding == "protobuf"
            else traces_from_json(body)
        )
    except (DecodeError, MalformedJson, RecursionError) as err:
        raise _unreadable(err, "ExportTraceServiceRequest") from None


def parse_logs(body: bytes, encoding: Encoding) -> logs.ExportLogsServiceRequest:
    """A logs request; raises `Unreadable` where the body is none."""
    try:
        return (
            logs.ExportLogsServiceRequest.FromString(body) if encoding == "protobuf" else logs_from_json(body)
        )
    except (DecodeError, MalformedJson, RecursionError) as err:
        raise _unreadable(err, "ExportLogsServiceRequest") from None


def check_metrics(body: bytes, encoding: Encoding) -> None:
    """Raises `Unreadable` where the body is no metrics request. JSON is looked at no further than that it is an object."""
    try:
        if encoding == "protobuf":
            metrics.ExportMetricsServiceRequest.FromString(body)
        else:
            check_metrics_json(body)
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


def check_spans(request: trace.ExportTraceServiceRequest) -> Checked:
    """Take the spans without usable ids out of the request (in place) and count both; raises `TooLarge` for too many objects."""
    _check_objects(
        ([s.spans for s in r.scope_spans] for r in request.resource_spans), len(request.resource_spans)
    )
    rejected: Counter[str] = Counter()
    num = 0
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            spans = scope_spans.spans
            bad = [s for s in spans if len(s.trace_id) != 16 or len(s.span_id) != 8 or _zero(s)]
            if bad:
                rejected.update(_reason(s) for s in bad)
                _keep_good(scope_spans)
            num += len(spans)
    return Checked(num, rejected)


def count_log_records(request: logs.ExportLogsServiceRequest) -> int:
    """How many log records a request holds; raises `TooLarge` for too many objects."""
    resources = request.resource_logs
    return _check_objects(([s.log_records for s in r.scope_logs] for r in resources), len(resources))


def _check_objects(resources: Iterable[Sequence[Sized]], num: int) -> int:
    """The records in the scopes of some resources; raises `TooLarge` where all three together are more than `MAX_OBJECTS`.

    An empty one takes two bytes of a body and a microsecond of everything that is done with it.
    """
    records = 0
    if num <= MAX_OBJECTS:
        for scopes in resources:
            records += sum(map(len, scopes))
            num += len(scopes)
            if num + records > MAX_OBJECTS:
                break
    if num + records > MAX_OBJECTS:
        raise TooLarge(
            f"more than {MAX_OBJECTS:,} resources, scopes and records in one request; send smaller batches"
        )
    return records


def _keep_good(scope_spans: Any) -> None:
    """Leave the unusable spans out: at once, because each deletion moves all that follow."""
    good = [s for s in scope_spans.spans if len(s.trace_id) == 16 and len(s.span_id) == 8 and not _zero(s)]
    kept = type(scope_spans)(spans=good)
    del scope_spans.spans[:]
    scope_spans.spans.MergeFrom(kept.spans)


_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)


def _zero(span: Any) -> bool:
    return span.trace_id == _NO_TRACE or span.span_id == _NO_SPAN


def _reason(span: Any) -> str:
    if len(span.trace_id) != 16 or span.trace_id == _NO_TRACE:
        return "bad_trace_id"
    return "bad_span_id"


# ------------------------------------------------------------------------------------------------------------ answers


def encode_success(
    encoding: Encoding, *, rejected: int = 0, message: str = "", what: What = "spans"
) -> bytes:
    """An Export…ServiceResponse: empty, or with `partial_success` where something was rejected or there is a message."""
    if not rejected and not message:
        return b"{}" if encoding == "json" else b""
    response = _RESPONSES[what]()
    partial_success: Any = response.partial_success
    setattr(partial_success, f"rejected_{what}", rejected)
    partial_success.error_message = message
    if encoding == "json":
        return json.dumps(MessageToDict(response, always_print_fields_with_no_presence=True)).encode()
    return response.SerializeToString()


What = Literal["spans", "log_records", "data_points"]
_RESPONSES = {
    "spans": trace.ExportTraceServiceResponse,
    "log_records": logs.ExportLogsServiceResponse,
    "data_points": metrics.ExportMetricsServiceResponse,
}


def encode_error(encoding: Encoding, error: ServerError) -> bytes:
    """A google.rpc.Status with the error's sentence."""
    code = _RPC_CODES.get(error.status, 2)
    if encoding == "json":
        return json.dumps({"code": code, "message": error.message}).encode()
    return Status(code=code, message=error.message).SerializeToString()
