"""Sign-in by somebody else's word against a real server: a trusted proxy, and an OpenID provider with real signatures."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from dashboard_browser import process, settled
from playwright.sync_api import Browser, expect
from signing_proxy import signing_proxy

from heedloop.client import Client

pytest.importorskip("authlib", reason="sign-in by OIDC is an extra")
from joserfc import jwt
from joserfc.jwk import RSAKey

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HTML = {"accept": "text/html"}


@pytest.fixture(scope="module")
def keys(api: Client) -> dict[str, str]:
    """A key for each role."""
    scopes = {"viewer": ["read"], "annotator": ["annotate"], "admin": ["admin", "read", "annotate", "train"]}
    return {role: api.create_key(f"{role} of the tests", wanted).key for role, wanted in scopes.items()}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]) -> Path:
    path = tmp_path_factory.mktemp("people") / "people.toml"
    lines = [f'"{role}@example.com" = "{key}"' for role, key in keys.items()]
    path.write_text("[people]\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


# -------------------------------------------------------------------------------------------------------- proxy


@pytest.fixture(scope="module")
def proxied(server: tuple[str, str], people: Path) -> Iterator[str]:
    """A dashboard that believes a proxy on this machine."""
    options = ["--proxy-header", "X-Remote-User", "--trusted-proxy", "127.0.0.1", "--people", str(people)]
    with process("dashboard", "--url", server[0], "--port", "0", *options, says="dashboard: ") as url:
        yield url


def test_a_trusted_proxy_signs_people_in_and_their_role_decides_the_pages(
    browser: Browser, proxied: str, world
) -> None:
    shown = {}
    for role in ("viewer", "annotator"):
        with signing_proxy(proxied, f"{role}@example.com") as address:
            context = browser.new_context()
            page = context.new_page()
            page.goto(address)
            settled(page)
            expect(page.get_by_test_id("stSidebar")).to_contain_text(f'{role}@example.com" ({role})')
            shown[role] = page.get_by_test_id("stSidebarNavLink").all_inner_texts()
            context.close()
    assert any("Quality" in text for text in shown["viewer"])
    assert not any("Quality" in text or "Traces" in text for text in shown["annotator"])


def test_without_the_proxys_word_a_session_of_the_proxy_is_worth_nothing(proxied: str) -> None:
    with requests.Session() as browser:
        browser.headers.update(HTML)
        first = browser.get(f"{proxied}/traces", headers={"X-Remote-User": "viewer@example.com"})
        assert first.status_code == 200
        assert "heedloop_session" in browser.cookies
        around = browser.get(f"{proxied}/traces", allow_redirects=False)
        assert around.status_code == 303
        assert "/sign-in?" in around.headers["location"]
        other = browser.get(
            f"{proxied}/", headers={"X-Remote-User": "nobody@example.org"}, allow_redirects=False
        )
        assert other.status_code == 403
        assert "nobody gave them a key" in other.text


def test_the_header_from_elsewhere_is_ignored(server: tuple[str, str], people: Path) -> None:
    options = ["--proxy-header", "X-Remote-User", "--trusted-proxy", "10.9.8.7", "--people", str(people)]
    with process("dashboard", "--url", server[0], "--port", "0", *options, says="dashboard: ") as url:
        spoofed = {
            "X-Remote-User": "admin@example.com",
            "X-Forwarded-For": "10.9.8.7",
            "Forwarded": "for=10.9.8.7",
        }
        answer = requests.get(url, headers={**HTML, **spoofed}, allow_redirects=False, timeout=30)
        assert answer.status_code == 303
        assert "/sign-in?" in answer.headers["location"]
        assert "set-cookie" not in answer.headers


# --------------------------------------------------------------------------------------------------------- OIDC


class Provider:
    """A tiny OpenID provider on loopback: one client, codes for one use, PKCE, RS256.

    Attributes:
        email, verified: whom it says is there.
        spoil: changes the claims, or signs with another key, for tests of refusal.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
        self.stranger = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
        self.codes: dict[str, dict[str, str]] = {}
        self.email, self.verified = "viewer@example.com", True
        self.spoil: dict[str, Any] = {}

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def authorize(self, asked: dict[str, str]) -> str:
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return asked["redirect_uri"] + "?" + urlencode({"code": code, "state": asked["state"]})

    def token(self, form: dict[str, str], basic: str) -> dict[str, Any] | None:
        asked = self.codes.pop(form["code"], None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != challenge or basic != "heedloop:the-secret":
            return None
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": "heedloop", "sub": "u-1", "iat": now, "exp": now + 60, "nonce": asked["nonce"],
            "email": self.email, "email_verified": self.verified,
        }  # fmt: skip
        claims |= {k: v for k, v in self.spoil.items() if k != "stranger"}
        key = self.stranger if self.spoil.get("stranger") else self.key
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)
        return {"access_token": "a", "token_type": "Bearer", "id_token": signed}


@contextmanager
def _listening() -> Iterator[Provider]:
    made: list[Provider] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, body: Any, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            text = json.dumps(body).encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/.well-known/openid-configuration":
                self._answer(200, made[0].metadata())
            elif parts.path == "/jwks":
                self._answer(200, {"keys": [made[0].key.as_dict(private=False)]})
            else:
                asked = {k: v[0] for k, v in parse_qs(parts.query).items()}
                self._answer(302, {}, Location=made[0].authorize(asked))

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            basic = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
            token = made[0].token({k: v[0] for k, v in parse_qs(text).items()}, basic)
            self._answer(200 if token else 400, token or {"error": "invalid_grant"})

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        made.append(Provider(f"http://127.0.0.1:{listening.server_port}"))
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield made[0]
        listening.shutdown()


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with _listening() as made:
        yield made


@pytest.fixture(scope="module")
def with_provider(server: tuple[str, str], people: Path, provider: Provider) -> Iterator[str]:
    options = ["--oidc-issuer", provider.url, "--oidc-client-id", "heedloop", "--people", str(people)]
    secret = {"HEEDLOOP_OIDC_CLIENT_SECRET": "the-secret"}
    with process(
        "dashboard", "--url", server[0], "--port", "0", *options, says="dashboard: ", **secret
    ) as url:
        yield url


@pytest.fixture(autouse=True)
def honest(request: pytest.FixtureRequest) -> None:
    if "provider" in request.fixturenames:
        found: Provider = request.getfixturevalue("provider")
        found.email, found.verified, found.spoil = "viewer@example.com", True, {}


def test_a_person_signs_in_at_the_provider_and_comes_back_to_the_page(
    browser: Browser, with_provider: str, world
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{with_provider}/traces?rating=down")
    page.get_by_role("link", name=re.compile("Sign in with 127.0.0.1")).click()
    settled(page)
    assert page.url == f"{with_provider}/traces?rating=down"
    expect(page.get_by_test_id("stSidebar")).to_contain_text('viewer@example.com" (viewer)')
    cookie = next(c for c in context.cookies() if c["name"] == "heedloop_session")
    assert cookie["httpOnly"]
    context.close()


def sign_in_there(dashboard: str) -> requests.Response:
    with requests.Session() as browser:
        browser.headers.update(HTML)
        return browser.get(f"{dashboard}/sign-in/oidc/?next=/delivery", timeout=30)


@pytest.mark.parametrize(
    "spoil",
    [
        {"stranger": True},
        {"aud": "another-app"},
        {"nonce": "of another sign-in"},
        {"iss": "http://127.0.0.1:9"},
        {"exp": 1_000_000_000},
    ],
    ids=lambda s: next(iter(s)),
)
def test_a_token_that_is_not_what_it_should_be_is_refused(
    with_provider: str, provider: Provider, spoil: dict[str, Any]
) -> None:
    assert sign_in_there(with_provider).status_code == 200, "an honest one is taken"
    provider.spoil = spoil
    answer = sign_in_there(with_provider)
    assert answer.status_code == 401
    assert "did not work" in answer.text


def test_an_address_that_nobody_verified_and_a_stranger_are_refused(
    with_provider: str, provider: Provider
) -> None:
    provider.verified = False
    assert "no verified email" in sign_in_there(with_provider).text
    provider.verified, provider.email = True, "stranger@example.org"
    refused = sign_in_there(with_provider)
    assert refused.status_code == 403
    assert "nobody gave them a key" in refused.text


def test_an_answer_nobody_asked_for_is_refused(with_provider: str) -> None:
    answer = requests.get(f"{with_provider}/sign-in/oidc/callback?code=x&state=y", headers=HTML, timeout=30)
    assert answer.status_code == 401
    assert "heedloop_session" not in answer.cookies


def test_the_provider_never_leads_to_another_host(with_provider: str) -> None:
    with requests.Session() as browser:
        browser.headers.update(HTML)
        there = browser.get(f"{with_provider}/sign-in/oidc/?next=//evil.example/", timeout=30)
        assert urlsplit(there.url).netloc == urlsplit(with_provider).netloc
