"""What is known about a decorated function before it is called, and which of its arguments is the prompt."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from heedloop import attributes as names
from heedloop._messages import AT_NAMES, as_message, follow, is_conversation, is_message, named_text
from heedloop._plain import is_text
from heedloop._secrets import is_secret

Capture = bool | Literal["input", "output"]


class TraceOptions(TypedDict, total=False):
    """What `heedloop.trace` takes; see there."""

    name: str | None
    prompt: str | None
    answer: str | None
    prompt_name: str | None
    prompt_version: str | None
    model: str | None
    provider: str | None
    tags: Sequence[str]
    capture: Capture


@dataclass(frozen=True, slots=True)
class Function:
    """What is known about a decorated function before it is called."""

    name: str
    named: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    num_skipped: int = 0
    rest: str | None = None
    rest_by_name: str | None = None
    positional_only: frozenset[str] = frozenset()
    defaults: tuple[tuple[str, Any], ...] = ()
    prompt: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()
    capture_input: bool = True
    capture_output: bool = True
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def function_of(fn: Any, options: TraceOptions, static: dict[str, Any]) -> Function:
    """What is read once of a decorated function and its options, so that a call only looks names up.

    Args:
        static: attributes that every call of it has.

    Raises:
        ValueError: `prompt` begins with a name that is no argument.
    """
    try:
        parameters = tuple(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # some builtins have no signature
        parameters = ()
    positional = tuple(p.name for p in parameters if p.kind in _POSITIONAL)
    skipped = 1 if positional[:1] in (("self",), ("cls",)) else 0
    capture = options.get("capture", True)
    prompt = tuple((options.get("prompt") or "").split(".")) if options.get("prompt") else ()
    _check_prompt(prompt, parameters)
    return Function(
        name=options.get("name")
        or getattr(fn, "__qualname__", type(fn).__qualname__).replace("<locals>.", ""),
        named=positional[skipped:],
        order=tuple(p.name for p in parameters),
        num_skipped=skipped,
        rest=next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None),
        rest_by_name=next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None),
        positional_only=frozenset(p.name for p in parameters if p.kind is p.POSITIONAL_ONLY),
        defaults=tuple((p.name, p.default) for p in parameters if p.default is not p.empty),
        prompt=prompt,
        answer=tuple((options.get("answer") or "").split(".")) if options.get("answer") else (),
        capture_input=capture is True or capture == "input",
        capture_output=capture is True or capture == "output",
        attributes={names.OPERATION_NAME: "chat", **static},
    )


def _check_prompt(prompt: tuple[str, ...], parameters: tuple[inspect.Parameter, ...]) -> None:
    names_known = [p.name for p in parameters]
    if (
        prompt
        and names_known
        and prompt[0] not in names_known
        and all(p.kind is not p.VAR_KEYWORD for p in parameters)
    ):
        raise ValueError(f"prompt: {prompt[0]!r} is not an argument; there are {', '.join(names_known)}")


def by_name(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """A call's arguments by name, in the signature's order, with the defaults of those that were not given; never raises."""
    first = function.num_skipped
    arguments: dict[str, Any] = dict(zip(function.named, args[first:] if first else args))  # noqa: B905  args may be fewer
    if len(args) > first + len(function.named):
        arguments[function.rest or "*"] = args[first + len(function.named) :]
    if kwargs:
        if function.positional_only and not function.positional_only.isdisjoint(kwargs):
            arguments[function.rest_by_name or "**"] = kwargs
        else:
            arguments.update(kwargs)
        if len(kwargs) > 1:  # callers such as FastAPI give them in any order
            arguments = {n: arguments[n] for n in (*function.order, *arguments) if n in arguments}
    for name, default in function.defaults:
        if name not in arguments:
            arguments[name] = default
    return arguments


def prompt_of(function: Function, arguments: Mapping[str, Any]) -> tuple[str | None, Any]:
    """The prompt, and the argument that it is as a whole (None where it is a part of one)."""
    if function.prompt:
        prompt = follow(arguments, function.prompt)
        return (function.prompt[0] if len(function.prompt) == 1 and prompt is not None else None), prompt
    if isinstance(arguments.get("messages"), (list, tuple, str)):
        return "messages", arguments["messages"]
    texts: list[str] = []
    for name, value in arguments.items():
        if type(value) is str or is_text(value):
            if not is_secret(name):
                texts.append(name)
        elif is_conversation(value) and _ends_with_question(value):
            return name, value
    if texts:  # `ask(user_id, question)` asks the question
        text = texts[0] if len(texts) == 1 else next((n for n in AT_NAMES["prompt"] if n in texts), texts[0])
        return text, arguments[text]
    return _prompt_inside(arguments)


def _ends_with_question(conversation: Any) -> bool:
    """False for the earlier turns of a conversation, whose question comes as another argument."""
    return as_message(conversation[-1]).get("role") != "assistant"


def _prompt_inside(arguments: Mapping[str, Any]) -> tuple[str | None, Any]:
    for name, value in arguments.items():
        if is_conversation(value) or (type(value) is not tuple and is_message(value)):
            return name, value
    for value in arguments.values():
        text = named_text(value, "prompt")
        if text is not None:
            return None, text
    return None, None
