"""heedloop's own names (docs/spans.md): what the standard has no name for on a decorated call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedloop.attributes import probability_of
from heedloop.schema import Message
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.values import as_flag, as_number, as_text

ANSWER = "heedloop.answer"
SCOPE = "heedloop"


def read(span: SpanView, draft: Draft) -> None:
    """Fills what is still empty of a draft from `heedloop.input` and `heedloop.output`."""
    attrs = span.attrs
    if not draft.input_messages and "heedloop.input" in attrs:
        draft.input_messages = (Message("user", as_text(attrs["heedloop.input"])),)
    if not draft.output_messages and "heedloop.output" in attrs:
        draft.output_messages = (Message("assistant", as_text(attrs["heedloop.output"])),)


def is_own(attributes: Mapping[str, str]) -> bool:
    """True for the raw attributes of a span that heedloop's own SDK made."""
    return attributes.get("otel.scope.name") == SCOPE or attributes.get(ANSWER) == "true"


def answer_flag(attrs: dict[str, Any]) -> bool | None:
    """What `heedloop.answer` says; None where it is not there."""
    return as_flag(attrs.get(ANSWER))


def sampling_probability(span: SpanView) -> float:
    """The probability with which the span was recorded, above 0 and up to 1; 1 where not said or not possible.

    Our own SDK says it in an attribute; others in the `ot` member of the tracestate.
    """
    value = as_number(span.attrs.get("heedloop.sampling.probability"))
    if value is None and "th:" in span.trace_state:
        members = (m.strip() for m in span.trace_state.split(","))
        value = next((probability_of(m[3:]) for m in members if m.startswith("ot=")), None)
    return float(value) if value is not None and 0 < value <= 1 else 1.0
