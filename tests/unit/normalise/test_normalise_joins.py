"""Logs and duplicates, as pure functions: order and number of arrivals do not matter."""

import itertools
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from heedloop.schema import Call, Message, ToolCall, Usage
from heedloop_server.normalise import LogContent, merge, normalise_logs
from heedloop_server.normalise.duplicates import DUPLICATE_OF, fold
from heedloop_server.normalise.family import _inside_answers, in_context
from heedloop_server.normalise.heedloop_sdk import ANSWER
from heedloop_server.normalise.joins import join, wants_content

START = datetime(2026, 11, 21, tzinfo=timezone.utc)
TRACE, SPAN = "ab" * 16, "cd" * 8


def make(span_id: str = SPAN, **fields: Any) -> Call:
    return Call(**{"trace_id": TRACE, "span_id": span_id, "start_time": START, "operation": "chat", **fields})


def event(name: str, time_ns: int, body: Any, **fields: Any) -> LogContent:
    return LogContent(TRACE, SPAN, name, time_ns, fields.pop("index", 0), fields, body)


CONTENTS = (
    event("gen_ai.system.message", 1, {"content": "Be terse."}),
    event("gen_ai.user.message", 2, {"content": "Weather?"}, index=1),
    event(
        "gen_ai.assistant.message",
        2,
        {"tool_calls": [{"id": "c1", "function": {"name": "w", "arguments": "{}"}}]},
        index=2,
    ),
    event("gen_ai.tool.message", 3, {"content": "cloudy", "id": "c1"}),
    event(
        "gen_ai.choice",
        9,
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Cloudy."}},
    ),
)


@given(st.permutations(CONTENTS), st.lists(st.integers(0, 5), max_size=5))
def test_any_cut_into_arrivals_gives_the_same_call(order: list[LogContent], cuts: list[int]) -> None:
    call, seen = make(), list[LogContent]()
    bounds = sorted({0, *cuts, len(order)})
    for a, b in itertools.pairwise(bounds):
        seen += order[a:b]
        call = merge(call, seen + seen[:1])
    assert call.input_messages == (
        Message("system", "Be terse."),
        Message("user", "Weather?"),
        Message("assistant", tool_calls=(ToolCall("w", "{}", "c1"),)),
        Message("tool", "cloudy", tool_call_id="c1"),
    )
    assert (call.output_text, call.finish_reasons) == ("Cloudy.", ("stop",))


def test_what_the_span_said_stays() -> None:
    told = make(output_messages=(Message("assistant", "Own."),), finish_reasons=("length",))
    merged = merge(told, CONTENTS)
    assert (merged.output_text, merged.finish_reasons) == ("Own.", ("length",))
    assert len(merged.input_messages) == 4


def test_details_as_structured_attributes() -> None:
    messages = [{"role": "user", "parts": [{"type": "text", "content": "Hi"}], "name": None}]
    details = event(
        "gen_ai.client.inference.operation.details",
        5,
        None,
        **{"gen_ai.input.messages": messages, "user.id": "u"},
    )
    merged = merge(make(), [details])
    assert merged.input_messages == (Message("user", "Hi"),)
    assert merged.user_id == "u"


def test_system_instructions_of_the_span_come_before_the_logs_question() -> None:
    system = '[{"type": "text", "content": "Be terse."}]'
    told = make(
        input_messages=(Message("system", "Be terse."),), attributes={"gen_ai.system_instructions": system}
    )
    asked = event("gen_ai.user.message", 2, {"content": "Weather?"})
    details = event(
        "gen_ai.client.inference.operation.details", 3, None, **{"gen_ai.system_instructions": system}
    )
    assert wants_content(replace(told, output_messages=(Message("assistant", "Cloudy."),)))
    once = merge(told, [asked])
    for merged in (once, merge(once, [asked]), merge(once, [asked, details])):
        assert merged.input_messages == (Message("system", "Be terse."), Message("user", "Weather?"))


def test_a_span_that_is_no_call_takes_no_content() -> None:
    agent = make(operation="")
    assert merge(agent, CONTENTS) is agent


def test_content_survives_the_store() -> None:
    assert [LogContent.from_json(c.to_json()) for c in CONTENTS] == list(CONTENTS)
    assert LogContent.from_json(replace(CONTENTS[0], body=b"\x00").to_json()).body == "AA=="


def test_the_same_record_in_another_request_is_the_same() -> None:
    again = replace(CONTENTS[0], index=9)
    assert again.identity == CONTENTS[0].identity


def test_normalise_logs_keeps_content_only(span: Any) -> None:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    ids = {"trace_id": bytes.fromhex(TRACE), "span_id": bytes.fromhex(SPAN)}
    records.add(event_name="gen_ai.choice", time_unix_nano=3, **ids).body.string_value = "Paris."
    legacy = records.add(observed_time_unix_nano=2, **ids)
    legacy.attributes.add(key="event.name").value.string_value = "gen_ai.user.message"
    records.add(event_name="gen_ai.choice")  # no ids: no call could claim it
    records.add(event_name="some.log", **ids)
    found = normalise_logs(request)
    assert [(c.event, c.time_ns) for c in found if isinstance(c, LogContent)] == [
        ("gen_ai.choice", 3),
        ("gen_ai.user.message", 2),
    ]
    assert merge(make(), [c for c in found if isinstance(c, LogContent)]).output_text == "Paris."


# ---------------------------------------------------------------------------------------------------- duplicates

BARE = make("11" * 8, trace_id="ef" * 16, response_id="msg_1", provider="anthropic", usage=Usage(19, 16))
FULL = make(
    "22" * 8,
    response_id="msg_1",
    output_messages=(Message("assistant", "4"),),
    usage=Usage(19, 16),
    params={"seed": 1},
)
OUTER = make("33" * 8, input_messages=(Message("user", "?"),), status="error", error_message="429")
INNER = make("44" * 8, parent_span_id="33" * 8, status="error", http_status=429)
OTHER = make("55" * 8, response_id="msg_2", usage=Usage(5, 5))


def once(calls: Iterable[Call]) -> list[Call]:
    """The spans of which no other stands for their provider call."""
    return [c for c in fold(list(calls)) if DUPLICATE_OF not in c.attributes]


@pytest.mark.parametrize("calls", list(itertools.permutations([BARE, FULL, OTHER])))
def test_one_response_is_one_call(calls: tuple[Call, ...]) -> None:
    found = {c.response_id: c for c in once(calls)}
    assert set(found) == {"msg_1", "msg_2"}
    assert (found["msg_1"].span_id, found["msg_1"].provider, found["msg_1"].output_text) == (
        FULL.span_id,
        "anthropic",
        "4",
    )


@pytest.mark.parametrize("order", [1, -1])
def test_a_server_that_gives_an_id_twice_made_two_calls(order: int) -> None:
    """Ollama's OpenAI door has 999 ids."""
    again = replace(FULL, span_id="23" * 8, output_messages=(Message("assistant", "5"),), usage=Usage(20, 17))
    assert len(once([FULL, again, BARE][::order])) == 2


def test_clients_that_count_one_answer_differently_saw_one_call() -> None:
    counted = replace(FULL, span_id="23" * 8, usage=Usage(19, 17))
    cut = replace(FULL, span_id="24" * 8, output_messages=(Message("assistant", "4 or so"),))
    assert len(once([FULL, counted, cut])) == 1


def test_the_inner_span_s_id_and_models_are_kept() -> None:
    outer = make(
        "33" * 8, model_requested="m", model_answered="m", output_messages=(Message("assistant", "4"),)
    )
    inner = make("44" * 8, parent_span_id="33" * 8, response_id="msg_3", model_answered="m-0901")
    (found,) = once([outer, inner])
    assert (found.response_id, found.model_requested, found.model_answered) == ("msg_3", "m", "m-0901")


def test_an_error_s_sentence_is_kept_before_its_type() -> None:
    typed = replace(OUTER, error_message="rate_limit_error")
    (found,) = once([typed, replace(INNER, error_message="Rate limit reached for m.")])
    assert found.error_message == "Rate limit reached for m."


def test_what_went_wrong_in_an_attempt_is_no_word_on_the_one_that_succeeded() -> None:
    outer = make("11" * 8, output_messages=(Message("assistant", "A"),))
    failed = make(
        "22" * 8, parent_span_id="11" * 8, status="error", error_message="slow down", http_status=429
    )
    (call,) = [c for c in fold([outer, failed]) if c.operation]
    assert (call.status, call.error_message, call.http_status) == ("ok", None, None)


def test_a_call_inside_a_call_is_the_same_call() -> None:
    for calls in ([OUTER, INNER], [INNER, OUTER]):
        (found,) = once(calls)
        assert (found.span_id, found.http_status) == (OUTER.span_id, 429)


def test_an_agent_s_calls_are_calls_of_their_own() -> None:
    agent = make("66" * 8, operation="")
    calls = [replace(OTHER, parent_span_id="66" * 8), replace(FULL, parent_span_id="66" * 8)]
    assert len([c for c in once([agent, *calls]) if c.operation]) == 2


def test_a_tool_loop_with_different_responses_is_not_one_call() -> None:
    outer = replace(OTHER, response_id="msg_9")
    assert len(once([outer, replace(FULL, parent_span_id=outer.span_id)])) == 2


def test_a_call_around_several_responses_is_none_of_them() -> None:
    inner = [replace(c, trace_id=TRACE, parent_span_id=OUTER.span_id) for c in (OTHER, FULL)]
    assert len(once([OUTER, *inner])) == 3


def test_a_decorated_function_stays_beside_the_call_it_makes() -> None:
    decorated = make("77" * 8, attributes={"otel.scope.name": "heedloop", "heedloop.answer": "true"})
    inner = replace(OTHER, response_id=None, parent_span_id="77" * 8)
    assert len(once([decorated, inner])) == 2


def test_equal_questions_are_two_calls() -> None:
    twice = [make(s * 8, input_messages=(Message("user", "Hi"),)) for s in ("1a", "1b")]
    assert len(once(twice)) == 2


def test_folding_leaves_one_call_and_its_tokens_once() -> None:
    found = fold([BARE, FULL, OTHER])
    assert [c.operation for c in found] == ["", "chat", "chat"]
    assert sum(c.usage.output or 0 for c in found) == 21
    assert found[0].attributes["heedloop.duplicate_of"] == f"{TRACE}:{FULL.span_id}"
    assert fold(found) == found


def test_a_stored_span_that_comes_again_is_left_out() -> None:
    grown = replace(FULL, attributes={"more": "x"})
    assert join([FULL], [grown], []) == []


def test_content_of_a_folded_span_joins_the_one_that_stands_for_it() -> None:
    """Two clients see one call, and the log names the poorer span."""
    poor = replace(BARE, trace_id=TRACE)
    told = LogContent(TRACE, poor.span_id, "gen_ai.user.message", 1, body={"content": "2 + 2?"})
    for fresh in ([poor, FULL], [FULL, poor]):
        (found,) = [c for c in join(fold(fresh), [], [told]) if c.operation]
        assert found.input_messages == (Message("user", "2 + 2?"),)


# ------------------------------------------------------------------------------------------------------- context

AGENT = make("66" * 8, operation="", session_id="s", user_id="u", tags=("a",))


def test_a_call_has_the_context_of_the_spans_around_it() -> None:
    step = make("67" * 8, operation="", parent_span_id=AGENT.span_id)
    call = make(parent_span_id=step.span_id, user_id="own")
    for calls in ([AGENT, step, call], [call, step, AGENT]):
        (found,) = [c for c in join(calls, [], []) if c.operation]
        assert (found.session_id, found.user_id, found.tags) == ("s", "own", ("a",))


def test_context_does_not_cross_traces_nor_loops_nor_our_own_spans() -> None:
    elsewhere = make(trace_id="ef" * 16, parent_span_id=AGENT.span_id)
    looped = make("68" * 8, parent_span_id="68" * 8)
    own = make("69" * 8, parent_span_id=AGENT.span_id, attributes={"otel.scope.name": "heedloop"})
    for found in join([AGENT, elsewhere, looped, own], [], [])[1:]:
        assert (found.session_id, found.user_id, found.tags) == (None, None, ())


def test_ten_thousand_spans_within_each_other_are_settled_in_no_time() -> None:
    """A request may hold them; walking from each to the outermost took a minute."""
    at = datetime(2026, 11, 1, tzinfo=timezone.utc)
    calls = [
        Call(
            trace_id="ab" * 16,
            span_id=f"{i + 1:016x}",
            parent_span_id=f"{i:016x}" if i else None,
            start_time=at,
            operation="chat" if i else "",
            user_id=None if i else "ada",
            is_answer=True,
        )
        for i in range(10_000)
    ]
    began = time.process_time()
    found = in_context(calls)
    answer = replace(calls[5_000], attributes={ANSWER: "true"})
    rated = _inside_answers([*calls[:5_000], answer, *calls[5_001:]])
    assert time.process_time() - began < 5
    assert {c.user_id for c in found} == {"ada"}
    assert [c.is_answer for c in rated] == [True] * 5_001 + [False] * 4_999
    assert found == in_context(found[::-1])[::-1]


def test_answers_given_one_cached_response_stay_answers_however_they_are_batched() -> None:
    """Three people, one provider response: three answers, whether its spans come together, apart or the other way round."""
    marks = {"otel.scope.name": "heedloop", "heedloop.answer": "true"}
    answers = [
        replace(
            FULL,
            trace_id=f"{n}{n}" * 16,
            span_id=f"{n}{n}" * 8,
            parent_span_id=None,
            user_id=f"user-{n}",
            attributes=marks,
        )
        for n in (1, 2, 3)
    ]
    client = replace(
        FULL, trace_id="11" * 16, span_id="ab" * 8, parent_span_id="11" * 8, is_answer=False, attributes={}
    )
    spans = [answers[0], client, *answers[1:]]
    for order in permutations(spans):
        for cut in range(len(order)):
            stored: dict[tuple[str, str], Call] = {}
            for batch in (order[:cut], order[cut:]):
                stored |= {(c.trace_id, c.span_id): c for c in join(batch, list(stored.values()), [])}
            for answer in answers:
                assert stored[answer.trace_id, answer.span_id] == answer
            assert not stored[client.trace_id, client.span_id].is_answer
