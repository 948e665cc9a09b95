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
from heedloop_server.http.request_ids import REQUEST_ID
from heedloop_server.store.connection import StoreError

log = logging.getLogger("heedloop.http")

_HTTP_CODES = {400: "unreadable", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def handle_errors(app: FastAPI) -> None:
    """Turn every error of the tree, of the records, of the store and of FastAPI itself into the one JSON form."""

    @app.exception_handler(ServerError)
    async def server_error(_: Request, err: ServerError) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        return error_response(err)

    @app.exception_handler(StoreError)
    async def store_error(_: Request, err: StoreError) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        log.error(
            "a statement failed", exc_info=err
        )  # its words are the engine's, and may quote what others sent
        failed = ServerError(
            "the store refused a statement of the server; the server's log says which and why"
        )
        return error_response(failed)

    @app.exception_handler(SchemaError)
    async def schema_error(_: Request, err: SchemaError) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        wrong = Invalid(str(err), field=err.field)
        return error_response(wrong)

    @app.exception_handler(RequestValidationError)
    async def wrong_parameters(_: Request, err: RequestValidationError) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        first = err.errors()[0]
        where = ".".join(str(p) for p in first["loc"][1:]) or str(first["loc"][0])
        if first["type"] == "json_invalid":
            broken = Unreadable(f"the body is no JSON: {first.get('ctx', {}).get('error', first['msg'])}")
            return error_response(broken)
        wrong = Invalid(f"{where}: {first['msg']}", field=where)
        return error_response(wrong)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, err: HTTPException) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        if isinstance(err.__cause__, ServerError):  # FastAPI hides what stopped it from reading a body
            return await server_error(request, err.__cause__)
        message = str(err.detail)
        if err.status_code in (404, 405):
            message = f"there is no {request.method} {request.url.path}; /openapi.json lists the routes"
        body = _with_request_id({"code": _HTTP_CODES.get(err.status_code, "error"), "message": message})
        headers = dict(err.headers or {})
        if err.status_code == 405:
            headers["Allow"] = ", ".join(sorted(_methods(request)))
        return JSONResponse(body, status_code=err.status_code, headers=headers)

    @app.exception_handler(Exception)
    async def unforeseen_error(_: Request, err: Exception) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        response = error_response(ServerError("an error of the server; its log has it under this request_id"))
        response.headers["x-request-id"] = REQUEST_ID.get()  # this handler is outside of all middleware
        log.error("%s is no error that a route may raise", type(err).__name__)  # uvicorn writes the traceback
        return response


def error_response(err: ServerError) -> JSONResponse:
    """An error of the tree as an answer."""
    body = err.to_json()
    return JSONResponse({**body, **_with_request_id(body["error"])}, err.status, err.headers)


def _with_request_id(error: dict[str, Any]) -> dict[str, Any]:
    return {"error": {**error, "request_id": REQUEST_ID.get()}}


def _methods(request: Request) -> set[str]:
    """What may be asked of a path: each route knows its own method only; `/alerts/preview` is no alert's id."""
    routes: Iterable[Any] = request.app.state.routes
    matching = [r for r in routes if r.path_regex.match(request.url.path)]
    least = min((r.path.count("{") for r in matching), default=0)
    return {m for r in matching if r.path.count("{") == least for m in r.methods}
