"""A version of a prompt: a text or a conversation with holes `{{name}}` that an app fills in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from heedloop.schema._call import Message
from heedloop.schema._checks import (
    SchemaError,
    check_object,
    check_pattern,
    check_record,
    check_text,
    check_tuple,
)
from heedloop.schema._kinds import MAX_TEXT_CHARS

PROMPT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
HOLE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*\}\}")
_WHAT = "a name: letters, digits, and then _ . -, at most 128"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A version of a prompt; it never changes, other words are another version.

    Attributes:
        text: the whole of a prompt that is one text; empty where it has `messages`.
        messages: a conversation's messages, each with its role and text.
        settings: what the app gives to the model besides, such as model and temperature; heedloop does not read it.
        version: 1 and up in the order of storing; 0 of one that was not stored.
    """

    name: str
    text: str = ""
    messages: tuple[Message, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0

    def __post_init__(self) -> None:
        check_pattern(self.name, PROMPT_NAME, "name", _WHAT)
        check_text(self.text, "text", limit=MAX_TEXT_CHARS, empty=True)
        check_tuple(self.messages, "messages")
        check_object(self.settings, "settings")
        for message in self.messages:
            check_record(message, Message, "messages")
            check_text(message.role, "messages.role")
            check_text(message.text, "messages.text", limit=MAX_TEXT_CHARS, empty=True)
        if bool(self.text) == bool(self.messages):
            raise SchemaError("text", "a prompt has either a text or messages, and one of the two")

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the holes, in the order of their first appearance."""
        texts = [self.text, *(m.text for m in self.messages)]
        return tuple(dict.fromkeys(name for text in texts for name in HOLE.findall(text)))

    @property
    def plain(self) -> str:
        """All words as one text, each message below a line with its role; what two versions are compared by."""
        return self.text or "\n\n".join(f"{m.role}:\n{m.text}" for m in self.messages)

    def as_text(self, **variables: object) -> str:
        """The text with its holes filled; what is filled in is never read for holes.

        Raises:
            ValueError: a hole has no variable, a variable has no hole, or the prompt is a conversation.
        """
        if self.messages:
            raise ValueError(f"{self.name}: this version is a conversation; use as_messages")
        return HOLE.sub(self._filling(variables), self.text)

    def as_messages(self, **variables: object) -> list[dict[str, str]]:
        """The filled messages as chat APIs take them, `{"role", "content"}`; a text is one system message.

        Raises:
            ValueError: as of `as_text`.
        """
        fill = self._filling(variables)
        messages = self.messages or (Message("system", self.text),)
        return [{"role": m.role, "content": HOLE.sub(fill, m.text)} for m in messages]

    def _filling(self, variables: Mapping[str, object]) -> Callable[[re.Match[str]], str]:
        missing, unknown = set(self.variables) - variables.keys(), variables.keys() - set(self.variables)
        for what, found in (("has no value for", missing), ("has no hole", unknown)):
            if found:
                raise ValueError(f"{self.name}: {what} {', '.join(sorted(found))}; it has {self._holes()}")
        return lambda match: str(variables[match[1]])

    def _holes(self) -> str:
        return ", ".join(f"{{{{{name}}}}}" for name in self.variables) or "no holes"
