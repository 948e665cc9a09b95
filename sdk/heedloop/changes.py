"""What changed between two texts, such as an answer and its correction: pieces that stayed, went and came. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

MAX_WORDS = 3000
"""Above this many words the comparison goes line by line: its cost grows with the square."""
MAX_LINES = 3000


def compare(before: str, after: str) -> list[dict[str, str]]:
    """Pieces in reading order, each with `op` (`same`, `gone`, `new`) and `text`.

    All `same` and `gone` pieces together are `before`; all `same` and `new` pieces together are `after`.
    """
    left, right = _tokens(before, r"\w+|\s+|[^\w\s]"), _tokens(after, r"\w+|\s+|[^\w\s]")
    if max(len(left), len(right)) > MAX_WORDS:
        left, right = _tokens(before, r"[^\n]*\n|[^\n]+"), _tokens(after, r"[^\n]*\n|[^\n]+")
    if max(len(left), len(right)) > MAX_LINES:
        left, right = [before], [after]
    pieces: list[dict[str, str]] = []
    for op, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if op == "equal":
            _add(pieces, "same", left[a:b])
        else:
            _add(pieces, "gone", left[a:b])
            _add(pieces, "new", right[c:d])
    return _join_small(pieces)


def _tokens(text: str, pattern: str) -> list[str]:
    return re.findall(pattern, text)


def _add(pieces: list[dict[str, str]], op: str, tokens: Sequence[str]) -> None:
    if tokens:
        pieces.append({"op": op, "text": "".join(tokens)})


def _join_small(pieces: list[dict[str, str]]) -> list[dict[str, str]]:
    """A lone blank between two changes joins them, so that a rewritten phrase reads as one change."""
    joined: list[dict[str, str]] = []
    gone, new = "", ""
    for i, piece in enumerate(pieces):
        between = piece["op"] == "same" and piece["text"].isspace() and 0 < i < len(pieces) - 1
        if piece["op"] == "gone":
            gone += piece["text"]
        elif piece["op"] == "new":
            new += piece["text"]
        elif between:
            gone, new = gone + piece["text"], new + piece["text"]
        else:
            joined += _change(gone, new)
            gone, new = "", ""
            joined.append(piece)
    return joined + _change(gone, new)


def _change(gone: str, new: str) -> list[dict[str, str]]:
    pieces = [{"op": "gone", "text": gone}] if gone else []
    return [*pieces, {"op": "new", "text": new}] if new else pieces
