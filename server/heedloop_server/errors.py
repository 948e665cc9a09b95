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

The answer is `{"error": {"code", "message", "field"?}}`; OTLP routes answer in their own encoding (see `routes.otlp`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from heedloop.schema import SchemaError

log = logging.getLogger("heedloop.http")

__all__ = [
    "Conflict",
    "Forbidden",
    "Invalid",
    "NotFound",
    "ServerError",
    "TimedOut",
    "TooLarge",
    "TooMany",
    "Unauthorized",
    "Unavailable",
    "Unreadable",
    "UnsupportedMedia",
    "answer_errors",
]


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


class TooMany(ServerError):
    status, code = 429, "too_many"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(max(1, round(self.retry_after_s)))}


class Unavailable(ServerError):
    status, code = 503, "unavailable"

    def __init__(self, message: str, *, retry_after_s: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(max(1, round(self.retry_after_s)))}


_HTTP_CODES = {400: "unreadable", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def answer_errors(app: FastAPI) -> None:
    """Turn every error of the tree, of the records, of the store and of FastAPI itself into the one JSON form."""
    from heedloop_server.store.connection import StoreError  # which imports this module

    @app.exception_handler(ServerError)
    async def server_error(_: Request, err: ServerError) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        return JSONResponse(err.to_json(), status_code=err.status, headers=err.headers)

    @app.exception_handler(StoreError)
    async def store_error(_: Request, err: StoreError) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        log.error(
            "a statement failed", exc_info=err
        )  # its words are the engine's, and may quote what others sent
        failed = ServerError(
            "the store refused a statement of the server; the server's log says which and why"
        )
        return JSONResponse(failed.to_json(), status_code=failed.status)

    @app.exception_handler(SchemaError)
    async def schema_error(_: Request, err: SchemaError) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        wrong = Invalid(str(err), field=err.field)
        return JSONResponse(wrong.to_json(), status_code=wrong.status)

    @app.exception_handler(RequestValidationError)
    async def wrong_parameters(_: Request, err: RequestValidationError) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        first = err.errors()[0]
        where = ".".join(str(p) for p in first["loc"][1:]) or str(first["loc"][0])
        if first["type"] == "json_invalid":
            broken = Unreadable(f"the body is no JSON: {first.get('ctx', {}).get('error', first['msg'])}")
            return JSONResponse(broken.to_json(), status_code=broken.status)
        wrong = Invalid(f"{where}: {first['msg']}", field=where)
        return JSONResponse(wrong.to_json(), status_code=wrong.status)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, err: HTTPException) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        if isinstance(err.__cause__, ServerError):  # FastAPI hides what stopped it from reading a body
            return await server_error(request, err.__cause__)
        message = str(err.detail)
        if err.status_code in (404, 405):
            message = f"there is no {request.method} {request.url.path}; docs/api.md lists the routes"
        body = {"error": {"code": _HTTP_CODES.get(err.status_code, "error"), "message": message}}
        headers = dict(err.headers or {})
        if err.status_code == 405:
            headers["Allow"] = ", ".join(sorted(_methods(request)))
        return JSONResponse(body, status_code=err.status_code, headers=headers)


def _methods(request: Request) -> set[str]:
    """What may be asked of a path: each route knows its own method only."""
    routes: Iterable[Any] = request.app.state.routes
    return {m for r in routes if r.path_regex.match(request.url.path) for m in r.methods}
