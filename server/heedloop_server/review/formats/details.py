"""What of a judgement still holds after another tool changed it: the details that the tool cannot say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from heedloop_server.review.questions import Question


def with_details(
    questions: Sequence[Question],
    answers: Mapping[str, Any],
    before: Mapping[str, Any],
    written: Mapping[str, Any],
) -> dict[str, Any]:
    """`answers` as the tool has them now, with severity, strength and comments of `before` where they still belong.

    A question that says the same as what was `written` for the tool keeps its whole answer; of others, a flag or a
    range that is still there keeps its own details.
    """
    result: dict[str, Any] = dict(answers)
    for question in questions:
        name = question.name
        if name not in before:
            continue
        if answers.get(name) == written.get(name):
            result[name] = before[name]
        elif question.kind in ("flags", "ranges") and name in result:
            result[name] = _marks(result[name], before[name])
    return result


def _marks(now: Any, before: Any) -> Any:
    """Each mark of `now` with the details that the same mark had; lists may be one per answer."""
    if not isinstance(now, list) or not isinstance(before, list):
        return now
    marks, earlier = cast(list[Any], now), cast(list[Any], before)
    if any(isinstance(m, list) or m is None for m in (*marks, *earlier)):
        return [_marks(m, earlier[i]) if i < len(earlier) else m for i, m in enumerate(marks)]
    known = {_key(m): m for m in earlier}
    return [known.get(_key(m), m) for m in marks]


def _key(mark: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(mark.get(n) for n in ("category", "start", "end", "label"))
