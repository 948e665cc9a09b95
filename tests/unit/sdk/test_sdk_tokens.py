"""Feedback tokens have the form of docs/api.md, and the server can check them from the hash of the key alone."""

import base64
import hashlib
import hmac
import json
import time

import pytest

import heedloop
from heedloop import testing
from heedloop._tokens import sign_token

KEY = "hl_0123456789ab_" + "k" * 43
HANDLE = "00-" + "a" * 32 + "-" + "b" * 16 + "-00"


def opened(token, key_hash):
    """What a server does that keeps sha256(key) only."""
    version, payload, mac = token.split(".")
    secret = hmac.digest(key_hash, b"heedloop feedback token v1", "sha256")
    expected = hmac.digest(secret, f"{version}.{payload}".encode(), "sha256")
    assert base64.urlsafe_b64encode(expected).rstrip(b"=").decode() == mac
    text = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return json.loads(text)


def test_the_form_is_that_of_the_contract():
    began = time.time()
    token = sign_token(KEY, HANDLE, subject="user-17", kinds=["rating"], expires_in_s=60)
    payload = opened(token, hashlib.sha256(KEY.encode()).digest())
    assert token.startswith("hlt1.") and "=" not in token
    assert payload["j"] == "user-17" and payload["k"] == ["rating"] and payload["p"] == "0123456789ab"
    assert payload["t"] == HANDLE[:-2] + "01"
    assert int(began) + 60 <= payload["e"] <= time.time() + 60
    assert len(payload["n"]) >= 16


def test_two_tokens_differ():
    assert sign_token(KEY, HANDLE, subject="u") != sign_token(KEY, HANDLE, subject="u")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject": ""}, "subject: must be 1 to 256"),
        ({"kinds": []}, "kinds: must be"),
        ({"kinds": ["stars"]}, "kinds: 'stars' is not one of"),
        ({"expires_in_s": 0}, "expires_in_s: must be above 0"),
        ({"expires_in_s": 10**9}, "up to 366 days"),
    ],
)
def test_wrong_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        sign_token(KEY, HANDLE, **{"subject": "u", **change})


def test_a_key_that_is_none():
    with pytest.raises(ValueError, match="is not a heedloop key"):
        sign_token("sk-123", HANDLE, subject="u")


def test_from_the_current_call():
    with testing.recording() as seen:

        @heedloop.trace
        def call(q):
            return heedloop.feedback_token(subject="u")

        token = call("q")
    payload = opened(token, hashlib.sha256(testing.TEST_KEY.encode()).digest())
    assert payload["t"] == seen.spans[0].handle
