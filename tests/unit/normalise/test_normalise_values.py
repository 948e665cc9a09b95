"""Texts that hold JSON, JSON in JSON, a Python repr or half of one."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedloop_server.normalise.values import as_count, as_name, as_number, as_text, as_texts, read_json

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ('{"a": 1}', {"a": 1}),
        (" [1, 2]", [1, 2]),
        ('"\\"CHAT_MODEL\\""', "CHAT_MODEL"),
        ('"gpt-4o-mini"', "gpt-4o-mini"),
        ("{'usage': None, 'ok': True, 'it': \"it's\"}", {"usage": None, "ok": True, "it": "it's"}),
        ("plain words", "plain words"),
        ("__REDACTED__", "__REDACTED__"),
        ("", ""),
        ("{not json", "{not json"),
        ('"half a quotation', '"half a quotation'),
        (17, 17),
        (None, None),
    ],
)
def test_read_json(sent: object, meant: object) -> None:
    assert read_json(sent) == meant


@pytest.mark.parametrize(
    ("sent", "saved"),
    [
        ('[{"role":"user","parts":[{"type":"text","content":"What is the cap', "What is the cap"),
        ('[{"role":"user","parts":[{"type":"text","content":"it\'s a \\"quo\\', "it's a \"quo"),
        ('[{"role":"user","parts":[{"type":"text","content":"caf\\u00e', "caf"),
    ],
)
def test_a_truncated_document_keeps_what_it_has(sent: str, saved: str) -> None:
    assert read_json(sent)[0]["parts"][0]["content"] == saved


def test_a_document_cut_inside_a_key_keeps_the_entries_before_it() -> None:
    assert read_json('[{"role":"user","text":"a"},{"role":"assi') == [
        {"role": "user", "text": "a"},
        {"role": "assi"},
    ]
    assert read_json('{"model": "m", "temp') == {"model": "m"}


def test_a_number_that_may_be_cut_is_left_out() -> None:
    assert read_json('{"output": 5, "input": 12') == {"output": 5}


def test_a_lone_surrogate_becomes_utf_8() -> None:
    assert read_json('["\\ud83d broken"]') == ["\ufffd broken"]
    assert read_json('["\\ud83c\\udf0d"]') == ["🌍"]


@given(JSON_VALUES)
def test_whatever_was_encoded_is_read(value: object) -> None:
    assert read_json(json.dumps([value])) == [value]


@given(JSON_VALUES, st.data())
def test_any_prefix_is_read_without_error(value: object, data: st.DataObject) -> None:
    text = json.dumps([value])
    read_json(text[: data.draw(st.integers(0, len(text)))])


@given(st.text() | st.binary() | st.integers() | st.floats() | st.none())
def test_nothing_raises(value: object) -> None:
    read_json(value)
    as_text(value), as_name(value), as_number(value), as_count(value), as_texts(value)


def test_deep_nesting_is_survived() -> None:
    assert isinstance(read_json("[" * 100_000), str | list)
    assert isinstance(read_json("[" * 500 + "]" * 500), list)
    assert isinstance(read_json("{'a':" * 5_000), str)


@pytest.mark.parametrize(
    ("sent", "number"),
    [
        ("0.2", 0.2),
        ("64", 64),
        (True, None),
        ("Infinity", None),
        (math.nan, None),
        ("", None),
        (2.0, 2.0),
        ("1e3", 1000.0),
    ],
)
def test_as_number(sent: object, number: object) -> None:
    assert as_number(sent) == number


@pytest.mark.parametrize(
    ("sent", "count"), [(-1, None), (31, 31), ("31", 31), (31.0, 31), (2**70, None), (False, None)]
)
def test_as_count(sent: object, count: object) -> None:
    assert as_count(sent) == count
