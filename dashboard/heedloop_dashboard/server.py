"""The dashboard as an ASGI application: Streamlit's, behind our headers and our sign-in."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware

from heedloop_dashboard.auth import oidc
from heedloop_dashboard.auth.proxy import TrustedProxy
from heedloop_dashboard.auth.sessions import SESSIONS
from heedloop_dashboard.auth.sign_in import RequireSignIn, routes
from heedloop_dashboard.not_found import NotFoundPage
from heedloop_dashboard.pages import PATHS
from heedloop_dashboard.review import api as review_api
from heedloop_dashboard.security import SecurityHeaders
from heedloop_dashboard.theme import streamlit_options

log = logging.getLogger("heedloop.dashboard")

SCRIPT = Path(__file__).parent / "app.py"


def build() -> Any:
    """The application; `SESSIONS.configure` must have named the server."""
    provider = SESSIONS.access.provider
    return st.App(
        SCRIPT,
        routes=[*(oidc.routes(provider) if provider else []), *routes(), *review_api.routes()],
        middleware=[
            Middleware(TrustedProxy),
            Middleware(SecurityHeaders),
            Middleware(RequireSignIn),
            Middleware(NotFoundPage, paths=PATHS),
        ],
        on_script_error=_page_failed,
    )


def _page_failed(error: Exception) -> bool:
    """Log an error of our own pages and say so in place; returns True: Streamlit then shows nothing of its own."""
    log.error("a page failed", exc_info=error)
    with st.container(border=True, key="page_failed"):
        st.text("This page failed. The dashboard's log says why; the other pages are not affected.")
    return True


def options(*, address: str, port: int, allowed_hosts: list[str] | None = None) -> dict[str, Any]:
    """Streamlit's settings: our theme, no telemetry, no watcher, no errors with code on pages."""
    chosen: dict[str, Any] = {
        "server.address": address,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.showEmailPrompt": False,
        "server.enableStaticServing": False,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "viewer",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "runner.magicEnabled": False,
        **streamlit_options(),
    }
    if allowed_hosts:
        chosen["server.allowedHosts"] = allowed_hosts
    return chosen
