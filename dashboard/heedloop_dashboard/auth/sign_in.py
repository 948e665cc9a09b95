"""The sign-in page: plain HTML without script, served beside Streamlit's pages. It takes a personal API key, or leads to
an OpenID provider; whom a trusted proxy names is signed in without it."""

from __future__ import annotations

import html
import logging
import posixpath
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from heedloop.client import ApiError, Client, Forbidden, Unauthorized, Unreachable
from heedloop_dashboard.addresses import is_origin_of
from heedloop_dashboard.auth.proxy import PERSON
from heedloop_dashboard.auth.sessions import COOKIE, LIFETIME_S, SESSIONS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger("heedloop.dashboard")
MAX_FORM_BYTES = 8192

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>heedloop</title><style>
:root {{ color-scheme: light dark; --bg: #f6f7f9; --card: #fff; --text: #111827; --muted: #5f6b7a; --line: #e3e6ea; --blue: #2563eb; --red: #b42318; }}
@media (prefers-color-scheme: dark) {{ :root {{ --bg: #0e1117; --card: #141922; --text: #e6e8ec; --muted: #a3acba; --line: #2a313c; --blue: #2f6ce0; --red: #ff9a8b; }} }}
* {{ box-sizing: border-box; }} body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--bg); color: var(--text);
  font: 15px/1.5 Inter, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; padding: 20px; }}
main {{ width: 100%; max-width: 380px; background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 30px 28px; }}
h1 {{ font-size: 20px; margin: 0 0 4px; }} p {{ margin: 0 0 18px; color: var(--muted); }}
label {{ display: block; font-weight: 500; margin-bottom: 6px; }}
input {{ width: 100%; font: inherit; color: inherit; background: var(--bg); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; }}
button {{ width: 100%; font: inherit; font-weight: 600; color: #fff; background: var(--blue); border: 0; border-radius: 8px; padding: 10px; margin-top: 14px; cursor: pointer; }}
input:focus-visible, button:focus-visible {{ outline: 2px solid var(--blue); outline-offset: 2px; }}
a.provider {{ display: block; text-align: center; font-weight: 600; color: inherit; text-decoration: none; border: 1px solid var(--line); border-radius: 8px; padding: 10px; margin-top: 14px; }}
a.provider:hover {{ border-color: var(--blue); }} a.provider:focus-visible {{ outline: 2px solid var(--blue); outline-offset: 2px; }}
.error {{ color: var(--red); margin: 12px 0 0; }} code {{ font-size: 13px; }} .hint {{ margin: 18px 0 0; font-size: 13px; }}
</style></head><body><main>{body}</main></body></html>"""

_FORM = """<h1>heedloop</h1><p>{purpose}</p>
<form method="post" action="/sign-in?next={next}{add}"><label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus placeholder="hl_…" {describedby}>
{error}<button type="submit">Sign in</button></form>
{provider}<p class="hint">The key decides what you see. <code>heedloop serve</code> prints the first one; <code>heedloop keys create</code> makes more, with fewer rights.</p>"""

_LINK = """<h1>heedloop</h1><p>This link makes your own key and signs you in. It works once.</p>
<form method="post" action="/sign-in/link?token={token}"><button type="submit" autofocus>Sign in</button></form>{error}"""

_KEY = """<h1>Welcome, {name}</h1><p>This is your key. It is shown this once: keep it where you keep passwords. You sign in with it from now on.</p>
<input readonly value="{key}" aria-label="Your key"><p class="hint"><a class="provider" href="/review">Go on</a></p>"""

_OUT = """<h1>Sign out</h1><p>The key is forgotten here at once.</p>
<form method="post" action="/sign-out"><button type="submit">Sign out</button></form>"""


def routes() -> list[Route]:
    """The pages that need no Streamlit; `oidc.routes` adds the provider's where there is one."""
    return [
        Route("/sign-in", _sign_in, methods=["GET", "POST"]),
        Route("/sign-in/link", _sign_in_by_link, methods=["GET", "POST"]),
        Route("/sign-out", _sign_out, methods=["GET", "POST"]),
    ]


async def _sign_in(request: Request) -> Response:
    target = local_path(request.query_params.get("next"))
    if request.method == "GET":
        return form(target, add="add" in request.query_params)
    if not _same_origin(request):
        return form(target, "The form came from another site.", status=403)
    key = await _posted_key(request)
    if not key:
        return form(target, "Enter a key.", status=422, add="add" in request.query_params)
    return await _open(request, key, target)


async def let_in(request: Request, person: str, target: str, *, via: str) -> Response:
    """Sign in somebody whom a proxy or a provider named, with the key that the configuration gives them."""
    key = SESSIONS.access.people.key_of(person)
    if key is None:
        log.warning("%s signed in by %s, but has no key in the configuration", person, via)
        return form("/", f"{person} is known, but nobody gave them a key here.", status=403)
    return await _open(request, key, target, person=person, via=via)


async def _open(request: Request, key: str, target: str, *, person: str = "", via: str = "key") -> Response:
    add = "add" in request.query_params and not person
    try:
        beside = request.cookies.get(COOKIE) if add else None
        name = await run_in_threadpool(SESSIONS.open, key, person=person, via=via, beside=beside)
    except (Unauthorized, Forbidden):
        return form(target, "The server does not know this key, or it has expired.", status=401, add=add)
    except Unreachable as err:
        return form(target, str(err), status=503, add=add)
    except ApiError as err:
        return form(target, f"The server answered: {err}", status=502, add=add)
    SESSIONS.close(request.cookies.get(COOKIE))
    answer = RedirectResponse(target, status_code=303)
    _set_cookie(request, answer, name)
    return answer


def _set_cookie(request: Request, answer: Response, name: str) -> None:
    there = SESSIONS.access.provider
    secure = request.url.scheme == "https" or bool(there and there.public_url.startswith("https://"))
    answer.set_cookie(
        COOKIE, name, max_age=LIFETIME_S, httponly=True, samesite="lax", secure=secure, path="/"
    )


async def _sign_in_by_link(request: Request) -> Response:
    """Whoever looks at the address (a mail program, a preview) uses nothing up: only the button does."""
    token = request.query_params.get("token", "")[:200]
    if request.method == "GET":
        return page_response(_LINK.format(token=quote(token, safe=""), error=""))
    if not _same_origin(request):
        return form("/", "The form came from another site.", status=403)
    try:
        made = await run_in_threadpool(Client(SESSIONS.url, token, timeout_s=20).accept_link)
        name = await run_in_threadpool(SESSIONS.open, made.key)
    except (Unauthorized, Forbidden):
        return form("/", "This link was used already, or has ended. Ask for another one.", status=401)
    except ApiError as err:
        return form("/", str(err), status=502)
    answer = page_response(_KEY.format(name=html.escape(made.name), key=html.escape(made.key, quote=True)))
    _set_cookie(request, answer, name)
    return answer


def page_response(body: str, *, status: int = 200) -> Response:
    """A page without script in the look of the sign-in page; `body` is our own HTML."""
    return HTMLResponse(_PAGE.format(body=body), status_code=status, headers={"cache-control": "no-store"})


async def _sign_out(request: Request) -> Response:
    if request.method == "GET":
        return HTMLResponse(_PAGE.format(body=_OUT))
    if not _same_origin(request):
        return form("/", "The form came from another site.", status=403)
    SESSIONS.close(request.cookies.get(COOKIE))
    answer = RedirectResponse("/sign-in", status_code=303)
    answer.delete_cookie(COOKIE, path="/")
    return answer


def form(target: str, error: str = "", *, status: int = 200, add: bool = False) -> Response:
    """The sign-in page.

    Args:
        target: the page of this dashboard to come to afterwards.
        error: a sentence on what was wrong with the last try; escaped here.
        status: the HTTP status to answer with.
        add: True asks for the key of another project, beside those that are open.
    """
    said = f'<p class="error" id="error" role="alert">{html.escape(error)}</p>' if error else ""
    there = SESSIONS.access.provider
    where = html.escape(f"/sign-in/oidc/?next={quote(target, safe='')}", quote=True)
    body = _FORM.format(
        provider=f'<a class="provider" href="{where}">Sign in with {html.escape(urlsplit(there.issuer).netloc)}</a>'
        if there
        else "",
        next=html.escape(quote(target, safe=""), quote=True),
        purpose="Enter the API key of another project." if add else "Sign in with your API key.",
        add="&amp;add=1" if add else "",
        error=said,
        describedby='aria-describedby="error" aria-invalid="true"' if error else "",
    )
    return HTMLResponse(_PAGE.format(body=body), status_code=status, headers={"cache-control": "no-store"})


async def _posted_key(request: Request) -> str:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            return ""
    values = parse_qs(body.decode("utf-8", "replace"))
    return values.get("key", [""])[0].strip()


def _same_origin(request: Request) -> bool:
    """True unless the browser says that the form stood on another site's page, or does not want to say where (`null`)."""
    headers = request.headers
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or is_origin_of(origin, headers.get("host", ""))


def local_path(text: str | None) -> str:
    """A path inside this dashboard; anything that could lead to another host becomes the first page."""
    if (
        not text
        or not text.startswith("/")
        or text.startswith(("//", "/\\"))
        or any(ord(c) < 33 or c == "\\" for c in text)
    ):
        return "/"
    parts = urlsplit(text)
    return text if not parts.scheme and not parts.netloc else "/"


class RequireSignIn:
    """ASGI middleware: a page asked for without a session leads to the sign-in page, and comes back afterwards.

    A session that a trusted proxy opened counts only together with the proxy's word for the same person: on pages, and on
    the WebSocket over which a page's content comes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not proxy_agrees(scope):
            await send({"type": "websocket.close", "code": 4403, "reason": "sign in again"})
            return
        if scope["type"] == "http" and _is_internal(scope["path"]) and not _may_look_inside(scope):
            await PlainTextResponse("Sign in first.", 401)(scope, receive, send)
            return
        if scope["type"] != "http" or scope["method"] != "GET" or not is_page(scope):
            await self._app(scope, receive, send)
            return

        request = Request(scope)
        person: str = scope.get(PERSON, "")
        session = SESSIONS.signed_in(request.cookies.get(COOKIE))
        if session is None:
            allowed = (
                SESSIONS.is_local and not person
            )  # the page itself says where the server does not take the local key
        else:
            allowed = proxy_agrees(scope) and person in ("", session.person)
        if allowed:
            await self._app(scope, receive, send)
            return
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        if person:
            answer = await let_in(request, person, local_path(target), via="proxy")
        else:
            answer = RedirectResponse(f"/sign-in?next={quote(target, safe='')}", status_code=303)
        await answer(scope, receive, send)


def proxy_agrees(scope: Scope) -> bool:
    """False where the session was opened by a proxy and this request does not come with its word for that person."""
    session = SESSIONS.signed_in(cookies_of(scope).get(COOKIE))
    return session is None or session.via != "proxy" or scope.get(PERSON, "") == session.person


def cookies_of(scope: Scope) -> dict[str, str]:
    """The cookies of a request or a WebSocket handshake."""

    return dict(HTTPConnection(scope).cookies)


def _is_internal(path: str) -> bool:
    """True for Streamlit's own routes (metrics, uploads, files of a page); its health check is for probes."""
    inner = "/" + posixpath.normpath(path).lstrip("/")
    return inner.startswith(("/_stcore/", "/media/")) and inner not in _FOR_PROBES


def _may_look_inside(scope: Scope) -> bool:
    if SESSIONS.signed_in(cookies_of(scope).get(COOKIE)) is None:
        return SESSIONS.is_local
    return proxy_agrees(scope)


_FOR_PROBES = ("/_stcore/health", "/_stcore/script-health-check")


def is_page(scope: Scope) -> bool:
    """True where a browser asks for a page of ours, not for one of Streamlit's own files."""
    headers = dict(scope["headers"])
    wants_html = b"text/html" in headers.get(b"accept", b"")
    path = scope["path"]
    return wants_html and not path.startswith(("/_stcore", "/static", "/media", "/sign-", "/component"))
