"""The one callable from captured bodies to call records, with the contract of the captures' scorer (docs/normalise.md)."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heedloop.schema import Call, to_json
from heedloop_server.normalise import LogContent, dedupe, merge, normalise_logs, normalise_request
from heedloop_server.normalise.otlp_json import logs_from_json, traces_from_json

Body = tuple[str, Mapping[str, str], bytes]


def records(bodies: Iterable[Body]) -> list[dict[str, Any]]:
    """One record per LLM or embedding call in the bodies.

    Args:
        bodies: (signal, headers with lower-case names, body as received), in any order; other signals than `traces` and
            `logs` are left out.

    Returns:
        `Call`s as JSON-ready dictionaries, provider calls that came as several spans once.
    """
    calls, contents = _received(bodies)
    joined = [merge(c, contents.get((c.trace_id, c.span_id), ())) for c in calls if c.operation]
    return [to_json(c) for c in dedupe(joined)]


def _received(bodies: Iterable[Body]) -> tuple[list[Call], dict[tuple[str, str], list[LogContent]]]:
    calls: list[Call] = []
    contents: dict[tuple[str, str], list[LogContent]] = {}
    for signal, headers, body in bodies:
        if signal == "traces":
            calls += normalise_request(_parse(headers, body, ExportTraceServiceRequest, traces_from_json))
        elif signal == "logs":
            for found in normalise_logs(_parse(headers, body, ExportLogsServiceRequest, logs_from_json)):
                if isinstance(found, LogContent):
                    contents.setdefault((found.trace_id, found.span_id), []).append(found)
    return calls, contents


def _parse(headers: Mapping[str, str], body: bytes, message: Any, from_json: Any) -> Any:
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding == "gzip":
        body = gzip.decompress(body)
    elif encoding == "deflate":
        body = zlib.decompress(body)
    if "json" in headers.get("content-type", ""):
        return from_json(body)
    return message.FromString(body)
