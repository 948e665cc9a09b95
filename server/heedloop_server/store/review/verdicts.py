"""The answers' texts in which a model's own verdict is looked for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from heedloop_server.errors import Invalid
from heedloop_server.store.connection import ProjectStore, StoreError
from heedloop_server.store.review.content import calls_at

__all__ = ["Answer", "verdict_texts"]

Answer = tuple[str, str]
"""(trace id, span id), hexadecimal."""
MAX_CHARS = 100_000
_AT_ONCE = 1_000


def verdict_texts(
    project: ProjectStore, answers: Mapping[Answer, datetime], pattern: str = ""
) -> dict[Answer, str]:
    """Answer -> its text, or what `pattern` (RE2; its first group where it has one) finds in it.

    Where the model called a tool and said nothing, the text is the first call's arguments.

    Args:
        answers: the answers with their start times.

    Raises:
        Invalid: the pattern is none.
    """
    found: dict[Answer, str] = {}
    ordered = sorted(answers)
    for first in range(0, len(ordered), _AT_ONCE):
        part = ordered[first : first + _AT_ONCE]
        for row in _rows(project, {a: answers[a] for a in part}, pattern):
            found[row["trace"], row["span"]] = row["text"]
        silent = [(a, answers[a]) for a in part if found.get(a) == ""]
        if silent and not pattern:
            for answer, call in calls_at(project, silent).items():
                calls = [c for m in call.output_messages for c in m.tool_calls]
                found[answer] = calls[0].arguments if calls else ""
    return found


def _rows(project: ProjectStore, answers: Mapping[Answer, datetime], pattern: str) -> list[dict[str, str]]:
    text = "extract(answer, {pattern:String})" if pattern else "substringUTF8(answer, 1, {max:UInt32})"
    params = {
        "pattern": pattern,
        "max": MAX_CHARS,
        "times": [t.strftime("%Y-%m-%d %H:%M:%S.%f") for t in sorted(set(answers.values()))],
        "traces": [t.upper() for t, _ in answers],
        "spans": [s.upper() for _, s in answers],
    }
    try:
        return project.rows(
            f"""
            SELECT
                lower(hex(trace_id)) AS trace,
                lower(hex(span_id)) AS span,
                {text} AS text
            FROM spans FINAL
            WHERE project_id = {{project:String}}
              AND start_time IN {{times:Array(DateTime64(6,'UTC'))}}
              AND (hex(trace_id), hex(span_id)) IN (
                  SELECT arrayJoin(arrayZip({{traces:Array(String)}}, {{spans:Array(String)}}))
              )
            """,  # noqa: S608
            params,
        )
    except StoreError as err:
        if pattern and "CANNOT_COMPILE_REGEXP" in str(err):
            raise Invalid(f"{pattern[:200]!r} is no pattern that the store can use (RE2)") from None
        raise
