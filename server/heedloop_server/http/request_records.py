"""What is kept of every request: an id in the answer, its duration in the metrics, a line in the access log where that is on.

A record names the route, never a path, a query or a body, which hold people's ids and words.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heedloop_server.http.request_ids import REQUEST_ID, request_id_of

KEY_ID = "heedloop.key_id"
"""Where a request's scope says which key it carried, once that is known."""

log = logging.getLogger("heedloop.access")

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""With bounds at 20, 30 and 100 ms, which are the promises for feedback, spans and lists."""
_METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))
_PROBES = ("/healthz", "/readyz")
_CLIENT_LEFT = 499
"""As nginx writes a request whose sender left before it was answered."""


class RequestRecords:
    """The durations of requests by method, route and status, and the access log.

    Args:
        access_log: whether each request is a line of the logger `heedloop.access`.
    """

    def __init__(self, *, access_log: bool) -> None:
        self._access_log = access_log
        if access_log:
            log.setLevel(logging.INFO)
        self.durations = Histogram(
            "heedloop_http_request_duration_seconds",
            "requests by route and status, and how long each took until its last byte was sent",
            ("method", "route", "status"),
            registry=None,
            buckets=_BUCKETS_S,
        )
        self._series: dict[tuple[str, str, int], Histogram] = {}

    def add(self, scope: Scope, *, route: str, status: int, duration_s: float) -> None:
        """Count a request that is over, and write its line. `route` is empty where the path is none of ours."""
        method = scope["method"] if scope["method"] in _METHODS else "other"
        name = (method, route or "unknown", status)
        series = self._series.get(name)
        if series is None:
            series = self._series[name] = self.durations.labels(*name)
        series.observe(duration_s)
        if self._access_log and not (route in _PROBES and status == 200):
            self._write(scope, name, duration_s)

    def _write(self, scope: Scope, name: tuple[str, str, int], duration_s: float) -> None:
        method, route, status = name
        client = scope.get("client")
        fields: dict[str, Any] = {
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": round(1000 * duration_s, 2),
            "client": client[0] if client else "",
            "key_id": scope.get(KEY_ID, ""),
        }
        log.info(
            "%s %s %d %s ms for %s",
            method,
            route,
            status,
            fields["duration_ms"],
            fields["client"],
            extra=fields,
        )


class RequestRecorder:
    """Middleware around all others: gives a request its id, and keeps its record.

    Args:
        on_change: is told the key of a request that may have changed something, before its sender knows that it did.
    """

    def __init__(self, app: ASGIApp, records: RequestRecords, on_change: Callable[[str], None]) -> None:
        self._app = app
        self._records = records
        self._on_change = on_change

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope["headers"])
        REQUEST_ID.set(request_id)  # of this request's own task, and so never reset
        header = (b"x-request-id", request_id.encode())
        status = _CLIENT_LEFT
        begin = time.perf_counter()

        async def recorded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if scope["method"] not in ("GET", "HEAD") and scope.get(KEY_ID):
                    self._on_change(scope[KEY_ID])
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        try:
            await self._app(scope, receive, recorded)
        except Exception:
            status = 500
            raise
        finally:
            route: Any = scope.get("route")
            path = "" if route is None else route.path
            self._records.add(scope, route=path, status=status, duration_s=time.perf_counter() - begin)
