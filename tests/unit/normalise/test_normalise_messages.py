"""Every client's way to write a conversation becomes the same messages."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedloop.schema import Message, ToolCall
from heedloop_server.normalise.messages import one_turn, read_messages, with_system

CALL = ToolCall("get_weather", '{"city": "Paris"}', "call_1")
ASKED = Message("user", "Weather in Paris?")
CALLED = Message("assistant", tool_calls=(CALL,))
RESULT = Message("tool", "cloudy", tool_call_id="call_1")
CONVERSATION = (Message("system", "Be terse."), ASKED, CALLED, RESULT)
ARGUMENTS = {"city": "Paris"}

OTEL = [
    {"role": "system", "parts": [{"type": "text", "content": "Be terse."}]},
    {"role": "user", "parts": [{"type": "text", "content": "Weather in Paris?"}], "name": None},
    {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": "call_1", "name": "get_weather", "arguments": ARGUMENTS}],
    },
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": "cloudy"}]},
]
OPENAI = [
    {"role": "system", "content": "Be terse."},
    {"role": "user", "content": [{"type": "text", "text": "Weather in Paris?"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "cloudy"},
]
RESPONSES = [
    {"role": "system", "content": [{"type": "input_text", "text": "Be terse."}]},
    {"role": "user", "content": "Weather in Paris?"},
    {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "get_weather",
        "arguments": '{"city": "Paris"}',
    },
    {"type": "function_call_output", "call_id": "call_1", "output": "cloudy"},
]
ANTHROPIC = {
    "system": [{"type": "text", "text": "Be terse."}],
    "messages": [
        {"role": "user", "content": "Weather in Paris?"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "call_1", "name": "get_weather", "input": ARGUMENTS}],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "call_1",
                    "content": [{"type": "text", "text": "cloudy"}],
                }
            ],
        },
    ],
}
BEDROCK = {
    "system": [{"text": "Be terse."}],
    "messages": [
        {"role": "user", "content": [{"text": "Weather in Paris?"}]},
        {
            "role": "assistant",
            "content": [{"toolUse": {"toolUseId": "call_1", "name": "get_weather", "input": ARGUMENTS}}],
        },
        {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "call_1", "content": [{"text": "cloudy"}]}}],
        },
    ],
}
GEMINI = {
    "systemInstruction": {"parts": [{"text": "Be terse."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "Weather in Paris?"}]},
        {
            "role": "model",
            "parts": [{"functionCall": {"id": "call_1", "name": "get_weather", "args": ARGUMENTS}}],
        },
        {"role": "user", "parts": [{"functionResponse": {"id": "call_1", "response": "cloudy"}}]},
    ],
}


def _constructor(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", name], "kwargs": kwargs}


LANGCHAIN = {
    "messages": [
        [
            _constructor("SystemMessage", content="Be terse.", type="system"),
            _constructor("HumanMessage", content="Weather in Paris?"),
            _constructor(
                "AIMessage",
                content="",
                tool_calls=[{"name": "get_weather", "args": ARGUMENTS, "id": "call_1", "type": "tool_call"}],
            ),
            _constructor("ToolMessage", content="cloudy", tool_call_id="call_1", type="tool"),
        ]
    ]
}
VERCEL = [
    {"role": "system", "content": "Be terse."},
    {"role": "user", "content": [{"type": "text", "text": "Weather in Paris?"}]},
    {
        "role": "assistant",
        "content": [
            {"type": "tool-call", "toolCallId": "call_1", "toolName": "get_weather", "input": ARGUMENTS}
        ],
    },
    {
        "role": "tool",
        "content": [
            {
                "type": "tool-result",
                "toolCallId": "call_1",
                "toolName": "get_weather",
                "output": {"type": "text", "value": "cloudy"},
            }
        ],
    },
]
FORMS = {
    "otel": OTEL,
    "openai": OPENAI,
    "responses": RESPONSES,
    "anthropic": ANTHROPIC,
    "bedrock": BEDROCK,
    "gemini": GEMINI,
    "langchain": LANGCHAIN,
    "vercel": VERCEL,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_conversation(form: str) -> None:
    assert read_messages(json.dumps(FORMS[form])) == CONVERSATION


@pytest.mark.parametrize("form", FORMS)
def test_python_s_repr_is_the_same_conversation(form: str) -> None:
    assert read_messages(repr(FORMS[form])) == CONVERSATION


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ("Paris.", (Message("assistant", "Paris."),)),
        ("", ()),
        (None, ()),
        ([], ()),
        (7, ()),
        (["a", "b"], (Message("assistant", "a\nb"),)),
        ({"role": "unknown", "parts": [{"type": "text", "content": "x"}]}, (Message("assistant", "x"),)),
        ([{"role": "assistant", "parts": []}], (Message("assistant"),)),
        ({"type": "ai", "data": {"content": "x"}}, (Message("assistant", "x"),)),
        (
            {"role": "assistant", "content": '{"city": "Lisbon"}'},
            (Message("assistant", '{"city": "Lisbon"}'),),
        ),
        (
            {"role": "assistant", "content": '[{"city": "Lisbon"}]'},
            (Message("assistant", '[{"city": "Lisbon"}]'),),
        ),
        (
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "4"}],
            },
            (Message("assistant", "4", reasoning="Hm."),),
        ),
        (
            {"role": "assistant", "content": "4", "reasoning_content": "Hm."},
            (Message("assistant", "4", reasoning="Hm."),),
        ),
    ],
)
def test_single_values(value: object, messages: tuple[Message, ...]) -> None:
    assert read_messages(value, "assistant") == messages


@pytest.mark.parametrize(
    ("part", "medium"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, "image/png"),
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, "image"),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AA"}},
            "image/jpeg",
        ),
        ({"type": "blob", "modality": "audio", "mime_type": "audio/wav", "content": "AA"}, "audio/wav"),
        ({"type": "uri", "modality": "video", "uri": "s3://a"}, "video"),
        ({"inlineData": {"mimeType": "application/pdf", "data": "AA"}}, "application/pdf"),
        ({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}, "audio"),
    ],
)
def test_media_are_described_not_kept(part: dict[str, Any], medium: str) -> None:
    (message,) = read_messages([{"role": "user", "content": ["Look:", part]}])
    assert message == Message("user", "Look:", media=(medium,))


def test_parallel_results_are_a_message_each() -> None:
    results = [{"type": "tool_result", "tool_use_id": f"call_{i}", "content": f"r{i}"} for i in (1, 2)]
    found = read_messages([{"role": "user", "content": [*results, {"type": "text", "text": "And now?"}]}])
    assert [(m.role, m.text, m.tool_call_id) for m in found] == [
        ("tool", "r1", "call_1"),
        ("tool", "r2", "call_2"),
        ("user", "And now?", None),
    ]


def test_one_turn_joins_the_items_of_an_answer() -> None:
    items = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Let me look."}],
        },
        {
            "type": "function_call",
            "call_id": "call_1",
            "name": "get_weather",
            "arguments": '{"city": "Paris"}',
        },
    ]
    assert one_turn(read_messages(items, "assistant")) == (
        Message("assistant", "Let me look.", "Hm.", (CALL,)),
    )


def test_system_instructions_come_first_and_once() -> None:
    told = [{"type": "text", "content": "Be terse."}]
    assert with_system(told, (ASKED,)) == CONVERSATION[:2]
    assert with_system(told, CONVERSATION) == CONVERSATION


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "parts",
                    "type",
                    "text",
                    "tool_calls",
                    "function",
                    "name",
                    "arguments",
                    "id",
                    "message",
                    "kwargs",
                    "data",
                    "messages",
                    "toolUse",
                    "toolResult",
                    "input",
                ]
            ),
            inner
            | st.sampled_from(["text", "tool_use", "tool_result", "image", "function_call", "ai", "user"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_anything_becomes_messages_of_texts(value: object) -> None:
    for message in read_messages(value):
        assert isinstance(message.role, str) and isinstance(message.text, str)
        assert all(isinstance(c.name, str) and isinstance(c.arguments, str) for c in message.tool_calls)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        # OpenLLMetry's LangChain writes parts it does not know into text, and the tool calls once more
        (
            [
                {
                    "type": "text",
                    "content": json.dumps({"type": "tool_use", "name": "f", "input": {}, "id": "1"}),
                },
                {"type": "tool_call", "id": "1", "name": "f", "arguments": {}},
            ],
            Message("assistant", tool_calls=(ToolCall("f", "{}", "1"),)),
        ),
        (
            [
                {
                    "type": "text",
                    "content": json.dumps({"type": "thinking", "thinking": "Hm.", "signature": "c"}),
                }
            ],
            Message("assistant", reasoning="Hm."),
        ),
        (
            [{"type": "text", "content": '{"reasoningContent": {"reasoningText": {"text": "Hm."}}}'}],
            Message("assistant", reasoning="Hm."),
        ),
        (
            [{"type": "reasoningContent", "content": {"reasoningText": {"text": "Hm."}}}],
            Message("assistant", reasoning="Hm."),
        ),
        (
            [{"type": "reasoning", "content": '[{"type": "summary_text", "text": "Hm."}]'}],
            Message("assistant", reasoning="Hm."),
        ),
        # LangChain's Gemini: the last call without an id beside all of them
        (
            [
                {"type": "tool_call", "id": "", "name": "f", "arguments": {"a": 2}},
                {"type": "tool_call", "id": "1", "name": "f", "arguments": {"a": 1}},
                {"type": "tool_call", "id": "2", "name": "f", "arguments": {"a": 2}},
            ],
            Message("assistant", tool_calls=(ToolCall("f", '{"a": 1}', "1"), ToolCall("f", '{"a": 2}', "2"))),
        ),
        # without ids two equal calls are two
        (
            [{"type": "tool_call", "name": "f", "arguments": {}}] * 2,
            Message("assistant", tool_calls=(ToolCall("f", "{}"),) * 2),
        ),
        # a model's own JSON is its answer
        (
            [{"type": "text", "content": '{"type": "function_call", "name": "f"}'}],
            Message("assistant", '{"type": "function_call", "name": "f"}'),
        ),
        (
            [{"type": "text", "content": '{"thinking": "aloud", "answer": 4}'}],
            Message("assistant", '{"thinking": "aloud", "answer": 4}'),
        ),
    ],
)
def test_parts_that_clients_hide_or_repeat(parts: list[Any], message: Message) -> None:
    assert read_messages([{"role": "assistant", "parts": parts}], "assistant") == (message,)


def test_python_s_word_for_an_object_is_no_message() -> None:
    assert read_messages("<anthropic.Stream object at 0x7f52f4252550>", "assistant") == ()
    assert read_messages("<b>bold</b>") == (Message("user", "<b>bold</b>"),)
