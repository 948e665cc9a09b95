"""Whatever name a client uses for one thing, it is the same thing; one provider call is one call, whoever encloses it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from heedloop.schema import Call, Usage
from heedloop_server.normalise import normalise_request
from heedloop_server.normalise.duplicates import fold

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m"}
COUNTS = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 500}
SERVER, CLIENT = 2, 3


def message(text: str) -> str:
    return json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": text}]}])


@pytest.mark.parametrize("prefix", ["gen_ai.usage.", "llm.usage."])
@pytest.mark.parametrize(
    ("name", "field"),
    [
        *((n, "cache_read_input") for n in ("cache_read_tokens", "cached_tokens", "input_tokens.cached", "input_cached_tokens", "cached_input_tokens", "prompt_tokens_details.cached_tokens", "cache_read.input_tokens", "cachedContentTokenCount")),
        *((n, "cache_write_input") for n in ("cache_write_tokens", "cache_creation_tokens", "input_tokens.cache_write", "cache_creation.input_tokens")),
        *((n, "reasoning_output") for n in ("experimental.reasoning_tokens", "output_tokens.reasoning", "reasoning_output_tokens", "thoughts_token_count", "thinking_tokens", "completion_tokens_details.reasoning_tokens")),
    ],
)  # fmt: skip
def test_a_count_is_read_under_any_name(
    call: Callable[..., Call], prefix: str, name: str, field: str
) -> None:
    usage = call({**CHAT, **COUNTS, prefix + name: 100}).usage
    assert usage == Usage(1000, 500, **{field: 100})


@pytest.mark.parametrize(
    "name",
    ["total_tokens", "input_audio_tokens", "cost", "cache_miss_tokens", "prompt_tokens_details.text_tokens"],
)
def test_what_counts_something_else_is_no_count_of_ours(call: Callable[..., Call], name: str) -> None:
    assert call({**CHAT, "gen_ai.usage.output_tokens": 5, f"gen_ai.usage.{name}": 100}).usage == Usage(
        None, 5
    )


@pytest.mark.parametrize(
    "costs",
    [
        {"llm.cost.prompt": 0.1, "llm.cost.completion": 0.2},
        {"llm.cost.input": 0.1, "llm.cost.output": 0.2},
        {"gen_ai.cost.input_cost": 0.1, "gen_ai.cost.output_cost": "0.2"},
        {"gen_ai.usage.input_cost": 0.1, "gen_ai.usage.output_cost": 0.2},
        {"gen_ai.usage.cost": 0.3, "gen_ai.usage.input_cost": 9.0},
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.cost_details": '{"input": 0.1, "output": 0.2}',
        },
    ],
    ids=lambda c: next(iter(c)),
)
def test_a_cost_in_parts_is_their_sum(call: Callable[..., Call], costs: dict[str, Any]) -> None:
    assert call({**CHAT, **costs}).cost == pytest.approx(0.3)


@pytest.mark.parametrize("word", ["none", "None", "NULL", "undefined", '"none"'])
def test_a_word_for_nothing_is_nothing(call: Callable[..., Call], word: str) -> None:
    names = ("gen_ai.response.model", "gen_ai.response.id", "gen_ai.conversation.id", "user.id")
    found = call({**CHAT, **dict.fromkeys(names, word), "gen_ai.response.finish_reasons": ["none"]})
    assert (found.model_answered, found.response_id, found.session_id, found.user_id, found.finish_reasons) == (
        None, None, None, None, (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "role"),
    [("USER", "user"), ("Human", "user"), ("CHATBOT", "assistant"), ("Assistant", "assistant"), ("MODEL", "assistant"),
     ("MessageRole.SYSTEM", "system"), ("TOOL", "tool"), ("Planner", "Planner")],
)  # fmt: skip
def test_a_role_is_read_in_any_case(call: Callable[..., Call], sent: str, role: str) -> None:
    said = json.dumps([{"role": sent, "content": "Hi"}])
    assert call({**CHAT, "gen_ai.input.messages": said}).input_messages[0].role == role


def test_claude_code_counts_without_prefix_and_without_the_cache(call: Callable[..., Call]) -> None:
    counts = {"input_tokens": 500, "output_tokens": 9, "cache_read_tokens": 20, "cache_creation_tokens": 3}
    span = {
        "span.type": "llm_request",
        "model": "claude-x",
        "success": False,
        "status_code": 529,
        "error": "overloaded",
    }
    found = call({**span, **counts}, scope="com.anthropic.claude_code.tracing")
    assert found.usage == Usage(523, 9, 20, 3)
    assert (found.operation, found.model, found.provider) == ("chat", "claude-x", "anthropic")
    assert (found.status, found.http_status, found.error_message) == ("error", 529, "overloaded")
    assert call({"span.type": "tool", "input_tokens": 5}).operation == ""


def test_genkits_model_is_a_call_and_its_flow_none(call: Callable[..., Call]) -> None:
    asked = {
        "messages": [{"role": "user", "content": [{"text": "Weather?"}]}],
        "config": {"temperature": 0.5},
    }
    said = [
        {"text": "Let me look."},
        {"toolRequest": {"ref": "1", "name": "weather", "input": {"city": "Oslo"}}},
    ]
    made = {
        "message": {"role": "model", "content": said},
        "finishReason": "stop",
        "usage": {"inputTokens": 12, "outputTokens": 7, "thoughtsTokens": 3, "cachedContentTokens": 4},
    }
    names = {"genkit:type": "action", "genkit:name": "googleai/gemini-2.5-flash"}
    span = {**names, "genkit:input": json.dumps(asked), "genkit:output": json.dumps(made)}
    found = call({**span, "genkit:metadata:subtype": "model"})
    assert (found.operation, found.model, found.provider) == ("chat", "gemini-2.5-flash", "gcp.gemini")
    assert found.usage == Usage(12, 7, 4, None, 3)
    assert (found.input_messages[0].text, found.output_text) == ("Weather?", "Let me look.")
    assert [(t.name, t.id) for t in found.output_messages[0].tool_calls] == [("weather", "1")]
    assert (found.finish_reasons, found.params) == (("stop",), {"temperature": 0.5})
    assert call({**span, "genkit:metadata:subtype": "flow"}).operation == ""


@pytest.mark.parametrize(
    "output",
    [
        {"llm.output_messages.0.message.contents.0.message_content.type": "audio",
         "llm.output_messages.0.message.contents.0.message_content.audio.transcript": "Rain.",
         "llm.output_messages.0.message.contents.0.message_content.audio.mime_type": "audio/wav"},
        {"output.value": json.dumps({"choices": [{"message": {"role": "assistant", "content": None, "audio": {"transcript": "Rain."}}}]})},
    ],
    ids=["OpenInference", "OpenAI"],
)  # fmt: skip
def test_what_was_spoken_is_the_answer(call: Callable[..., Call], output: dict[str, str]) -> None:
    found = call({"openinference.span.kind": "LLM", "llm.model_name": "m", **output})
    assert (found.output_text, len(found.output_messages[0].media)) == ("Rain.", 1)


@pytest.mark.parametrize(
    "output",
    [
        {"meta": {"usage": {"prompt_tokens": 5}}},
        {"usage": {"total_tokens": 5}},
        {"meta": {"billed_units": {"input_tokens": 5}}},
    ],
)
def test_an_embedders_usage_is_read_wherever_it_is(call: Callable[..., Call], output: dict[str, Any]) -> None:
    span = {
        "openinference.span.kind": "EMBEDDING",
        "embedding.model_name": "e",
        "output.value": json.dumps(output),
    }
    assert call(span).usage.input == 5


# -------------------------------------------------------------------------------------------- one call, whoever encloses it


def calls(request_of: Callable[..., Any], *spans: Any) -> list[Call]:
    found = fold(normalise_request(request_of(*spans)))
    backwards = fold(normalise_request(request_of(*reversed(spans))))
    assert sorted(c.span_id for c in found if c.operation) == sorted(
        c.span_id for c in backwards if c.operation
    )
    return [c for c in found if c.operation]


def counted(i: int, o: int) -> dict[str, int]:
    return {"gen_ai.usage.input_tokens": i, "gen_ai.usage.output_tokens": o}


@pytest.mark.parametrize("num_between", [0, 1, 2])
@pytest.mark.parametrize("ids", [("r", "r"), ("cmpl-1", "cmpl-1-0"), ("", "r"), ("", "")])
def test_an_inference_servers_span_is_the_clients_call(
    span: Callable[..., Any], request_of: Callable[..., Any], num_between: int, ids: tuple[str, str]
) -> None:
    client = {
        **CHAT,
        **counted(12, 7),
        "gen_ai.output.messages": message("In 30 days."),
        "gen_ai.response.id": ids[0],
    }
    server = {"gen_ai.response.model": "m", "gen_ai.request.id": ids[1], **counted(12, 7)}
    between = [
        span({"http.request.method": "POST"}, ids=(1, 10 + i, 9 + i if i else 1)) for i in range(num_between)
    ]
    inner = span(server, ids=(1, 5, 9 + num_between if num_between else 1))
    (found,) = calls(request_of, span(client, ids=(1, 1, 0)), *between, inner)
    assert (found.output_text, found.usage) == ("In 30 days.", Usage(12, 7))


@pytest.mark.parametrize("num", [2, 3])
def test_a_span_around_several_calls_without_ids_is_none_of_them(
    span: Callable[..., Any], request_of: Callable[..., Any], num: int
) -> None:
    outer = span({**CHAT, **counted(99, 99), "gen_ai.output.messages": message("all")}, ids=(1, 1, 0))
    inner = [
        span({**CHAT, **counted(i, i), "gen_ai.output.messages": message(f"{i}")}, ids=(1, i, 1))
        for i in range(2, num + 2)
    ]
    assert [c.usage.input for c in calls(request_of, outer, *inner)] == list(range(2, num + 2))


def test_a_failed_attempt_inside_does_not_make_two_of_one(
    span: Callable[..., Any], request_of: Callable[..., Any]
) -> None:
    outer = span({**CHAT, "gen_ai.output.messages": message("yes"), **counted(3, 4)}, ids=(1, 1, 0))
    failed = span(CHAT, ids=(1, 2, 1), status=(2, "overloaded"))
    good = span({**CHAT, **counted(3, 4), "gen_ai.response.id": "r"}, ids=(1, 3, 1))
    (found,) = calls(request_of, outer, failed, good)
    assert (found.output_text, found.usage, found.response_id) == ("yes", Usage(3, 4), "r")


@pytest.mark.parametrize("has_call_inside", [False, True])
def test_a_remote_agent_is_a_call_where_none_inside_is_known(
    span: Callable[..., Any], request_of: Callable[..., Any], has_call_inside: bool
) -> None:
    agent = span({**CHAT, "gen_ai.operation.name": "invoke_agent", **counted(24, 14)}, ids=(1, 1, 0))
    agent.kind = CLIENT
    step = span({"gen_ai.operation.name": "execute_tool"}, ids=(1, 2, 1))
    inner = [span({**CHAT, **counted(10, 5)}, ids=(1, 3, 2))] if has_call_inside else []
    assert [c.usage.input for c in calls(request_of, agent, step, *inner)] == (
        [10] if has_call_inside else [24]
    )
