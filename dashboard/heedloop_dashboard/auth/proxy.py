"""What a trusted proxy says about a request: the scheme that the browser used, and who the person is.

Both are believed only where the connection itself comes from a configured address. A header that somebody else sends is
taken out before anything reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heedloop_dashboard.auth.sessions import SESSIONS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PERSON = "heedloop.person"
"""Where the ASGI scope holds the person whom a trusted proxy named; empty where none did."""
MAX_NAME = 320
LOOPBACK = ("127.0.0.1", "::1")


class TrustedProxy:
    """ASGI middleware; it must be the outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = _judged(scope)
        await self._app(scope, receive, send)


def _judged(scope: Scope) -> Scope:
    access = SESSIONS.access
    name = access.proxy_header.lower().encode()
    address = (scope.get("client") or (None,))[0]
    believed = access.trusts(address)
    person = _header(scope, name) if believed and name else ""
    judged = {**scope, PERSON: person if len(person) <= MAX_NAME else ""}
    if name:
        judged["headers"] = [(k, v) for k, v in scope["headers"] if k.lower() != name]
    scheme = _header(scope, b"x-forwarded-proto").split(",")[-1].strip()
    # the scheme is believed from this machine too: it decides about our own cookie's flag, and about nobody's rights
    if (believed or address in LOOPBACK) and scheme in ("http", "https"):
        secure = scheme == "https"
        judged["scheme"] = ("wss" if secure else "ws") if scope["type"] == "websocket" else scheme
    return judged


def _header(scope: Scope, name: bytes) -> str:
    """The header's value; empty where it is missing, and where it stands twice: one of the two is not the proxy's."""
    found = [v for k, v in scope["headers"] if k.lower() == name]
    return found[0].decode("utf-8", "replace").strip() if len(found) == 1 else ""
