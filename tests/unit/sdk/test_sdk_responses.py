"""Responses and streams in the shape of LLM clients are read; real clients are in tests/integration/test_sdk_clients.py."""

import json

import pytest

import heedloop
from heedloop import testing


def made_by(client):
    """A class whose objects look as if that client had made them; nested dictionaries become such objects too."""

    def init(self, **values):
        for name, value in values.items():
            setattr(self, name, convert(value))

    kind = type("Object", (), {"__init__": init, "__module__": f"{client}.types"})

    def convert(value):
        if isinstance(value, dict):
            return kind(**value)
        return [convert(v) for v in value] if isinstance(value, list) else value

    return kind


OpenAI, Anthropic = made_by("openai"), made_by("anthropic")
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"a":1}'}}


def recorded(result):
    with testing.recording() as seen:

        @heedloop.trace(name="ask")
        def ask(messages):
            return result

        given = ask([{"role": "user", "content": "q"}])
        if hasattr(given, "__next__"):
            list(given)
    return seen.span("ask")


def test_a_chat_completion():
    span = recorded(
        OpenAI(
            id="chatcmpl-1",
            model="m-0901",
            choices=[{"finish_reason": "tool_calls", "message": {"content": "text", "tool_calls": [CALL]}}],
            usage={
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
        )
    )
    a = span.attributes
    assert span.output_text == "text"
    assert json.loads(a["gen_ai.output.messages"])[0]["parts"][1] == {
        "type": "tool_call",
        "id": "c1",
        "name": "look_up",
        "arguments": '{"a":1}',
    }
    assert a["gen_ai.response.model"] == "m-0901" and a["gen_ai.response.id"] == "chatcmpl-1"
    assert a["gen_ai.provider.name"] == "openai" and a["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert (a["gen_ai.usage.input_tokens"], a["gen_ai.usage.output_tokens"]) == (10, 5)
    assert a["gen_ai.usage.cache_read.input_tokens"] == 4
    assert a["gen_ai.usage.reasoning.output_tokens"] == 2


def test_an_anthropic_message_counts_cached_tokens_in():
    span = recorded(
        Anthropic(
            id="msg_1",
            model="c-0901",
            stop_reason="end_turn",
            content=[
                {"type": "text", "text": "a"},
                {"type": "tool_use", "id": "t", "name": "n", "input": {}},
            ],
            usage={
                "input_tokens": 11,
                "output_tokens": 3,
                "cache_read_input_tokens": 1801,
                "cache_creation_input_tokens": 307,
            },
        )
    )
    assert span.attributes["gen_ai.usage.input_tokens"] == 2119
    assert span.attributes["gen_ai.usage.cache_read.input_tokens"] == 1801
    assert span.output_text == "a"


def test_a_responses_api_answer():
    span = recorded(
        OpenAI(
            id="resp_1",
            model="m",
            output_text="hello",
            output=[{"type": "function_call", "call_id": "c", "name": "n", "arguments": "{}"}],
            usage={"input_tokens": 3, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}},
        )
    )
    assert span.output_text == "hello" and span.attributes["gen_ai.usage.reasoning.output_tokens"] == 1


def test_chunks_with_tool_calls():
    pieces = [
        OpenAI(id="x", model="m", choices=[{"delta": {"content": "a"}}]),
        OpenAI(
            choices=[
                {
                    "delta": {
                        "tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{"}}]
                    }
                }
            ]
        ),
        OpenAI(choices=[{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}}]),
        OpenAI(choices=[{"delta": {}, "finish_reason": "tool_calls"}]),
        OpenAI(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2}),
    ]
    span = recorded(p for p in pieces)
    parts = json.loads(span.attributes["gen_ai.output.messages"])[0]["parts"]
    assert parts[0]["content"] == "a" and parts[1]["arguments"] == "{}" and parts[1]["id"] == "c1"
    assert span.attributes["gen_ai.usage.output_tokens"] == 2


def test_what_the_app_says_itself_wins():
    with testing.recording() as seen:

        @heedloop.trace(name="ask", model="asked")
        def ask(q):
            heedloop.set(output="mine", response_model="said")
            return OpenAI(model="m", choices=[{"message": {"content": "theirs"}}])

        ask("q")
    assert seen.span("ask").output_text == "mine"
    assert seen.span("ask").attributes["gen_ai.response.model"] == "said"


@pytest.mark.parametrize(
    "odd", [OpenAI(x=1), OpenAI(choices=[]), OpenAI(choices=[{}]), Anthropic(content=None)]
)
def test_unknown_shapes_are_kept_like_any_value(odd):
    assert "gen_ai.output.messages" not in recorded(odd).attributes


CHAT_JSON = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "m-1",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Thirty."}}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}
MESSAGE_JSON = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m-1",
    "content": [
        {"type": "text", "text": "Thirty."},
        {"type": "tool_use", "id": "t1", "name": "look", "input": {"items": [1]}},
    ],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
RESPONSE_JSON = {
    "id": "resp_1",
    "object": "response",
    "model": "m-1",
    "output": [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Thirty."}]}
    ],
    "usage": {"input_tokens": 3, "output_tokens": 2},
}


@pytest.mark.parametrize(
    "body", [CHAT_JSON, MESSAGE_JSON, RESPONSE_JSON], ids=["chat", "message", "response"]
)
def test_a_providers_response_as_json_is_read(body):
    with testing.recording() as seen:
        heedloop.trace(lambda q: body)("How long?")
    (span,) = seen.answers
    assert span.output_text == "Thirty."
    assert span.attributes["gen_ai.response.model"] == "m-1"
    assert span.attributes["gen_ai.usage.output_tokens"] == 2
    if body is MESSAGE_JSON:
        assert '"arguments":{"items":[1]}' in span.attributes["gen_ai.output.messages"]


def test_the_answer_of_a_conversation_is_its_last_message():
    turns = [{"role": "user", "content": "How long?"}, {"role": "assistant", "content": "Thirty."}]
    with testing.recording() as seen:
        heedloop.trace(lambda q: turns)("q")
        heedloop.trace(lambda state: {"messages": turns, "user": "u"})({"messages": turns[:1]})
    assert [s.output_text for s in seen.answers] == ["Thirty.", "Thirty."]


def test_a_web_response_that_is_there_as_a_whole_is_read():
    from starlette.responses import JSONResponse, PlainTextResponse

    class Unread:
        status_code, headers = 200, {}

        @property
        def content(self):
            raise RuntimeError("not read yet")

    with testing.recording() as seen:
        for response in (JSONResponse({"answer": "Thirty."}), PlainTextResponse("Thirty."), Unread()):
            heedloop.trace(lambda q, response=response: response)("q")
    assert [s.output_text for s in seen.answers] == ["Thirty.", "Thirty.", ""]


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (['data: {"delta": "Thir"}\n\n', 'data: {"delta": "ty."}\n\n', "data: [DONE]\n\n"], "Thirty."),
        (['event: token\r\ndata: {"choices":[{"delta":{"content":"Thirty."}}]}\r\n\r\n'], "Thirty."),
        (["data: Thir\n\n", "data: ty.\n\n"], "Thirty."),
        (['data: {"type": "start"}\n\n', 'data: {"type": "text", "text": "Thirty."}\n\n'], "Thirty."),
        (['data: {"delta": "Thir\u2028ty\x85"}\r\rdata: {"delta": "."}\n\n'], "Thir\u2028ty\x85."),
        (["data: a list of facts\n", "and more text"], "data: a list of facts\nand more text"),
        (["data:", " none"], "data: none"),
    ],
)
def test_server_sent_events_are_the_text_in_them(pieces, text):
    with testing.recording() as seen:

        @heedloop.trace
        def ask(question):
            yield from pieces

        assert list(ask("q")) == pieces
    assert seen.answers[0].output_text == text


class LangChainChunk:
    """A piece of `model.stream(…)`, as LangChain has it: tool calls and metadata are dictionaries."""

    type = "AIMessageChunk"

    def __init__(self, content="", **more):
        self.content, self.tool_call_chunks, self.tool_calls = content, [], []
        self.response_metadata, self.usage_metadata = {}, None
        self.__dict__.update(more)


LangChainChunk.__module__ = "langchain_core.messages.ai"


def test_a_stream_of_langchain():
    ended = {"finish_reason": "stop", "model_name": "m-0901"}
    usage = {"input_tokens": 21, "output_tokens": 4, "total_tokens": 25}
    chunks = [
        LangChainChunk("Thirty "),
        LangChainChunk([{"type": "text", "text": "days."}]),
        LangChainChunk(response_metadata=ended),
        LangChainChunk(usage_metadata=usage),
    ]
    span = recorded(piece for piece in chunks)
    assert span.output_text == "Thirty days."
    assert span.attributes["gen_ai.response.model"] == "m-0901"
    assert span.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert span.attributes["gen_ai.usage.output_tokens"] == 4


def test_a_tool_call_in_pieces_of_langchain():
    first = {"index": 0, "id": "c1", "name": "look_up", "args": '{"a"'}
    later = {"index": 0, "id": None, "name": None, "args": ":1}"}
    span = recorded(LangChainChunk(tool_call_chunks=[piece]) for piece in (first, later))
    (message,) = json.loads(span.attributes["gen_ai.output.messages"])
    assert message["parts"] == [{"type": "tool_call", "id": "c1", "name": "look_up", "arguments": '{"a":1}'}]
