"""The review routes that the annotator's page asks from the browser, forwarded with the session's key.

The key stays here. A question is forwarded only where it comes from a page of this dashboard: the browser says so
(`Sec-Fetch-Site`, `Origin`), and a header stands on it that no other site's form or script can set. Only the routes that an
annotator's and a reviewer's work needs are there; the server decides about each by the key, and its status and error are passed on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heedloop.client import ApiError, Client
from heedloop_dashboard.addresses import host_name, is_loopback, is_origin_of
from heedloop_dashboard.auth.sessions import COOKIE, SESSIONS, Session
from heedloop_dashboard.auth.sign_in import proxy_agrees

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY_BYTES = 8 * 1024 * 1024
"""A judgement with corrections of several long answers fits in; the server has its own, tighter limits."""
HEADER = "x-heedloop-review"
_ID = r"[A-Za-z0-9_.:-]{1,200}"
_ALLOWED = tuple(
    (method, re.compile(path))
    for method, path in (
        ("GET", r"queues"),
        ("GET", rf"queues/{_ID}"),
        ("GET", rf"queues/{_ID}/mine"),
        ("POST", rf"queues/{_ID}/next"),
        ("PUT", rf"assignments/{_ID}/draft"),
        ("POST", rf"assignments/{_ID}/(submit|skip|reopen|note)"),
        ("GET", rf"queues/{_ID}/record"),
        ("GET", rf"queues/{_ID}/items"),
        ("POST", rf"queues/{_ID}/items/remove"),
        ("GET", rf"items/{_ID}"),
        ("POST", rf"items/{_ID}/(adjudicate|send-back)"),
        ("POST", rf"queues/{_ID}/gold"),
    )
)
_PARAMS = frozenset({"limit", "cursor", "state"})


class _Refusal(NamedTuple):
    status: int
    code: str
    message: str


def routes() -> list[Route]:
    """The one route, for every allowed path."""
    return [Route("/review-api/{path:path}", _forward, methods=["GET", "POST", "PUT"])]


async def _forward(request: Request) -> Response:
    path = request.path_params["path"]
    refusal = _refusal(request, path)
    if refusal is not None:
        return _error(*refusal)
    body = await _body(request)
    if isinstance(body, _Refusal):
        return _error(*body)
    params = {k: v for k, v in request.query_params.items() if k in _PARAMS}
    return await run_in_threadpool(_ask, request, path, body, params)


def _ask(request: Request, path: str, body: Any, params: Mapping[str, str]) -> Response:
    try:
        session = SESSIONS.get(request.cookies.get(COOKIE))
        if session is None or not proxy_agrees(request.scope):
            return _error(401, "signed_out", "You are signed out.")
        return _json(_send_on(session, request.method, path, body, params))
    except ApiError as err:
        return _passed_on(err)


def _send_on(session: Session, method: str, path: str, body: Any, params: Mapping[str, str]) -> Any:
    # ids hold nothing that a path could be left with; quoted all the same, so that what is sent is what was checked
    return Client.review(session.client, method, quote(path), body, **params)  # type: ignore[arg-type]


def _passed_on(err: ApiError) -> Response:
    """The server's own answer; 503 where there was none, since trying again may help."""
    status = err.status or 503
    body = err.body or {"error": {"code": err.code or "unreachable", "message": str(err), "field": err.field}}
    headers = {} if err.retry_after_s is None else {"retry-after": f"{err.retry_after_s:g}"}
    return _json(body, status, headers)


def _refusal(request: Request, path: str) -> _Refusal | None:
    if not any(m == request.method and p.fullmatch(path) for m, p in _ALLOWED) or ".." in path:
        return _Refusal(404, "not_found", "There is no such review route here.")
    if not _from_our_page(request):
        return _Refusal(403, "foreign", "This may be asked by a page of the dashboard only.")
    return None


def _from_our_page(request: Request) -> bool:
    headers = request.headers
    if headers.get(HEADER) != "1" or headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    host = headers.get("host", "")
    origin = headers.get("origin")
    if origin is not None and not is_origin_of(origin, host):
        return False
    # a key that serves whoever is on this machine must not serve a site that names itself to this machine's address
    return not SESSIONS.is_local or is_loopback(host_name(f"//{host}"))


async def _body(request: Request) -> Any:
    """The JSON object that was sent, None for a question without one."""
    if request.method == "GET":
        return None
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY_BYTES:
            return _Refusal(413, "too_large", f"The body is larger than {MAX_BODY_BYTES:,} bytes.")
    try:
        body = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return _Refusal(400, "invalid", "The body is no JSON.")
    if not isinstance(body, dict):
        return _Refusal(422, "invalid", "The body must be a JSON object.")
    return body


def _json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(body, status, headers={"cache-control": "no-store", **(headers or {})})


def _error(status: int, code: str, message: str) -> Response:
    return _json({"error": {"code": code, "message": message, "field": None}}, status)
