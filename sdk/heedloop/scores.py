"""How near an answer is to another text, each from 0 to 1; and whether it passes a case's checks."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from heedloop.schema import Case, Check, ToolCall, canonical_json

_WORD = re.compile(r"\w+(?:[.,:/@-]\w+)*")
_SPACE = re.compile(r"\s+")


def exact(answer: str, reference: str) -> float:
    """1 where both say the same, letter case and white space aside."""
    return float(_plain(answer) == _plain(reference))


def _plain(text: str) -> str:
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()


def words(text: str) -> list[str]:
    """Words and numbers, in lower case; an address or a date is one."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def token_f1(answer: str, reference: str) -> float:
    """The harmonic mean of the share of the answer's words that the reference has and the other way round.

    Source: Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1; we keep articles and join numbers with their points.
    """
    a, b = Counter(words(answer)), Counter(words(reference))
    if not a or not b:
        return float(a == b)
    shared = (a & b).total()
    return 2 * shared / (a.total() + b.total())


def edit_similarity(answer: str, reference: str) -> float:
    """1 less the Levenshtein distance over the longer text's length."""
    longest = max(len(answer), len(reference))
    return 1 - edit_distance(answer, reference) / longest if longest else 1.0


def edit_distance(first: str, second: str) -> int:
    """Insertions, deletions and replacements of characters that make one text the other.

    A column of the table is one whole number: Hyyrö 2003, after Myers 1999, J. ACM 46:395-415.
    """
    if not first or not second:
        return len(first) or len(second)
    places: dict[str, int] = {}
    for i, character in enumerate(first):
        places[character] = places.get(character, 0) | 1 << i
    every, last = (1 << len(first)) - 1, 1 << (len(first) - 1)
    up, down, distance = every, 0, len(first)
    for character in second:
        equal = places.get(character, 0)
        vertical = equal | down
        horizontal = (((equal & up) + up) ^ up) | equal
        right, left = (down | ~(horizontal | up)) & every, up & horizontal
        distance += bool(right & last) - bool(left & last)
        right, left = right << 1 | 1, left << 1
        up, down = (left | ~(vertical | right)) & every, right & vertical & every
    return distance


def is_json(text: str) -> bool:
    """Whether the text is one JSON value, a code fence around it aside."""
    inner = re.sub(r"^\s*```(?:json)?\s*|\s*```\s*$", "", text)
    try:
        json.loads(inner)
    except (ValueError, RecursionError):
        return False
    return True


def same_tool_calls(calls: Sequence[ToolCall], reference: Sequence[ToolCall]) -> bool:
    """Whether the same tools are called with the same arguments, in any order and however the JSON is written."""
    return sorted(map(_call_text, calls)) == sorted(map(_call_text, reference))


def _call_text(call: ToolCall) -> str:
    try:
        return f"{call.name}({canonical_json(json.loads(call.arguments or '{}'))})"
    except (ValueError, RecursionError):
        return f"{call.name}({call.arguments})"


def reference_scores(case: Case, answer: str, tool_calls: Sequence[ToolCall] = ()) -> dict[str, float]:
    """An answer's scores that need no judge: by the case's reference, and the share of its checks that it passes."""
    scores: dict[str, float] = {}
    if case.reference:
        scores |= {
            "exact": exact(answer, case.reference),
            "token_f1": token_f1(answer, case.reference),
            "edit_similarity": edit_similarity(answer, case.reference),
        }
        if case.reference.lstrip()[:1] in "{[" and is_json(case.reference):
            scores["json"] = float(is_json(answer))
    if case.reference_tool_calls:
        scores["tool_calls"] = float(same_tool_calls(tool_calls, case.reference_tool_calls))
    if any(c.kind != "judge" for c in case.checks):
        scores["checks"] = float(not failed_checks(case, answer, tool_calls))
    return scores


Judge = Callable[[str, str], float]
"""(question, answer) -> 0 to 1."""


def failed_checks(
    case: Case, answer: str, tool_calls: Sequence[ToolCall] = (), judge: Judge | None = None
) -> list[str]:
    """A sentence for each check that the answer does not pass; a judge's checks are left out where there is no judge."""
    return [s for c in case.checks if (s := _failure(c, case, answer, tool_calls, judge))]


def _failure(
    check: Check, case: Case, answer: str, tool_calls: Sequence[ToolCall], judge: Judge | None
) -> str:
    near = token_f1(answer, case.reference)
    match check.kind:
        case "contains" if not _contains(answer, check.value):
            return f"does not contain {check.value!r}"
        case "token_f1" if near < check.least:
            return f"token F1 with the reference is {near:.2f}, below {check.least:g}"
        case "nearer" if near <= (far := token_f1(answer, case.wrong)) and not exact(answer, case.reference):
            return f"is no nearer to the reference ({near:.2f}) than to the wrong answer ({far:.2f})"
        case "differs" if exact(answer, case.wrong):
            return "is the answer that was wrong"
        case "json" if not is_json(answer):
            return "is no JSON"
        case "tool_calls" if not same_tool_calls(tool_calls, case.reference_tool_calls):
            return "does not make the reference's tool calls"
        case "judge" if judge is not None and (rated := judge(case.question, answer)) < check.least:
            return f"the judge rates it {rated:.2f}, below {check.least:g}"
        case _:
            return ""


def _contains(answer: str, fact: str) -> bool:
    """Whether a fact is there as whole words: 5 is not in 15."""
    return re.search(rf"(?<![\w]){re.escape(_plain(fact))}(?![\w])", _plain(answer)) is not None
