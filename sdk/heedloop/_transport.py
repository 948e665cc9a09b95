"""How records reach the server: one request, and what its response means."""

from __future__ import annotations

import email.utils
import gzip
import json
import threading
import time
from typing import Any, Literal, NamedTuple, Protocol

from heedloop._http import new_session, without_secrets

Verdict = Literal["accepted", "refused", "too_large", "later"]
"""What to do next: nothing; give up on this body; send smaller ones; try again later."""

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 8.0
MAX_RETRY_AFTER_S = 300.0
_GZIP_FROM_BYTES = 2048


class Response(NamedTuple):
    """What came of one request.

    Attributes:
        reason: one sentence for `delivery().last_error`; empty where accepted.
        retry_after_s: what the server asked for, or None.
        body: the parsed JSON of the response, or None.
        etag: names the version of what was asked for; empty where the server gave none.
    """

    verdict: Verdict
    status: int = 0
    reason: str = ""
    retry_after_s: float | None = None
    body: Any = None
    etag: str = ""


class Transport(Protocol):
    """The wire. `HttpTransport` is the real one; `heedloop.testing` has one that keeps what is sent in memory."""

    def post(self, path: str, body: bytes, *, content_type: str, timeout_s: float | None = None) -> Response:
        """Send one body; never raises for what the network or the server does. `timeout_s` in place of its own timeouts."""
        ...

    def get(self, path: str, *, etag: str = "") -> Response:
        """Ask for one thing, or whether it is still the version `etag` (then the status is 304); never raises for the network or the server."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class HttpTransport:
    """POSTs to a heedloop server with `requests`, set up by `heedloop._http`.

    One session per thread, because sessions are not safe to share. `requests` is imported here and not with heedloop,
    because it is not free; and not on the first request, because an import on another thread stalls the host's.
    """

    def __init__(self, url: str, api_key: str, *, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        import requests

        self._requests = requests
        self._url = url.rstrip("/")
        self._key = api_key
        self._headers = {"User-Agent": "heedloop-sdk"}
        self._timeout = (min(CONNECT_TIMEOUT_S, read_timeout_s), read_timeout_s)
        self._local = threading.local()

    def post(self, path: str, body: bytes, *, content_type: str, timeout_s: float | None = None) -> Response:
        """See `Transport.post`. Spans of 2 KiB and more travel gzip-compressed; the JSON routes take plain bodies only."""
        headers = {**self._headers, "Content-Type": content_type}
        if len(body) >= _GZIP_FROM_BYTES and content_type == "application/x-protobuf":
            body = gzip.compress(body, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        return self._send("POST", path, body, headers, timeout_s)

    def get(self, path: str, *, etag: str = "") -> Response:
        """See `Transport.get`."""
        headers = {**self._headers, "If-None-Match": etag} if etag else self._headers
        return self._send("GET", path, None, headers)

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        timeout_s: float | None = None,
    ) -> Response:
        try:
            response = self._session().request(
                method,
                self._url + path,
                data=body,
                headers=headers,
                timeout=timeout_s or self._timeout,
                allow_redirects=False,
            )
        except (self._requests.RequestException, OSError, ValueError) as error:
            return Response("later", reason=without_secrets(f"{self._url}: {_short(error)}", self._key))
        outcome = _judge(response)
        return (
            outcome._replace(reason=without_secrets(outcome.reason, self._key)) if outcome.reason else outcome
        )

    def close(self) -> None:
        """Close this thread's session."""
        session = getattr(self._local, "session", None)
        if session is not None:
            session.close()
            self._local.session = None

    def _session(self) -> Any:
        session = getattr(self._local, "session", None)
        if session is None:
            session = new_session(self._url, self._key)
            self._local.session = session
        return session


def _short(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= 200 else text[:197] + "..."


def _judge(response: Any) -> Response:
    status: int = response.status_code
    body = _json(response)
    if 200 <= status < 300:
        if response.headers.get("Content-Type", "").startswith("text/html"):  # a proxy's or portal's page
            return Response(
                "later", status, f"{response.url} answered with a web page; is it heedloop's address?"
            )
        return Response("accepted", status, body=body, etag=response.headers.get("ETag", ""))
    if status == 304:
        return Response("accepted", status)
    reason = f"HTTP {status} from {response.url}: {_message(body) or response.reason}"
    if status == 413:
        return Response("too_large", status, reason, body=body)
    # A wrong key, address or method is somebody's mistake that can be mended while the records wait.
    if status in (400, 409, 415, 422):
        return Response("refused", status, reason, body=body)
    return Response("later", status, reason, _retry_after(response.headers.get("Retry-After")), body)


def _json(response: Any) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _message(body: Any) -> str:
    try:
        return str(body["error"]["message"])
    except (KeyError, TypeError):
        return ""


def _retry_after(text: str | None) -> float | None:
    if not text:
        return None
    try:
        seconds = (
            float(text)
            if text[:1].isdigit()
            else email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        )
    except ValueError:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


EVALUATED = "HEEDLOOP_EVALUATED"
"""Set in an app while `heedloop evaluate` asks it: it may read from the server, and nothing that it records counts."""


class ReadingTransport(HttpTransport):
    """Asks the server as ever, and lets go of what would be recorded: spans, feedback and delivery counts."""

    def post(self, path: str, body: bytes, *, content_type: str, **more: Any) -> Response:
        """See `Transport.post`."""
        if path == "/v1/feedback":
            results = [{"status": "stored"} for _ in json.loads(body)["feedback"]]
            return Response("accepted", 200, body={"results": results})
        if path in ("/v1/traces", "/v1/delivery"):
            return Response("accepted", 200)
        return super().post(path, body, content_type=content_type, **more)
