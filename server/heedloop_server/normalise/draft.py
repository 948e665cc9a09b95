"""A call while it is being put together: readers fill what is still empty, so the first reader to know a field wins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedloop.schema import Message, ToolDefinition, Usage


class Draft:
    """The fields of a `Call` that conventions name differently. None and empty mean: nobody said yet."""

    __slots__ = (
        "cost",
        "duration_ns",
        "embedding_inputs",
        "error_message",
        "failed",
        "finish_reasons",
        "http_status",
        "input_messages",
        "model_answered",
        "model_requested",
        "output_messages",
        "params",
        "prompt_name",
        "prompt_version",
        "provider",
        "response_id",
        "session_id",
        "stream",
        "tags",
        "tool_definitions",
        "usage",
        "user_id",
    )

    def __init__(self) -> None:
        self.provider: str | None = None
        self.model_requested: str | None = None
        self.model_answered: str | None = None
        self.params: dict[str, Any] = {}
        self.input_messages: tuple[Message, ...] = ()
        self.output_messages: tuple[Message, ...] = ()
        self.finish_reasons: tuple[str, ...] = ()
        self.usage: Usage = _NO_USAGE
        self.cost: float | None = None
        self.failed: bool = False
        self.error_message: str | None = None
        self.http_status: int | None = None
        self.response_id: str | None = None
        self.stream: bool = False
        self.embedding_inputs: tuple[str, ...] = ()
        self.prompt_name: str | None = None
        self.prompt_version: str | None = None
        self.session_id: str | None = None
        self.user_id: str | None = None
        self.tags: tuple[str, ...] = ()
        self.tool_definitions: tuple[ToolDefinition, ...] = ()
        self.duration_ns: int | None = None

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


_NO_USAGE = Usage()
