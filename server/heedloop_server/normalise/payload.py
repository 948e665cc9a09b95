"""Providers' own requests and responses, which many clients send whole: OpenAI, Anthropic, Google, LangChain."""

from __future__ import annotations

from typing import Any

from heedloop.schema import Message, Usage
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.messages import one_turn, read_messages, with_system
from heedloop_server.normalise.params import read_params
from heedloop_server.normalise.tool_definitions import definitions_in_request
from heedloop_server.normalise.usage import read_usage
from heedloop_server.normalise.values import (
    as_count,
    as_flag,
    as_name,
    as_text,
    as_texts,
    read_json,
    read_object,
)

_CONVERSATIONS = ("messages", "contents", "input", "inputText")
_TO_EMBED = ("input", "texts", "inputs", "contents", "inputText")
_NO_ID = "__fake_id__"
"""OpenAI Agents' word in the place of an id, for responses that it made itself of another API's."""
_INSTRUCTIONS = ("system", "instructions", "system_instruction", "systemInstruction")


def read_request(draft: Draft, value: Any, *, embeddings: bool = False) -> None:
    """Fills a draft from a provider's request: model, parameters, conversation or texts to embed, streaming."""
    request = read_object(value)
    if not request:
        return
    draft.model_requested = draft.model_requested or as_name(request.get("model"))
    draft.stream = draft.stream or as_flag(request.get("stream")) is True
    config = request.get("config") or request.get("generationConfig") or request.get("generation_config")
    for given in (request, config):
        if isinstance(given, dict):
            draft.add_params(read_params(given))
    if embeddings:
        draft.embedding_inputs = draft.embedding_inputs or embedding_texts(
            next((request[k] for k in _TO_EMBED if request.get(k)), None)
        )
        return
    draft.input_messages = draft.input_messages or conversation(request)
    draft.tool_definitions = draft.tool_definitions or definitions_in_request(request)


def conversation(request: dict[str, Any]) -> tuple[Message, ...]:
    """The messages of a request, with its system instructions first; none where it has none."""
    for key in (*_CONVERSATIONS, "prompt"):
        if request.get(key):
            messages = read_messages(request[key])
            break
    else:
        return ()
    for key in _INSTRUCTIONS:
        messages = with_system(request.get(key), messages)
    config = request.get("config")
    return with_system(config.get("system_instruction"), messages) if isinstance(config, dict) else messages


def embedding_texts(value: Any) -> tuple[str, ...]:
    """The texts of an embedding request's `input`: one text or a list of them."""
    return as_texts(value)


def read_response(draft: Draft, value: Any, *, embeddings: bool = False) -> None:
    """Fills a draft from a provider's response: id, model, answer, finish reasons, usage."""
    response = _response_in(value)
    if set(response) == {"data"}:  # an event of Mistral's stream
        response = read_object(response["data"])
    if not response:
        return
    if "generations" in response:
        _read_langchain(draft, response)
        return
    response = _with_meta(response)
    own = as_name(response.get("id") or response.get("responseId") or response.get("response_id"))
    draft.response_id = draft.response_id or (own if own != _NO_ID else None)
    draft.model_answered = draft.model_answered or as_name(
        response.get("model") or response.get("modelVersion") or response.get("model_version")
    )
    for key in ("usage", "usageMetadata", "usage_metadata", "billed_units"):
        if isinstance(response.get(key), dict):
            draft.add_usage(read_usage(response[key]))
    if embeddings:
        _count_total_as_input(draft, response)
        return
    draft.output_messages = draft.output_messages or answer_messages(response)
    draft.finish_reasons = draft.finish_reasons or _finish_reasons(response)


def _response_in(value: Any) -> dict[str, Any]:
    """The response that a value holds, also as a list of one; an empty one where it holds none."""
    parsed = read_json(value)
    if (
        isinstance(parsed, list)
        and len(parsed) == 1
        and isinstance(parsed[0], dict)
        and "object" in parsed[0]
    ):
        return parsed[0]
    return parsed if isinstance(parsed, dict) else {}


def _with_meta(response: dict[str, Any]) -> dict[str, Any]:
    """The response with what stands in its `meta`: Haystack's components, of which generators give one for each reply."""
    meta = response.get("meta")
    first = meta[0] if isinstance(meta, list) and meta else meta
    if not isinstance(first, dict):
        return response
    replies = response.get("replies")
    more = {"choices": [{"message": r} for r in replies]} if isinstance(replies, list) and replies else {}
    return {**first, **more, **response}


def _count_total_as_input(draft: Draft, response: dict[str, Any]) -> None:
    """An embedding has no output: of a usage with nothing but a total that is the input."""
    usage = response.get("usage")
    if draft.usage.input is None and isinstance(usage, dict):
        draft.add_usage(Usage(as_count(usage.get("total_tokens")) or None))


def answer_messages(response: dict[str, Any]) -> tuple[Message, ...]:
    """The answer in a response: choices, output items, candidates, or a message's own content."""
    for key in ("choices", "candidates"):
        if isinstance(response.get(key), list):
            inner = "content" if key == "candidates" else "message"
            found = [c.get(inner) or c.get("text") for c in response[key] if isinstance(c, dict)]
            return tuple(m for f in found if f for m in read_messages(f, "assistant"))
    output = response.get("output")
    if isinstance(output, dict) and "message" in output:  # Bedrock Converse
        return read_messages([output["message"]], "assistant")
    if isinstance(output, list):
        return one_turn(read_messages(output, "assistant"))
    if isinstance(response.get("content"), dict):  # Gemini through Google's ADK
        return read_messages([response["content"]], "assistant")
    if "content" in response or "role" in response:
        return read_messages([{"role": "assistant", **response}], "assistant")
    return ()


def _finish_reasons(response: dict[str, Any]) -> tuple[str, ...]:
    for key in ("choices", "candidates"):
        if isinstance(response.get(key), list):
            found = [
                c.get("finish_reason") or c.get("finishReason") for c in response[key] if isinstance(c, dict)
            ]
            return tuple(as_text(f) for f in found if f)
    for key in ("stop_reason", "stopReason", "finish_reason", "finishReason"):
        if isinstance(response.get(key), str) and response[key]:
            return (response[key],)
    return ()


def _read_langchain(draft: Draft, response: dict[str, Any]) -> None:
    """An `LLMResult`: lists of generations, each with a message that carries the provider's metadata."""
    generations = response.get("generations")
    while isinstance(generations, list) and generations and isinstance(generations[0], list):
        generations = generations[0]
    entries = [g for g in generations if isinstance(g, dict)] if isinstance(generations, list) else []
    messages: list[Message] = []
    reasons: list[str] = []
    for entry in entries:
        message = read_object(entry.get("message"))
        inner = (
            message.get("kwargs") if isinstance(message.get("kwargs"), dict) else message.get("data", message)
        )
        inner = inner if isinstance(inner, dict) else {}
        messages += read_messages([message or {"content": entry.get("text")}], "assistant")
        info = entry.get("generation_info") or entry.get("generationInfo")
        reasons += _read_langchain_message(draft, inner, info if isinstance(info, dict) else {})
    draft.output_messages = draft.output_messages or tuple(messages)
    draft.finish_reasons = draft.finish_reasons or tuple(reasons)
    output = response.get("llm_output")
    if isinstance(output, dict):
        draft.model_answered = draft.model_answered or as_name(
            output.get("model_name") or output.get("model")
        )
        draft.response_id = draft.response_id or as_name(output.get("id"))
        draft.add_usage(read_usage(output.get("token_usage") or output.get("usage")))


def _read_langchain_message(draft: Draft, message: dict[str, Any], info: dict[str, Any]) -> list[str]:
    """Takes a LangChain message's metadata into the draft; returns its finish reason, where it has one."""
    metadata = message.get("response_metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    draft.model_answered = draft.model_answered or as_name(
        metadata.get("model_name") or metadata.get("model") or info.get("model_name")
    )
    # LangChain's own run ids (`lc_run--…`, `run-…`) name no response of a provider
    own = as_name(message.get("id"))
    own = None if own is None or own.startswith(("run-", "lc_run", "run_")) else own
    draft.response_id = draft.response_id or as_name(metadata.get("id")) or own
    draft.provider = draft.provider or as_name(metadata.get("model_provider"))
    for counts in (message.get("usage_metadata"), metadata.get("token_usage"), metadata.get("usage")):
        if isinstance(counts, dict):
            draft.add_usage(read_usage(counts))
    reason = (
        metadata.get("finish_reason")
        or metadata.get("stop_reason")
        or metadata.get("stopReason")
        or info.get("finish_reason")
        or info.get("stop_reason")
    )
    return [as_text(reason)] if reason else []
