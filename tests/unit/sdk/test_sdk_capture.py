"""Capture survives whatever a host passes, within its budget, and says what it cut."""

import dataclasses
import enum
import json

import pytest

from heedloop._capture import Budget, render_answer, render_json, render_prompt, snapshot


def taken(value, chars=10_000):
    budget = Budget(chars)
    return snapshot(value, budget), budget


def test_plain_values_stay_as_they_are():
    value = {"a": [1, 2.5, None, True, "x"], "b": {"c": (1, 2)}}
    assert taken(value)[0] == {"a": [1, 2.5, None, True, "x"], "b": {"c": [1, 2]}}


def test_a_later_change_does_not_reach_the_snapshot():
    value = {"messages": ["one"]}
    kept, _ = taken(value)
    value["messages"].append("two")
    assert kept == {"messages": ["one"]}


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    label: str


class Broken:
    def __repr__(self):
        raise RuntimeError("no")


class Silent:
    pass


class Array:
    shape = (3, 4)

    def __repr__(self):
        raise AssertionError("an array's repr costs milliseconds")


class BrokenMapping(dict):
    def __iter__(self):
        raise KeyError("gone")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, "red"),
        (Point(1, "a"), {"x": 1, "label": "a"}),
        (Broken(), "<Broken: RuntimeError in its __repr__>"),
        (b"abc", "<3 bytes>"),
        (float("nan"), "nan"),
        (2**5000, "<integer of 5001 bits>"),
        (True, True),
        ({1: 2}, {"1": 2}),
        (BrokenMapping(a=1), "<BrokenMapping: KeyError while it was read>"),
    ],
)
def test_other_values_become_short_honest_texts(value, expected):
    assert taken(value)[0] == expected


def test_objects_without_words_give_their_type_and_arrays_their_shape():
    assert taken(Silent())[0].endswith(".Silent>")
    assert taken(Array())[0].endswith("Array of shape (3, 4)>")


def test_cycles_and_deep_nesting_end():
    cyclic = []
    cyclic.append(cyclic)
    kept, budget = taken(cyclic)
    assert budget.cut and "truncated" in json.dumps(kept)
    wide = [cyclic] * 50
    for _ in range(20):
        wide = [wide] * 50
    kept, budget = taken(wide)
    assert budget.cut and len(json.dumps(kept)) < 500_000


def test_a_hundred_megabytes_are_cut_and_say_so():
    kept, budget = taken({"a": "x" * 100_000_000, "b": "later"}, chars=1000)
    assert budget.cut and kept["b"] == "later"
    half = "x" * 500
    assert kept["a"] == f"{half}… [truncated: 99,999,000 of 100,000,000 characters left out] …{half}"


def test_text_that_is_no_utf8_can_be_written():
    assert json.loads(render_json(taken({"a": "\ud800"})[0], None)) == {"a": "\ud800"}


def test_a_text_is_one_user_message_and_chunks_are_one_answer():
    assert json.loads(render_prompt("hi", None)) == [
        {"role": "user", "parts": [{"type": "text", "content": "hi"}]}
    ]
    assert json.loads(render_answer(["a", "b"], None)) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "ab"}]}
    ]


def test_chat_messages_become_the_conventions_parts():
    messages = [
        {"role": "system", "content": "be kind"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": "u"}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ]
    assert json.loads(render_prompt(messages, None)) == [
        {"role": "system", "parts": [{"type": "text", "content": "be kind"}]},
        {
            "role": "user",
            "parts": [{"type": "text", "content": "look"}, {"type": "image_url", "image_url": "u"}],
        },
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "f", "arguments": '{"a":1}'}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}]},
    ]


def test_every_text_is_cleaned_even_a_key():
    assert json.loads(render_json({"a@b.c": ["x@y.z", 1]}, lambda t: t.replace("@", "#"))) == {
        "a#b.c": ["x#y.z", 1]
    }
