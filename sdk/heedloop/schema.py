"""The records that every part of heedloop shares: calls, feedback, dataset rows, snapshots, runs.

The SDK sends these classes, the server stores them, the dashboard shows them and the trainer reads them; there is no
second definition anywhere. They are frozen, check themselves on construction, and turn into JSON-ready dictionaries
(`to_json`) and back (`from_json`). A wrong value raises `SchemaError`, a `ValueError` that names the field.

Conventions: ids are lower-case hexadecimal; times are aware UTC `datetime`s, in JSON as RFC 3339 strings; `None` means
"not said", which is never the same as zero, false or an empty string.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from typing import Any, Literal, TypeVar, cast, get_args

__all__ = [
    "AUTHOR_KINDS",
    "DATASET_FORMS",
    "FEEDBACK_KINDS",
    "MAX_TEXT_CHARS",
    "RUN_METHODS",
    "RUN_STATUSES",
    "SEVERITIES",
    "SPLITS",
    "Author",
    "AuthorKind",
    "Call",
    "CharRange",
    "Comparison",
    "DatasetForm",
    "Demonstration",
    "Feedback",
    "FeedbackKind",
    "Message",
    "PromptRow",
    "Ranking",
    "RatedCompletion",
    "Run",
    "RunMethod",
    "RunStatus",
    "Scale",
    "SchemaError",
    "Severity",
    "Snapshot",
    "Split",
    "Target",
    "ToolCall",
    "Unpaired",
    "Usage",
    "answer_hash",
    "format_time",
    "from_json",
    "parse_time",
    "to_json",
    "utc_now",
]

FeedbackKind = Literal["rating", "correction", "flag", "comparison", "comment"]
AuthorKind = Literal["end_user", "annotator", "model", "code"]
Severity = Literal["low", "medium", "high"]
DatasetForm = Literal["demonstrations", "comparisons", "unpaired", "prompts", "rated"]
Split = Literal["train", "validation", "test"]
RunMethod = Literal["sft", "reward", "reward_linear", "dpo", "kto", "ppo", "rloo", "evaluate", "pretrain"]
RunStatus = Literal["running", "finished", "failed", "stopped"]

FEEDBACK_KINDS: tuple[FeedbackKind, ...] = get_args(FeedbackKind)
AUTHOR_KINDS: tuple[AuthorKind, ...] = get_args(AuthorKind)
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
DATASET_FORMS: tuple[DatasetForm, ...] = get_args(DatasetForm)
SPLITS: tuple[Split, ...] = get_args(Split)
RUN_METHODS: tuple[RunMethod, ...] = get_args(RunMethod)
RUN_STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)

MAX_TEXT_CHARS = 1_000_000
"""The longest comment or correction that is accepted, in characters."""
MAX_LABEL_CHARS = 256
"""The longest name, category, author id or metadata key, in characters."""
MAX_ANSWERS = 100
"""The most answers that one comparison may rank."""

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_HASH = re.compile(r"[0-9a-f]{64}")
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_IDENTITY_NAMESPACE = uuid.UUID("6f9fd5e0-3c1d-5c8e-9d7b-0b6c1a6e8f11")


class SchemaError(ValueError):
    """A record's field holds a value it must not hold.

    Attributes:
        field: dotted path of the field, such as `target.trace_id`.
        reason: one sentence: what was wrong, the value, what would be right.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def utc_now() -> datetime:
    """The present moment as an aware UTC time."""
    return datetime.now(timezone.utc)


def parse_time(text: str, *, field: str = "time") -> datetime:
    """An RFC 3339 string as an aware UTC time; raises `SchemaError` where it has no offset or is no time."""
    try:
        value = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (ValueError, AttributeError, TypeError):
        raise SchemaError(
            field, f"{_show(text)} is not an RFC 3339 time such as 2026-11-21T09:30:00Z"
        ) from None
    if value.tzinfo is None:
        raise SchemaError(field, f"{_show(text)} has no time zone; add Z for UTC")
    return value.astimezone(timezone.utc)


def format_time(value: datetime) -> str:
    """An aware time as RFC 3339 in UTC with microseconds, such as `2026-11-21T09:30:00.000000Z`."""
    return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def answer_hash(text: str) -> str:
    """SHA-256 (hex) of an answer's UTF-8 text; binds a character range to the very text it was marked in."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


# ----------------------------------------------------------------------------------------------------- checking


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _check_text(value: object, field: str, *, limit: int = MAX_LABEL_CHARS, empty: bool = False) -> None:
    if not isinstance(value, str):
        raise SchemaError(field, f"must be text, not {_show(value)}")
    if not value and not empty:
        raise SchemaError(field, "must not be empty")
    if len(value) > limit:
        raise SchemaError(field, f"is {len(value):,} characters long; at most {limit:,} are accepted")


def _check_optional_text(value: object, field: str, *, limit: int = MAX_LABEL_CHARS) -> None:
    if value is not None:
        _check_text(value, field, limit=limit)


def _check_choice(value: object, choices: Sequence[str], field: str) -> None:
    if not isinstance(value, str) or value not in choices:
        raise SchemaError(field, f"{_show(value)} is not one of {', '.join(choices)}")


def _check_pattern(value: object, pattern: re.Pattern[str], field: str, what: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise SchemaError(field, f"{_show(value)} is not {what}")


def _check_number(value: object, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SchemaError(field, f"{_show(value)} is not a finite number")
    return float(value)


def _check_probability(value: object, field: str) -> None:
    if not 0 < _check_number(value, field) <= 1:
        raise SchemaError(field, f"{_show(value)} is not a probability above 0 and up to 1")


def _check_flag_value(value: object, field: str) -> None:
    if not isinstance(value, bool):
        raise SchemaError(field, f"{_show(value)} is not true or false")


def _check_tuple(value: object, field: str) -> None:
    if not isinstance(value, tuple):
        raise SchemaError(field, f"must be a list, not {_show(value)}")


def _check_record(value: object, cls: type[Any], field: str) -> None:
    if not isinstance(value, cls):
        raise SchemaError(field, f"must be a {cls.__name__}, not {_show(value)}")


def _check_time(value: object, field: str) -> None:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise SchemaError(field, f"{_show(value)} is not an aware time; use datetime.now(timezone.utc)")


# ----------------------------------------------------------------------------------------------------- the call


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's request to run a tool. `arguments` is the JSON text, as the model wrote it."""

    name: str
    arguments: str = ""
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: `system`, `user`, `assistant`, `tool`, or whatever the client sent.
        text: the text parts, joined by newlines.
        reasoning: what the model thought aloud, where the client sent it.
        media: one short description per image, sound or file part, such as `image/png`.
    """

    role: str
    text: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    media: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one call. `input` includes the cached tokens; the details are subsets of the totals."""

    input: int | None = None
    output: int | None = None
    cache_read_input: int | None = None
    cache_write_input: int | None = None
    reasoning_output: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One LLM call (or one answer of a decorated function), whatever instrumentation made it.

    Attributes:
        duration_ns: from start to end, in nanoseconds.
        is_answer: True where this is what a person would rate: the outermost decorated call, or an LLM call
            that no decorated call encloses.
        status: `ok` or `error`.
        cost: in US dollars, as the client said or None.
        sampling_probability: the probability with which this call was recorded, above 0 and up to 1.
        attributes: the raw span attributes as text, so that nothing that was sent is lost.
    """

    trace_id: str
    span_id: str
    start_time: datetime
    duration_ns: int = 0
    parent_span_id: str | None = None
    name: str = ""
    service: str = ""
    environment: str = ""
    operation: str = "chat"
    is_answer: bool = True
    provider: str | None = None
    model_requested: str | None = None
    model_answered: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    input_messages: tuple[Message, ...] = ()
    output_messages: tuple[Message, ...] = ()
    finish_reasons: tuple[str, ...] = ()
    usage: Usage = Usage()
    cost: float | None = None
    status: str = "ok"
    error_message: str | None = None
    http_status: int | None = None
    response_id: str | None = None
    stream: bool = False
    embedding_inputs: tuple[str, ...] = ()
    prompt_name: str | None = None
    prompt_version: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    sampling_probability: float = 1.0
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> str | None:
        """The model that answered where the client said so, else the model that was asked."""
        return self.model_answered or self.model_requested

    @property
    def output_text(self) -> str:
        """The answer's text: the output messages' texts joined by newlines."""
        return "\n".join(m.text for m in self.output_messages if m.text)

    @property
    def traceparent(self) -> str:
        """The call's handle: its W3C `traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-01"


# ----------------------------------------------------------------------------------------------------- feedback


@dataclass(frozen=True, slots=True)
class CharRange:
    """Characters `start` (inclusive) to `end` (exclusive) of an answer, counted in Unicode code points.

    `answer_hash` is `answer_hash(text)` of the answer they were marked in, so that a range can never be shown in
    another text than the one it judges.
    """

    start: int
    end: int
    answer_hash: str

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise SchemaError(f"range.{name}", f"{_show(value)} is not a whole number of 0 or more")
        if self.end <= self.start:
            raise SchemaError("range.end", f"{self.end} must be greater than start, {self.start}")
        _check_pattern(self.answer_hash, _HASH, "range.answer_hash", "a SHA-256 in lower-case hex")


@dataclass(frozen=True, slots=True)
class Target:
    """What a feedback is about: a span, a whole trace, a session, or a provider's response.

    Exactly one of `trace_id`, `session_id`, `response_id` is set; `span_id` needs `trace_id`; a range needs either a
    span or a response.
    """

    trace_id: str | None = None
    span_id: str | None = None
    session_id: str | None = None
    response_id: str | None = None
    range: CharRange | None = None

    def __post_init__(self) -> None:
        named = [n for n in ("trace_id", "session_id", "response_id") if getattr(self, n) is not None]
        if len(named) != 1:
            found = "none" if not named else " and ".join(named)
            raise SchemaError(
                "target", f"needs exactly one of trace_id, session_id, response_id; {found} given"
            )
        if self.trace_id is not None:
            _check_pattern(
                self.trace_id, _TRACE_ID, "target.trace_id", "a trace id: 32 lower-case hex digits"
            )
            if set(self.trace_id) == {"0"}:
                raise SchemaError("target.trace_id", "is all zeros, which W3C Trace Context forbids")
        if self.span_id is not None:
            if self.trace_id is None:
                raise SchemaError("target.span_id", "needs target.trace_id beside it")
            _check_pattern(self.span_id, _SPAN_ID, "target.span_id", "a span id: 16 lower-case hex digits")
        _check_optional_text(self.session_id, "target.session_id")
        _check_optional_text(self.response_id, "target.response_id")
        if self.range is not None and self.span_id is None and self.response_id is None:
            raise SchemaError("target.range", "needs the span_id or response_id of the answer it is in")

    @classmethod
    def from_handle(cls, handle: str, *, range: CharRange | None = None) -> Target:
        """The span named by a handle (a W3C `traceparent`); raises `SchemaError` where it is none."""
        match = _TRACEPARENT.fullmatch(handle.strip().lower()) if isinstance(handle, str) else None
        if match is None:
            raise SchemaError(
                "handle", f"{_show(handle)} is not a W3C traceparent: 00-<32 hex>-<16 hex>-<2 hex>"
            )
        return cls(trace_id=match[1], span_id=match[2], range=range)

    @property
    def key(self) -> str:
        """Canonical text of this target: equal targets have equal keys."""
        base = (
            f"span:{self.trace_id}:{self.span_id}"
            if self.span_id
            else f"trace:{self.trace_id}"
            if self.trace_id
            else f"session:{self.session_id}"
            if self.session_id
            else f"response:{self.response_id}"
        )
        if self.range is None:
            return base
        return f"{base}#{self.range.start}-{self.range.end}@{self.range.answer_hash}"


@dataclass(frozen=True, slots=True)
class Author:
    """Who judged: an end user, an annotator, a model or a rule in code. `id` may be a pseudonym, or None."""

    kind: AuthorKind = "end_user"
    id: str | None = None

    def __post_init__(self) -> None:
        _check_choice(self.kind, AUTHOR_KINDS, "author.kind")
        _check_optional_text(self.id, "author.id")


@dataclass(frozen=True, slots=True)
class Scale:
    """The stated scale of a rating: numbers from `min` to `max`, or one of `categories` (worst first).

    A thumb is a number on the scale 0 to 1 that is either 0 or 1; `THUMB` is that scale.
    """

    min: float | None = None
    max: float | None = None
    categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_tuple(self.categories, "scale.categories")
        if self.categories:
            if self.min is not None or self.max is not None:
                raise SchemaError("scale", "has categories and a range of numbers; give one of them")
            for c in self.categories:
                _check_text(c, "scale.categories")
            if len(set(self.categories)) != len(self.categories):
                raise SchemaError("scale.categories", "names a category twice")
            return
        if self.min is None or self.max is None:
            raise SchemaError("scale", "needs min and max, or categories")
        if _check_number(self.min, "scale.min") >= _check_number(self.max, "scale.max"):
            raise SchemaError("scale.max", f"{self.max} must be greater than min, {self.min}")


THUMB = Scale(0, 1)
"""The scale of a thumb: 1 is up, 0 is down."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """A judgement over two or more answers to one prompt.

    Attributes:
        answers: the answers, each a span, trace or response target.
        ranks: one rank per answer, 1 is best; equal ranks are a tie.
        shown_order: indices into `answers` in the order in which the judge saw them, or None where unknown.
        all_bad: the judge said that none of the answers is acceptable.
        strength: how strong the preference is: 1 clear, 0.5 slight; None where not asked.
    """

    answers: tuple[Target, ...]
    ranks: tuple[int, ...]
    shown_order: tuple[int, ...] | None = None
    all_bad: bool = False
    strength: float | None = None

    def __post_init__(self) -> None:
        _check_tuple(self.answers, "ranking.answers")
        _check_tuple(self.ranks, "ranking.ranks")
        for answer in self.answers:
            _check_record(answer, Target, "ranking.answers")
        _check_flag_value(self.all_bad, "ranking.all_bad")
        n = len(self.answers)
        if not 2 <= n <= MAX_ANSWERS:
            raise SchemaError("ranking.answers", f"holds {n} answers; 2 to {MAX_ANSWERS} can be ranked")
        if len({a.key for a in self.answers}) != n:
            raise SchemaError("ranking.answers", "names the same answer twice")
        if any(a.session_id is not None or a.range is not None for a in self.answers):
            raise SchemaError("ranking.answers", "must be whole answers: spans, traces or responses")
        if len(self.ranks) != n:
            raise SchemaError("ranking.ranks", f"has {len(self.ranks)} ranks for {n} answers")
        if any(isinstance(r, bool) or not isinstance(r, int) or r < 1 for r in self.ranks):
            raise SchemaError("ranking.ranks", f"{_show(self.ranks)} must be whole numbers from 1, the best")
        if self.shown_order is not None and (
            not isinstance(self.shown_order, tuple)
            or len(self.shown_order) != n
            or any(i not in self.shown_order for i in range(n))
        ):
            raise SchemaError("ranking.shown_order", f"must hold each index 0 to {n - 1} once")
        if self.strength is not None and not 0 <= _check_number(self.strength, "ranking.strength") <= 1:
            raise SchemaError("ranking.strength", f"{self.strength} is not between 0 and 1")


_DEFAULT_NAME: dict[str, str] = {
    "rating": "thumb",
    "correction": "correction",
    "flag": "flag",
    "comparison": "preference",
    "comment": "comment",
}


@dataclass(frozen=True, slots=True)
class Feedback:
    """One person's (or model's, or rule's) judgement of one target.

    What each kind needs: *rating*: `value` on `scale` (a number, or one of its categories); *correction*:
    `correction`, the text that should have been said; *flag*: `category`, optionally `severity` and a range in the
    target; *comparison*: `ranking` (the target is then the first answer's); *comment*: `comment`. Any kind may carry a
    `comment`.

    Attributes:
        id: the sender's own id; sending the same id again changes nothing.
        name: what was asked, such as `thumb`, `helpfulness`; part of the identity.
        created_at: when the judgement was made.
        guideline: version of the guideline that was shown, where there was one.
        queue_item: the review queue entry that asked for it.
        sampling_probability: the probability with which this answer was chosen for review; None for end users.
        solicited: True where the judge was asked to judge this very answer, False where they chose to.
        retracted: True takes the earlier judgement of the same identity back.
        metadata: small texts of the app's own.
    """

    kind: FeedbackKind
    target: Target
    name: str = ""
    value: float | str | None = None
    scale: Scale | None = None
    comment: str | None = None
    correction: str | None = None
    category: str | None = None
    severity: Severity | None = None
    ranking: Ranking | None = None
    author: Author = Author()
    created_at: datetime = field(default_factory=utc_now)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    guideline: str | None = None
    queue_item: str | None = None
    sampling_probability: float | None = None
    solicited: bool | None = None
    retracted: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_choice(self.kind, FEEDBACK_KINDS, "kind")
        _check_record(self.target, Target, "target")
        _check_record(self.author, Author, "author")
        if self.scale is not None:
            _check_record(self.scale, Scale, "scale")
        if self.ranking is not None:
            _check_record(self.ranking, Ranking, "ranking")
        _check_flag_value(self.retracted, "retracted")
        if self.solicited is not None:
            _check_flag_value(self.solicited, "solicited")
        if not self.name:
            object.__setattr__(self, "name", _DEFAULT_NAME[self.kind])
        _check_text(self.name, "name")
        _check_text(self.id, "id")
        _check_time(self.created_at, "created_at")
        _check_optional_text(self.comment, "comment", limit=MAX_TEXT_CHARS)
        _check_optional_text(self.guideline, "guideline")
        _check_optional_text(self.queue_item, "queue_item")
        if self.sampling_probability is not None:
            _check_probability(self.sampling_probability, "sampling_probability")
        _check_metadata(self.metadata)
        if not self.retracted:
            _CHECKS[self.kind](self)

    def identity(self, project: str) -> uuid.UUID:
        """The feedback's identity without time: the same author saying it again replaces what they said.

        It is made of project, target, kind, name and author; a comparison's target is the set of its answers. An author
        without an id has no identity of their own, so their feedback's own id takes the author's place.
        """
        if self.ranking is not None:
            target = "|".join(sorted(a.key for a in self.ranking.answers))
        else:
            target = self.target.key
        author = self.author.id if self.author.id is not None else f"\x00{self.id}"
        parts = [project, target, self.kind, self.name, self.author.kind, author]
        if self.kind == "flag":
            parts.append(self.category or "")
        return uuid.uuid5(_IDENTITY_NAMESPACE, "\x1f".join(parts))

    @property
    def is_thumb(self) -> bool:
        """True for a rating on the scale 0 to 1 whose value is 0 or 1."""
        return self.kind == "rating" and self.scale == THUMB and self.value in (0, 1)


def _check_metadata(metadata: Mapping[str, str]) -> None:
    if not isinstance(metadata, Mapping):
        raise SchemaError("metadata", f"must be an object of texts, not {_show(metadata)}")
    if len(metadata) > 64:
        raise SchemaError("metadata", f"has {len(metadata)} entries; at most 64 are accepted")
    for key, value in metadata.items():
        _check_text(key, "metadata")
        _check_text(value, f"metadata.{key}", limit=4096, empty=True)


def _check_rating(f: Feedback) -> None:
    if f.scale is None:
        object.__setattr__(f, "scale", THUMB)
    scale = cast(Scale, f.scale)
    if scale.categories:
        _check_choice(f.value, scale.categories, "value")
        return
    value = _check_number(f.value, "value")
    low, high = cast(float, scale.min), cast(float, scale.max)
    if not low <= value <= high:
        raise SchemaError("value", f"{value:g} is outside its scale, {low:g} to {high:g}")
    object.__setattr__(f, "value", value)


def _check_correction(f: Feedback) -> None:
    _check_text(f.correction, "correction", limit=MAX_TEXT_CHARS)
    if f.target.session_id is not None:
        raise SchemaError("target", "a correction needs the answer it corrects, not a whole session")


def _check_flag(f: Feedback) -> None:
    _check_text(f.category, "category")
    if f.severity is not None:
        _check_choice(f.severity, SEVERITIES, "severity")


def _check_comparison(f: Feedback) -> None:
    if f.ranking is None:
        raise SchemaError("ranking", "a comparison needs the answers and their ranks")
    if f.target.key != f.ranking.answers[0].key:
        raise SchemaError("target", "a comparison's target is its first answer")


def _check_comment(f: Feedback) -> None:
    _check_text(f.comment, "comment", limit=MAX_TEXT_CHARS)


_CHECKS = {
    "rating": _check_rating,
    "correction": _check_correction,
    "flag": _check_flag,
    "comparison": _check_comparison,
    "comment": _check_comment,
}


# ------------------------------------------------------------------------------------------------- dataset rows


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What should be said: a prompt and a completion (a correction, or a liked answer). For SFT."""

    prompt: tuple[Message, ...]
    completion: str
    source: str = "correction"
    weight: float = 1.0
    group: str = ""
    split: Split = "train"
    feedback_ids: tuple[str, ...] = ()
    trace_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which of two completions is better. For reward models and DPO.

    Attributes:
        margin: how much better, 0 or more on the reward's scale; None where nobody said.
        weight: the row's share of a judgement: the comparisons of one ranking sum to one weight.
        tie: True where the judge found them equal; chosen and rejected are then in no order.
        source: `comparison`, `correction` or `thumbs`.
        author: the judge's id, for intervals clustered by judge; None where unknown.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    margin: float | None = None
    weight: float = 1.0
    tie: bool = False
    source: str = "comparison"
    author: str | None = None
    group: str = ""
    split: Split = "train"
    feedback_ids: tuple[str, ...] = ()
    trace_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A completion that was liked (`label` True) or disliked. For KTO and pointwise reward models."""

    prompt: tuple[Message, ...]
    completion: str
    label: bool
    weight: float = 1.0
    author: str | None = None
    group: str = ""
    split: Split = "train"
    feedback_ids: tuple[str, ...] = ()
    trace_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt that was really asked, once per prompt group. For PPO and for evaluation."""

    prompt: tuple[Message, ...]
    weight: float = 1.0
    group: str = ""
    split: Split = "train"
    trace_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RatedCompletion:
    """A completion with its ratings by name, each rescaled to 0..1. For per-dimension reward heads."""

    prompt: tuple[Message, ...]
    completion: str
    ratings: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0
    author: str | None = None
    group: str = ""
    split: Split = "train"
    feedback_ids: tuple[str, ...] = ()
    trace_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A dataset frozen in time.

    Attributes:
        id: hex; made from everything below that decides the rows, so equal snapshots have equal ids.
        query: the filter and the rules the rows were made with.
        as_of: feedback and calls stored after this moment are not in it.
        feedback_hash: SHA-256 over the sorted (feedback id, version) pairs it holds.
        num_rows: form -> split -> count.
    """

    id: str
    name: str
    created_at: datetime
    as_of: datetime
    query: Mapping[str, Any] = field(default_factory=dict)
    feedback_hash: str = ""
    num_feedback: int = 0
    num_rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """One training or evaluation run: what was trained on what, and what came of it.

    Attributes:
        model_name: the name under which the trained model serves; put it on production spans as the model.
        parent: id of the run (or path of the checkpoint) that this one started from; None from scratch.
        checkpoint: where the files are, as the trainer's machine knows it.
        metrics: name -> final value; `history` rows are posted as they come.
        evaluation: what `evaluate` found, as JSON.
    """

    id: str
    method: RunMethod
    name: str = ""
    status: RunStatus = "running"
    snapshot_id: str | None = None
    parent: str | None = None
    model_name: str = ""
    checkpoint: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    code_version: str = ""
    started_at: datetime = field(default_factory=utc_now)
    finished_at: datetime | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    def __post_init__(self) -> None:
        _check_text(self.id, "id")
        _check_choice(self.method, RUN_METHODS, "method")
        _check_choice(self.status, RUN_STATUSES, "status")


# ---------------------------------------------------------------------------------------------------------- JSON

R = TypeVar("R")

_NESTED: dict[tuple[str, str], Any] = {}


def to_json(record: Any) -> dict[str, Any]:
    """A record as a JSON-ready dictionary; fields that are None or empty are left out."""
    out: dict[str, Any] = {}
    for f in fields(record):
        value = _plain(getattr(record, f.name))
        if value is None or value == [] or value == {}:
            continue
        out[f.name] = value
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in cast(Sequence[Any], value)]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in cast(Mapping[Any, Any], value).items()}
    if hasattr(value, "__dataclass_fields__"):
        return to_json(value)
    return value


def from_json(cls: type[R], data: object, *, field: str = "") -> R:
    """A record of class `cls` from parsed JSON.

    Raises:
        SchemaError: a required field is missing, a field is unknown, or a value is wrong; it names the field.
    """
    where = field or cls.__name__.lower()
    if not isinstance(data, Mapping):
        raise SchemaError(where, f"must be a JSON object, not {_show(data)}")
    given = cast(Mapping[str, Any], data)
    known = {f.name for f in fields(cast(Any, cls))}
    for name in given:
        if name not in known:
            raise SchemaError(
                f"{field}.{name}" if field else str(name),
                f"is not a field of {cls.__name__}; it has {', '.join(sorted(known))}",
            )
    values = {
        n: _revive(cls.__name__, n, v, f"{field}.{n}" if field else n)
        for n, v in given.items()
        if v is not None
    }
    try:
        return cls(**values)
    except TypeError as err:
        missing = re.findall(r"'(\w+)'", str(err))
        if "missing" in str(err) and missing:
            name = missing[0]
            raise SchemaError(f"{field}.{name}" if field else name, "is required and missing") from None
        raise SchemaError(where, str(err)) from None


def _revive(owner: str, name: str, value: Any, where: str) -> Any:
    nested = _NESTED.get((owner, name))
    if nested is not None:
        cls, many = nested
        if many:
            if not isinstance(value, list):
                raise SchemaError(where, f"must be a list, not {_show(value)}")
            return tuple(
                from_json(cls, v, field=f"{where}[{i}]") for i, v in enumerate(cast(list[Any], value))
            )
        return from_json(cls, value, field=where)
    if name.endswith("_at") or name in ("start_time", "as_of"):
        return parse_time(value, field=where)
    if isinstance(value, list):
        return tuple(cast(list[Any], value))
    return value


_NESTED.update(
    {
        ("Feedback", "target"): (Target, False),
        ("Feedback", "author"): (Author, False),
        ("Feedback", "scale"): (Scale, False),
        ("Feedback", "ranking"): (Ranking, False),
        ("Ranking", "answers"): (Target, True),
        ("Target", "range"): (CharRange, False),
        ("Message", "tool_calls"): (ToolCall, True),
        ("Call", "input_messages"): (Message, True),
        ("Call", "output_messages"): (Message, True),
        ("Call", "usage"): (Usage, False),
    }
)
for _row in ("Demonstration", "Comparison", "Unpaired", "PromptRow", "RatedCompletion"):
    _NESTED[(_row, "prompt")] = (Message, True)

ROW_CLASSES: dict[DatasetForm, type[Any]] = {
    "demonstrations": Demonstration,
    "comparisons": Comparison,
    "unpaired": Unpaired,
    "prompts": PromptRow,
    "rated": RatedCompletion,
}
"""The row class of each dataset form."""


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text, for hashing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
