"""One conversation, its counts and its cost in the dialects of clients that are not captured: each is read alike."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from heedloop.schema import Call, Usage

Normalise = Callable[..., Call]
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m"}
OPENINFERENCE = {"openinference.span.kind": "LLM", "llm.model_name": "m"}
COUNTS = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20}

ARGUMENTS = {"city": "Paris"}
CHAT_COMPLETIONS: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "weather", "arguments": json.dumps(ARGUMENTS)}}]},
    {"role": "tool", "tool_call_id": "t1", "content": "sun"},
]  # fmt: skip
PARTS: list[dict[str, Any]] = [
    {"role": "User", "parts": [{"type": "text", "content": "Weather?"}]},
    {"role": "ASSISTANT", "parts": [{"type": "tool_call", "id": "t1", "name": "weather", "arguments": ARGUMENTS}]},
    {"role": "Tool", "parts": [{"type": "tool_call_response", "id": "t1", "response": "sun"}]},
]  # fmt: skip
ANSWER = [{"role": "Assistant", "parts": [{"type": "Text", "content": "Sunny."}]}]


def respelled(write: Callable[[str], str]) -> list[dict[str, Any]]:
    """The parts with their types written another way."""
    return [{**m, "parts": [{**p, "type": write(p["type"])} for p in m["parts"]]} for m in PARTS]


def camel(words: str) -> str:
    head, *rest = words.split("_")
    return head + "".join(w.capitalize() for w in rest)


DIALECTS: dict[str, dict[str, Any]] = {
    "roles in capitals": {**CHAT, "gen_ai.input.messages": json.dumps(PARTS), "gen_ai.output.messages": json.dumps(ANSWER)},
    "maps and arrays": {**CHAT, "gen_ai.input.messages": PARTS, "gen_ai.output.messages": ANSWER},
    "an array of JSON texts": {**CHAT, "gen_ai.input.messages": [json.dumps(m) for m in PARTS], "gen_ai.output.messages": [json.dumps(m) for m in ANSWER]},
    "bytes": {**CHAT, "gen_ai.input.messages": json.dumps(PARTS).encode(), "gen_ai.output.messages": json.dumps(ANSWER).encode()},
    "types in camel case": {**CHAT, "gen_ai.input.messages": json.dumps(respelled(camel)), "gen_ai.output.messages": json.dumps(ANSWER)},
    "types in capitals": {**CHAT, "gen_ai.input.messages": json.dumps(respelled(str.upper)), "gen_ai.output.messages": json.dumps(ANSWER)},
    "types with dashes": {**CHAT, "gen_ai.input.messages": json.dumps(respelled(lambda t: t.replace("_", "-"))), "gen_ai.output.messages": json.dumps(ANSWER)},
    "sentry": {**CHAT, "gen_ai.request.messages": json.dumps(CHAT_COMPLETIONS), "gen_ai.response.text": "Sunny."},
    "cloudflare": {**CHAT, "gen_ai.prompt_json": json.dumps(CHAT_COMPLETIONS), "gen_ai.completion_json": json.dumps([{"role": "assistant", "content": "Sunny."}])},
    "langwatch": {**CHAT, "langwatch.input": json.dumps({"type": "chat_messages", "value": CHAT_COMPLETIONS}), "langwatch.output": json.dumps({"type": "text", "value": "Sunny."})},
    "laminar": {**CHAT, "lmnr.span.input": json.dumps(CHAT_COMPLETIONS), "lmnr.span.output": "Sunny."},
    "traceloop's entity": {"llm.request.type": "chat", "gen_ai.request.model": "m", "traceloop.entity.input": json.dumps(CHAT_COMPLETIONS), "traceloop.entity.output": "Sunny."},
    "input.value beside standard names": {**CHAT, "input.value": json.dumps({"messages": CHAT_COMPLETIONS}), "output.value": json.dumps({"choices": [{"message": {"role": "assistant", "content": "Sunny."}}]})},
    "openinference in one attribute": {
        **OPENINFERENCE,
        "llm.input_messages": json.dumps(
            [
                {"message.role": "user", "message.content": "Weather?"},
                {"message.role": "assistant", "message.tool_calls": [{"tool_call.id": "t1", "tool_call.function.name": "weather", "tool_call.function.arguments": json.dumps(ARGUMENTS)}]},
                {"message.role": "tool", "message.content": "sun", "message.tool_call_id": "t1"},
            ]
        ),
        "llm.output_messages": [{"message": {"role": "assistant", "content": "Sunny."}}],
    },
    "cohere's documents": {**CHAT, "gen_ai.input.messages": json.dumps([*CHAT_COMPLETIONS[:2], {"role": "tool", "tool_call_id": "t1", "content": [{"type": "document", "document": {"data": "sun"}}]}]), "gen_ai.output.messages": json.dumps(ANSWER)},
    "custom tools of the Responses API": {
        "langfuse.observation.type": "generation",
        "langfuse.observation.input": json.dumps([CHAT_COMPLETIONS[0], {"type": "custom_tool_call", "call_id": "t1", "name": "weather", "input": json.dumps(ARGUMENTS)}, {"type": "custom_tool_call_output", "call_id": "t1", "output": "sun"}]),
        "langfuse.observation.output": json.dumps([{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Sunny."}]}]),
    },
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_tool_loop_is_read_in_any_dialect(call: Normalise, dialect: str) -> None:
    found = call(DIALECTS[dialect])
    question, asked, result = found.input_messages
    assert [(m.role, m.text) for m in (question, result)] == [("user", "Weather?"), ("tool", "sun")]
    assert [(c.name, json.loads(c.arguments), c.id) for c in asked.tool_calls] == [
        ("weather", ARGUMENTS, "t1")
    ]
    assert (asked.role, result.tool_call_id, found.output_text) == ("assistant", "t1", "Sunny.")


@pytest.mark.parametrize(
    "role", ["Bot", "MessageRole.ASSISTANT", "MODEL", ["assistant"], 2, None, "unknown", b"Assistant"]
)
def test_an_answer_is_the_assistants_whatever_its_role_is_written_as(call: Normalise, role: object) -> None:
    (message,) = call(
        {**CHAT, "gen_ai.output.messages": [{"role": role, "content": "Hello."}]}
    ).output_messages
    assert (message.role, message.text) == ("assistant", "Hello.")


def test_tool_calls_beside_the_text_of_an_answer_are_a_part_of_it(call: Normalise) -> None:
    calls = {"gen_ai.response.tool_calls": json.dumps([{"id": "t1", "name": "weather", "arguments": "{}"}])}
    for text, sent in (("", {}), ("Wait.", {"gen_ai.response.text": "Wait."})):
        (message,) = call({**CHAT, **calls, **sent}).output_messages
        assert (message.text, [c.name for c in message.tool_calls]) == (text, ["weather"])


def test_json_that_the_app_asked_for_is_the_answer(call: Normalise) -> None:
    answer = json.dumps({"city": "Paris"})
    found = call({**OPENINFERENCE, "llm.token_count.completion": 3, "output.value": answer})
    assert found.output_text == answer


@pytest.mark.parametrize(
    "counts",
    [
        {"gen_ai.usage": {"input_tokens": 100, "output_tokens": 20, "cache_read": {"input_tokens": 40}}},
        {"gen_ai.usage": json.dumps({"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 40}})},
        {"langsmith.usage_metadata": json.dumps({"input_tokens": 100, "output_tokens": 20, "input_token_details": {"cache_read": 40}})},
        {"langwatch.metrics": json.dumps({"promptTokens": 100, "completionTokens": 20, "cachedTokens": 40, "cost": 0.1})},
        {"gen_ai.response.prompt_tokens": 100, "gen_ai.response.completion_tokens": 20, "gen_ai.usage.cached_tokens": 40},
        {"gen_ai.usage.input_tokens": float("nan"), "gen_ai.usage.prompt_tokens": "100", "gen_ai.usage.output_tokens": [20], "gen_ai.usage.cached_tokens": 40.0},
        {"gen_ai.usage.inputTokens": 100, "gen_ai.usage.outputTokens": b"20", "gen_ai.usage.cacheReadInputTokens": 40},
        {**COUNTS, "gen_ai.usage.prompt_cache_hit_tokens": 40, "gen_ai.usage.prompt_cache_miss_tokens": 60},
    ],
)  # fmt: skip
def test_counts_are_read_in_any_dialect_and_type(call: Normalise, counts: dict[str, Any]) -> None:
    assert call({**CHAT, **counts}).usage == Usage(100, 20, 40)


@pytest.mark.parametrize(
    "costs",
    [
        {"gen_ai.usage.cost_usd": 0.3},
        {"gen_ai.cost.amount": "0.3"},
        {"$ai_total_cost_usd": 0.3},
        {"gen_ai.usage.cost": {"total": 0.3}},
        {"gen_ai.usage.cost": json.dumps({"input": 0.1, "output": 0.2})} | {"gen_ai.usage.cost_usd": 0.3},
        {"hidden_params": json.dumps({"model_id": "7", "response_cost": 0.3})},
        {"langwatch.metrics": json.dumps({"promptTokens": 100, "cost": 0.3})},
        {"langsmith.usage_metadata": json.dumps({"input_tokens": 1, "input_cost": 0.1, "output_cost": 0.2})},
        {"langfuse.observation.cost_details": json.dumps({"input": 0.1, "input_cached_tokens": 0.1, "output": 0.1})},
        {"llm.cost.prompt_details.input": 0.1, "llm.cost.prompt_details.cache_read": 0.1, "llm.cost.completion_details.output": 0.1},
        {"llm.cost.prompt": 0.1, "llm.cost.completion": 0.2, "llm.cost.prompt_details.input": 0.1},
    ],
)  # fmt: skip
def test_a_cost_is_read_in_any_dialect(call: Normalise, costs: dict[str, Any]) -> None:
    assert call({**CHAT, **costs}).cost == pytest.approx(0.3)


@pytest.mark.parametrize(
    "name", ["shipping.cost", "cost", "gen_ai.request.max_cost", "llm.cost_center", "cost.total"]
)
def test_what_is_no_calls_cost_is_none(call: Normalise, name: str) -> None:
    assert call({**CHAT, name: 0.3}).cost is None


@pytest.mark.parametrize(
    "costs", [{"gen_ai.usage.cost": 0}, {"llm.cost.prompt": 0.0, "llm.cost.completion": 0.0}]
)
def test_a_client_that_does_not_know_the_price_says_none(call: Normalise, costs: dict[str, Any]) -> None:
    assert call({**CHAT, **COUNTS, **costs}).cost is None
    assert call({**CHAT, **COUNTS, "heedloop.cost": 0.0}).cost == 0


@pytest.mark.parametrize("reason", [1.5, 3, ["stop"], {"a": 1}, None, True])
def test_a_finish_reason_of_any_type_inside_messages_stops_nothing(call: Normalise, reason: object) -> None:
    message = {"role": "assistant", "content": "Hello.", "finish_reason": reason}
    for sent in ([message], json.dumps([message])):
        found = call({**CHAT, "gen_ai.output.messages": sent})
        assert all(isinstance(r, str) for r in found.finish_reasons) and found.output_text == "Hello."


def test_openlits_defaults_are_no_parameters(call: Normalise) -> None:
    filled_in = {
        "seed": 0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "temperature": 1.0,
        "top_p": 0.9,
    }
    sent = {f"gen_ai.request.{k}": v for k, v in filled_in.items()}
    assert call({**CHAT, **sent, "telemetry.sdk.name": "openlit"}).params == {"top_p": 0.9}
    assert call({**CHAT, **sent}).params == filled_in


BAGS = (
    "traceloop.association.properties.",
    "ai.telemetry.metadata.",
    "langsmith.metadata.",
    "langfuse.trace.metadata.",
    "metadata.",
)


@pytest.mark.parametrize("bag", BAGS)
@pytest.mark.parametrize("name", ["session_id", "sessionId", "threadId", "conversation_id", "chatId"])
def test_what_the_app_calls_a_session_is_one_in_any_bag(call: Normalise, bag: str, name: str) -> None:
    found = call({**CHAT, bag + name: ["s"], bag + "userId": 42})
    assert (found.session_id, found.user_id) == ("s", "42")


@pytest.mark.parametrize(
    ("sent", "operation"),
    [
        ("chat.streaming_completions", "chat"), ("text.streaming_completions", "text_completion"), ("Chat", "chat"),
        ("multimodal_completion", "chat"), (["chat"], "chat"), ("rerank", ""), ("image_generation", ""), ("handoff", ""),
    ],
)  # fmt: skip
def test_operations_of_other_frameworks(call: Normalise, sent: object, operation: str) -> None:
    assert call({**CHAT, **COUNTS, "gen_ai.operation.name": sent}).operation == operation


@pytest.mark.parametrize(
    ("kind", "operation"),
    [("LLM", "chat"), ("EMBEDDING", "embeddings"), ("AGENT", ""), ("chain", ""), ("TOOL", "")],
)
def test_a_kind_beside_the_standard_s_names(call: Normalise, kind: str, operation: str) -> None:
    named = {"gen_ai.span.kind": kind, "gen_ai.request.model": "m", **COUNTS}
    assert call(named).operation == operation


@pytest.mark.parametrize(
    ("sent", "provider"),
    [
        ("AzureOpenAI", "azure.ai.openai"), ("Azure OpenAI", "azure.ai.openai"), ("azure-openai.chat", "azure.ai.openai"),
        ("AmazonBedrock", "aws.bedrock"), ("google.vertex.chat", "gcp.vertex_ai"), ("google.generative-ai", "gcp.gemini"),
        ("vertex_ai_beta", "gcp.vertex_ai"), ("togetherai", "together_ai"), ("gcp.vertex.agent", None),
    ],
)  # fmt: skip
def test_a_provider_has_one_id_however_it_is_written(
    call: Normalise, sent: str, provider: str | None
) -> None:
    assert call({**CHAT, "gen_ai.provider.name": sent}).provider == provider
