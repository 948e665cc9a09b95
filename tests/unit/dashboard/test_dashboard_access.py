"""Who may vouch for a person, and which key the person then works with: pure, and the proxy's header at the door."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from heedloop_dashboard import command
from heedloop_dashboard.auth.access import Access, AccessError, KeyMap, OpenIdProvider, networks
from heedloop_dashboard.auth.oidc import person_of
from heedloop_dashboard.auth.proxy import PERSON, _judged
from heedloop_dashboard.auth.sessions import SESSIONS, role_of

KEY = "hl_000000000000_" + "x" * 43


def scope(address: str, **headers: str) -> dict:
    pairs = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    return {"type": "http", "client": (address, 40000), "scheme": "http", "headers": pairs}


@pytest.fixture
def behind_a_proxy():
    people = KeyMap({"ana@example.com": KEY})
    SESSIONS.configure(
        None, access=Access(people=people, proxy_header="X-Forwarded-User", proxies=networks(["10.0.0.0/8"]))
    )
    yield
    SESSIONS.configure(None)


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3"])
def test_a_trusted_proxy_is_believed(behind_a_proxy, address: str) -> None:
    judged = _judged(scope(address, x_forwarded_user="ana@example.com", x_forwarded_proto="https"))
    assert judged[PERSON] == "ana@example.com"
    assert judged["scheme"] == "https"


@pytest.mark.parametrize("address", ["11.1.2.3", "127.0.0.1", "::1", "", "nonsense", "::ffff:11.0.0.1"])
def test_the_same_header_from_elsewhere_counts_for_nothing(behind_a_proxy, address: str) -> None:
    judged = _judged(scope(address, x_forwarded_user="ana@example.com", x_forwarded_proto="https"))
    assert judged[PERSON] == ""
    assert judged["scheme"] == ("https" if address in ("127.0.0.1", "::1") else "http")
    assert b"x-forwarded-user" not in dict(judged["headers"]), "nothing behind the door may read it"


def test_a_header_that_stands_twice_names_nobody(behind_a_proxy) -> None:
    twice = scope("10.1.2.3", x_forwarded_user="ana@example.com")
    twice["headers"].append((b"X-Forwarded-User", b"mallory@example.com"))
    assert _judged(twice)[PERSON] == ""


def test_an_address_in_x_forwarded_for_is_not_the_connection(behind_a_proxy) -> None:
    judged = _judged(scope("11.1.2.3", x_forwarded_user="ana@example.com", x_forwarded_for="10.0.0.5"))
    assert judged[PERSON] == ""


def test_people_are_found_by_name_then_by_domain() -> None:
    people = KeyMap({"ana@example.com": "hl_ana", "*@example.com": "hl_all", "bob": "hl_bob"})
    assert people.key_of("Ana@Example.com") == "hl_ana"
    assert people.key_of("carl@example.com") == "hl_all"
    assert people.key_of("bob") == "hl_bob"
    for nobody in ("carl@example.org", "carl@evil.com@example.org", "*@example.com@x", "", "@", "alice"):
        assert people.key_of(nobody) is None, nobody


def test_the_people_file_holds_keys_or_says_where_they_are(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "bob.key").write_text(KEY + "\n")
    monkeypatch.setenv("CARLS_KEY", KEY)
    path = tmp_path / "people.toml"
    path.write_text(
        f'[people]\n"ana@example.com" = "{KEY}"\n"bob" = "file:bob.key"\n"carl" = "env:CARLS_KEY"\n'
    )
    assert set(KeyMap.read(path).keys.values()) == {KEY}


@pytest.mark.parametrize(
    "text",
    ["", "people = 3", "[people]", '[people]\n"a" = "secret"', '[people]\n"a" = "env:NOT_SET_AT_ALL"', '[people]\n"a" = "file:nowhere"', "[people", "\x00"],
)  # fmt: skip
def test_a_broken_people_file_is_refused_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "people.toml"
    path.write_text(text)
    with pytest.raises(AccessError, match=r"people\.toml"):
        KeyMap.read(path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--proxy-header", "X-User"], "needs --trusted-proxy"),
        (["--proxy-header", "X-User", "--trusted-proxy", "10.0.0.1"], "--people must say"),
        (["--trusted-proxy", "10.0.0.300"], "--trusted-proxy"),
        (["--oidc-issuer", "https://id.example"], "needs --oidc-client-id"),
        (["--oidc-issuer", "https://id.example", "--oidc-client-id", "x"], "--people must say"),
        (["--people", "/nowhere/people.toml"], "people.toml"),
    ],
)
def test_options_that_would_let_everybody_in_are_refused(capsys, arguments: list[str], said: str) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(arguments)) == 2
    assert said in capsys.readouterr().err


def test_a_provider_without_tls_is_refused() -> None:
    provider = OpenIdProvider("http://id.example", "client")
    with pytest.raises(AccessError, match="must start with https"):
        Access(people=KeyMap({"a": KEY}), provider=provider).check()


@pytest.mark.parametrize(
    ("claims", "claim", "person"),
    [
        ({"email": "ana@example.com", "email_verified": True}, "email", "ana@example.com"),
        ({"email": "ana@example.com"}, "email", None),
        ({"email": "ana@example.com", "email_verified": False}, "email", None),
        ({"email": ["ana@example.com"], "email_verified": True}, "email", None),
        ({"sub": "u-1"}, "sub", "u-1"),
        ({"sub": " "}, "sub", None),
        ({}, "sub", None),
    ],
)
def test_whom_claims_name(claims: dict, claim: str, person: str | None) -> None:
    assert person_of(claims, claim) == person


@pytest.mark.parametrize(
    ("scopes", "role"),
    [
        (("admin", "read"), "admin"),
        (("read", "annotate"), "viewer"),
        (("annotate",), "annotator"),
        (("ingest",), "none"),
    ],
)
def test_roles_are_scopes_in_one_word(scopes: tuple[str, ...], role: str) -> None:
    assert role_of(scopes) == role
