"""What a call took in and gave out, kept on its span until it is written."""

from __future__ import annotations

from typing import Any, cast

from heedloop import attributes as names
from heedloop._capture import Budget, render_answer, render_json, render_prompt, snapshot
from heedloop._responses import Reading, read_response
from heedloop._runtime import Runtime
from heedloop._spans import CallSpan, Captured
from heedloop._values import attributes_of

__all__ = ["keep_content", "keep_reading", "keep_result", "keep_stream"]


def keep_content(runtime: Runtime, call: CallSpan, attribute: str, value: Any) -> None:
    """Take content for `attribute`.

    Content for a messages attribute that is neither text nor messages goes to `heedloop.input` or `heedloop.output`.
    """
    if not runtime.capture:
        return
    if type(value) is str and len(value) <= runtime.options.max_value_chars:
        taken, size, cut = value, len(value), False
    else:
        budget = Budget(runtime.options.max_value_chars)
        taken = snapshot(value, budget)
        size, cut = budget.num_taken, budget.cut
    render = render_json
    if attribute in (names.INPUT_MESSAGES, names.OUTPUT_MESSAGES):
        is_input = attribute == names.INPUT_MESSAGES
        is_described = isinstance(taken, str) and not isinstance(value, str)  # an object's repr is no answer
        if _is_conversation(taken) and not is_described:
            render = render_prompt if is_input else render_answer
        else:
            attribute = names.INPUT if is_input else names.OUTPUT
    call.captured.append(Captured(attribute, render, taken))
    call.num_chars += size
    if cut:
        call.mark_truncated(attribute)


def keep_result(runtime: Runtime, call: CallSpan, result: Any) -> None:
    """Take what a call returned. What the app said itself by `set` stays as it is."""
    reading = None if type(result) is str else read_response(result)
    if reading is not None:
        keep_reading(runtime, call, reading)
    elif not call.output_given:
        keep_content(runtime, call, names.OUTPUT_MESSAGES, result)


def keep_reading(runtime: Runtime, call: CallSpan, reading: Reading) -> None:
    """Take what an LLM client's own object says about the answer."""
    for key, value in attributes_of(reading.values).items():
        call.attributes.setdefault(key, value)
    if not call.output_given:
        keep_content(runtime, call, names.OUTPUT_MESSAGES, reading.output)


def keep_stream(call: CallSpan, pieces: list[Any], budget: Budget | None, *, is_text: bool) -> None:
    """Take the pieces of a streamed answer: texts are one answer, anything else is kept as it came."""
    if call.output_given:
        return
    if is_text:
        call.captured.append(Captured(names.OUTPUT_MESSAGES, render_answer, pieces))
    else:
        call.captured.append(Captured(names.OUTPUT, render_json, pieces))
    if budget is not None:
        call.num_chars += budget.num_taken
        if budget.cut:
            call.mark_truncated(call.captured[-1].attribute)


def _is_conversation(taken: Any) -> bool:
    if isinstance(taken, str):
        return True
    if isinstance(taken, dict):
        return "role" in taken
    return isinstance(taken, list) and bool(taken) and all(_is_message(m) for m in cast(list[Any], taken))


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and "role" in value
