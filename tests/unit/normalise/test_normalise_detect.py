"""Which spans are calls: what looks like one and is none counts tokens twice."""

from collections.abc import Callable
from typing import Any

import pytest

from heedloop.schema import Call

Normalise = Callable[..., Call]

CALLS: list[tuple[str, dict[str, Any], str]] = [
    ("standard", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}, "chat"),
    (
        "gemini",
        {"gen_ai.operation.name": "generate_content", "gen_ai.request.model": "m"},
        "generate_content",
    ),
    (
        "completion",
        {"gen_ai.operation.name": "text_completion", "gen_ai.request.model": "m"},
        "text_completion",
    ),
    ("embeddings", {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "m"}, "embeddings"),
    ("litellm embedding", {"gen_ai.operation.name": "embedding", "gen_ai.request.model": "m"}, "embeddings"),
    ("traceloop before 0.4x", {"llm.request.type": "chat", "gen_ai.prompt.0.role": "user"}, "chat"),
    ("traceloop embedding", {"llm.request.type": "embedding"}, "embeddings"),
    ("openinference", {"openinference.span.kind": "LLM"}, "chat"),
    ("openinference embedding", {"openinference.span.kind": "EMBEDDING"}, "embeddings"),
    ("langfuse", {"langfuse.observation.type": "generation"}, "chat"),
    ("mlflow", {"mlflow.spanType": '"CHAT_MODEL"'}, "chat"),
    ("langsmith", {"langsmith.span.kind": "llm", "gen_ai.operation.name": "chat"}, "chat"),
    ("vercel", {"ai.operationId": "ai.generateText.doGenerate"}, "chat"),
    ("vercel stream", {"ai.operationId": "ai.streamText.doStream"}, "chat"),
    ("vercel embedding", {"ai.operationId": "ai.embedMany.doEmbed"}, "embeddings"),
    ("decorated function", {"heedloop.answer": True}, "chat"),
    ("nameless", {"gen_ai.request.model": "m", "gen_ai.usage.output_tokens": 3}, "chat"),
]
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("nothing", {}),
    ("http", {"http.request.method": "POST"}),
    (
        "agent",
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.request.model": "m",
            "gen_ai.usage.input_tokens": 210,
        },
    ),
    ("tool", {"gen_ai.operation.name": "execute_tool"}),
    ("workflow", {"gen_ai.operation.name": "invoke_workflow"}),
    ("outer span without a model", {"gen_ai.operation.name": "chat"}),
    ("openinference chain", {"openinference.span.kind": "CHAIN", "llm.token_count.prompt": 31}),
    ("openinference evaluator", {"openinference.span.kind": "EVALUATOR"}),
    ("langfuse span", {"langfuse.observation.type": "span"}),
    ("langfuse agent", {"langfuse.observation.type": "agent", "gen_ai.operation.name": "chat"}),
    ("mlflow tool", {"mlflow.spanType": '"TOOL"'}),
    (
        "langsmith prompt",
        {"langsmith.span.kind": "prompt", "gen_ai.operation.name": "chat", "gen_ai.request.model": "m"},
    ),
    ("vercel outer", {"ai.operationId": "ai.generateText", "gen_ai.usage.input_tokens": 31}),
    ("vercel tool", {"ai.operationId": "ai.toolCall"}),
    (
        "traceloop task",
        {"traceloop.span.kind": "task", "gen_ai.operation.name": "chat", "gen_ai.request.model": "m"},
    ),
    (
        "logfire pending",
        {"logfire.span_type": "pending_span", "gen_ai.operation.name": "chat", "gen_ai.request.model": "m"},
    ),
    ("litellm raw", {"llm.openai.id": "chatcmpl-1", "llm.openai.usage": "{'prompt_tokens': 3}"}),
    ("rerank", {"llm.request.type": "rerank"}),
    ("heedloop step", {"heedloop.step": "search", "heedloop.answer": False}),
]


@pytest.mark.parametrize(("attributes", "operation"), [c[1:] for c in CALLS], ids=[c[0] for c in CALLS])
def test_calls(call: Normalise, attributes: dict[str, Any], operation: str) -> None:
    found = call(attributes)
    assert found.operation == operation
    assert found.is_answer is (operation != "embeddings")


@pytest.mark.parametrize("attributes", [o[1] for o in OTHERS], ids=[o[0] for o in OTHERS])
def test_other_spans_have_no_operation_no_tokens_and_no_messages(
    call: Normalise, attributes: dict[str, Any]
) -> None:
    found = call({**attributes, "gen_ai.input.messages": '[{"role":"user","parts":[]}]', "session.id": "s"})
    assert (found.operation, found.is_answer) == ("", False)
    assert found.usage.input is None and found.usage.output is None and found.input_messages == ()
    assert found.session_id == "s"


def test_heedloop_s_word_decides_what_an_answer_is(call: Normalise) -> None:
    inner = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    assert call({**inner, "heedloop.answer": False}).is_answer is False
    assert call({**inner, "heedloop.answer": True}).is_answer is True


def test_a_call_inside_a_decorated_answer_is_a_part_of_it(span: Any, request_of: Any) -> None:
    from heedloop_server.normalise import normalise_request

    outer = span({"heedloop.answer": True}, ids=(1, 1, 0))
    step = span({"heedloop.step": "ask"}, ids=(1, 2, 1))
    inner = span({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}, ids=(1, 3, 2))
    alone = span({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}, ids=(2, 4, 0))
    found = normalise_request(request_of(inner, step, outer, alone))
    assert [c.is_answer for c in found] == [False, False, True, True]
    assert [c.operation for c in found] == ["chat", "", "chat", "chat"]
