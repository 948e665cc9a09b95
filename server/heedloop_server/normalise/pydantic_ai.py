"""pydantic-ai: standard names; the agent's instructions also in `model_request_parameters`, where a failed call keeps them."""

from __future__ import annotations

from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.messages import system_messages
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.values import read_object


def read(span: SpanView, draft: Draft) -> None:
    """Fills the input of a call that has no messages with its instructions."""
    if "gen_ai.input.messages" in span.attrs or draft.input_messages:
        return
    parameters = read_object(span.attrs["model_request_parameters"])
    parts = parameters.get("instruction_parts")
    if isinstance(parts, list):
        texts = [p.get("content") for p in parts if isinstance(p, dict)]
        draft.input_messages = system_messages([{"type": "text", "content": t} for t in texts if t])
