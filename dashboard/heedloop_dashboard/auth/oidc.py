"""Sign-in through an OpenID Connect provider: authorization code with PKCE, state and nonce; the id token's signature,
issuer, audience and times are checked by authlib. The person it names works with the key that the configuration gives them.

Source: OpenID Connect Core 1.0, sections 3.1 and 3.1.3.7; RFC 7636 (PKCE).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.routing import Mount, Route

from heedloop_dashboard.auth import sign_in
from heedloop_dashboard.auth.access import AccessError, OpenIdProvider

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger("heedloop.dashboard")
STATE_S = 600


def routes(provider: OpenIdProvider) -> list[Mount]:
    """The two addresses of the dance.

    Raises:
        AccessError: authlib is not installed.
    """
    try:
        from authlib.common.errors import AuthlibBaseError
        from authlib.integrations.starlette_client import OAuth
        from httpx import HTTPError
        from joserfc.errors import JoseError
    except ImportError as err:
        raise AccessError('sign-in by OIDC needs authlib: pip install "heedloop[oidc]"') from err
    oauth: Any = OAuth()
    oauth.register(
        "provider",
        client_id=provider.client_id,
        client_secret=provider.client_secret or None,
        server_metadata_url=provider.issuer.rstrip("/") + "/.well-known/openid-configuration",
        client_kwargs={
            "scope": "openid email profile",
            "code_challenge_method": "S256",
            "token_endpoint_auth_method": "client_secret_basic" if provider.client_secret else "none",
            "timeout": 15,
        },
    )
    # what these libraries raise for a wrong state, signature, audience or time, an expired code, a refusal, no answer;
    # the last four for a provider whose answers are not what the standard says
    refusals = (AuthlibBaseError, JoseError, HTTPError, ValueError, TypeError, KeyError, RuntimeError)
    dance = _Dance(oauth.provider, provider, refusals)
    # the cookie holds state and nonce only, signed with a secret of this process, while the person is at the provider
    state = Middleware(
        SessionMiddleware,
        secret_key=secrets.token_urlsafe(32),
        session_cookie="heedloop_oidc",
        max_age=STATE_S,
        same_site="lax",
        path="/sign-in/oidc",
        https_only=provider.public_url.startswith("https://"),
    )
    inner = [Route("/", dance.leave), Route("/callback", dance.callback)]
    return [Mount("/sign-in/oidc", routes=inner, middleware=[state])]


class _Dance:
    """To the provider and back."""

    def __init__(self, client: Any, provider: OpenIdProvider, refusals: tuple[type[Exception], ...]) -> None:
        self._client = client
        self._provider = provider
        self._refusals = refusals

    async def leave(self, request: Request) -> Response:
        request.session["next"] = sign_in.local_path(request.query_params.get("next"))
        try:
            return await self._client.authorize_redirect(request, self._callback(request))
        except self._refusals:
            log.warning("the OpenID provider %s cannot be reached", self._provider.issuer, exc_info=True)
            return sign_in.form(
                "/", "The sign-in provider does not answer. Try again, or use a key.", status=503
            )

    async def callback(self, request: Request) -> Response:
        target = sign_in.local_path(request.session.pop("next", None))
        try:
            token = await self._client.authorize_access_token(request)
            claims: Mapping[str, Any] = token.get("userinfo") or {}
        except self._refusals as err:
            log.warning(
                "a sign-in through %s was refused: %s: %s", self._provider.issuer, type(err).__name__, err
            )
            return sign_in.form("/", "The sign-in did not work. Try again.", status=401)
        if not _same_issuer(claims, self._provider):
            return sign_in.form("/", "The sign-in provider is not the one configured here.", status=401)
        person = person_of(claims, self._provider.claim)
        if person is None:
            return sign_in.form(
                "/", f"The sign-in provider gave no verified {self._provider.claim}.", status=403
            )
        return await sign_in.let_in(request, person, target, via="oidc")

    def _callback(self, request: Request) -> str:
        base = self._provider.public_url.rstrip("/") or f"{request.url.scheme}://{request.url.netloc}"
        return f"{base}/sign-in/oidc/callback"


def _same_issuer(claims: Mapping[str, Any], provider: OpenIdProvider) -> bool:
    return str(claims.get("iss") or "").rstrip("/") == provider.issuer.rstrip("/")


def person_of(claims: Mapping[str, Any], claim: str) -> str | None:
    """Whom the claims name; None where the claim is missing, or an address that nobody verified."""
    value = claims.get(claim)
    if not isinstance(value, str) or not value.strip():
        return None
    if claim == "email" and claims.get("email_verified") not in (True, "true"):
        return None
    return value.strip()
