"""Logs and duplicates, as pure functions: order and number of arrivals do not matter."""

import itertools
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from heedloop.schema import Call, Message, ToolCall, Usage
from heedloop_server.normalise import LogContent, dedupe, merge, normalise_logs
from heedloop_server.normalise.duplicates import fold
from heedloop_server.normalise.joins import join

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


@pytest.mark.parametrize("calls", list(itertools.permutations([BARE, FULL, OTHER])))
def test_one_response_is_one_call(calls: tuple[Call, ...]) -> None:
    found = {c.response_id: c for c in dedupe(calls)}
    assert set(found) == {"msg_1", "msg_2"}
    assert (found["msg_1"].span_id, found["msg_1"].provider, found["msg_1"].output_text) == (
        FULL.span_id,
        "anthropic",
        "4",
    )


def test_a_call_inside_a_call_is_the_same_call() -> None:
    for calls in ([OUTER, INNER], [INNER, OUTER]):
        (found,) = dedupe(calls)
        assert (found.span_id, found.http_status) == (OUTER.span_id, 429)


def test_an_agent_s_calls_are_calls_of_their_own() -> None:
    agent = make("66" * 8, operation="")
    calls = [replace(OTHER, parent_span_id="66" * 8), replace(FULL, parent_span_id="66" * 8)]
    assert len([c for c in dedupe([agent, *calls]) if c.operation]) == 2


def test_a_tool_loop_with_different_responses_is_not_one_call() -> None:
    outer = replace(OTHER, response_id="msg_9")
    assert len(dedupe([outer, replace(FULL, parent_span_id=outer.span_id)])) == 2


def test_a_call_around_several_responses_is_none_of_them() -> None:
    inner = [replace(c, trace_id=TRACE, parent_span_id=OUTER.span_id) for c in (OTHER, FULL)]
    assert len(dedupe([OUTER, *inner])) == 3


def test_a_decorated_function_stays_beside_the_call_it_makes() -> None:
    decorated = make("77" * 8, attributes={"otel.scope.name": "heedloop", "heedloop.answer": "true"})
    inner = replace(OTHER, response_id=None, parent_span_id="77" * 8)
    assert len(dedupe([decorated, inner])) == 2


def test_equal_questions_are_two_calls() -> None:
    twice = [make(s * 8, input_messages=(Message("user", "Hi"),)) for s in ("1a", "1b")]
    assert len(dedupe(twice)) == 2


def test_folding_leaves_one_call_and_its_tokens_once() -> None:
    found = fold([BARE, FULL, OTHER])
    assert [c.operation for c in found] == ["", "chat", "chat"]
    assert sum(c.usage.output or 0 for c in found) == 21
    assert found[0].attributes["heedloop.duplicate_of"] == f"{TRACE}:{FULL.span_id}"
    assert fold(found) == found


def test_a_stored_span_that_comes_again_is_left_out() -> None:
    grown = replace(FULL, attributes={"more": "x"})
    assert join([FULL], [grown], []) == []
