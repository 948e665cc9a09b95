"""HTTP to the server, and what its errors are called; the routes are in `heedloop.client`."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeVar, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from heedloop._http import DEFAULT_URL, clean_key, clean_url, new_session, without_secrets
from heedloop.responses.jobs import Job
from heedloop.schema import SchemaError, from_json

__all__ = [
    "DEFAULT_URL",
    "ApiError",
    "Forbidden",
    "Invalid",
    "JobFailed",
    "Json",
    "NotFound",
    "Rest",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "drop_none",
    "json_entries",
    "pages",
]

Json = dict[str, Any]
T = TypeVar("T")


class ApiError(Exception):
    """The server's response was an error, or there was none.

    Attributes:
        status: HTTP status, 0 where there was no response.
        code: the server's short name of the error.
        field: dotted path of the wrong field, where one is to blame.
        retry_after_s: seconds after which to try again, where the server said so.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str = "",
        field: str | None = None,
        retry_after_s: float | None = None,
        body: Json | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field
        self.retry_after_s = retry_after_s
        self.body = body or {}


class Unreachable(ApiError):
    """No response came: wrong address, server down, or timed out."""


class Unauthorized(ApiError):
    """401: the key is missing, unknown, expired or revoked."""


class Forbidden(ApiError):
    """403: the key lacks the scope that this route needs."""


class NotFound(ApiError):
    """404: there is no such thing in this key's project."""


class Invalid(ApiError):
    """400, 409, 413 or 422: what was sent cannot be taken; `field` says why."""


class Unavailable(ApiError):
    """429, 502, 503 or 504: try again later."""


class JobFailed(ApiError):
    """The work behind a request failed, was cancelled, or ended with its server; `job` says which."""

    def __init__(self, job: Job) -> None:
        super().__init__(
            f"the job {job.id} ({job.kind}) is {job.state}{f': {job.error}' if job.error else ''}"
        )
        self.job = job


_ERRORS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Invalid,
    413: Invalid,
    422: Invalid,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


LOST_S = 60.0
"""Seconds for which a job is waited for while its server does not answer."""
_RETRY = Retry(
    total=3,
    backoff_factor=0.2,
    status_forcelist=(429, 502, 503, 504),
    allowed_methods=frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"}),
    raise_on_status=False,
)


class Rest:
    """Requests with a key, one connection per thread.

    Args:
        url: the server's address; `HEEDLOOP_URL`, else http://127.0.0.1:8321.
        api_key: `HEEDLOOP_API_KEY` where not given.
        timeout_s: seconds to wait for a connection, and between two bytes of a response.

    Attributes:
        on_job: called with the job, again and again while a method waits for one.
    """

    on_job: Callable[[Job], None] | None = None

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, timeout_s: float = 60.0
    ) -> None:
        self.url = clean_url(url)
        self._key = clean_key(api_key) or clean_key(os.environ.get("HEEDLOOP_API_KEY"))
        if not self._key.isascii() or any(c.isspace() for c in self._key):
            raise ValueError("api_key: has characters in it that no key has")
        self._timeout_s = timeout_s
        self._local = threading.local()

    def __eq__(self, other: object) -> bool:
        """Clients are equal that ask the same server with the same key: the responses to both would be the same."""
        return isinstance(other, Rest) and (self.url, self._key) == (other.url, other._key)

    def __hash__(self) -> int:
        return hash((self.url, self._key))

    def _get(self, path: str, **params: Any) -> Json:
        response = self._request("GET", path, params=drop_none(params))
        return cast(Json, response.json())

    def _read(self, record: type[T], path: str, **params: Any) -> T:
        """A response as its class of `heedloop.responses`."""
        return self._as(record, self._request("GET", path, params=drop_none(params)))

    def _read_optional(self, record: type[T], path: str, **params: Any) -> T | None:
        """As `_read`, of a route that may have nothing to return."""
        body: object = self._get(path, **params)
        return None if body is None else _as(record, body)

    def _write(self, record: type[T], method: str, path: str, body: Any = None) -> T:
        """As `_read`, of a request with a body."""
        return self._as(record, self._send_for_response(method, path, body))

    def _send(self, method: str, path: str, body: Any) -> Json:
        response = self._send_for_response(method, path, body)
        return cast(Json, response.json()) if response.content else {}

    def _send_for_response(self, method: str, path: str, body: Any) -> requests.Response:
        data = None if body is None else json.dumps(body).encode()
        return self._request(method, path, data=data, headers={"Content-Type": "application/json"})

    def _as(self, record: type[T], response: requests.Response) -> T:
        """A response as its class; where it is a job instead, what that makes."""
        body: object = response.json() if response.content else {}
        if response.status_code == 202 and response.headers.get("Location", "").startswith("/v1/jobs/"):
            return self._made_by(record, _as(Job, body))
        return _as(record, body)

    def _made_by(self, record: type[T], job: Job) -> T:
        """What a job makes, once it is over; an interrupt cancels it.

        Raises:
            JobFailed: it did not end well.
        """
        try:
            job = self._when_over(job)
        except KeyboardInterrupt:
            with suppress(ApiError):
                self._request("DELETE", f"/v1/jobs/{job.id}")
            raise
        made = job.result
        if job.state != "done" or made is None:
            raise JobFailed(job)
        if made.path is not None:
            return self._read(record, made.path)
        return cast(T, made.filled or made.undone)

    def _when_over(self, job: Job) -> Job:
        """The job when it is over; a server that is away for less than a minute goes on with it."""
        pause_s, lost_since = 0.1, 0.0
        while not job.is_over:
            if self.on_job is not None:
                self.on_job(job)
            time.sleep(pause_s)
            pause_s = min(2.0, 1.5 * pause_s)
            try:
                job, lost_since = self._read(Job, f"/v1/jobs/{job.id}"), 0.0
            except (Unreachable, Unavailable):
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > LOST_S:
                    raise
        if self.on_job is not None:
            self.on_job(job)
        return job

    def _pieces(self, path: str, params: Mapping[str, Any]) -> Iterator[bytes]:
        with self._request("GET", path, params=params, stream=True) as response:
            try:
                yield from response.iter_content(1 << 16)
            except requests.RequestException as err:
                raise Unreachable(f"the export from {self.url} broke off: {err}") from err

    def _request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        try:
            response = self._session().request(
                method, self.url + path, timeout=self._timeout_s, allow_redirects=False, **kwargs
            )
        except requests.RequestException as err:
            reason = without_secrets(f"no answer from {self.url}: {_cause(err)}", self._key)
            raise Unreachable(f"{reason}. Is the server running?") from err
        if response.status_code >= 300:
            raise _error(response)
        return response

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = new_session(self.url, self._key)
            adapter = HTTPAdapter(max_retries=_RETRY)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            self._local.session = session
        return session


class Page(Protocol):
    """A page of a list."""

    @property
    def next_cursor(self) -> str | None: ...


P = TypeVar("P", bound=Page)


def pages(read: Callable[..., P], filters: Mapping[str, Any]) -> Iterator[P]:
    """Every page that `read` gives for the filters, fetched 500 entries at a time."""
    cursor: str | None = None
    while True:
        page = read(**{"limit": 500, **filters, "cursor": cursor})
        yield page
        cursor = page.next_cursor
        if not cursor:
            return


def _as(record: type[T], body: object) -> T:
    try:
        return from_json(record, body, strict=False)
    except SchemaError as err:
        raise ApiError(f"the server is older than this client, or not heedloop: {err}") from err


def drop_none(params: Mapping[str, Any]) -> Json:
    return {k: v for k, v in params.items() if v is not None}


def json_entries(file: bytes) -> list[Any]:
    """The entries of a JSON array, or of JSON Lines; raises ValueError where it is neither, or no UTF-8."""
    try:
        text = file.decode("utf-8-sig")
        if text.lstrip().startswith("["):
            return cast(list[Any], json.loads(text))
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as err:
        raise ValueError(f"the file is neither a JSON array nor an object a line: {str(err)[:200]}") from None


def _cause(err: requests.RequestException) -> str:
    if isinstance(err, requests.Timeout):
        return "timed out"
    if isinstance(err, requests.ConnectionError):
        return "connection refused or broken"
    return str(err)


def _error(response: requests.Response) -> ApiError:
    cls = _ERRORS.get(response.status_code, ApiError)
    try:
        body = response.json()
    except ValueError:
        body = {}
    error: Json = body.get("error", {}) if isinstance(body, dict) else {}
    message = error.get("message") or f"{response.request.method} {response.url}: HTTP {response.status_code}"
    after = response.headers.get("Retry-After", "")
    return cls(
        message,
        status=response.status_code,
        code=error.get("code", ""),
        field=error.get("field"),
        retry_after_s=float(after) if after.isdigit() else None,
        body=cast(Json, body) if isinstance(body, dict) else {},
    )
