"""LibreChat: the `messages` collection of `mongoexport`, with its extended JSON dates.

An answer's conversation is the chain of `parentMessageId`; its text may be in `content`. The tag of a thumb down is a flag.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import Message, Usage
from heedloop_cli.importers.documents import mapping
from heedloop_cli.importers.messages import messages
from heedloop_cli.importers.record import target_of
from heedloop_cli.importers.system import LeftOut, Record, System

_THUMBS = {
    "thumbsup": True,
    "thumbs_up": True,
    "up": True,
    "thumbsdown": False,
    "thumbs_down": False,
    "down": False,
}


class LibreChat(System):
    """A message: an answer is a call, a user's is what came before one."""

    name = "librechat"

    def __init__(self, source: Any) -> None:
        super().__init__(source)
        self._messages: dict[str, tuple[str, Message]] = {}

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        return {"messageId", "conversationId"} <= row.keys()

    def learn(self, row: Mapping[str, Any]) -> None:
        role = "user" if row.get("isCreatedByUser") else "assistant"
        self._messages[str(row["messageId"])] = (str(row.get("parentMessageId")), _message(row, role))

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        if row.get("isCreatedByUser"):
            return
        if row.get("error"):
            yield LeftOut("a message that is an error, no answer")
            return
        above: list[Message] = []
        parent, seen = str(row.get("parentMessageId")), set[str]()
        while parent in self._messages and parent not in seen:
            seen.add(parent)
            parent, message = self._messages[parent]
            above.insert(0, message)
        identity = f"{row['conversationId']}/{row['messageId']}"
        tokens = row.get("tokenCount")
        call = self.call(
            row["messageId"],
            identity,
            identity,
            start=row.get("createdAt"),
            provider=row.get("endpoint"),
            model_answered=row.get("model"),
            input_messages=tuple(above),
            output_messages=(_message(row, "assistant"),),
            usage=Usage(output=tokens if isinstance(tokens, int) else None),
            session_id=row["conversationId"],
            user_id=_identity(row.get("user")),
            metadata={"sender": row.get("sender"), "unfinished": True if row.get("unfinished") else None},
        )
        yield call
        feedback = mapping(row.get("feedback"))
        if feedback:
            yield from self.each([feedback], lambda f: self._judgement(row, call, f))

    def _judgement(self, row: Mapping[str, Any], call: Any, own: Mapping[str, Any]) -> Iterator[Record]:
        thumb = _THUMBS.get(str(own.get("rating")).lower())
        tag: Any = own.get("tag")
        tag = mapping(tag).get("key") if isinstance(tag, Mapping) else tag
        fields: dict[str, Any] = {
            "author": self.author("end_user", _identity(row.get("user"))),
            "time": row.get("updatedAt") or row.get("createdAt"),
            "metadata": {"tag": tag},
        }
        target = target_of(call)
        if thumb is None:
            yield LeftOut("feedback that is neither a thumb up nor down")
        else:
            yield self.rating(
                target, f"{row['messageId']}/thumb", "thumb", thumb, comment=own.get("text"), **fields
            )
        if thumb is False and tag:
            yield self.flag(target, row["messageId"], tag, **fields)


def _identity(value: object) -> object:
    return mapping(value).get("$oid") if isinstance(value, Mapping) else value


def _message(row: Mapping[str, Any], role: str) -> Message:
    found = messages(row.get("content"), role) if row.get("content") else ()
    own = found[-1] if found else Message(role)
    return own if own.text else Message(role, str(row.get("text") or ""), own.reasoning, own.tool_calls)
