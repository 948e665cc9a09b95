"""A judge's prompt for an item, and the model's words as a verdict. What cannot be understood is None, never a 0."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from heedloop.schema import JudgeSpec
from heedloop_cli.judges.items import Item

HOLE = re.compile(
    r"\{(question|answer|answer_a|answer_b|context|conversation|reference|examples|dimensions)\}"
)
_NUMBER = re.compile(
    r"(-?\d+(?:[.,]\d+)?)(?:\s*[（(]?\s*(?:/|／|out of|of|von|sur|de|su|из|满分)\s*(\d+(?:\.\d+)?)|\s*(%))?",
    re.I,
)
_RANGE = re.compile(r"\d\s*(?:[-–—~]|or|to|and|oder|bis|ou)\s*\d", re.I)
_THOUGHTS_BEGIN, _THOUGHTS_END = re.compile(r"<think(?:ing)?>", re.I), re.compile(r"</think(?:ing)?>", re.I)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: words, tool calls (`name`, `arguments`), the probability of each verdict as the next token, or values that
    need no reading."""

    text: str = ""
    probabilities: Mapping[str, float] | None = None
    values: Mapping[str, float] | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    tool_calls: Sequence[Mapping[str, str]] = ()


def prompt_of(spec: JudgeSpec, item: Item, examples: str, *, swapped: bool = False) -> str:
    """The judge's prompt about an item. What users wrote is put in once and never read for holes again."""
    holes = item.holes(swapped=swapped) | {"examples": examples, "dimensions": ", ".join(spec.dimensions)}
    return HOLE.sub(lambda m: holes[m[1]], spec.prompt)


def parse(spec: JudgeSpec, reply: Reply) -> dict[str, float] | None:
    """Name of the feedback -> value on the judge's scale; None where the reply says nothing, two things, or what is off the scale."""
    text = _without_thoughts(reply.text)
    if reply.values is not None:
        found: Any = dict(reply.values)
    elif spec.parser == "token_probability":
        found = {spec.question: _expected(spec, reply.probabilities or {})}
    elif spec.parser == "json":
        found = _from_object(text, spec)
    elif spec.parser == "number":
        found = {spec.question: _number(spec, _last_line(text))}
    else:
        found = {spec.question: _verdict(spec, text)}
    return cast(dict[str, float], found) if _on_scale(spec, found) else None


def _on_scale(spec: JudgeSpec, found: Mapping[str, Any] | None) -> bool:
    if found is None or set(found) != set(spec.names):
        return False
    return all(
        isinstance(v, (int, float))
        and not isinstance(v, bool)
        and math.isfinite(v)
        and 0 <= spec.share(v) <= 1
        for v in found.values()
    )


def _verdict(spec: JudgeSpec, text: str) -> float | None:
    """The one verdict of the last line that has any, or of what follows its `VERDICT:`."""
    words = sorted(spec.verdicts, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, words))})(?!\w)", re.I)
    by_fold = {w.casefold(): v for w, v in spec.verdicts.items()}
    for line in reversed(text.strip().splitlines()):
        said = re.split(r"verdict\W*", line, flags=re.I)[-1]
        found = {m.casefold() for m in pattern.findall(said)}
        if found:
            return by_fold[found.pop()] if len(found) == 1 else None
    return None


def _without_thoughts(text: str) -> str:
    """What is said after the thoughts of a reasoning model, whose first tag is often part of its prompt; thoughts that were cut off
    say nothing."""
    return _THOUGHTS_BEGIN.split(_THOUGHTS_END.split(text)[-1])[0]


def _number(spec: JudgeSpec, line: str) -> float | None:
    """The last number, `8/10` on a scale to 10 as 8; None for a range, and for a share of another whole."""
    numbers = list(_NUMBER.finditer(line))
    if not numbers or _RANGE.search(line):
        return None
    value, whole, percent = numbers[-1].groups()
    whole = "100" if percent else whole
    return float(value.replace(",", ".")) if whole is None or float(whole) == spec.scale.max else None


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _from_object(text: str, spec: JudgeSpec) -> dict[str, Any] | None:
    """The last JSON object of the text with exactly one value per dimension."""
    for start in reversed([m.start() for m in re.finditer(r"\{", text)]):
        try:
            found, _ = json.JSONDecoder().raw_decode(text, start)
        except ValueError:
            continue
        if isinstance(found, dict) and set(spec.dimensions) <= set(cast(dict[str, Any], found)):
            values = {d: cast(dict[str, Any], found)[d] for d in spec.dimensions}
            return {d: _number(spec, v) if isinstance(v, str) else v for d, v in values.items()}
    return None


def _expected(spec: JudgeSpec, probabilities: Mapping[str, float]) -> float | None:
    """The mean value by the verdicts' probabilities; None where together they are next to nothing."""
    known = {w: probabilities.get(w, 0.0) for w in spec.verdicts}
    total = sum(known.values())
    return sum(p * spec.verdicts[w] for w, p in known.items()) / total if total > 1e-6 else None
