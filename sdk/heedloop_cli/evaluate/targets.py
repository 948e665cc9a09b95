"""Who answers: a function of the app, an OpenAI-compatible endpoint, or a checkpoint's folder."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, cast

from heedloop.schema import Case, Message, ToolDefinition
from heedloop_cli.judges.backends import BackendError, ChatApi, load_function, tokens_of
from heedloop_cli.judges.parsers import Reply

GROUP = "heedloop.answerers"
"""Entry points that make from a folder what answers: the trainer contributes `checkpoint`."""


class Target(Protocol):
    """What answers a prompt; called from several threads at once."""

    @property
    def model(self) -> str:
        """What its answers are filed under."""
        ...

    def ask(self, case: Case, prompt: Sequence[Message]) -> Reply:
        """The answer to `prompt`, the case's own or one with examples before it; raises `BackendError`."""
        ...


class AppFunction:
    """A function of the app, sync or async: it is given the question, or all messages where it has an argument `messages`.

    In the app heedloop reads as ever (prompts, examples), but nothing it records is sent: it would count as production.
    """

    def __init__(self, name: str) -> None:
        os.environ["HEEDLOOP_EVALUATED"] = "1"
        self.model = name
        self._answer = load_function(name)
        self.takes_messages = "messages" in inspect.signature(self._answer).parameters
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def ask(self, case: Case, prompt: Sequence[Message]) -> Reply:
        """What the function returns; coroutines run in one event loop, so that they may share a client."""
        try:
            found = (
                self._answer(messages=[_openai(m) for m in prompt])
                if self.takes_messages
                else self._answer(case.question)
            )
            if inspect.isawaitable(found):
                found = asyncio.run_coroutine_threadsafe(_result(found), self._loop).result()
            return reply_of(found)
        except Exception as err:  # noqa: BLE001  another's code: a prompt it fails on is a failed case
            raise BackendError("function", f"the function raised {err.__class__.__name__}: {err}") from None


async def _result(found: Any) -> Any:
    return await found


def reply_of(found: Any) -> Reply:
    """An answer as text, or as a message of OpenAI's form (`content`, `tool_calls`) as an object or a dictionary."""
    if isinstance(found, str):
        return Reply(found)
    get: Callable[[str], Any] = (
        cast(Mapping[str, Any], found).get
        if isinstance(found, Mapping)
        else lambda name: getattr(found, name, None)
    )
    calls: list[dict[str, str]] = []
    for call in get("tool_calls") or ():
        function = (
            call.get("function", call) if isinstance(call, Mapping) else getattr(call, "function", call)
        )
        of = function.get if isinstance(function, Mapping) else lambda n, f=function: getattr(f, n, "")
        arguments = of("arguments") or ""
        calls.append(
            {
                "name": str(of("name")),
                "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
            }
        )
    text = get("content") or get("text") or ""
    if not text and not calls and get("content") is None:
        raise TypeError(f"it returned {type(found).__name__}, not a text or a message with content")
    return Reply(str(text), tool_calls=calls)


@dataclass(frozen=True, slots=True)
class ChatEndpoint:
    """A model of an OpenAI-compatible API."""

    api: ChatApi
    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def ask(self, case: Case, prompt: Sequence[Message]) -> Reply:
        """One chat completion."""
        body = {"model": self.model, "messages": [_openai(m) for m in prompt], **self.parameters}
        if case.tools:
            body["tools"] = [{"type": "function", "function": _tool(t)} for t in case.tools]
        completion = self.api.complete(body)
        try:
            reply = reply_of({"content": "", **completion["choices"][0]["message"]})
        except (TypeError, AttributeError):
            raise self.api.garbage() from None
        given, said = tokens_of(completion)
        return Reply(reply.text, None, None, given, said, reply.tool_calls)


class Checkpoint:
    """A checkpoint's folder; needs the extra trainer."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        entries = list(entry_points(group=GROUP, name="checkpoint"))
        if not entries:
            raise ValueError("a checkpoint needs the 'trainer' extra: pip install 'heedloop[trainer]'")
        self.model = folder.resolve().name
        self._answer = entries[0].load()(folder, temperature=0.0, max_tokens=max_tokens)
        self._lock = threading.Lock()

    def ask(self, case: Case, prompt: Sequence[Message]) -> Reply:  # noqa: ARG002
        """The most likely answer, one at a time."""
        with self._lock:
            try:
                return Reply(self._answer(tuple(prompt), 1)[0])
            except ValueError as err:
                raise BackendError("too long", str(err)) from None


def _openai(message: Message) -> dict[str, Any]:
    out: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        out["tool_calls"] = [
            {
                "id": t.id or f"call_{i}",
                "type": "function",
                "function": {"name": t.name, "arguments": t.arguments},
            }
            for i, t in enumerate(message.tool_calls)
        ]
    if message.tool_call_id:
        out["tool_call_id"] = message.tool_call_id
    return out


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    out: dict[str, Any] = {"name": tool.name, "description": tool.description}
    return out | ({"parameters": json.loads(tool.parameters)} if tool.parameters else {})


def target_of(
    name: str, *, model: str | None, key_env: str, parameters: Mapping[str, Any], timeout_s: float
) -> Target:
    """The target that a name means: an address, a folder, or `module:function`; raises `ValueError`."""
    if name.startswith(("http://", "https://")):
        if not model:
            raise ValueError(f"{name} is an endpoint: say with --model which model to ask for")
        return ChatEndpoint(
            ChatApi(name.rstrip("/"), os.environ.get(key_env, ""), timeout_s), model, parameters
        )
    if Path(name).is_dir():
        return Checkpoint(Path(name), int(parameters.get("max_tokens", 512)))
    if not all(name.partition(":")[::2]):
        raise ValueError(f"{name!r} is no address (http://…), no folder that is here, and no module:function")
    return AppFunction(name)
