"""How large a request may be and how slowly it may come: every body is counted as it comes in, whatever its Content-Length says."""

from __future__ import annotations

import asyncio
import logging

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heedloop_server.errors import TimedOut, TooLarge
from heedloop_server.http.error_responses import error_response

log = logging.getLogger("heedloop.http")

_COUNT_THEMSELVES = ("/v1/traces", "/v1/logs", "/v1/metrics")
"""OTLP routes count after decompression and answer in their own encoding."""
_LINES = "application/x-ndjson"
"""A body of lines is read line by line and may be as long as it likes."""


class BodyLimit:
    """Middleware: 413 for a body of more than `limit` bytes, of which never more than the limit is kept."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _COUNT_THEMSELVES:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if headers.get("content-type", "").startswith(_LINES):
            await self._app(scope, receive, send)
            return
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._limit:
            error = self._too_large()
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body has more than {self._limit:,} bytes; send smaller batches")


class BodyPace:
    """Middleware: 408, and the connection is closed, for a body of which no byte comes for `idle_s`.

    A client that leaves before its body is whole is no error of ours: a debug line says so.
    """

    def __init__(self, app: ASGIApp, idle_s: float) -> None:
        self._app = app
        self._idle_s = idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, self._paced(receive), send)
        except ClientDisconnect:
            log.debug("the client of %s %s left before its body was whole", scope["method"], scope["path"])

    def _paced(self, receive: Receive) -> Receive:
        is_whole = False

        async def paced() -> Message:
            nonlocal is_whole
            if is_whole:  # what comes now is that the client leaves, and may take as long as it likes
                return await receive()
            try:
                async with asyncio.timeout(self._idle_s):
                    message = await receive()
            except TimeoutError:
                raise TimedOut(f"no byte of the body came for {self._idle_s:g} s; send it again") from None
            is_whole = not message.get("more_body", False)
            return message

        return paced
