"""A project's case set as the parameters of an app's own test, from a file in the app's repository.

from heedloop import testing

@testing.cases("support", tolerance=0.02)
def test_support(case):
    case.check(answer(case.question))

`heedloop cases download support` writes the file; `HEEDLOOP_CASES` names its folder, else `cases`, `tests/cases` or `.`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heedloop.schema import Case, SchemaError, ToolCall, from_json
from heedloop.scores import Judge, failed_checks

FOLDERS = ("cases", "tests/cases", ".")


def read_cases(path: Path) -> Iterator[Case]:
    """The cases of a JSON Lines file: whole cases, or lines of one's own such as `{"prompt": "…", "reference": "…"}`.

    Raises:
        SchemaError: a line is no case; it names the line.
    """
    # not splitlines(): a text may hold U+2028, which JSON leaves as it is
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
            if isinstance(given.get("prompt"), str):
                given["prompt"] = [{"role": "user", "text": given["prompt"]}]
            yield from_json(Case, {"id": f"line{number}", **given})
        except (ValueError, AttributeError) as err:
            raise SchemaError(f"{path}:{number}", f"is no case: {err}") from None


@dataclass(slots=True)
class Tolerance:
    """How many cases of a set may fail before the test does."""

    allowed: int
    failed: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class CheckedCase:
    """A case of a set, in a test."""

    case: Case
    tolerance: Tolerance
    judge: Judge | None = None

    @property
    def question(self) -> str:
        """The last user message."""
        return self.case.question

    @property
    def messages(self) -> list[dict[str, str]]:
        """The whole prompt as `role` and `content`, as clients of chat models take it."""
        return [{"role": m.role, "content": m.text} for m in self.case.prompt]

    def check(self, answer: str, tool_calls: Sequence[ToolCall] = ()) -> None:
        """Fail with what the answer does not do and who said so; within the tolerance the test is expected to fail."""
        failures = failed_checks(self.case, answer, tool_calls, self.judge)
        if not failures:
            return
        lines = [
            f"{f.kind} by {f.author_kind} {f.author} on {f.at:%Y-%m-%d}: {f.text}" for f in self.case.feedback
        ]
        text = "\n  ".join([f"the answer to {self.question!r:.200}:", *failures, *lines, f"it is {answer!r:.500}"])  # fmt: skip
        self.tolerance.failed.append(self.case.id)
        if len(self.tolerance.failed) <= self.tolerance.allowed:
            import pytest

            pytest.xfail(f"within the tolerance of {self.tolerance.allowed}: {text}")
        raise AssertionError(text)


def cases(
    name: str | Path, *, tolerance: float = 0.0, judge: Judge | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Run a test once for each case of a set, as its argument `case`.

    Args:
        name: of the set, or a path.
        tolerance: share of the cases that may fail, 0 to 1; they are reported as expected failures.
        judge: rates (question, answer) from 0 to 1, for cases that ask a judge; without one these checks are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the tolerance is no share.
    """
    import pytest

    if not 0 <= tolerance <= 1:
        raise ValueError(f"tolerance: {tolerance!r} is not a share from 0 to 1")
    found = list(read_cases(_file(name)))
    shared = Tolerance(int(tolerance * len(found) + 1e-9))
    checked = [pytest.param(CheckedCase(c, shared, judge), id=f"{c.id[:12]}") for c in found]
    return pytest.mark.parametrize("case", checked)


def _file(name: str | Path) -> Path:
    folders = [os.environ["HEEDLOOP_CASES"]] if os.environ.get("HEEDLOOP_CASES") else FOLDERS
    tried = [Path(name), *(Path(f) / f"{name}.jsonl" for f in folders)]
    for path in tried:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"no file of the cases {str(name)!r}: tried {', '.join(map(str, tried))}; "
        f"`heedloop cases download {name}` writes it"
    )
