"""A call while it is being put together: readers fill what is still empty, so the first reader to know a field wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heedloop.schema import Message, ToolDefinition, Usage

_NO_USAGE = Usage()


@dataclass(slots=True)
class Draft:
    """The fields of a `Call` that conventions name differently. None and empty mean: nobody said yet."""

    provider: str | None = None
    model_requested: str | None = None
    model_answered: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    input_messages: tuple[Message, ...] = ()
    output_messages: tuple[Message, ...] = ()
    finish_reasons: tuple[str, ...] = ()
    usage: Usage = _NO_USAGE
    cost: float | None = None
    failed: bool = False
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
    tool_definitions: tuple[ToolDefinition, ...] = ()
    duration_ns: int | None = None

    def add_params(self, params: Mapping[str, Any]) -> None:
        """Adds parameters that are not known yet."""
        for name, value in params.items():
            self.params.setdefault(name, value)

    def add_usage(self, usage: Usage) -> None:
        """Takes a usage where none is known; of a known one, fills the details that are missing."""
        own = self.usage
        if own is _NO_USAGE or own == _NO_USAGE:
            self.usage = usage
            return
        self.usage = Usage(
            own.input if own.input is not None else usage.input,
            own.output if own.output is not None else usage.output,
            own.cache_read_input if own.cache_read_input is not None else usage.cache_read_input,
            own.cache_write_input if own.cache_write_input is not None else usage.cache_write_input,
            own.reasoning_output if own.reasoning_output is not None else usage.reasoning_output,
        )
