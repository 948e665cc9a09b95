"""What comes out of requests, forms and providers never raises into the request; under pytest what is dropped is seen."""

import enum
import logging
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock
from uuid import UUID

import numpy as np
import pytest

import heedloop
from heedloop import _guard, testing

HANDLE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


class Plan(enum.Enum):
    PRO = "pro"


class Odd:
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


class AllRaises:
    """A proxy outside of its request, or a record without its database session."""

    def __getattribute__(self, name):
        raise RuntimeError("working outside of request context")


class ComparisonRaises:
    __hash__ = None

    def __eq__(self, other):
        raise TypeError("elementwise")

    __bool__ = __len__ = lambda self: 1 / 0


class MappingRaises(dict):
    def items(self):
        raise RuntimeError("closed")

    __iter__ = keys = __len__ = items


def nested(depth):
    outer = inner = []
    for _ in range(depth):
        inner.append([])
        inner = inner[0]
    return outer


def odd_values():
    return [
        None,
        "",
        0,
        7,
        1.5,
        True,
        Decimal("1.50"),
        UUID(int=7),
        np.int64(3),
        np.float32(0.5),
        Plan.PRO,
        b"x",
        Path("/x"),
        datetime(2026, 1, 1),
        object(),
        Odd(),
        [],
        {},
        {"a": Odd()},
        ["a", None, 3],
        float("nan"),
        "\ud800",
        10**5000,
        "x" * 3_000_000,
        np.zeros((2, 2)),
        MagicMock(),
        AllRaises(),
        ComparisonRaises(),
        MappingRaises(a=1),
        nested(100_000),
        {(1, 2): 3, None: 4, b"x": 5},
    ]


@pytest.fixture
def production(monkeypatch):
    monkeypatch.delenv("PYTEST_VERSION")
    monkeypatch.setattr(_guard, "_last_said", {})
    monkeypatch.setattr(_guard, "_num_unsaid", {})


def set_of(name):
    def say(value):
        heedloop.set(**{name: value})

    return say


def in_context(name):
    def say(value):
        with heedloop.context(**{name: value}):
            pass

    return say


def in_a_step(value):
    with heedloop.span("step", key=value):
        pass


TEXTS = (
    "model",
    "response_model",
    "provider",
    "user_id",
    "session_id",
    "user",
    "session",
    "prompt_name",
    "response_id",
)
OTHERS = ("usage", "cost", "metadata", "prompt_variables", "parameters", "input", "output")
SAID = [
    *[set_of(n) for n in (*TEXTS, *OTHERS)],
    *[in_context(n) for n in ("user_id", "session_id", "metadata", "external_id")],
    in_a_step,
    lambda value: heedloop.thumbs_up(HANDLE, comment=value),
    lambda value: heedloop.thumbs_up(HANDLE, author=value),
    lambda value: heedloop.thumbs_up(HANDLE, metadata={"key": value}),
    lambda value: heedloop.thumbs_up(HANDLE, metadata=value),
    lambda value: heedloop.thumbs_up(HANDLE, at=value),
    lambda value: heedloop.correct(HANDLE, value),
    lambda value: heedloop.comment(HANDLE, value),
    lambda value: heedloop.flag(HANDLE, value),
]


@pytest.mark.parametrize("say", SAID)
def test_no_value_raises_in_production(production, say):
    with testing.recording() as seen:

        @heedloop.trace
        def ask(q):
            for value in odd_values():
                say(value)
            return "answer"

        assert ask("q") == "answer"
        assert [s.output_text for s in seen.answers if s.output_text] or say is SAID[15]


@pytest.mark.parametrize("name", ["tags", "finish_reasons"])
def test_lists_take_any_iterable_and_one_text_is_a_mistake_in_the_code(production, name):
    with testing.recording() as seen:

        @heedloop.trace
        def ask(q):
            for value in odd_values():
                if type(value) not in (str, bytes) or not value:
                    heedloop.set(**{name: value})
            heedloop.set(**{name: {"a"}})
            return "x"

        ask("q")
    assert ["a"] in seen.answers[0].attributes.values()
    with pytest.raises(ValueError, match="must be a list"):
        heedloop.set(**{name: "one"})


@pytest.mark.parametrize(
    "call",
    [
        lambda text: heedloop.rate(HANDLE, text, scale=(1, 5)),
        lambda text: heedloop.rate(HANDLE, 1, scale=[text, 5]),
        lambda text: heedloop.thumbs_up(text),
        lambda text: heedloop.set(tags=text),
        lambda text: heedloop.set(finish_reasons=text),
        lambda text: heedloop.context(tags=text.encode()),
        lambda text: heedloop.target(HANDLE, start=text, end=2, answer="x"),
        lambda text: heedloop.flag(HANDLE, "rude", severity=text),
        lambda text: heedloop.rate(HANDLE, text, scale=("good", "bad")),
        lambda text: heedloop.retract(HANDLE, kind=text, author="u"),
        lambda text: heedloop.compare([HANDLE, text]),
        lambda text: heedloop.set(**{text[:100]: 1}),
        lambda text: heedloop.Author(text),
    ],
)
def test_a_refusal_does_not_repeat_megabytes(production, call):
    with pytest.raises((ValueError, TypeError)) as raised:
        call("x" * 1_000_000)
    assert len(str(raised.value)) < 700


def test_values_are_converted():
    with testing.recording() as seen:

        @heedloop.trace
        def ask(q):
            heedloop.set(
                user_id=UUID(int=7),
                session_id=17,
                cost=Decimal("0.5"),
                metadata={"plan": Plan.PRO, "n": np.int64(3), "none": None},
                parameters={"temperature": np.float32(0.5), "stop": ["a", "b"]},
            )
            with heedloop.span("step", k=np.int64(5), path=Path("/x"), nothing=None):
                return "x"

        ask("q")
    found = seen.span(seen.answers[0].name).attributes
    assert found["user.id"] == "00000000-0000-0000-0000-000000000007"
    assert found["gen_ai.conversation.id"] == "17" and found["heedloop.cost"] == 0.5
    assert found["heedloop.metadata.plan"] == "pro" and found["heedloop.metadata.n"] == "3"
    assert "heedloop.metadata.none" not in found
    assert found["gen_ai.request.temperature"] == 0.5 and found["gen_ai.request.stop"] == ["a", "b"]
    step = seen.span("step").attributes
    assert step["heedloop.metadata.k"] == 5 and step["heedloop.metadata.path"] == "/x"


@pytest.mark.parametrize(
    "usage",
    [
        {"input": 12, "output": 80},
        {"prompt_tokens": 12, "completion_tokens": 80, "total_tokens": 92},
        {"input_tokens": 12, "output_tokens": 80},
        {"prompt_token_count": 12, "candidates_token_count": 80},
        {"inputTokens": 12, "outputTokens": 80},
        {"input_tokens": 10, "cache_read_input_tokens": 2, "output_tokens": 80},
        {"prompt_tokens": 12, "completion_tokens": 80, "prompt_tokens_details": {"cached_tokens": 2}},
        SimpleNamespace(prompt_tokens=12, completion_tokens=80, prompt_tokens_details=None),
        {"input": np.int64(12), "output": "80"},
        heedloop.Usage(input=12, output=80),
    ],
)
def test_usage_is_taken_as_providers_give_it(usage):
    with testing.recording() as seen:

        @heedloop.trace
        def ask(q):
            heedloop.set(usage=usage)

        ask("q")
    found = seen.answers[0].attributes
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (12, 80)


def test_feedback_takes_what_forms_give(production):
    with testing.recording() as seen:
        heedloop.thumbs_up(
            HANDLE, author=17, comment="", at="2026-11-20T09:30:00Z", metadata={"n": 3, "x": None}
        )
        heedloop.rate(HANDLE, "1.50", scale=(1, 5), author=UUID(int=7))
        heedloop.rate(HANDLE, Decimal("2"), scale=(1, 5))
        heedloop.rate(HANDLE, np.int64(3), scale=(1, 5), comment="c" * 1_000_500)
        assert heedloop.rate(HANDLE, None, scale=(1, 5)) == "" and heedloop.correct(HANDLE, "") == ""
        thumb, *rated = seen.feedback
    assert thumb.author.id == "17" and thumb.comment is None and thumb.metadata == {"n": "3"}
    assert thumb.created_at == datetime(2026, 11, 20, 9, 30, tzinfo=timezone.utc)
    assert [f.value for f in rated] == [1.5, 2, 3] and "characters left out" in rated[2].comment


@pytest.mark.parametrize(
    "call",
    [
        lambda: heedloop.rate(HANDLE, 6, scale=(1, 5)),
        lambda: heedloop.rate(HANDLE, "many", scale=(1, 5)),
        lambda: heedloop.rate(HANDLE, "c", scale=["a", "b"]),
        lambda: heedloop.flag(HANDLE, "x", severity="huge"),
        lambda: heedloop.thumbs_up("nonsense"),
        lambda: heedloop.set(modle="m"),
        lambda: heedloop.context(userid="u"),
        lambda: heedloop.target(sesion="s"),
    ],
)
def test_what_is_wrong_in_the_code_raises_in_production_too(production, call):
    with testing.recording(), pytest.raises((ValueError, TypeError)):
        call()


def test_a_wrong_name_is_answered_with_the_nearest_one():
    with pytest.raises(TypeError, match=r"context\(\) has no argument usr_id; did you mean user_id\?"):
        heedloop.context(usr_id="u")
    with pytest.raises(
        TypeError, match=r"set\(\) has no argument conversation_id; did you mean session_id\?"
    ):
        heedloop.set(conversation_id="c")


def test_the_older_names_go_on_working():
    with testing.recording() as seen:

        @heedloop.trace
        def ask(q):
            heedloop.set(session="s")

        with heedloop.context(user="u"):
            ask("q")
    found = seen.answers[0].attributes
    assert (found["user.id"], found["gen_ai.conversation.id"]) == ("u", "s")
    assert heedloop.target(session="s") == heedloop.target(session_id="s")
    assert heedloop.target(response="r") == heedloop.target(response_id="r")
    assert heedloop.target(external="e") == heedloop.target(external_id="e")


def test_a_dropped_value_is_said_once_and_raises_under_pytest(caplog, monkeypatch):
    with testing.recording(), pytest.raises(ValueError, match="model: must be text"):
        heedloop.set(model=object())
    monkeypatch.delenv("PYTEST_VERSION")
    monkeypatch.setattr(_guard, "_last_said", {})
    monkeypatch.setattr(_guard, "_num_unsaid", {})
    with testing.recording(), caplog.at_level(logging.WARNING, "heedloop"):
        for _ in range(5):
            heedloop.set(model=object())
    assert [r.message for r in caplog.records] == [
        "heedloop: model was left out: it must be text, not <object object>"
    ]


@pytest.mark.parametrize(
    ("start", "end", "unit", "expected"),
    [
        (0, 2, "code_points", (0, 2)),
        (0, 3, "utf16", (0, 2)),
        (3, 5, "utf16", (2, 4)),
        (1, 3, "utf16", (1, 2)),
    ],
)
def test_a_range_is_counted_in_code_points_or_in_utf16_units(start, end, unit, expected):
    made = heedloop.target(HANDLE, start=start, end=end, unit=unit, answer="a😀bc").range
    assert (made.start, made.end) == expected


@pytest.mark.parametrize(("start", "end"), [(0, 2), (2, 3), (0, 6)])
def test_a_range_inside_a_character_or_outside_the_answer_is_refused(start, end):
    with pytest.raises(ValueError, match=r"target\.range"):
        heedloop.target(HANDLE, start=start, end=end, unit="utf16", answer="a😀bc")


def test_a_step_is_recorded_whatever_its_keywords_hold(production):
    with testing.recording() as seen:
        for value in odd_values():
            in_a_step(value)
    assert [s.name for s in seen.spans] == ["step"] * len(odd_values())


@pytest.mark.parametrize("number", range(len(odd_values())))
def test_a_call_is_recorded_whatever_goes_in_and_comes_out(production, number):
    value = odd_values()[number]  # pytest itself would stumble over some of them as parameters
    with testing.recording() as seen:
        assert heedloop.trace(lambda q: q)(value) is value
        assert heedloop.trace(lambda q: value).with_handle("q").result is value
        heedloop.trace(lambda q, other: q)("q", other=[value])
        heedloop.trace(lambda body: "x")({"question": value})
        heedloop.trace(lambda messages: "x")([{"role": "user", "content": value}])
        assert next(heedloop.trace(iter_of)(value)) is value
        with heedloop.span("step") as step:
            step.set_attribute("value", value)
    assert len(seen.spans) == 7 and not seen.runtime.delivery().spans.dropped


def iter_of(value):
    yield value


def test_values_are_never_too_long_for_one_span():
    """One that is would be refused by the server, with the answer in it."""
    long = "x" * 3_000_000
    with testing.recording() as seen:
        heedloop.trace(lambda: heedloop.set(model=long, tags=[long], metadata={"a": long, long: "a"}))()
    (span,) = seen.spans
    assert sum(len(k) + len(str(v)) for k, v in span.attributes.items()) < 100_000
