"""One LLM call, whatever instrumentation made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's request to run a tool. `arguments` is the JSON text, as the model wrote it."""

    name: str
    arguments: str = ""
    id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool that the model could call.

    Attributes:
        parameters: its JSON Schema as JSON text; empty where none was given.
        type: `function` for the app's own tools, else the provider's word for one of theirs, such as `web_search` or `mcp`.
    """

    name: str
    description: str = ""
    parameters: str = ""
    type: str = "function"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: `system`, `user`, `assistant`, `tool`, or whatever the client sent.
        text: the text parts, joined by newlines.
        reasoning: what the model thought aloud, where the client sent it.
        media: one short description per image, sound or file part, such as `image/png`.
    """

    role: str
    text: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    media: tuple[str, ...] = ()

    @property
    def is_instruction(self) -> bool:
        """True for what the app tells the model: the roles `system` and `developer`, OpenAI's newer name for it."""
        return self.role in ("system", "developer")


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one call. `input` includes the cached tokens; the details are subsets of the totals."""

    input: int | None = None
    output: int | None = None
    cache_read_input: int | None = None
    cache_write_input: int | None = None
    reasoning_output: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One LLM call (or one answer of a decorated function), whatever instrumentation made it.

    Attributes:
        duration_ns: from start to end, in nanoseconds.
        is_answer: True where this is what a person would rate: the outermost decorated call, or an LLM call
            that no decorated call encloses.
        tool_definitions: the tools that the request offered to the model.
        status: `ok` or `error`.
        cost: in US dollars, as the client said or None.
        sampling_probability: the probability with which this call was recorded, above 0 and up to 1.
        attributes: the raw span attributes as text, so that nothing that was sent is lost.
    """

    trace_id: str
    span_id: str
    start_time: datetime
    duration_ns: int = 0
    parent_span_id: str | None = None
    name: str = ""
    service: str = ""
    environment: str = ""
    operation: str = "chat"
    is_answer: bool = True
    provider: str | None = None
    model_requested: str | None = None
    model_answered: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    input_messages: tuple[Message, ...] = ()
    output_messages: tuple[Message, ...] = ()
    tool_definitions: tuple[ToolDefinition, ...] = ()
    finish_reasons: tuple[str, ...] = ()
    usage: Usage = Usage()
    cost: float | None = None
    status: str = "ok"
    error_message: str | None = None
    http_status: int | None = None
    response_id: str | None = None
    stream: bool = False
    embedding_inputs: tuple[str, ...] = ()
    prompt_name: str | None = None
    prompt_version: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    sampling_probability: float = 1.0
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> str | None:
        """The model that answered where the client said so, else the model that was asked."""
        return self.model_answered or self.model_requested

    @property
    def output_text(self) -> str:
        """The answer's text: the output messages' texts joined by newlines."""
        return "\n".join(m.text for m in self.output_messages if m.text)

    @property
    def traceparent(self) -> str:
        """The call's handle: its W3C `traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-01"
