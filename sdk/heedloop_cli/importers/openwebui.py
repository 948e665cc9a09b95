"""Open WebUI: the export of evaluations. The rated chat is in every row's snapshot, its other answers too.

Ids are made of chat and message. A thumb on one of several answers to a message ranks it against its siblings.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import Message, Scale, Target
from heedloop_cli.importers.documents import mapping
from heedloop_cli.importers.system import LeftOut, Record, System

_REASONING = re.compile(r"<details[^>]*type=\"reasoning\"[^>]*>(.*?)</details>\s*", re.DOTALL)
_SUMMARY = re.compile(r"<summary>.*?</summary>\s*", re.DOTALL)
_QUOTE = re.compile(r"^> ?", re.MULTILINE)
_DETAILS = Scale(1, 10)


class OpenWebUI(System):
    """A rated message with its chat."""

    name = "openwebui"

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        meta = mapping(row.get("meta"))
        return isinstance(row.get("data"), Mapping) and "message_id" in meta and "chat_id" in meta

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        own, meta = mapping(row["data"]), mapping(row["meta"])
        chat_id = str(meta["chat_id"])
        chat = mapping(mapping(mapping(row.get("snapshot")).get("chat")).get("chat"))
        history = mapping(mapping(chat.get("history")).get("messages"))
        thread = history or {str(m["id"]): m for m in chat.get("messages") or ()}
        user = mapping(mapping(row.get("snapshot")).get("chat")).get("user_id") or row.get("user_id")
        for message in thread.values():
            if message.get("role") == "assistant":
                yield self._call(chat_id, message, thread, user)
        yield from self.each([(row, own, meta, thread)], self._judgements)

    def _call(
        self, chat_id: str, message: Mapping[str, Any], thread: Mapping[str, Any], user: object
    ) -> Record:
        above: list[Message] = []
        seen = {message["id"]}
        parent = thread.get(str(message.get("parentId")))
        while parent is not None and parent["id"] not in seen:
            seen.add(parent["id"])
            above.insert(0, _message(parent))
            parent = thread.get(str(parent.get("parentId")))
        identity = f"{chat_id}/{message['id']}"
        return self.call(
            identity,
            start=message.get("timestamp"),
            model_answered=message.get("model"),
            input_messages=tuple(above),
            output_messages=(_message(message),),
            session_id=chat_id,
            user_id=user,
            metadata={"chat": chat_id, "message": message["id"]},
        )

    def _target(self, chat_id: object, message_id: object) -> Target:
        identity = f"{chat_id}/{message_id}"
        return Target(self.trace_id(identity), self.span_id(identity))

    def _judgements(
        self, entry: tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]
    ) -> Iterator[Record]:
        row, own, meta, thread = entry
        target = self._target(meta["chat_id"], meta["message_id"])
        fields: dict[str, Any] = {
            "author": self.author("end_user", row.get("user_id")),
            "time": row.get("created_at"),
            "metadata": {
                "reason": own.get("reason"),
                "tags": ", ".join(map(str, own.get("tags") or ())) or None,
            },
        }
        rating = own.get("rating")
        comment = str(own.get("comment") or "") or None
        if rating in (1, -1, "1", "-1"):
            thumb = int(rating) > 0
            yield self.rating(target, row["id"], "thumb", thumb, comment=comment, **fields)
            yield from self._against(row, own, meta, thread, thumb, fields)
        elif comment:
            yield self.feedback("comment", target, row["id"], comment=comment, **fields)
        else:
            yield LeftOut("a rating that is neither 1 nor -1")
        details = mapping(own.get("details")).get("rating")
        if details is not None:
            yield self.rating(target, f"{row['id']}/details", "rating", details, scale=_DETAILS, **fields)

    def _against(
        self,
        row: Mapping[str, Any],
        own: Mapping[str, Any],
        meta: Mapping[str, Any],
        thread: Mapping[str, Any],
        better: bool,
        fields: Mapping[str, Any],
    ) -> Iterator[Record]:
        """The rated answer against those of the models that the row lists as its siblings."""
        listed = own.get("sibling_model_ids") or ()
        message = mapping(thread.get(str(meta["message_id"])))
        siblings = [
            m["id"]
            for m in thread.values()
            if message and m.get("role") == "assistant" and m["id"] != message["id"]
            and m.get("parentId") == message.get("parentId") and m.get("model") in listed
        ]  # fmt: skip
        if siblings:
            targets = [self._target(meta["chat_id"], i) for i in (meta["message_id"], *siblings)]
            ranks = [1 if better else 2, *[2 if better else 1 for _ in siblings]]
            yield self.comparison(targets, ranks, f"{row['id']}/siblings", **fields)


def _message(message: Mapping[str, Any]) -> Message:
    content = message.get("content")
    text = content if isinstance(content, str) else ""
    thoughts = [_QUOTE.sub("", html.unescape(_SUMMARY.sub("", t))).strip() for t in _REASONING.findall(text)]
    media = tuple(str(f.get("type")) for f in message.get("files") or () if f.get("type"))
    return Message(
        str(message.get("role")), _REASONING.sub("", text).strip(), "\n".join(thoughts) or None, media=media
    )
