"""The server's own traces by OpenTelemetry: a span per request, sent by OTLP/HTTP to where `HEEDLOOP_OTLP_ENDPOINT` says.

Off by default. Requests that bring telemetry are never traced: through a collector they would come back here as new requests,
without an end; for the same reason the server may not be its own receiver. A span names the route, never a query or a body,
which hold people's ids and words.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NATIVE_TELEMETRY_OFF: Any = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}
"""For `FastAPI(telemetry=…)`: newer versions trace by themselves wherever a provider is set up, with the whole query in the span."""

_NOT_TRACED = ("/v1/traces", "/v1/logs", "/v1/metrics", "/healthz", "/readyz", "/metrics")
_LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104  # compared, not bound
_EXPORT_TIMEOUT_S = 5


def check_endpoint(endpoint: str, *, host: str, port: int) -> None:
    """Raises `ValueError` where the endpoint is no address, or this very server."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"HEEDLOOP_OTLP_ENDPOINT {endpoint!r} is no address such as http://collector:4318")
    given = parts.port or (443 if parts.scheme == "https" else 80)
    if given == port and (parts.hostname == host or parts.hostname in _LOCAL):
        raise ValueError(
            f"HEEDLOOP_OTLP_ENDPOINT {endpoint!r} is this server itself; its own traces go somewhere else"
        )


def make_provider(endpoint: str, *, version: str, exporter: SpanExporter | None = None) -> TracerProvider:
    """A provider of our own, not the process's: what else runs here is not traced by it."""
    resource = Resource.create({"service.name": "heedloop-server", "service.version": version})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    to = exporter or OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces", timeout=_EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(to))
    return provider


class RequestSpans:
    """Middleware: a server span around each request, child of the caller's where it sent a `traceparent`."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _NOT_TRACED:
            await self._app(scope, receive, send)
            return
        method: str = scope["method"]
        parent = extract(dict(Headers(scope=scope)))
        started = time.time_ns()
        span = self._tracer.start_span(method, parent, SpanKind.SERVER, start_time=started)
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except BaseException as err:
            span.set_attribute("error.type", type(err).__qualname__)
            raise
        finally:
            route: Any = scope.get("route")
            if route is not None:
                span.update_name(f"{method} {route.path}")
                span.set_attribute("http.route", route.path)
            span.set_attribute("http.request.method", method)
            span.set_attribute("http.response.status_code", status)
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            span.end()
