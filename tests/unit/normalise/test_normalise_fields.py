"""Single rules: providers, parameters, context, failures, raw attributes."""

from collections.abc import Callable
from typing import Any

import pytest

from heedloop.schema import Call, Message, Usage
from heedloop_server.normalise.indexed import unflatten
from heedloop_server.normalise.params import read_params
from heedloop_server.normalise.providers import provider_id

Normalise = Callable[..., Call]
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"}


@pytest.mark.parametrize(
    ("sent", "known"),
    [
        ("openai", "openai"),
        ("OpenAI", "openai"),
        ("openai.chat", "openai"),
        ("Anthropic", "anthropic"),
        ("gemini", "gcp.gemini"),
        ("google.generative-ai", "gcp.gemini"),
        ("vertexai", "gcp.vertex_ai"),
        ("aws.bedrock", "aws.bedrock"),
        ("azure.ai.openai", "azure.ai.openai"),
        ("amazon-bedrock", "aws.bedrock"),
        ("mistralai", "mistral_ai"),
        ("my-own-llm", "my-own-llm"),
        ("strands-agents", None),
        ("langchain", None),
        ("", None),
        (None, None),
        (7, "7"),
    ],
)
def test_provider_id(sent: object, known: str | None) -> None:
    assert provider_id(sent) == known


def test_a_framework_leaves_the_provider_to_others(call: Normalise) -> None:
    assert (
        call(
            {
                **CHAT,
                "gen_ai.system": "langchain",
                "langsmith.span.kind": "llm",
                "langsmith.metadata.ls_provider": "openai",
            }
        ).provider
        == "openai"
    )


def test_params_have_one_name_and_no_inventions() -> None:
    sent = {
        "max_completion_tokens": "64",
        "temperature": 0.2,
        "stopSequences": ["END"],
        "response_format": {"type": "json_object"},
        "topP": None,
        "seed": "Infinity",
        "candidate_count": 2,
        "reasoning": {"effort": "low"},
        "user": "u",
    }
    assert read_params(sent) == {
        "max_tokens": 64,
        "temperature": 0.2,
        "stop": ["END"],
        "response_format": "json_object",
        "n": 2,
        "reasoning_effort": "low",
    }


def test_the_defaults_in_a_response_are_no_parameters() -> None:
    echo = {"temperature": 1.0, "top_p": 1, "max_output_tokens": 9, "truncation": "disabled"}
    assert read_params({**echo, "parallel_tool_calls": True}) == {"max_tokens": 9}
    assert read_params(echo) == {"temperature": 1.0, "top_p": 1, "max_tokens": 9}


def test_langfuse_s_defaults_are_no_parameters(call: Normalise) -> None:
    wrapped = '{"temperature": 1, "max_tokens": "Infinity", "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0}'
    by_hand = '{"temperature": 1, "max_tokens": 64}'
    kind = {"langfuse.observation.type": "generation"}
    assert call({**kind, "langfuse.observation.model.parameters": wrapped}).params == {}
    assert call({**kind, "langfuse.observation.model.parameters": by_hand}).params == {
        "temperature": 1,
        "max_tokens": 64,
    }


@pytest.mark.parametrize(
    "names",
    [
        ("gen_ai.conversation.id", "user.id"),
        ("session.id", "user.id"),
        ("session_id", "user_id"),
        ("langfuse.session.id", "langfuse.user.id"),
        ("traceloop.association.properties.session_id", "traceloop.association.properties.user_id"),
        ("ai.telemetry.metadata.sessionId", "ai.telemetry.metadata.userId"),
        ("langsmith.metadata.thread_id", "langsmith.metadata.user_id"),
        ("ai.settings.context.sessionId", "ai.settings.context.userId"),
        ("mlflow.trace.session", "mlflow.trace.user"),
    ],
)
def test_session_and_user(call: Normalise, names: tuple[str, str]) -> None:
    found = call({names[0]: "sess-1", names[1]: "user-1"})
    assert (found.session_id, found.user_id) == ("sess-1", "user-1")


def test_metadata_of_openinference(call: Normalise) -> None:
    found = call(
        {"openinference.span.kind": "LLM", "metadata": '{"session_id": "s", "user_id": "u", "tags": ["a"]}'}
    )
    assert (found.session_id, found.user_id, found.tags) == ("s", "u", ("a",))


@pytest.mark.parametrize(
    ("attributes", "tags"),
    [
        ({"heedloop.tags": ["a", "b"]}, ("a", "b")),
        ({"langfuse.trace.tags": ["a"]}, ("a",)),
        ({"langsmith.span.tags": "a, seq:step:2, b"}, ("a", "b")),
        ({"tag.tags": '["a"]'}, ("a",)),
        ({"logfire.tags": ["LLM"]}, ()),
    ],
)
def test_tags(call: Normalise, attributes: dict[str, Any], tags: tuple[str, ...]) -> None:
    assert call(attributes).tags == tags


@pytest.mark.parametrize(
    ("attributes", "prompt"),
    [
        ({"gen_ai.prompt.name": "p", "gen_ai.prompt.version": "3"}, ("p", "3")),
        ({"langfuse.observation.prompt.name": "p", "langfuse.observation.prompt.version": 3}, ("p", "3")),
        ({"traceloop.prompt.key": "p", "traceloop.prompt.version": 3}, ("p", "3")),
        ({"mlflow.spanType": '"LLM"', "mlflow.linkedPrompts": '[{"name": "p", "version": 3}]'}, ("p", "3")),
    ],
)
def test_prompts(call: Normalise, attributes: dict[str, Any], prompt: tuple[str, str]) -> None:
    found = call(attributes)
    assert (found.prompt_name, found.prompt_version) == prompt


@pytest.mark.parametrize(
    "attributes",
    [
        {"heedloop.cost": 0.5},
        {"operation.cost": 0.5},
        {"gen_ai.cost.total_cost": 0.5},
        {"llm.cost.total": 0.5},
        {"langfuse.observation.type": "generation", "langfuse.observation.cost_details": '{"total": 0.5}'},
    ],
)
def test_cost(call: Normalise, attributes: dict[str, Any]) -> None:
    assert call({**CHAT, **attributes}).cost == 0.5


# ------------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize(
    ("fields", "message", "http_status"),
    [
        (
            {"status": (2, "Error code: 429 - Rate limit reached")},
            "Error code: 429 - Rate limit reached",
            429,
        ),
        ({"status": (2, "ModelRateLimitError: status_code: 429, model_name: m")}, None, 429),
        (
            {
                "status": (2, ""),
                "events": (("exception", {"exception.message": "HTTP/1.1 503 Service Unavailable"}),),
            },
            None,
            503,
        ),
        ({"events": (("exception", {"exception.message": "boom"}),)}, "boom", None),
        ({"status": (2, "took 429 tokens")}, "took 429 tokens", None),
    ],
)
def test_failures(
    call: Normalise, fields: dict[str, Any], message: str | None, http_status: int | None
) -> None:
    found = call(CHAT, **fields)
    assert found.status == "error"
    assert found.http_status == http_status
    assert message is None or found.error_message == message


def test_an_error_type_is_a_failure_where_the_status_says_nothing(call: Normalise) -> None:
    assert (
        call({**CHAT, "error.type": "rate_limit_error", "http.response.status_code": 429}).http_status == 429
    )
    assert call({**CHAT, "error.type": "x"}).status == "error"
    assert call({**CHAT, "error.type": "x"}, status=(1, "")).status == "ok"


def test_langfuse_s_level_is_a_failure(call: Normalise) -> None:
    found = call(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.level": "ERROR",
            "langfuse.observation.status_message": "boom",
        }
    )
    assert (found.status, found.error_message) == ("error", "boom")


# ------------------------------------------------------------------------------------------------ what stays raw


def test_nothing_that_was_sent_is_lost(span: Any, request_of: Any) -> None:
    from heedloop_server.normalise import normalise_request

    sent = span(
        {"a": "text", "b": 7, "c": 0.5, "d": True, "e": ["x", 1], "f": {"g": "h"}, "h": b"\x00\xff", "i": ""},
        events=(
            ("exception", {"exception.type": "E", "exception.message": "boom"}),
            ("chunk", {}),
            ("chunk", {}),
            ("note", {"k": 1}),
        ),
        links=((9, 8),),
    )
    (found,) = normalise_request(
        request_of(sent, scope="lib", resource={"service.name": "shop", "host.id": "h1"})
    )
    texts = dict(found.attributes)
    events = texts.pop("otel.events")
    assert texts == {
        "a": "text",
        "b": "7",
        "c": "0.5",
        "d": "true",
        "e": '["x", 1]',
        "f": '{"g": "h"}',
        "h": "AP8=",
        "i": "",
        "resource.service.name": "shop",
        "resource.host.id": "h1",
        "otel.scope.name": "lib",
        "exception.type": "E",
        "exception.message": "boom",
        "otel.links": f'[["{9:032x}", "{8:016x}"]]',
    }
    assert '"count": 2' in events and '"k": 1' in events
    assert found.service == "shop"


@pytest.mark.parametrize("start_ns", [0, 1, 2**63, 2**64 - 1])
def test_any_time_is_a_time(span: Any, request_of: Any, start_ns: int) -> None:
    from heedloop_server.normalise import normalise_request

    sent = span({})
    sent.start_time_unix_nano, sent.end_time_unix_nano = start_ns, 0
    (found,) = normalise_request(request_of(sent))
    assert found.start_time.tzinfo is not None and found.duration_ns == 0


# ------------------------------------------------------------------------------------------------------- content


def test_numbers_order_indexed_messages(call: Normalise) -> None:
    attributes: dict[str, Any] = {"llm.request.type": "chat"}
    for i in reversed(range(13)):
        attributes |= {f"gen_ai.prompt.{i}.role": "user", f"gen_ai.prompt.{i}.content": f"m{i}"}
    assert [m.text for m in call(attributes).input_messages] == [f"m{i}" for i in range(13)]


def test_contradicting_keys_are_survived() -> None:
    assert unflatten({"p.0": "x", "p.0.role": "user", "p.1.role": "user", "p.one": 3}, "p.") == []
    assert unflatten({"p.0": "x", "p.1.role": "user"}, "p.") == ["x", {"role": "user"}]
    assert unflatten({"p.0.a": 1, "p.0": "x"}, "p.") == [{"a": 1}]


def test_redacted_content_is_text(call: Normalise) -> None:
    found = call({**CHAT, "gen_ai.input.messages": "__REDACTED__", "gen_ai.output.messages": "__REDACTED__"})
    assert found.output_messages == (Message("assistant", "__REDACTED__"),)


def test_truncated_messages_keep_what_came(call: Normalise) -> None:
    found = call(
        {
            **CHAT,
            "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"Paris is the cap',
        }
    )
    assert found.output_text == "Paris is the cap"


def test_the_raw_response_names_the_model_that_answered(call: Normalise) -> None:
    found = call(
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "gpt-4o-mini",
            "llm.invocation_parameters": '{"model": "gpt-4o-mini"}',
            "output.value": '{"id": "chatcmpl-1", "model": "gpt-4o-mini-2024-07-18", "choices": [{"finish_reason": "stop", "message": {"content": "4"}}]}',
        }
    )
    assert (found.model_requested, found.model_answered, found.response_id) == (
        "gpt-4o-mini",
        "gpt-4o-mini-2024-07-18",
        "chatcmpl-1",
    )
    assert found.finish_reasons == ("stop",) and found.output_text == "4"


def test_usage_in_both_spellings_counts_once(call: Normalise) -> None:
    found = call(
        {
            **CHAT,
            "gen_ai.usage.input_tokens": 83,
            "gen_ai.usage.prompt_tokens": 83,
            "gen_ai.usage.output_tokens": 27,
        }
    )
    assert found.usage == Usage(83, 27)


def test_values_of_the_wrong_type_are_left_out(call: Normalise) -> None:
    odd: dict[str, Any] = {
        **CHAT,
        "gen_ai.usage.input_tokens": "many",
        "gen_ai.response.id": ["a", "b"],
        "gen_ai.request.temperature": {"a": 1},
        "gen_ai.response.finish_reasons": {"a": 1},
        "gen_ai.input.messages": 7,
        "gen_ai.provider.name": True,
    }
    found = call(odd)
    assert (found.usage, found.response_id, found.params, found.input_messages) == (Usage(), None, {}, ())


# ----------------------------------------------------------------------------- older versions that no capture holds


def test_logfire_s_first_version(call: Normalise) -> None:
    request = '{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5}'
    answered = {
        "request_data": request,
        "logfire.msg_template": "Chat Completion with {request_data[model]!r}",
        "response_data": '{"message": {"role": "assistant", "content": "Yo"}, "usage": {"prompt_tokens": 3, "completion_tokens": 1}}',
    }
    found = call({**answered, "logfire.span_type": "span"}, scope="logfire.openai")
    assert (found.operation, found.model_requested, found.output_text, found.usage) == (
        "chat",
        "gpt-4o",
        "Yo",
        Usage(3, 1),
    )
    assert found.params == {"temperature": 0.5}
    streamed = {
        **answered,
        "logfire.span_type": "log",
        "duration": 0.5,
        "response_data": '{"combined_chunk_content": "Yo", "chunk_count": 2}',
    }
    found = call(streamed, scope="logfire.openai")
    assert (found.stream, found.output_text, found.duration_ns) == (True, "Yo", 500_000_000)
    half = call(
        {"request_data": request, "logfire.span_type": "span", "logfire.msg_template": "Chat"},
        scope="logfire.openai",
    )
    assert half.operation == ""


def test_adk_s_first_schema(call: Normalise) -> None:
    found = call(
        {
            "gen_ai.system": "gcp.vertex.agent",
            "gen_ai.request.model": "gemini-2.5-flash",
            "gcp.vertex.agent.llm_request": '{"model": "gemini-2.5-flash", "config": {"temperature": 0.2, "system_instruction": "Be terse."},'
            ' "contents": [{"role": "user", "parts": [{"text": "Weather?"}]}]}',
            "gcp.vertex.agent.llm_response": '{"content": {"role": "model", "parts": [{"functionCall": {"id": "c1", "name": "w", "args": {}}}]},'
            ' "finish_reason": "STOP", "usage_metadata": {"prompt_token_count": 83, "candidates_token_count": 27}}',
        }
    )
    assert [(m.role, m.text) for m in found.input_messages] == [("system", "Be terse."), ("user", "Weather?")]
    assert found.output_messages[0].tool_calls[0].name == "w"
    assert (found.finish_reasons, found.usage, found.params) == (
        ("stop",),
        Usage(83, 27),
        {"temperature": 0.2},
    )
    assert found.provider == "gcp.gemini"


def test_azure_s_events(call: Normalise) -> None:
    events = (
        ("gen_ai.user.message", {"gen_ai.event.content": '{"role": "user", "content": "Hi"}'}),
        (
            "gen_ai.choice",
            {"gen_ai.event.content": '{"message": {"content": "Yo"}, "finish_reason": "stop", "index": 0}'},
        ),
    )
    found = call(CHAT, events=events)
    assert found.input_messages == (Message("user", "Hi"),)
    assert (found.output_text, found.finish_reasons) == ("Yo", ("stop",))


def test_strands_with_the_new_events(call: Normalise) -> None:
    details = {
        "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"Hi"}]}]',
        "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"Yo"}],"finish_reason":"end_turn"}]',
    }
    found = call(CHAT, events=(("gen_ai.client.inference.operation.details", details),))
    assert (found.output_text, found.finish_reasons) == ("Yo", ("end_turn",))


def test_langfuse_for_javascript(call: Normalise) -> None:
    found = call(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "gpt-4o-mini",
            "langfuse.observation.input": '{"messages": [{"role": "user", "content": "Hi"}]}',
            "langfuse.observation.output": '{"role": "assistant", "content": "Yo"}',
            "langfuse.observation.usage_details": '{"input": 63, "output": 14, "total": 141, "input_cached_tokens": 64}',
        }
    )
    assert (found.input_messages, found.output_text) == ((Message("user", "Hi"),), "Yo")
    assert found.usage == Usage(127, 14, 64)


def test_messages_as_structured_attributes(call: Normalise) -> None:
    found = call(
        {**CHAT, "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]}
    )
    assert found.input_messages == (Message("user", "Hi"),)


def test_vercel_before_version_4(call: Normalise) -> None:
    found = call(
        {"ai.operationId": "ai.generateText.doGenerate", "ai.result.text": "Yo", "ai.finishReason": "stop"}
    )
    assert (found.output_text, found.finish_reasons) == ("Yo", ("stop",))


OI = {"openinference.span.kind": "LLM", "llm.model_name": "m"}


def test_one_model_name_is_both_unless_the_response_says_more(call: Normalise) -> None:
    def models(**more: Any) -> tuple[str | None, str | None]:
        found = call({**OI, **more})
        return found.model_requested, found.model_answered

    assert models() == ("m", "m")
    assert models(**{"output.value": '{"model": "m-0901", "content": "Hi"}'}) == ("m", "m-0901")
    assert models(**{"output.value": '{"model": "m", "content": "Hi"}'}) == (None, "m")
    assert models(**{"gen_ai.request.model": "a", "gen_ai.response.model": "b"}) == ("a", "b")
    failed = call(OI, status=(2, "429"))
    assert (failed.model_requested, failed.model_answered) == ("m", None)


def test_a_step_before_the_call_is_no_call(call: Normalise) -> None:
    step = {**OI, "output.value": '{"messages": ["..."], "tools": []}'}
    assert call(step).operation == ""
    assert call({**step, "llm.token_count.prompt": 3}).operation == "chat"
    assert call(step, status=(2, "boom")).operation == "chat"
    assert call({**OI, "output.value": "__REDACTED__"}).operation == "chat"


def test_openai_agents_placeholder_is_no_response_id(call: Normalise) -> None:
    response = '[{"id": "__fake_id__", "object": "response", "model": "m", "output": [{"type": "message", '
    response += '"role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}]}]'
    found = call({**OI, "output.value": response})
    assert (found.response_id, found.output_text) == (None, "Hi")


def test_an_answer_without_any_part_says_nothing(call: Normalise) -> None:
    assert call({**OI, "llm.output_messages.0.message.role": "assistant"}).output_messages == ()


def test_an_empty_answer_is_an_answer_but_of_a_call_that_failed(call: Normalise) -> None:
    sent = {**CHAT, "heedloop.output": ""}
    assert call(sent).output_messages == (Message("assistant", ""),)
    assert call({**sent, "error.type": "TimeoutError"}).output_messages == ()


@pytest.mark.parametrize("name", ["gen_ai.prompt", "gen_ai.content.prompt"])
def test_whole_conversations_under_older_names(call: Normalise, name: str) -> None:
    sent = {name: '[{"role": "user", "content": "Hi"}]', name.replace("prompt", "completion"): "Ho"}
    found = call({**CHAT, **sent})
    assert (found.input_messages, found.output_text) == ((Message("user", "Hi"),), "Ho")
