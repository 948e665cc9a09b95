"""What is exchanged: an item of a queue with its judgements, and a judgement made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast, get_args

from heedloop.schema import SchemaError, format_time, parse_time
from heedloop_server.review.control.labels import Judged
from heedloop_server.review.questions import Question, applicable_questions

State = Literal["done", "draft", "skipped"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True, slots=True)
class Users:
    """Annotators and the tool's users: `names` maps an annotator to an e-mail or id there.

    Without an entry, a judgement is written under no user (Label Studio) or an id made of the name (Argilla).
    """

    names: Mapping[str, str] = field(default_factory=dict[str, str])

    def user(self, annotator: str) -> str | None:
        """The tool's user of an annotator."""
        return self.names.get(annotator)

    def annotator(self, user: str) -> str:
        """The annotator who is this user of the tool; the user's own id or e-mail where none is named."""
        return next((a for a, u in self.names.items() if u == user), user)


@dataclass(frozen=True, slots=True)
class Reviewed:
    """An item with its judgements.

    Attributes:
        targets: `trace_id`, `span_id` of its answers, in the item's own order.
        messages: the prompt, `role` and `text` of each message.
        answers: the answers' texts.
        facts: per answer what is known of its call, such as `model`.
        judgements: also drafts and skips; with pseudonyms for annotators where those were asked for.
        most_answers: answers of the queue's largest item; a tool's project has a field for each.
    """

    item_id: str
    targets: Sequence[Mapping[str, str]]
    messages: Sequence[Mapping[str, str]]
    answers: Sequence[str]
    facts: Sequence[Mapping[str, str]]
    judgements: Sequence[Judged]
    sampling_probability: float | None = None
    expected: Mapping[str, Any] | None = None
    most_answers: int = 0

    @property
    def prompt_text(self) -> str:
        """The prompt as one text."""
        return "\n\n".join(f"{m['role']}: {m['text']}" for m in self.messages)

    @property
    def answer_fields(self) -> dict[str, str]:
        """`answer_1` and so on: a text for each answer that the tool's project has a field for, empty where there is none."""
        num = max(len(self.answers), self.most_answers)
        return {f"answer_{i + 1}": text for i, text in enumerate([*self.answers, *[""] * num][:num])}


@dataclass(frozen=True, slots=True)
class External:
    """A judgement made in another tool; `answers` in the item's own order, to be checked like any other.

    A draft's answers are not checked; a skipped item has none, and `reason` says why.
    """

    item_id: str
    annotator: str
    answers: Mapping[str, Any]
    submitted_at: datetime | None = None
    duration_ms: int | None = None
    guideline_version: int | None = None
    state: State = "done"
    reason: str = ""


# ----------------------------------------------------------------------------------------- what travels in a tool


def original_of(one: Judged) -> dict[str, Any]:
    """A judgement as heedloop has it, for a place of the tool's format that the tool keeps as it is."""
    kept = (
        "annotator",
        "state",
        "answers",
        "reason",
        "shown_order",
        "submitted_at",
        "duration_ms",
        "guideline_version",
    )
    more = {"answers": dict(one.answers), "shown_order": list(one.shown_order)}
    return {n: getattr(one, n) for n in kept} | more | {"submitted_at": format_time(one.submitted_at)}


def external_of(item_id: str, original: Mapping[str, Any], where: str) -> External:
    """The inverse of `original_of`."""
    state = original.get("state", "done")
    if state not in STATES:
        raise SchemaError(f"{where}state", f"{state!r:.80} is not one of {', '.join(STATES)}")
    return External(
        item_id,
        member(original, "annotator", where, str),
        member(original, "answers", where, dict),
        time_of(original, "submitted_at", where),
        whole_of(original, "duration_ms", where),
        whole_of(original, "guideline_version", where),
        state,
        str(original.get("reason") or ""),
    )


def control_name(question: Question, index: int) -> str:
    """What a question about the answer `index` is called in a tool; no question of a queue has a hyphen in its name."""
    return question.name if index == 0 else f"{question.name}-{index + 1}"


def controls_of(questions: Sequence[Question], num_answers: int) -> dict[str, tuple[Question, int]]:
    """Every name under which a tool may answer -> the question and which answer it is about, with names of old exports."""
    result = {q.name: (q, 0) for q in applicable_questions(questions, num_answers)}
    for question in applicable_questions(questions, num_answers):
        for index in range(1, num_answers if question.listed(num_answers) else 1):
            result[control_name(question, index)] = question, index
            result.setdefault(f"{question.name}_{index + 1}", (question, index))
    return result


# --------------------------------------------------------------------------------------------------- reading JSON


def member(entry: Mapping[str, Any], name: str, where: str, kind: type) -> Any:
    """`entry[name]` of a JSON type; raises `SchemaError` that names the place."""
    value = entry.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        words = {str: "a text", list: "a list", dict: "an object"}.get(kind, kind.__name__)
        raise SchemaError(f"{where}{name}", f"must be {words}, not {str(value)[:80]!r}")
    return value


def listed(entry: Mapping[str, Any], name: str, where: str) -> list[Mapping[str, Any]]:
    """A list of objects; an absent one is empty."""
    result = member(entry, name, where, list) if entry.get(name) is not None else []
    for i, one in enumerate(cast(list[Any], result)):
        if not isinstance(one, Mapping):
            raise SchemaError(f"{where}{name}[{i}]", f"must be an object, not {str(one)[:80]!r}")
    return cast(list[Mapping[str, Any]], result)


def time_of(entry: Mapping[str, Any], name: str, where: str) -> datetime | None:
    """A time in RFC 3339, None where absent."""
    value = entry.get(name)
    return None if value is None else parse_time(value, field=f"{where}{name}")


def number_of(entry: Mapping[str, Any], name: str, where: str) -> float | None:
    """A number of 0 or more, None where absent."""
    value = entry.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise SchemaError(f"{where}{name}", f"{str(value)[:80]!r} is not a number of 0 or more")
    return value


def whole_of(entry: Mapping[str, Any], name: str, where: str) -> int | None:
    """A whole number of 0 or more, None where absent."""
    value = number_of(entry, name, where)
    if value is not None and value != int(value):
        raise SchemaError(f"{where}{name}", f"{value!r} is not a whole number")
    return None if value is None else int(value)
