"""OTLP/HTTP: `POST /v1/traces`, `/v1/logs`, `/v1/metrics`. Answers in the request's own encoding."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, NotRequired, cast

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import TypedDict

from heedloop_server.errors import ServerError, TooLarge
from heedloop_server.http.auth import Principal, caller_with, open_route
from heedloop_server.http.openapi import accepts, responds
from heedloop_server.ingest.intake import Intake
from heedloop_server.ingest.otlp import (
    MEDIA_TYPES,
    Checked,
    Encoding,
    check_metrics,
    check_spans,
    count_log_records,
    decompress,
    encode_error,
    encode_success,
    encoding_of,
    parse_logs,
    parse_traces,
)
from heedloop_server.ingest.record import LOGS, TRACES
from heedloop_server.settings import Settings

router = APIRouter()

_INLINE_BYTES = 256 << 10
"""Bodies up to this size (once decompressed) are decoded on the event loop: a thread costs more than the decoding."""
_USUAL_GROWTH = 16
"""How many times its size a compressed body is taken for; a thousand times is the most that gzip can."""

_BYTES = {"type": "string", "format": "binary"}
_OTLP = {"type": "object", "description": "an OTLP request as JSON"}


class PartialSuccess(TypedDict):
    """What was rejected, and why; also a word to a sender of whom everything was accepted."""

    rejectedSpans: NotRequired[str]
    rejectedLogRecords: NotRequired[str]
    rejectedDataPoints: NotRequired[str]
    errorMessage: str


class OtlpResponse(TypedDict):
    """An Export…ServiceResponse."""

    partialSuccess: NotRequired[PartialSuccess]


class RpcStatus(TypedDict):
    """A google.rpc.Status."""

    code: int
    message: str


Handler = Callable[[Request, Principal, Encoding, bytes], Awaitable[bytes]]


def _otlp_route(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Key, body, answer and errors of an OTLP route; marked open because it checks its caller itself, to answer in protobuf."""

    @open_route
    @functools.wraps(handler)
    async def route(request: Request) -> Response:
        encoding: Encoding = "json" if "json" in request.headers.get("content-type", "") else "protobuf"
        try:
            who = await caller_with(request, "ingest")
            encoding = encoding_of(request.headers.get("content-type", ""))
            body = await _body(request)
            answer = await handler(request, who, encoding, body)
        except ServerError as err:
            content = encode_error(encoding, err)
            return Response(content, err.status, err.headers, MEDIA_TYPES[encoding])
        return Response(answer, 200, media_type=MEDIA_TYPES[encoding])

    # functools.wraps would show FastAPI the handler's parameters
    del route.__wrapped__  # type: ignore[attr-defined]
    route.heedloop_checks = "ingest"  # type: ignore[attr-defined]
    route.heedloop_error = {MEDIA_TYPES["protobuf"]: _BYTES, MEDIA_TYPES["json"]: RpcStatus}  # type: ignore[attr-defined]
    bodies = {MEDIA_TYPES["protobuf"]: _BYTES}
    return accepts(_OTLP, media=bodies)(responds(OtlpResponse, media=bodies)(route))


async def _body(request: Request) -> bytes:
    """The body without its compression, within the limit at every step."""
    limit = cast(Settings, request.app.state.settings).max_body_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge(f"the body has {int(declared):,} bytes; at most {limit:,} are accepted")
    received = bytearray()  # a list of parts of one byte each would be fifty times as large
    async for part in request.stream():
        if len(received) + len(part) > limit:
            raise TooLarge(f"the body has more than {limit:,} bytes; send smaller batches")
        received += part
    coding = request.headers.get("content-encoding", "")
    # what a compressed body becomes is not known before
    size = len(received) * (_USUAL_GROWTH if coding else 1)
    return await _run(size, functools.partial(decompress, limit=limit), bytes(received), coding)


async def _run(size: int, work: Callable[..., Any], *args: Any) -> Any:
    if size <= _INLINE_BYTES:
        return work(*args)
    return await run_in_threadpool(work, *args)


async def traces(request: Request, who: Principal, encoding: Encoding, body: bytes) -> bytes:
    """Take spans in. 200 only when they are on disk."""
    parsed, checked = await _run(len(body), _checked_traces, body, encoding)
    if not checked.num_spans and not checked.rejected:
        return encode_success(encoding)
    is_whole = encoding == "protobuf" and not checked.rejected
    payload = body if is_whole else await _run(len(body), parsed.SerializeToString)
    intake = cast(Intake, request.app.state.intake)
    await intake.log_request(
        TRACES, who.project, payload, num_accepted=checked.num_spans, rejected=checked.rejected
    )
    if not checked.rejected:
        return encode_success(encoding)
    reasons = ", ".join(f"{n} {reason}" for reason, n in checked.rejected.items())
    message = f"{checked.rejected.total()} spans without usable ids were rejected: {reasons}"
    return encode_success(encoding, rejected=checked.rejected.total(), message=message)


def _checked_traces(body: bytes, encoding: Encoding) -> tuple[ExportTraceServiceRequest, Checked]:
    parsed = parse_traces(body, encoding)
    return parsed, check_spans(parsed)


def _counted_logs(body: bytes, encoding: Encoding) -> tuple[ExportLogsServiceRequest, int]:
    parsed = parse_logs(body, encoding)
    return parsed, count_log_records(parsed)


async def logs(request: Request, who: Principal, encoding: Encoding, body: bytes) -> bytes:
    """Take log records in: content of calls, and evaluations. Others are accepted and left out."""
    parsed, num = await _run(len(body), _counted_logs, body, encoding)
    if num:
        payload = body if encoding == "protobuf" else await _run(len(body), parsed.SerializeToString)
        intake = cast(Intake, request.app.state.intake)
        await intake.log_request(LOGS, who.project, payload, num_accepted=0, rejected={})
    return encode_success(encoding)


async def metrics(request: Request, _: Principal, encoding: Encoding, body: bytes) -> bytes:
    """Metrics are acknowledged and dropped; the answer says so."""
    await _run(len(body), check_metrics, body, encoding)
    request.app.state.dropped_metrics = getattr(request.app.state, "dropped_metrics", 0) + 1
    return encode_success(
        encoding, message="heedloop keeps no metrics; nothing was stored", what="data_points"
    )


class OtlpShortcut:
    """Before the router: OTLP posts go to their routes at once, in half the time that the framework takes to find and call them.

    Requests with a query go the long way, where unknown parameters are refused. It stands within the middleware, so that
    limits, traces and the handling of errors are those of every route.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._routes = {r.path: r for r in router.routes if isinstance(r, APIRoute)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is None or scope["method"] != "POST" or scope["query_string"]:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        response = await route.endpoint(Request(scope, receive))
        await response(scope, receive, send)


for _path, _handler in (("/v1/traces", traces), ("/v1/logs", logs), ("/v1/metrics", metrics)):
    router.add_api_route(_path, _otlp_route(_handler), methods=["POST"], response_class=Response)
