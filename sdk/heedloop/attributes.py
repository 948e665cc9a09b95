"""The names of span attributes: the only place that knows them.

`docs/spans.md` says what each one means. Names from the OpenTelemetry GenAI conventions where they have one,
`heedloop.*` where they have none. Message parts are written by `message_parts`, so that every writer gives one form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heedloop.schema import Message, ToolDefinition

OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_PREFIX = "gen_ai.request."
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
REQUEST_STREAM = "gen_ai.request.stream"

INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"

INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
TOOL_DEFINITIONS = "gen_ai.tool.definitions"

PROMPT_NAME = "gen_ai.prompt.name"
PROMPT_VERSION = "gen_ai.prompt.version"
PROMPT_VARIABLE_PREFIX = "gen_ai.prompt.variable."
CONVERSATION_ID = "gen_ai.conversation.id"
USER_ID = "user.id"
ERROR_TYPE = "error.type"

ANSWER = "heedloop.answer"
HANDLE_BAGGAGE = "heedloop.handle"
"""Not an attribute but a baggage entry: the handle of the answer that is going on, for the services behind."""
INPUT = "heedloop.input"
OUTPUT = "heedloop.output"
TAGS = "heedloop.tags"
METADATA_PREFIX = "heedloop.metadata."
EXPERIMENT_ARM_PREFIX = METADATA_PREFIX + "experiment."
"""With the experiment's name: the arm that the call's unit was assigned to."""
EXPERIMENT_UNIT_PREFIX = "heedloop.experiment."
"""With the experiment's name: the unit's hash (16 hex digits), the probability of its arm and the experiment's round."""
COST = "heedloop.cost"
SAMPLING_PROBABILITY = "heedloop.sampling.probability"
SAMPLING_KEPT = "heedloop.sampling.kept"
"""Why a call that head sampling had left out was recorded after all: `feedback`, `error` or `kept`."""
EXAMPLES = "heedloop.examples"
"""Feedback ids of the examples that the call was given by `heedloop.examples`."""
TRUNCATED = "heedloop.truncated"
STEP = "heedloop.step"

SERVICE_NAME = "service.name"
ENVIRONMENT = "deployment.environment.name"
SDK_VERSION = "heedloop.sdk.version"

USAGE_ATTRIBUTES: dict[str, str] = {
    "input": INPUT_TOKENS,
    "output": OUTPUT_TOKENS,
    "cache_read_input": CACHE_READ_TOKENS,
    "cache_write_input": CACHE_WRITE_TOKENS,
    "reasoning_output": REASONING_TOKENS,
}
"""Field of `schema.Usage` -> attribute."""

MODEL_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    REQUEST_MODEL: (REQUEST_MODEL, "llm.request.model_name"),
    RESPONSE_MODEL: (RESPONSE_MODEL, "llm.response.model_name", "llm.model_name"),
    PROVIDER_NAME: (PROVIDER_NAME, "gen_ai.system", "llm.provider", "llm.system"),
}
"""What a span says of its model, in the convention's names and in those of OpenInference and of older instrumentations."""

GENERATING: frozenset[str] = frozenset({"chat", "text_completion", "generate_content"})
"""Values of `gen_ai.operation.name` whose model writes answers; an embedding's does not."""

IDENTIFIERS: frozenset[str] = frozenset(
    {
        OPERATION_NAME,
        PROVIDER_NAME,
        REQUEST_MODEL,
        RESPONSE_MODEL,
        RESPONSE_ID,
        FINISH_REASONS,
        PROMPT_NAME,
        PROMPT_VERSION,
        CONVERSATION_ID,
        USER_ID,
        ERROR_TYPE,
        STEP,
        SDK_VERSION,
    }
)


def is_identifier(name: str) -> bool:
    """True for attributes that redaction leaves alone: a changed id would join what does not belong together."""
    return name in IDENTIFIERS or name.startswith((EXPERIMENT_ARM_PREFIX, EXPERIMENT_UNIT_PREFIX))


_THRESHOLD = re.compile(r"(?:^|;)th:([0-9a-f]{1,14})(?:;|$)")


def probability_of(ot: str) -> float | None:
    """The sampling probability that OpenTelemetry's own member (`ot`) of a tracestate tells; None where it tells none.

    `th:` is the rejection threshold T in hexadecimal, without the zeros at the end of its 14 digits: a trace is sampled where
    the 56 random bits of its id are at least T, so the probability is (2**56 - T) / 2**56 (OpenTelemetry, "TraceState: Probability
    Sampling").
    """
    match = _THRESHOLD.search(ot)
    return None if match is None else (2**56 - int(match[1].ljust(14, "0"), 16)) / 2**56


def message_parts(message: Message) -> dict[str, Any]:
    """One message in the convention's form: `{"role", "parts": [{"type", ...}]}`."""
    parts: list[dict[str, Any]] = []
    if message.reasoning:
        parts.append({"type": "reasoning", "content": message.reasoning})
    if message.tool_call_id is not None:
        parts.append({"type": "tool_call_response", "id": message.tool_call_id, "response": message.text})
    elif message.text:
        parts.append({"type": "text", "content": message.text})
    for call in message.tool_calls:
        parts.append({"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments})
    parts.extend({"type": "uri", "modality": kind.split("/")[0], "uri": ""} for kind in message.media)
    return {"role": message.role, "parts": parts}


def tool_definition_parts(tools: Iterable[ToolDefinition]) -> list[dict[str, Any]]:
    """The value of `gen_ai.tool.definitions`, before it is written as JSON."""
    return [
        {
            "type": tool.type,
            "name": tool.name,
            **({"description": tool.description} if tool.description else {}),
            **({"parameters": _parsed(tool.parameters)} if tool.parameters else {}),
        }
        for tool in tools
    ]


def _parsed(text: str) -> Any:
    """What a JSON text holds; the text itself where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def messages_parts(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The value of `gen_ai.input.messages` or `gen_ai.output.messages`, before it is written as JSON."""
    return [message_parts(m) for m in messages]
