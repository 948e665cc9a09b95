"""The browser component: one file, open to every page."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from fastapi import APIRouter, Request, Response

from heedloop_server.http.auth import open_route
from heedloop_server.http.openapi import responds

router = APIRouter()


@cache
def _component() -> tuple[bytes, str]:
    """The file and its entity tag."""
    body = (resources.files("heedloop_server") / "static" / "feedback.js").read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:16]}"'


@router.get("/static/feedback.js")
@open_route
@responds(None, media={"text/javascript": {"type": "string"}}, also=[304])
def get_component(request: Request) -> Response:
    """`<heedloop-feedback>`; pages keep it for an hour, and then ask whether it changed."""
    body, tag = _component()
    headers = {
        "Cache-Control": "public, max-age=3600",
        "ETag": tag,
        "Access-Control-Allow-Origin": "*",  # module scripts are fetched with CORS
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="text/javascript; charset=utf-8", headers=headers)
