"""A case: a prompt that went wrong once (or right), what users or reviewers said of its answer, and what to hold the next one to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from heedloop.schema._call import Call, Message, ToolCall, ToolDefinition
from heedloop.schema._checks import SchemaError, check_choice, check_number

CheckKind = Literal["contains", "token_f1", "nearer", "differs", "json", "tool_calls", "judge"]
LANGUAGE_KEYS = ("heedloop.metadata.language", "heedloop.metadata.lang", "heedloop.metadata.locale")
"""Attributes in which apps say the language of a question, the first that is there counts."""
CHECK_KINDS: tuple[CheckKind, ...] = get_args(CheckKind)


@dataclass(frozen=True, slots=True)
class Check:
    """What an answer is held to.

    Attributes:
        kind: it `contains` the text `value`; its `token_f1` with the case's reference is at least `least`; it is `nearer` to
            the reference than to the wrong answer; it `differs` from the wrong answer; it is `json`; its `tool_calls` are
            the reference's; a `judge` (`value` is its question, or empty) rates it `least` or better.
        least: 0 to 1.
    """

    kind: CheckKind
    value: str = ""
    least: float = 0.5

    def __post_init__(self) -> None:
        check_choice(self.kind, CHECK_KINDS, "checks.kind")
        if not 0 <= check_number(self.least, "checks.least") <= 1:
            raise SchemaError("checks.least", f"{self.least:g} is not from 0 to 1")


@dataclass(frozen=True, slots=True)
class CaseFeedback:
    """What was said that made a case. `author` is a pseudonym that is the same within a project; `text` is what was written."""

    id: str
    kind: str
    author: str
    author_kind: str
    at: datetime
    text: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt to answer, and what its answer is held to; also one line of a file of cases.

    Attributes:
        id: hex; the same prompt and answer are the same case in every version of a set.
        reference: what should have been said; empty where nobody said.
        reference_tool_calls: the tool calls that should have been made.
        wrong: the answer that was corrected, flagged or judged bad; empty where there is none.
        feedback: what made the case.
        group: prompts that are near-copies have the same; what is counted once.
        slices: such as `{"language": "en", "tag": "billing"}`.
        trace_id, span_id: the production answer; empty in a file of one's own.
    """

    id: str
    prompt: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    reference: str = ""
    reference_tool_calls: tuple[ToolCall, ...] = ()
    wrong: str = ""
    checks: tuple[Check, ...] = ()
    feedback: tuple[CaseFeedback, ...] = ()
    group: str = ""
    slices: Mapping[str, str] = field(default_factory=dict)
    trace_id: str = ""
    span_id: str = ""

    @property
    def question(self) -> str:
        """The last user message."""
        return next((m.text for m in reversed(self.prompt) if m.role == "user"), "")


@dataclass(frozen=True, slots=True)
class CaseSet:
    """A version of a named set of cases; its cases are read anew from what was stored at `as_of`, so that an erasure reaches it.

    Attributes:
        version: 1, 2, …
        query: the filters of the calls, and `least_f1`.
        hash: SHA-256 over the cases' ids, checks and feedback: the same again makes no new version.
    """

    name: str
    version: int
    as_of: datetime
    created_at: datetime
    num_cases: int
    hash: str
    query: Mapping[str, object] = field(default_factory=dict)


def slices_of(call: Call) -> dict[str, str]:
    """Language and tags of a call, as slices of a case."""
    language = next((call.attributes[k] for k in LANGUAGE_KEYS if call.attributes.get(k)), "")
    own = {"language": language, "tag": ", ".join(sorted(call.tags))}
    return {name: value for name, value in own.items() if value}
