"""How errors become responses: the tree in `heedloop_server.errors`, and the store's, the records' and FastAPI's own."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from heedloop.schema import SchemaError
from heedloop_server.errors import Invalid, ServerError, Unreadable
from heedloop_server.store.connection import StoreError

__all__ = ["handle_errors"]

log = logging.getLogger("heedloop.http")

_HTTP_CODES = {400: "unreadable", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def handle_errors(app: FastAPI) -> None:
    """Turn every error of the tree, of the records, of the store and of FastAPI itself into the one JSON form."""

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
            message = f"there is no {request.method} {request.url.path}; /openapi.json lists the routes"
        body = {"error": {"code": _HTTP_CODES.get(err.status_code, "error"), "message": message}}
        headers = dict(err.headers or {})
        if err.status_code == 405:
            headers["Allow"] = ", ".join(sorted(_methods(request)))
        return JSONResponse(body, status_code=err.status_code, headers=headers)


def _methods(request: Request) -> set[str]:
    """What may be asked of a path: each route knows its own method only."""
    routes: Iterable[Any] = request.app.state.routes
    return {m for r in routes if r.path_regex.match(request.url.path) for m in r.methods}
