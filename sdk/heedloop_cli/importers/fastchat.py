"""FastChat: the log of a chat server or arena (`<date>-conv.json`): chats, votes between two answers, thumbs and flags.

A call is the last answer of a conversation's state, by conversation and length. The IP address is the only name of a voter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import Call, Message
from heedloop_cli.importers.documents import mapping
from heedloop_cli.importers.record import target_of
from heedloop_cli.importers.system import LeftOut, Record, System

_VOTES: dict[str, tuple[tuple[int, int], bool]] = {
    "leftvote": ((1, 2), False),
    "rightvote": ((2, 1), False),
    "tievote": ((1, 1), False),
    "bothbad_vote": ((1, 1), True),
}
_ONE = ("chat", "upvote", "downvote", "flag")
_HIDDEN = ("", "model a", "model b", "none")


class FastChat(System):
    """A line of the log."""

    name = "fastchat"

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        return "tstamp" in row and "type" in row and bool({"state", "states"} & row.keys())

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        kind = str(row["type"])
        states = [mapping(s) for s in row.get("states") or [row.get("state")] if s]
        models = row.get("models") or [row.get("model")]
        calls = [self._call(row, s, m) for s, m in zip(states, models, strict=False)]
        there = [c for c in calls if c is not None]
        yield from there
        fields: dict[str, Any] = {"author": self.author("end_user", row.get("ip")), "time": row["tstamp"]}
        identity = "/".join([*(f"{s.get('conv_id')}:{len(s.get('messages') or ())}" for s in states), kind])
        identity = f"{identity}/{row['tstamp']}"
        if kind in _VOTES:
            if len(there) < 2:
                yield LeftOut("a vote on answers that the file does not hold")
                return
            ranks, all_bad = _VOTES[kind]
            targets = [target_of(c) for c in there]
            yield self.comparison(targets, ranks, identity, all_bad=all_bad, shown_order=(0, 1), **fields)
        elif kind in ("upvote", "downvote") and there:
            yield self.rating(target_of(there[0]), identity, "thumb", kind == "upvote", **fields)
        elif kind == "flag" and there:
            yield self.flag(target_of(there[0]), identity, "flagged", **fields)
        elif kind != "chat":
            yield LeftOut(
                f"an event of the type {kind!r}" if there else "a vote on an answer that is not in the file"
            )

    def _call(self, row: Mapping[str, Any], state: Mapping[str, Any], shown: object) -> Call | None:
        roles = state.get("roles") or ("USER", "ASSISTANT")
        offset = int(state.get("offset") or 0)
        turns = [
            Message("user" if t[0] == roles[0] else "assistant", t[1] if isinstance(t[1], str) else t[1][0])
            for t in (state.get("messages") or ())[offset:]
            if t[1] is not None
        ]
        if len(turns) < 2 or turns[-1].role != "assistant" or not turns[-1].text:
            return None
        system = state.get("system_message") or state.get("system")
        head = [Message("system", system)] if isinstance(system, str) and system else []
        names = (state.get("model_name"), shown)
        model = next((str(n) for n in names if n and str(n).lower() not in _HIDDEN), None)
        identity = f"{state.get('conv_id')}/{len(turns)}"
        started, finished = row.get("start"), row.get("finish")
        return self.call(
            identity,
            start=started or row["tstamp"],
            end=finished if started else None,
            model_answered=model,
            input_messages=(*head, *turns[:-1]),
            output_messages=(turns[-1],),
            params={k: v for k, v in mapping(row.get("gen_params")).items() if isinstance(v, (int, float))},
            session_id=state.get("conv_id"),
            user_id=row.get("ip"),
        )
