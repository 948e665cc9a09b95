"""Every error the server answers with, in one tree::

    ServerError
    ├── Unreadable      400  the bytes are no JSON, no protobuf, no gzip
    ├── Unauthorized    401  no key, or one that is unknown, expired or revoked
    ├── Forbidden       403  the key lacks the scope
    ├── NotFound        404  no such thing in this key's project
    ├── TimedOut        408  the body stopped coming
    ├── Conflict        409  it exists already, or its state forbids it
    ├── TooLarge        413  over a limit, counted after decompression
    ├── UnsupportedMedia 415 a Content-Type or Content-Encoding that no one here reads
    ├── Invalid         422  a field holds a wrong value
    ├── TooMany         429  the key's or address's rate is spent
    └── Unavailable     503  store away, log full or disk full: come back after `retry_after_s`

The response is `{"error": {"code", "message", "field"?}}`; OTLP routes answer in their own encoding (see `routes.otlp`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class ServerError(Exception):
    """What a route raises to answer with an error; `message` says what was wrong, the value, and what to do."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(
        self, message: str, *, field: str | None = None, body: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.body = dict(body or {})

    @property
    def headers(self) -> dict[str, str]:
        return {}

    def to_json(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.field is not None:
            error["field"] = self.field
        return {"error": error, **self.body}


class Unreadable(ServerError):
    status, code = 400, "unreadable"


class Unauthorized(ServerError):
    status, code = 401, "unauthorized"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class Forbidden(ServerError):
    status, code = 403, "forbidden"


class NotFound(ServerError):
    status, code = 404, "not_found"


class TimedOut(ServerError):
    status, code = 408, "timed_out"

    @property
    def headers(self) -> dict[str, str]:
        return {"Connection": "close"}


class Conflict(ServerError):
    status, code = 409, "conflict"


class TooLarge(ServerError):
    status, code = 413, "too_large"


class UnsupportedMedia(ServerError):
    status, code = 415, "unsupported_media"


class Invalid(ServerError):
    status, code = 422, "invalid"


class _Later(ServerError):
    """What may be sent again after `retry_after_s` seconds."""

    retry_s: ClassVar[float] = 1.0

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = self.retry_s if retry_after_s is None else retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(max(1, round(self.retry_after_s)))}


class TooMany(_Later):
    status, code = 429, "too_many"


class Unavailable(_Later):
    status, code, retry_s = 503, "unavailable", 5.0
