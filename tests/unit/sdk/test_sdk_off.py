"""heedloop switched off: the app's code runs unchanged, and no feedback call fails on the empty handles it gets."""

import pytest

import heedloop
from heedloop.schema import SchemaError


@pytest.fixture(autouse=True)
def _off():
    heedloop.shutdown()
    yield
    heedloop.shutdown()


@heedloop.trace
def answer(question: str) -> str:
    return question.upper()


def test_every_feedback_call_takes_the_empty_handle() -> None:
    assert answer("hi") == "HI"
    first, second = heedloop.handle(), heedloop.handle()
    assert first == ""
    heedloop.thumbs_up(first)
    heedloop.thumbs_down(first, comment="no", author="u1")
    heedloop.rate(first, 4, scale=(1, 5))
    heedloop.correct(first, "better")
    heedloop.flag(first, "tone")
    heedloop.compare([first, second], best=0)
    heedloop.comment(first, "hm")
    delivery = heedloop.delivery()
    assert delivery.feedback.sent == delivery.feedback.waiting == 0


def test_wrong_arguments_still_raise() -> None:
    with pytest.raises(SchemaError, match="value"):
        heedloop.rate("", 9, scale=(1, 5))
    with pytest.raises(SchemaError, match="traceparent"):
        heedloop.thumbs_up("not-a-handle")
