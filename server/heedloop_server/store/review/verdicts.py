"""The answers' texts in which a model's own verdict is looked for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from heedloop_server.errors import Invalid
from heedloop_server.store.call_rows import IDS, Key, rows_of_calls
from heedloop_server.store.connection import ProjectStore, StoreError
from heedloop_server.store.review.content import calls_at

Answer = Key
MAX_CHARS = 100_000


def verdict_texts(
    project: ProjectStore, answers: Mapping[Answer, datetime], pattern: str = ""
) -> dict[Answer, str]:
    """Answer -> its text, or what `pattern` (RE2; its first group where it has one) finds in it.

    Where the model called a tool and wrote no text, the text is the first call's arguments.

    Args:
        answers: the answers with their start times.

    Raises:
        Invalid: the pattern is none.
    """
    text = "extract(answer, {pattern:String})" if pattern else "substringUTF8(answer, 1, {max:UInt32})"
    try:
        rows = rows_of_calls(
            project, f"{IDS}, {text} AS text", answers, {"pattern": pattern, "max": MAX_CHARS}
        )
    except StoreError as err:
        if pattern and "CANNOT_COMPILE_REGEXP" in str(err):
            raise Invalid(f"{pattern[:200]!r} is no pattern that the store can use (RE2)") from None
        raise
    result = {(row["trace"], row["span"]): str(row["text"]) for row in rows}
    if not pattern:
        silent = [(answer, answers[answer]) for answer, words in result.items() if not words]
        for answer, call in calls_at(project, silent).items():
            calls = [c for m in call.output_messages for c in m.tool_calls]
            result[answer] = calls[0].arguments if calls else ""
    return result
