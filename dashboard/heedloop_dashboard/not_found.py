"""Our own page for addresses that are none, in place of Streamlit's window over the first page."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from heedloop_dashboard.auth.sign_in import is_page, page_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_BODY = """<h1>There is no such page</h1><p>The address may be mistyped, or the page has moved.</p>
<a class="provider" href="/">Quality overview</a><a class="provider" href="/search">Search</a>"""


class NotFoundPage:
    """ASGI middleware that answers 404 to a browser that asks for a page of no name.

    Args:
        paths: the first parts of the addresses that there are.
    """

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app = app
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_page(scope) and scope["path"].strip("/") not in self._paths:
            await page_response(_BODY, status=404)(scope, receive, send)
            return
        await self._app(scope, receive, send)
