"""Is it alive, is it ready, how is it doing."""

from __future__ import annotations

from typing import Any, cast

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from heedloop_server.auth import open_route
from heedloop_server.ingest.intake import Intake
from heedloop_server.store.connection import Store

router = APIRouter()


@router.get("/healthz")
@open_route
async def healthz() -> dict[str, Any]:
    """200 as long as the process answers."""
    return {"status": "ok"}


@router.get("/readyz")
@open_route
def readyz(request: Request) -> JSONResponse:
    """200 where records can be taken in and read back; 503 with the reason where not."""
    intake = cast(Intake, request.app.state.intake)
    store = cast(Store, request.app.state.store)
    if not store.ping():
        return JSONResponse({"status": "unavailable", "reason": "the store does not answer"}, 503)
    if intake.log.is_full:
        return JSONResponse({"status": "unavailable", "reason": "the request log is full"}, 503)
    return JSONResponse({"status": "ok"})
