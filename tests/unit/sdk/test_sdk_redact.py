"""Redaction: what the rules find, what they leave, and that nothing slips past before the wire or the disk."""

import re
import time

import pytest

import heedloop
from heedloop import testing
from heedloop._redact import DROPPED, Redactor

redact = Redactor()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jo.doe+x@mail.example.co.uk.", "write to [email]."),
        ("card 4111 1111 1111 1111 please", "card [card] please"),
        ("5500-0055-5555-5559", "[card]"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN [iban]."),
        ("GB82WEST12345698765432", "[iban]"),
        ("call +49 30 901820-0 or (555) 123-4567", "call [phone] or [phone]"),
        ("555-123-4567", "[phone]"),
        ("key sk-proj-AbCdEfGhIjKlMnOp1234", "key [key]"),
        ("AKIAIOSFODNN7EXAMPLE", "[key]"),
        ("ghp_" + "a" * 36, "[key]"),
        ("hl_0123456789ab_" + "a" * 43, "[key]"),
        ("Authorization: Bearer abcdefghijklmnop.qrst", "Authorization: [key]"),
    ],
)
def test_found(text, expected):
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # Luhn says no
        "DE89 3704 0044 0532 0130 01",  # mod 97 says no
        "on 2026-11-21 at 10:30:15",
        "order 100200300, 1,234,567.89 EUR, 0.123456789012",
        "an @mention and a@b",
        "version 1.2.3.4.5.6.7.8.9.10",
        "task-force, disk-drive, ask-me-anything-you-want-now",
    ],
)
def test_left_alone(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        "1 " * 100_000,
        "a@" * 100_000,
        "AB12" * 50_000,
        "eyJ" + "a" * 200_000,
        "+" + "1-" * 100_000,
    ],
)
def test_no_text_makes_the_rules_slow(text):
    started = time.process_time()
    redact(text)
    assert time.process_time() - started < 2


def test_own_rules_and_hook():
    own = Redactor(["email"], extra=[(re.compile(r"ACME-\d+"), lambda _m: "[case]")], hook=str.upper)
    assert own("ACME-17 a@b.cd 4111111111111111") == "[CASE] [EMAIL] 4111111111111111"
    with pytest.raises(ValueError, match="'mail' is not one of"):
        Redactor(["mail"])


def test_a_rule_that_fails_drops_the_content_never_the_span():
    def broken(text):
        raise RuntimeError("no")

    with testing.recording(options=heedloop.Options(redact=Redactor(hook=broken))) as seen:

        @heedloop.trace(name="c")
        def call(q):
            return "secret"

        heedloop.comment(call.with_handle("secret").handle, "secret")
    assert seen.span("c").output_text == DROPPED
    assert seen.feedback[0].comment == DROPPED
    assert "secret" not in str(seen.transport.spans) + str(seen.transport.feedback)


def test_everything_that_leaves_is_clean():
    mail = "jo@example.com"
    with testing.recording(options=heedloop.Options(redact=Redactor())) as seen:

        @heedloop.trace(name="c")
        def call(messages, who):
            heedloop.set(metadata={"m": mail}, prompt_variables={"v": mail})
            raise ValueError(f"no such user {mail}")

        with pytest.raises(ValueError):
            call([{"role": "user", "content": [{"type": "text", "text": mail}]}], {"list": [mail, {mail: 1}]})

        @heedloop.trace
        def stream(q):
            yield "jo@exam"
            yield "ple.com"

        pieces, handle = stream.with_handle(mail)
        list(pieces)
        heedloop.correct(handle, mail, comment=mail, metadata={"m": mail})
        heedloop.flag(handle, "policy", comment=mail)
    assert seen.transport.spans and seen.transport.feedback
    assert mail not in str(seen.transport.spans)
    assert mail not in str(seen.transport.feedback)
