"""Answers that call tools: which are equal, what rows hold of them, and which answer of a trace a judgement means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from curate_cases import START, call, correction, ranking, target, thumb

from heedloop.schema import Call, Message, Target, ToolCall, ToolDefinition, answer_messages
from heedloop_server.curate import Judgement, Rules, curate

ASK = (Message("user", "Where is my order 7?"),)
ORDER = ToolDefinition("find_order", "Looks an order up", '{"type":"object"}')
SEARCH = ToolDefinition("web_search", type="web_search_20250305")


def asked(n: int, *calls: ToolCall, text: str = "", **fields: Any) -> Call:
    out = Message("assistant", text, tool_calls=calls)
    return call(n, messages=fields.pop("messages", ASK), output_messages=(out,), **fields)


def find(order: str = '{"id": 7}', id: str | None = "c1", name: str = "find_order") -> ToolCall:
    return ToolCall(name, order, id)


def on_trace(judgement: Judgement) -> Judgement:
    f = judgement.feedback
    return replace(judgement, feedback=replace(f, target=Target(trace_id=f.target.trace_id)))


def in_trace(n: int, c: Call, **fields: Any) -> Call:
    return replace(c, trace_id=f"{n:032x}", **fields)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((find(),), (find(name="delete_order"),), False),
        ((find(),), (find('{"id": 8}'),), False),
        ((find(),), (find(), find('{"id": 8}', "c2")), False),
        ((find(), find('{"id": 8}')), (find('{"id": 8}'), find()), False),
        ((find('{"id": 7, "mail": true}'),), (find('{"mail":true,"id":7}', "other"),), True),
        ((find("not json"),), (find("not json", None),), True),
        ((find(),), (), False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("text", ["", "One moment."])
def test_equal_answers_are_equal_in_text_and_tool_calls(one, other, same, text):
    calls = [asked(1, *one, text=text), asked(2, *other, text=text)]
    made = curate(calls, [thumb(1, True, "a"), thumb(2, False, "b")])
    pairs = [r for r in made.rows["comparisons"] if r.source == "thumbs"]
    if same:
        assert pairs == []
    else:
        (row,) = pairs
        assert row.chosen != row.rejected
        assert answer_messages(row.chosen, row.chosen_messages) == calls[0].output_messages
        assert answer_messages(row.rejected, row.rejected_messages)[0].tool_calls == other


def test_every_form_carries_the_tool_calls_and_the_tools_that_were_offered():
    calls = [
        asked(1, find(), find('{"id": 8}', "c2"), tool_definitions=(ORDER, SEARCH)),
        call(2, messages=ASK, answer="I do not know.", tool_definitions=(ORDER, SEARCH)),
    ]
    made = curate(calls, [thumb(1, True, "a"), ranking([1, 2], [1, 2])])
    whole = calls[0].output_messages
    assert made.rows["demonstrations"][0].completion_messages == whole
    assert made.rows["unpaired"][0].completion_messages == whole
    assert made.rows["rated"][0].completion_messages == whole
    (pair,) = made.rows["comparisons"]
    assert (pair.chosen_messages, pair.rejected_messages) == (whole, ())
    assert pair.rejected == "I do not know."
    assert all(r.tools == (ORDER,) for rows in made.rows.values() for r in rows), (
        "a provider's own is no function"
    )


def test_a_turn_in_parts_is_one_message_and_results_stay_between():
    out = (
        Message("assistant", "", tool_calls=(find(),)),
        Message("assistant", "", tool_calls=(find('{"id": 8}', "c2"),)),
        Message("tool", "on its way", tool_call_id="c1"),
        Message("tool", "lost", tool_call_id="c2"),
        Message("assistant", "One is on its way, one is lost."),
    )
    made = curate([call(1, messages=ASK, output_messages=out)], [thumb(1, True)])
    (row,) = made.rows["demonstrations"]
    assert [(m.role, len(m.tool_calls)) for m in row.completion_messages] == [
        ("assistant", 2),
        ("tool", 0),
        ("tool", 0),
        ("assistant", 0),
    ]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"output_messages": (Message("assistant", "a"), Message("assistant", "b")), "finish_reasons": ("stop", "stop")}, "several_choices"),
        ({"output_messages": (Message("assistant", "a"), Message("user", "b"))}, "turns_of_others"),
        ({"output_messages": (Message("assistant", "", tool_calls=(find(),)), Message("tool", "x", tool_call_id="c1"))}, "turns_of_others"),
        ({"output_messages": (Message("assistant", tool_calls=(ToolCall("web_search"),)),), "tool_definitions": (SEARCH,)}, "tool_of_provider"),
        ({"output_messages": (Message("assistant", "a", media=("web_search_call",)),)}, "tool_of_provider"),
        ({"output_messages": (Message("assistant", "", reasoning="Hm"),)}, "no_completion"),
        ({"messages": (Message("user", "What is this?", media=("image/png",)),)}, "has_media"),
        ({"messages": (Message("user", "Hi", media=("audio/wav",)), Message("assistant", "Hi"), Message("user", "More"))}, "has_media"),
        ({"output_messages": (Message("assistant", "Here", media=("file",)),)}, "has_media"),
    ],
)  # fmt: skip
def test_what_a_row_cannot_hold_is_left_out_and_counted(fields, reason):
    made = curate([call(1, **fields)], [thumb(1, True), correction(1, "Better.")])
    assert not any(made.rows.values())
    assert made.dropped == {f"answer_{reason}": 1, reason: 2}


def agent(root: Call | None, *, is_answer: bool = True) -> list[Call]:
    """A trace of two model calls, the first of which asks for a tool; and another answer to the same question."""
    seen = (
        *ASK,
        Message("assistant", "", tool_calls=(find(),)),
        Message("tool", "on its way", tool_call_id="c1"),
    )
    inside = [
        in_trace(9, asked(1, find(), text="Let me look.", is_answer=is_answer)),
        in_trace(9, call(2, messages=seen, answer="It is on its way.", is_answer=is_answer)),
    ]
    return [*([root] if root else []), *inside]


@pytest.mark.parametrize(
    "root",
    [
        None,
        in_trace(
            9, call(5, messages=(), output_messages=(), operation="", is_answer=False, start_time=START)
        ),
        in_trace(9, call(5, messages=ASK, answer="It is on its way.", start_time=START, duration_ns=10**13)),
    ],
    ids=["calls alone", "an agent without output", "a decorated answer"],
)
def test_feedback_on_a_trace_is_about_the_answer_that_its_user_saw(root):
    calls = agent(root, is_answer=root is None or not root.is_answer)
    made = curate(calls, [on_trace(thumb(9, True)), on_trace(correction(9, "It comes tomorrow."))])
    (row,) = made.rows["unpaired"]
    assert row.completion == "It is on its way."
    assert [m.role for m in row.prompt] == ["user", "assistant", "tool"], (
        "what the tool found is in the prompt"
    )
    (pair,) = made.rows["comparisons"]
    assert (pair.chosen, pair.rejected) == ("It comes tomorrow.", "It is on its way.")


def test_feedback_on_the_span_around_a_trace_is_about_its_answer_and_on_an_inner_span_stays_there():
    root = in_trace(
        9, call(5, messages=(), output_messages=(), operation="", is_answer=False, start_time=START)
    )
    calls = agent(root)
    around, inner = thumb(5, True, "a"), thumb(1, False, "b")
    around = replace(
        around, feedback=replace(around.feedback, target=Target(trace_id=root.trace_id, span_id=root.span_id))
    )
    inner = replace(
        inner,
        feedback=replace(inner.feedback, target=Target(trace_id=root.trace_id, span_id=target(1).span_id)),
    )
    made = curate(calls, [around, inner])
    assert {(r.completion.splitlines()[0], r.label) for r in made.rows["unpaired"]} == {
        ("It is on its way.", True),
        ("Let me look.", False),
    }


def test_a_filter_does_not_change_which_answer_a_trace_means():
    first, last = agent(None)
    made = curate([first], [on_trace(thumb(9, True))], relatives=[last])
    assert made.rows["unpaired"] == []
    assert made.dropped == {"outside_the_filters": 1}


def test_a_correction_of_a_text_beside_a_tool_call_keeps_the_call():
    made = curate([asked(1, find(), text="One moment.")], [correction(1, "I will look it up.")])
    (row,) = made.rows["demonstrations"]
    assert row.completion_messages == (Message("assistant", "I will look it up.", tool_calls=(find(),)),)


@pytest.mark.parametrize(
    ("text", "written", "reason"),
    [
        ("", 'find_order({"id": 7})', "correction_equals_answer"),
        ("One moment.", 'One moment.\nfind_order({"id": 7})', "correction_equals_answer"),
        ("One moment.", "One moment.", "correction_equals_answer"),
        ("", 'find_order({"id": 8})', "correction_writes_tool_call"),
        ("One moment.", 'One moment.\nfind_order({"id": 8})', "correction_writes_tool_call"),
        ("One moment.", 'return_order({"id": 7})', "correction_writes_tool_call"),
        ("One moment.", "I call find_order({}) now.", None),
    ],
)
def test_a_tool_call_written_as_text_is_not_to_be_imitated(text, written, reason):
    offered = (ORDER, ToolDefinition("return_order", "", "{}"))
    made = curate([asked(1, find(), text=text, tool_definitions=offered)], [correction(1, written)])
    assert made.dropped == ({reason: 1} if reason else {})
    assert len(made.rows["demonstrations"]) == len(made.rows["comparisons"]) == (reason is None)


def test_a_correction_of_a_tool_call_alone_is_a_text_over_it():
    made = curate([asked(1, find())], [correction(1, "Which order do you mean?")])
    (row,) = made.rows["comparisons"]
    assert (row.chosen, row.chosen_messages) == ("Which order do you mean?", ())
    assert row.rejected_messages[0].tool_calls == (find(),)


# ------------------------------------------------------------------------------------------------------ contexts


def instructed(n: int, text: str, answer: str, **fields: Any) -> Call:
    return call(
        n, messages=(Message("system", text), Message("user", "What is my balance?")), answer=answer, **fields
    )


LONG = "You are the assistant of a bank. Be polite, be brief, and never give advice on investments. " * 20


@pytest.mark.parametrize(
    ("one", "other", "rule", "paired"),
    [
        ("Customer Alice, balance 5000", "Customer Bob, balance 12", "same", False),
        (LONG + "Customer: Alice, 5000", LONG + "Customer: Bob, 12", "same", False),
        (LONG + "Customer: Alice, 5000", LONG + "Customer: Bob, 12", "similar", False),
        (LONG + "Born 1980-02-01.", LONG + "Born 1975-03-04.", "same", False),
        (LONG + "Version A", LONG + "Version B", "any", True),
        ("Be  brief.", "Be brief.\n", "same", True),
        ("It is Sunday, March 1, 2026, 10:31. Be brief.", "It is March 2, 2026. Be brief.", "same", True),
        ("Now: 2026-03-01T10:31:00Z", "Now: 2026-03-01T11:02:59.123Z", "same", True),
        ("今日は2026年3月1日です。", "今日は2026年3月2日です。", "same", True),
    ],
)  # fmt: skip
def test_answers_are_compared_only_where_the_model_saw_the_same(one, other, rule, paired):
    calls = [instructed(1, one, "good", user_id="alice"), instructed(2, other, "bad", user_id="bob")]
    made = curate(
        calls, [thumb(1, True, "alice"), thumb(2, False, "bob"), ranking([1, 2], [1, 2])], Rules(context=rule)
    )
    assert bool(made.rows["comparisons"]) == paired
    if not paired:
        assert made.dropped == {"ranking_over_different_contexts": 1, "thumbs_in_different_contexts": 1}


def test_other_tools_are_another_context():
    calls = [asked(1, find(), tool_definitions=(ORDER,)), asked(2, find("{}"))]
    assert curate(calls, [thumb(1, True, "a"), thumb(2, False, "b")]).rows["comparisons"] == []


def test_one_users_near_copies_are_compared_where_the_rule_says_so():
    calls = [
        instructed(1, LONG + "Open: 2", "good", user_id="a"),
        instructed(2, LONG + "Open: 3", "bad", user_id="a"),
    ]
    judged = [thumb(1, True, "a"), thumb(2, False, "b")]
    assert len(curate(calls, judged, Rules(context="similar")).rows["comparisons"]) == 1
    assert curate(calls, judged).rows["comparisons"] == []


# -------------------------------------------------------------------------------------------- what is no evidence


@pytest.mark.parametrize(
    ("answer", "text", "reason"),
    [
        ("Two days.", "  \n\t", "correction_empty"),
        ("Two days.", "\u200b\u00a0", "correction_empty"),
        ("Two days.", " Two  days. \n", "correction_equals_answer"),
        ("Two days.", "Two\u00a0days.\u200b", "correction_equals_answer"),
        ("a\nb", "a\r\n\nb  ", "correction_equals_answer"),
        ("caf\u00e9", "cafe\u0301", "correction_equals_answer"),
        ("if x:\n  y", "if x:\n    y", None),
        ("Two days.", "Two days", None),
        ("Two days.", "\u200d Two days.\u200c", "correction_equals_answer"),
        ("Two days.", "\u200b\u200d", "correction_empty"),
        ("میخواهم", "می\u200cخواهم", None),
        ("👨👩👧", "👨\u200d👩\u200d👧", None),
        ("เราทำไม่ได้", "เราทำได้", None),
    ],
)
def test_a_correction_of_white_space_is_no_evidence(answer, text, reason):
    made = curate([call(1, answer=answer)], [correction(1, text)])
    assert made.dropped == ({reason: 1} if reason else {})
    assert (len(made.rows["demonstrations"]), len(made.rows["comparisons"])) == ((0, 0) if reason else (1, 1))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": "error"}, "liked_but_failed"),
        ({"finish_reasons": ("length",)}, "liked_but_cut"),
        ({"finish_reasons": ("MAX_TOKENS",)}, "liked_but_cut"),
        ({"finish_reasons": ("content_filter",)}, "liked_but_filtered"),
    ],
)
def test_what_failed_or_was_cut_is_not_imitated_but_may_be_corrected(fields, reason):
    made = curate([call(1, **fields)], [thumb(1, True)])
    assert made.rows["demonstrations"] == []
    assert made.dropped == {reason: 1}
    (row,) = curate([call(1, **fields)], [correction(1, "Three days.")]).rows["demonstrations"]
    assert row.completion == "Three days."


def test_an_answer_that_was_not_recorded_is_not_an_empty_one():
    made = curate([call(1, output_messages=())], [correction(1, "Two days."), thumb(1, False)])
    assert not any(made.rows.values())
    (row,) = curate([call(1, answer="")], [correction(1, "Two days.")]).rows["comparisons"]
    assert (row.chosen, row.rejected) == ("Two days.", "")


def test_sessions_and_unknown_targets_are_counted():
    session = replace(
        thumb(1, True), feedback=replace(thumb(1, True).feedback, target=Target(session_id="s"))
    )
    made = curate([call(1)], [session, thumb(7, True)])
    assert made.dropped == {"about_a_session": 1, "unknown_target": 1}
