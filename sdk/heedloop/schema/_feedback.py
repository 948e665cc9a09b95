"""Who said what about which answer."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, cast

from heedloop.schema._checks import (
    SchemaError,
    answer_hash,
    check_choice,
    check_flag_value,
    check_number,
    check_optional_text,
    check_pattern,
    check_probability,
    check_record,
    check_text,
    check_time,
    check_tuple,
    show,
    utc_now,
)
from heedloop.schema._kinds import (
    AUTHOR_KINDS,
    FEEDBACK_KINDS,
    MAX_ANSWERS,
    MAX_TEXT_CHARS,
    SEVERITIES,
    AuthorKind,
    FeedbackKind,
    Severity,
)

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_HASH = re.compile(r"[0-9a-f]{64}")
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_IDENTITY_NAMESPACE = uuid.UUID("6f9fd5e0-3c1d-5c8e-9d7b-0b6c1a6e8f11")


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
                raise SchemaError(f"range.{name}", f"{show(value)} is not a whole number of 0 or more")
        if self.end <= self.start:
            raise SchemaError("range.end", f"{self.end} must be greater than start, {self.start}")
        check_pattern(self.answer_hash, _HASH, "range.answer_hash", "a SHA-256 in lower-case hex")


def char_range(
    answer: str, start: int, end: int, unit: Literal["code_points", "utf16"] = "code_points"
) -> CharRange:
    """The range `start` to `end` of `answer`, counted in Unicode code points (Python) or UTF-16 units (browsers).

    Raises `SchemaError` where the range is outside the answer, or begins or ends inside a character.
    """
    check_choice(unit, ("code_points", "utf16"), "target.range.unit")
    given = CharRange(start, end, answer_hash(answer))
    size = len(answer) if unit == "code_points" else len(answer.encode("utf-16-le", "surrogatepass")) // 2
    if end > size:
        raise SchemaError("target.range", f"ends at {end}, but the answer has {size} characters")
    if unit == "code_points" or size == len(answer):
        return given
    places = {0: 0}
    at = 0
    for index, character in enumerate(answer):
        at += 2 if ord(character) > 0xFFFF else 1
        places[at] = index + 1
    for name, place in (("start", start), ("end", end)):
        if place not in places:
            raise SchemaError(f"target.range.{name}", f"{place} is inside a character of two UTF-16 units")
    return CharRange(places[start], places[end], given.answer_hash)


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
        if (self.trace_id is None) + (self.session_id is None) + (self.response_id is None) != 2:
            named = [n for n in ("trace_id", "session_id", "response_id") if getattr(self, n) is not None]
            found = "none" if not named else " and ".join(named)
            raise SchemaError(
                "target", f"needs exactly one of trace_id, session_id, response_id; {found} given"
            )
        if self.trace_id is not None:
            check_pattern(self.trace_id, _TRACE_ID, "target.trace_id", "a trace id: 32 lower-case hex digits")
            if not self.trace_id.strip("0"):
                raise SchemaError("target.trace_id", "is all zeros, which W3C Trace Context forbids")
        if self.span_id is not None:
            if self.trace_id is None:
                raise SchemaError("target.span_id", "needs target.trace_id beside it")
            check_pattern(self.span_id, _SPAN_ID, "target.span_id", "a span id: 16 lower-case hex digits")
        check_optional_text(self.session_id, "target.session_id")
        check_optional_text(self.response_id, "target.response_id")
        if self.range is not None and self.span_id is None and self.response_id is None:
            raise SchemaError("target.range", "needs the span_id or response_id of the answer it is in")

    @classmethod
    def from_handle(cls, handle: str, *, range: CharRange | None = None) -> Target:
        """The span named by a handle (a W3C `traceparent`); raises `SchemaError` where it is none."""
        match = _TRACEPARENT.fullmatch(handle.strip().lower()) if isinstance(handle, str) else None
        if match is None:
            raise SchemaError(
                "handle", f"{show(handle)} is not a W3C traceparent: 00-<32 hex>-<16 hex>-<2 hex>"
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
        check_choice(self.kind, AUTHOR_KINDS, "author.kind")
        check_optional_text(self.id, "author.id")


@dataclass(frozen=True, slots=True)
class Scale:
    """The stated scale of a rating: numbers from `min` to `max`, or one of `categories` (worst first).

    A thumb is a number on the scale 0 to 1 that is either 0 or 1; `THUMB` is that scale.
    """

    min: float | None = None
    max: float | None = None
    categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_tuple(self.categories, "scale.categories")
        if self.categories:
            if self.min is not None or self.max is not None:
                raise SchemaError("scale", "has categories and a range of numbers; give one of them")
            for c in self.categories:
                check_text(c, "scale.categories")
            if len(set(self.categories)) != len(self.categories):
                raise SchemaError("scale.categories", "names a category twice")
            return
        if self.min is None or self.max is None:
            raise SchemaError("scale", "needs min and max, or categories")
        if check_number(self.min, "scale.min") >= check_number(self.max, "scale.max"):
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
        check_tuple(self.answers, "ranking.answers")
        check_tuple(self.ranks, "ranking.ranks")
        for answer in self.answers:
            check_record(answer, Target, "ranking.answers")
        check_flag_value(self.all_bad, "ranking.all_bad")
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
            raise SchemaError("ranking.ranks", f"{show(self.ranks)} must be whole numbers from 1, the best")
        if self.shown_order is not None and (
            not isinstance(self.shown_order, tuple)
            or len(self.shown_order) != n
            or any(i not in self.shown_order for i in range(n))
        ):
            raise SchemaError("ranking.shown_order", f"must hold each index 0 to {n - 1} once")
        if self.strength is not None and not 0 <= check_number(self.strength, "ranking.strength") <= 1:
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
        check_choice(self.kind, FEEDBACK_KINDS, "kind")
        check_record(self.target, Target, "target")
        check_record(self.author, Author, "author")
        if self.scale is not None:
            check_record(self.scale, Scale, "scale")
        if self.ranking is not None:
            check_record(self.ranking, Ranking, "ranking")
        check_flag_value(self.retracted, "retracted")
        if self.solicited is not None:
            check_flag_value(self.solicited, "solicited")
        if not self.name:
            object.__setattr__(self, "name", _DEFAULT_NAME[self.kind])
        check_text(self.name, "name")
        check_text(self.id, "id")
        check_time(self.created_at, "created_at")
        check_optional_text(self.comment, "comment", limit=MAX_TEXT_CHARS)
        check_optional_text(self.guideline, "guideline")
        check_optional_text(self.queue_item, "queue_item")
        if self.sampling_probability is not None:
            check_probability(self.sampling_probability, "sampling_probability")
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
    if type(metadata) is not dict and not isinstance(metadata, Mapping):  # the second is slow
        raise SchemaError("metadata", f"must be an object of texts, not {show(metadata)}")
    if len(metadata) > 64:
        raise SchemaError("metadata", f"has {len(metadata)} entries; at most 64 are accepted")
    for key, value in metadata.items():
        check_text(key, "metadata")
        check_text(value, f"metadata.{key}", limit=4096, empty=True)


def _check_rating(f: Feedback) -> None:
    if f.scale is None:
        object.__setattr__(f, "scale", THUMB)
    scale = cast(Scale, f.scale)
    if scale.categories:
        check_choice(f.value, scale.categories, "value")
        return
    value = check_number(f.value, "value")
    low, high = cast(float, scale.min), cast(float, scale.max)
    if not low <= value <= high:
        raise SchemaError("value", f"{value:g} is outside its scale, {low:g} to {high:g}")
    object.__setattr__(f, "value", value)


def _check_correction(f: Feedback) -> None:
    check_text(f.correction, "correction", limit=MAX_TEXT_CHARS)
    if f.target.session_id is not None:
        raise SchemaError("target", "a correction needs the answer it corrects, not a whole session")


def _check_flag(f: Feedback) -> None:
    check_text(f.category, "category")
    if f.severity is not None:
        check_choice(f.severity, SEVERITIES, "severity")


def _check_comparison(f: Feedback) -> None:
    if f.ranking is None:
        raise SchemaError("ranking", "a comparison needs the answers and their ranks")
    if f.target.key != f.ranking.answers[0].key:
        raise SchemaError("target", "a comparison's target is its first answer")


def _check_comment(f: Feedback) -> None:
    check_text(f.comment, "comment", limit=MAX_TEXT_CHARS)


_CHECKS = {
    "rating": _check_rating,
    "correction": _check_correction,
    "flag": _check_flag,
    "comparison": _check_comparison,
    "comment": _check_comment,
}
