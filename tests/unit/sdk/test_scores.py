"""Scores of answers against numbers worked out by hand, and what passes a case's checks."""

import random

import pytest

from heedloop.schema import Case, Check, Message, SchemaError, ToolCall
from heedloop.scores import (
    edit_distance,
    edit_similarity,
    exact,
    failed_checks,
    is_json,
    reference_scores,
    same_tool_calls,
    token_f1,
)
from heedloop.testing import cases

PROMPT = (Message("user", "When do you open?"),)


def case(*checks: Check, **more) -> Case:
    return Case("c1", PROMPT, checks=checks, **more)


def test_words_shared_and_texts_that_say_the_same() -> None:
    assert token_f1("We open at nine", "We close at nine") == pytest.approx(3 / 4)
    assert token_f1("a a b", "a b b b") == pytest.approx(2 * 2 / 7)
    assert token_f1("", "") == 1.0
    assert token_f1("", "a") == 0.0
    assert token_f1("See https://a.b/c-d.", "https://a.b/c-d") < 1
    assert exact(" We  open\nat NINE ", "we open at nine") == 1.0


def test_the_edit_distance_is_that_of_the_table() -> None:
    def table(a: str, b: str) -> int:
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            before, row[0] = row[0], i
            for j, y in enumerate(b, 1):
                before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
        return row[-1]

    assert edit_distance("kitten", "sitting") == 3
    assert edit_similarity("kitten", "sitting") == pytest.approx(4 / 7)
    rng = random.Random(5)
    for _ in range(300):
        a, b = ("".join(rng.choices("abé", k=rng.randint(0, 40))) for _ in range(2))
        assert edit_distance(a, b) == table(a, b), (a, b)


def test_json_and_tool_calls_are_compared_by_what_they_hold() -> None:
    assert is_json('```json\n{"a": 1}\n```')
    assert not is_json("{a: 1}")
    first = [ToolCall("find", '{"a": 1, "b": 2}', "1"), ToolCall("stop")]
    assert same_tool_calls(first, [ToolCall("stop", "{}"), ToolCall("find", '{"b":2,"a":1}', "9")])
    assert not same_tool_calls(first, [ToolCall("find", '{"a": 1, "b": 3}'), ToolCall("stop")])


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (Check("contains", "9:00"), "From 9:00 on.", "From 19:00 on."),
        (Check("token_f1", least=0.5), "we open at 9:00", "no idea"),
        (Check("nearer"), "open at 9:00", "open at 7:15 on sundays"),
        (Check("differs"), "we open at 9:00", "We open at 7:15!".replace("!", "")),
        (Check("json"), "[1]", "one"),
        (Check("judge", least=0.5), "good", "bad"),
    ],
)
def test_a_check_tells_a_good_answer_from_a_bad_one(check: Check, good: str, bad: str) -> None:
    one = case(check, reference="we open at 9:00", wrong="we open at 7:15")
    assert failed_checks(one, good, judge=lambda _, a: float(a == "good")) == []
    assert len(failed_checks(one, bad, judge=lambda _, a: float(a == "good"))) == 1


def test_scores_are_those_that_the_case_can_have() -> None:
    assert reference_scores(case(), "anything") == {}
    found = reference_scores(case(Check("differs"), reference='{"a": 1}', wrong="x"), '{"a": 1}')
    assert found == {"exact": 1, "token_f1": 1, "edit_similarity": 1, "json": 1, "checks": 1}
    called = case(reference_tool_calls=(ToolCall("stop"),))
    assert reference_scores(called, "", [ToolCall("go")]) == {"tool_calls": 0}


def test_a_file_of_cases_says_which_line_is_wrong(tmp_path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "Hello?", "reference": "Hi"}\n\n{"prompt": "x", "check": []}\n')
    with pytest.raises(SchemaError, match=r"own\.jsonl:3"):
        cases(path)
    with pytest.raises(FileNotFoundError, match="heedloop cases download nowhere"):
        cases("nowhere")
    with pytest.raises(ValueError, match="not a share"):
        cases(path, tolerance=2)
