"""OTLP/gRPC: the same requests as `POST /v1/traces`, `/v1/logs`, `/v1/metrics`, by another door into the same intake and ledger.

Specification: https://opentelemetry.io/docs/specs/otlp/#otlpgrpc. A call is answered when what it brought is on disk, as over
HTTP. What may be sent again is UNAVAILABLE, or RESOURCE_EXHAUSTED where a rate is spent, both with a RetryInfo; nothing else is
retried by a sender. Needs grpcio, which the extra `grpc` brings.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from fastapi import FastAPI, Request
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-not-found]
from google.rpc.status_pb2 import Status  # type: ignore[import-not-found]

from heedloop_server.errors import ServerError
from heedloop_server.http.auth import caller_with
from heedloop_server.http.request_ids import REQUEST_ID, request_id_of
from heedloop_server.http.request_records import RequestRecords
from heedloop_server.routes.otlp import Handler, logs, metrics, traces

Grpc = Any
"""The module `grpc`, or something of it; it ships no types."""

SERVICES: dict[str, Handler] = {
    "opentelemetry.proto.collector.trace.v1.TraceService": traces,
    "opentelemetry.proto.collector.logs.v1.LogsService": logs,
    "opentelemetry.proto.collector.metrics.v1.MetricsService": metrics,
}

# google.rpc.Code of what the HTTP door answers with. OTLP tells a sender to try again on UNAVAILABLE, and on RESOURCE_EXHAUSTED
# only with a RetryInfo: so 413, which no retry helps, is that without one.
_CODES = {400: 3, 401: 16, 403: 7, 413: 8, 415: 3, 422: 3, 429: 8, 503: 14}
_UNKNOWN = 2
_GRACE_S = 5.0


class GrpcMissing(Exception):
    """grpcio is not installed."""


def check_grpc() -> Grpc:
    """The module `grpc`; raises `GrpcMissing` with what to install."""
    try:
        return importlib.import_module("grpc")
    except ModuleNotFoundError:
        raise GrpcMissing("OTLP/gRPC needs grpcio: pip install 'heedloop[grpc]'") from None


class OtlpGrpcServer:
    """The gRPC server of one app, on the app's own event loop."""

    def __init__(self, app: FastAPI, *, host: str, port: int, max_bytes: int) -> None:
        self._app = app
        self._grpc = check_grpc()
        aio = importlib.import_module("grpc.aio")
        options = [("grpc.max_receive_message_length", max_bytes), ("grpc.so_reuseport", 0)]
        self._server: Grpc = aio.server(options=options)
        for name, handler in SERVICES.items():
            method = self._grpc.unary_unary_rpc_method_handler(self._export(name, handler))
            service = self._grpc.method_handlers_generic_handler(name, {"Export": method})
            self._server.add_generic_rpc_handlers((service,))
        where = f"[{host}]" if ":" in host else host
        self.port: int = self._server.add_insecure_port(f"{where}:{port}")

    async def start(self) -> None:
        """Take calls."""
        await self._server.start()

    async def stop(self) -> None:
        """Take no more calls, and finish those that are here."""
        await self._server.stop(_GRACE_S)

    def _export(self, name: str, handler: Handler) -> Callable[[bytes, Grpc], Awaitable[bytes]]:
        records = cast(RequestRecords, self._app.state.records)

        async def export(body: bytes, context: Grpc) -> bytes:
            request = _as_request(self._app, context)
            REQUEST_ID.set(request_id_of(request.scope["headers"]))
            status, begin = 500, time.perf_counter()
            try:
                who = await caller_with(request, "ingest")
                answer = await handler(request, who, "protobuf", body)
                status = 200
                return answer
            except ServerError as err:
                status = err.status
                return await self._refuse(context, err)
            finally:
                duration_s = time.perf_counter() - begin
                records.add(request.scope, route=f"/{name}/Export", status=status, duration_s=duration_s)

        return export

    async def _refuse(self, context: Grpc, err: ServerError) -> bytes:
        code = _CODES.get(err.status, _UNKNOWN)
        details = Status(code=code, message=err.message)
        retry_after_s: float | None = getattr(err, "retry_after_s", None)
        if retry_after_s is not None:
            wait = RetryInfo(retry_delay=Duration(seconds=max(1, round(retry_after_s))))
            packed = AnyMessage()
            packed.Pack(wait)
            details.details.append(packed)
        names: dict[int, Grpc] = {c.value[0]: c for c in self._grpc.StatusCode}
        metadata = (("grpc-status-details-bin", details.SerializeToString()),)
        await context.abort(names[code], err.message, metadata)
        raise AssertionError("abort raises")  # the type checker cannot know


def _as_request(app: FastAPI, context: Grpc) -> Request:
    """The call as the HTTP door would see it: who sent it, and its metadata as headers."""
    metadata = context.invocation_metadata() or ()
    headers = [(str(k).lower().encode(), v if isinstance(v, bytes) else str(v).encode()) for k, v in metadata]
    return Request(
        {
            "type": "http",
            "method": "POST",
            "path": "",
            "headers": headers,
            "app": app,
            "client": _peer(context),
        }
    )


def _peer(context: Grpc) -> tuple[str, int] | None:
    """Address and port of the sender, from `ipv4:127.0.0.1:4317` or `ipv6:%5B::1%5D:4317`."""
    kind, _, rest = str(context.peer()).partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    return host.replace("%5B", "").replace("%5D", "").strip("[]"), int(port)
