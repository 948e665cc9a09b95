"""Judgements in other tools' words: out to them, and back in with their annotators' identities.

`jsonl` is our own and keeps everything. `label_studio` (tasks with annotations) and `argilla` (records with responses)
are what those tools import as they are; `settings_file` writes the project's settings for them. What their values cannot
say (annotators, times, severity, ties) travels as the original judgement in a field that the tool keeps, and counts
where the tool's values still say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from heedloop_server.review.formats import argilla, label_studio, own
from heedloop_server.review.formats.record import External, Reviewed, Users
from heedloop_server.review.formats.settings import settings_file
from heedloop_server.review.questions import Question

__all__ = ["FORMATS", "External", "Format", "Reviewed", "Users", "read_entry", "settings_file", "write_entry"]

Format = Literal["jsonl", "label_studio", "argilla"]
_WRITE: dict[str, Callable[[Sequence[Question], Reviewed, Users], dict[str, Any]]] = {
    "jsonl": own.write,
    "label_studio": label_studio.write,
    "argilla": argilla.write,
}
_READ: dict[
    str,
    Callable[[Sequence[Question], Mapping[str, Any], Callable[[str], Reviewed], Users], list[External]],
] = {
    "jsonl": own.read,
    "label_studio": label_studio.read,
    "argilla": argilla.read,
}
FORMATS: tuple[Format, ...] = ("jsonl", "label_studio", "argilla")


def write_entry(
    format: Format,
    questions: Sequence[Question],
    item: Reviewed,
    users: Users | None = None,
    *,
    as_predictions: bool = False,
) -> dict[str, Any]:
    """One item with its judgements as one JSON object of the format.

    Args:
        as_predictions: judgements as what a model would say (predictions, suggestions), for a tool whose users are
            others; our own format has no such difference.
    """
    if as_predictions and format == "label_studio":
        return label_studio.write_predictions(questions, item)
    if as_predictions and format == "argilla":
        return argilla.write_suggestions(questions, item)
    return _WRITE[format](questions, item, users or Users())


def read_entry(
    format: Format,
    questions: Sequence[Question],
    entry: Mapping[str, Any],
    find: Callable[[str], Reviewed],
    users: Users | None = None,
) -> list[External]:
    """The judgements in one JSON object of the format, not yet checked against the questions.

    Args:
        find: the queue's item of an id; raises where there is none.

    Raises:
        SchemaError: the entry is not of the format; names the field.
    """
    return _READ[format](questions, entry, find, users or Users())
