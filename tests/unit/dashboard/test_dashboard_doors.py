"""The doors of the dashboard: headers on every answer, sign-in, links that may not lead elsewhere, the command."""

import argparse

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from heedloop_dashboard import command
from heedloop_dashboard.auth import sign_in
from heedloop_dashboard.auth.sessions import COOKIE, SESSIONS
from heedloop_dashboard.security import POLICY, SecurityHeaders


@pytest.fixture
def browser():
    """A browser on our routes and our middleware, with a page behind them; the server it reads from is away."""
    page = Route("/{path:path}", lambda _: PlainTextResponse("the page"))
    app = Starlette(
        routes=[*sign_in.routes(), page],
        middleware=[Middleware(SecurityHeaders), Middleware(sign_in.RequireSignIn)],
    )
    SESSIONS.configure("http://127.0.0.1:9")
    with TestClient(app, base_url="http://dash.example", follow_redirects=False) as client:
        client.headers["accept"] = "text/html"
        yield client
    SESSIONS.configure(None)


def test_the_policy_lets_nothing_in_from_another_host() -> None:
    allowed = {word for part in POLICY.split("; ") for word in part.split()[1:]}
    assert not any(word.startswith("http") or word == "*" for word in allowed)
    assert "'unsafe-eval'" not in allowed
    script = next(p for p in POLICY.split("; ") if p.startswith("script-src"))
    assert "'unsafe-inline'" not in script


@pytest.mark.parametrize("path", ["/sign-in", "/traces", "/static/x.js", "/nothing"])
def test_every_answer_carries_the_policy(browser, path: str) -> None:
    answer = browser.get(path)
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"


def test_a_page_without_a_session_leads_to_sign_in_and_back(browser) -> None:
    answer = browser.get("/traces?rating=down")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=%2Ftraces%3Frating%3Ddown"


def test_looking_at_a_sign_in_link_uses_nothing_up_and_sends_its_address_nowhere(browser) -> None:
    answer = browser.get("/sign-in/link?token=hl_0_%22%3E%3Cscript%3E")
    assert answer.status_code == 200, "the server, which is away, was not asked"
    assert (
        answer.headers["referrer-policy"] == "same-origin" and answer.headers["cache-control"] == "no-store"
    )
    assert "<script>" not in answer.text and COOKIE not in answer.cookies
    foreign = browser.post("/sign-in/link?token=x", headers={"origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert browser.post("/sign-in/link?token=x").status_code == 502


def test_a_server_that_is_away_is_said_so(browser) -> None:
    answer = browser.post("/sign-in", data={"key": "hl_000000000000_x"})
    assert answer.status_code == 503
    assert "no answer from http://127.0.0.1:9" in answer.text
    assert COOKIE not in answer.cookies


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://dash.example:81"},
        {"origin": "http://["},
        {"origin": "http://dash.example@evil.example"},
    ],
)
def test_a_form_on_another_site_is_refused(browser, path: str, headers: dict[str, str]) -> None:
    answer = browser.post(path, data={"key": "x"}, headers=headers)
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "http://dash.example", "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}],
)
def test_our_own_form_is_taken(browser, headers: dict[str, str]) -> None:
    assert browser.post("/sign-out", headers=headers).status_code == 303


@pytest.mark.parametrize(
    "path",
    [
        "/_stcore/metrics",
        "/_stcore/upload_file/a/b",
        "/media/x.csv",
        "/x/../_stcore/metrics",
        "//_stcore/metrics",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_streamlits_own_routes_need_a_session(browser, path: str, method: str) -> None:
    assert browser.request(method, f"http://dash.example{path}").status_code in (401, 404)
    assert browser.get("/_stcore/health").text == "the page"


@pytest.mark.parametrize("key", ["", "   ", "x" * 10_000])
def test_no_key_and_a_huge_one_are_asked_for_again(browser, key: str) -> None:
    assert browser.post("/sign-in", data={"key": key}).status_code == 422


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "",
        None,
        "evil",
    ],
)
def test_sign_in_never_leads_to_another_host(target) -> None:
    assert sign_in.local_path(target) == "/"


def test_sign_in_leads_back_to_the_page_with_its_filters() -> None:
    assert sign_in.local_path("/traces?rating=down&model=a%20b") == "/traces?rating=down&model=a%20b"


def test_the_next_page_cannot_break_out_of_the_form(browser) -> None:
    answer = browser.get("/sign-in", params={"next": '/"><script>alert(1)</script>'})
    assert "<script>" not in answer.text


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("example.com", False),
    ],
)
def test_only_this_machine_counts_as_local(address: str, loopback: bool) -> None:
    assert command.is_loopback(address) is loopback


def test_the_command_refuses_an_address_that_is_none(capsys) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(["--url", "localhost:8321"])) == 2
    assert "must start with http" in capsys.readouterr().err
