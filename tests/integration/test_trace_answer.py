"""A trace over REST names the span whose answer its user saw, whatever order the spans came in."""

from dataclasses import replace

import pytest
from review_people import call, review_server

from heedloop.schema import Message, ToolCall
from heedloop_server.store.spans import insert_calls


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    with review_server(tmp_path_factory.mktemp("trace")) as new_world:
        yield new_world()


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("last", ["text", "tool"])
def test_a_trace_names_the_answer_its_user_saw(world, last: str, backwards: bool) -> None:
    asks = (Message("assistant", "", tool_calls=(ToolCall("lookup", "{}", "t1"),)),)
    first = call("Where is it?", at_s=90, operation="chat")
    spans = [
        first if last == "tool" else replace(first, output_messages=asks),
        call("", at_s=80, operation="execute_tool", is_answer=False),
        call("Where is it?", "On its way.", at_s=70, operation="chat"),
    ]
    if last == "tool":
        spans[2] = replace(spans[2], output_messages=asks)
    spans = [replace(s, trace_id=first.trace_id) for s in spans]
    spans[1] = replace(spans[1], input_messages=(), output_messages=())
    insert_calls(world.project, spans[::-1] if backwards else spans)
    found = world.admin.ask("GET", f"/traces/{first.trace_id}")
    assert found["answer_span_id"] == spans[0 if last == "tool" else 2].span_id


def test_a_trace_without_answers_names_none(world) -> None:
    tool = replace(call(operation="execute_tool", is_answer=False), input_messages=(), output_messages=())
    insert_calls(world.project, [tool])
    assert world.admin.ask("GET", f"/traces/{tool.trace_id}")["answer_span_id"] is None
