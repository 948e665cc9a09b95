"""Conversation trees with ranked answers and reactions, as in Open-Assistant (Köpf and others 2023).

A line is a message (or, in the published trees, a whole tree of nested `replies`). An assistant's message is a call whose prompt is
the conversation above it; the ranks of one message's answers are a comparison; +1 and -1 are thumbs of unnamed people. A ranking
is known when all siblings are, so it comes with the last line of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from heedloop.schema import THUMB, Author, Call, Feedback, Message, Ranking, SchemaError
from heedloop_cli.importers.record import (
    BadLine,
    JudgementReader,
    Line,
    Source,
    Wrong,
    clipped,
    target_of,
    text_of,
    time_of,
)

MAX_REACTIONS = 100_000

_ROLES = {"prompter": "user", "assistant": "assistant", "user": "user"}


@dataclass(frozen=True, slots=True)
class _Node:
    number: int
    row: Mapping[str, Any]
    id: str
    parent: str | None
    role: str
    text: str


class Oasst(JudgementReader):
    """Messages or trees."""

    service = "oasst"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._nodes: dict[str, _Node] = {}

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        is_message = {"role", "text"} <= row.keys() and bool({"parent", "parent_id"} & row.keys())
        return is_message or "replies" in row or {"message_tree_id", "prompt"} <= row.keys()

    def take(self, number: int, row: Mapping[str, Any]) -> Iterator[Line | BadLine]:
        tree = row.get("prompt")
        if "message_tree_id" in row and isinstance(tree, Mapping):
            self._keep_tree(number, cast(Mapping[str, Any], tree), None)
        elif "replies" in row:
            self._keep_tree(number, row, None)
        else:
            self._keep(number, row, row.get("parent", row.get("parent_id")))
        return iter(())

    def finish(self) -> Iterator[Line | BadLine]:
        """All lines in their order, now that every message's place is known."""
        answers: dict[str, list[_Node]] = {}
        for node in self._nodes.values():
            if node.parent is not None and node.role == "assistant":
                answers.setdefault(node.parent, []).append(node)
        by_line: dict[int, list[_Node]] = {}
        for node in self._nodes.values():
            by_line.setdefault(node.number, []).append(node)
        for number, nodes in sorted(by_line.items()):
            try:
                yield self._line(number, nodes, answers)
            except (SchemaError, Wrong) as err:
                yield BadLine(number, err.field, err.reason)

    def _keep_tree(self, number: int, row: Mapping[str, Any], parent: str | None) -> None:
        node = self._keep(number, row, parent)
        for reply in row.get("replies") or ():
            self._keep_tree(number, cast(Mapping[str, Any], reply), node.id)

    def _keep(self, number: int, row: Mapping[str, Any], parent: object) -> _Node:
        name = "id" if "id" in row else "message_id"
        identity = text_of(row, name)
        role = text_of(row, "role")
        if role not in _ROLES:
            raise Wrong("role", f"{role!r} is not one of {', '.join(_ROLES)}")
        if identity in self._nodes:
            raise Wrong(name, f"{identity!r} was in line {self._nodes[identity].number} already")
        if parent is not None and not isinstance(parent, str):
            raise Wrong("parent", f"must be the id of a message or null, not {parent!r:.60}")
        node = _Node(number, row, identity, parent, _ROLES[role], text_of(row, "text", empty=True))
        self._nodes[identity] = node
        return node

    def _line(self, number: int, nodes: list[_Node], answers: Mapping[str, list[_Node]]) -> Line:
        calls: list[Call] = []
        feedback: list[Feedback] = []
        left_out: dict[str, int] = {}
        for node in nodes:
            ups, downs = _reactions(node.row)
            if node.role != "assistant":
                if ups + downs:
                    left_out["thumbs on a person's own message"] = ups + downs
                continue
            call = self._call(node)
            calls.append(call)
            feedback.extend(self._thumbs(node, call, ups, downs))
            siblings = answers.get(node.parent or "", [])
            if siblings and siblings[-1].id == node.id:
                feedback.extend(self._ranking(siblings))
        return Line(number, tuple(calls), tuple(feedback), left_out)

    def _ancestors(self, node: _Node) -> list[_Node]:
        above: list[_Node] = []
        seen = {node.id}
        parent = node.parent
        while parent is not None:
            if parent not in self._nodes:
                raise Wrong("parent", f"there is no message {parent!r} in the file")
            if parent in seen:
                raise Wrong("parent", f"the message {parent!r} is above itself")
            seen.add(parent)
            above.append(self._nodes[parent])
            parent = self._nodes[parent].parent
        if not above:
            raise Wrong("parent", "an assistant's message needs one above it")
        return above[::-1]

    def _call(self, node: _Node) -> Call:
        above = self._ancestors(node)
        model = node.row.get("model") or node.row.get("model_name")
        labels = clipped(
            {"message": node.id, "lang": node.row.get("lang"), "review_count": node.row.get("review_count")}
        ) | dict(self._assumed(node))
        prompt = tuple(Message(n.role, n.text) for n in above)
        fields: dict[str, Any] = {
            "model_answered": str(model) if model else None,
            "session_id": above[0].id[:256],
        }
        return self.call((node.id,), self._time(node), prompt, node.text, labels, **fields)

    def _ranking(self, siblings: list[_Node]) -> Iterator[Feedback]:
        ranked = [(n, _rank(n)) for n in siblings]
        known = [(n, r) for n, r in ranked if r is not None]
        if len(known) < 2:
            return
        targets = tuple(target_of(self._call(n)) for n, _ in known)
        parent = siblings[0].parent
        yield self.feedback(
            ("ranking", parent),
            "comparison",
            targets[0],
            ranking=Ranking(targets, tuple(r + 1 for _, r in known)),
            author=Author("annotator"),
            created_at=max(self._time(n) for n, _ in known),
            solicited=True,
            metadata={"parent": str(parent)[:4096], **self._assumed(known[0][0])},
        )

    def _thumbs(self, node: _Node, call: Call, ups: int, downs: int) -> Iterator[Feedback]:
        fields = {"author": Author("annotator"), "created_at": call.start_time, "solicited": False}
        fields |= {"scale": THUMB, "metadata": self._assumed(node)}
        for value, count in ((1.0, ups), (0.0, downs)):
            for i in range(count):
                key = ("reaction", node.id, value, i)
                yield self.feedback(key, "rating", target_of(call), value=value, **fields)

    def _time(self, node: _Node) -> datetime:
        value = node.row.get("created_date")
        return time_of(value, "created_date") if value else self.source.time

    def _assumed(self, node: _Node) -> Mapping[str, str]:
        return self.source.assumed(node.row.get("created_date"))


def _rank(node: _Node) -> int | None:
    rank = node.row.get("rank")
    if rank is None:
        return None
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 0:
        raise Wrong("rank", f"must be a whole number from 0, the best, not {rank!r:.60}")
    return rank


def _reactions(row: Mapping[str, Any]) -> tuple[int, int]:
    emojis = row.get("emojis") or {}
    if not isinstance(emojis, Mapping):
        raise Wrong("emojis", f"must be an object of counts, not {emojis!r:.60}")
    reactions = cast(Mapping[str, Any], emojis)
    if isinstance(reactions.get("name"), list):  # the published trees: two lists side by side
        reactions = dict(zip(reactions["name"], reactions.get("count") or (), strict=False))
    counts: list[int] = []
    for name in ("+1", "-1"):
        count = reactions.get(name, 0)
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_REACTIONS:
            raise Wrong("emojis", f"{name} must be a count, not {count!r:.60}")
        counts.append(count)
    return counts[0], counts[1]
