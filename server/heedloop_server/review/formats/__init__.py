"""Judgements in other tools' words: out to them, and back in with their annotators' identities.

`jsonl` is our own and keeps everything. `label_studio` (tasks with annotations) and `argilla` (records with responses)
hold what those tools can say; what they cannot (severity, strength, ties in a Label Studio pair) is kept beside it
where their format has a place, and read back from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from heedloop_server.review.formats import argilla, label_studio, own
from heedloop_server.review.formats.record import External, Reviewed
from heedloop_server.review.questions import Question

__all__ = ["FORMATS", "External", "Format", "Reviewed", "read_entry", "write_entry"]

Format = Literal["jsonl", "label_studio", "argilla"]
_WRITE: dict[str, Callable[[Sequence[Question], Reviewed], dict[str, Any]]] = {
    "jsonl": own.write,
    "label_studio": label_studio.write,
    "argilla": argilla.write,
}
_READ: dict[
    str, Callable[[Sequence[Question], Mapping[str, Any], Callable[[str], Reviewed]], list[External]]
] = {
    "jsonl": own.read,
    "label_studio": label_studio.read,
    "argilla": argilla.read,
}
FORMATS: tuple[Format, ...] = ("jsonl", "label_studio", "argilla")


def write_entry(format: Format, questions: Sequence[Question], item: Reviewed) -> dict[str, Any]:
    """One item with its judgements as one JSON object of the format."""
    return _WRITE[format](questions, item)


def read_entry(
    format: Format,
    questions: Sequence[Question],
    entry: Mapping[str, Any],
    find: Callable[[str], Reviewed],
) -> list[External]:
    """The judgements in one JSON object of the format, not yet checked against the questions.

    Args:
        find: the queue's item of an id; raises where there is none.

    Raises:
        SchemaError: the entry is not of the format; names the field.
    """
    return _READ[format](questions, entry, find)
