"""Feedback calls: what a person, model or rule says about an answer.

Each returns the feedback's id once it is safe in the outbox. Wrong arguments raise `ValueError` with a sentence; a
server that is away does not.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from heedloop import _current
from heedloop import attributes as names
from heedloop._guard import guarded, warn
from heedloop._runtime import Runtime, state
from heedloop._tokens import DEFAULT_KINDS, sign_token
from heedloop.schema import (
    THUMB,
    Author,
    CharRange,
    Feedback,
    FeedbackKind,
    Ranking,
    Scale,
    SchemaError,
    Severity,
    Target,
    answer_hash,
    to_json,
    utc_now,
)

__all__ = [
    "comment",
    "compare",
    "correct",
    "feedback_token",
    "flag",
    "keep",
    "rate",
    "record",
    "retract",
    "target",
    "thumbs_down",
    "thumbs_up",
]

About = str | Target | None
"""What is judged: a handle, a `Target`, or None for the answer that is going on here (or was the last one)."""


def thumbs_up(
    about: About = None,
    *,
    comment: str | None = None,
    author: str | Author | None = None,
    at: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
) -> str:
    """A thumb up. Returns the feedback's id.

    Args:
        about: the answer's handle; None for the one that is going on here, or was the last one.
        author: the end user's id (a pseudonym will do): the same person's next thumb replaces this one. An `Author` for
            annotators, models and rules.
        at: when it was said, if not now; an aware time.
    """
    return _thumb(1, about, comment=comment, author=author, at=at, metadata=metadata)


def thumbs_down(
    about: About = None,
    *,
    comment: str | None = None,
    author: str | Author | None = None,
    at: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
) -> str:
    """A thumb down; see `thumbs_up`."""
    return _thumb(0, about, comment=comment, author=author, at=at, metadata=metadata)


def rate(
    about: About,
    value: float | str,
    *,
    scale: Scale | tuple[float, float] | Sequence[str] = (0.0, 1.0),
    name: str = "rating",
    comment: str | None = None,
    author: str | Author | None = None,
    at: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
) -> str:
    """A rating on a stated scale: `rate(h, 4, scale=(1, 5), name="helpfulness")`, or one of a list of categories."""
    return record(
        _said(
            "rating",
            about,
            author,
            at,
            metadata,
            value=value,
            scale=_scale(scale),
            name=name,
            comment=comment,
        )
    )


def correct(
    about: About,
    correction: str,
    *,
    comment: str | None = None,
    author: str | Author | None = None,
    at: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
) -> str:
    """What the answer should have been."""
    return record(_said("correction", about, author, at, metadata, correction=correction, comment=comment))


def flag(
    about: About,
    category: str,
    *,
    severity: Severity | None = None,
    comment: str | None = None,
    author: str | Author | None = None,
    at: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
) -> str:
    """Something is wrong with the answer: `inaccurate`, `incomplete`, `misleading`, `policy` or a category of yours."""
    return record(
        _said("flag", about, author, at, metadata, category=category, severity=severity, comment=comment)
    )


def comment(
    about: About,
    text: str,
    *,
    author: str | Author | None = None,
    at: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
) -> str:
    """Words about the answer, without a rating."""
    return record(_said("comment", about, author, at, metadata, comment=text))


def compare(
    answers: Sequence[str | Target],
    *,
    best: str | Target | int | None = None,
    ranks: Sequence[int] | None = None,
    shown_order: Sequence[int] | None = None,
    all_bad: bool = False,
    strength: float | None = None,
    comment: str | None = None,
    author: str | Author | None = None,
) -> str:
    """Which of several answers to one prompt is better.

    Args:
        best: the best answer (or its index); the others are then equal among themselves.
        ranks: one rank per answer instead, 1 is best, equal ranks are ties. Neither `best` nor `ranks`: all equal.
        shown_order: indices into `answers` in the order in which the judge saw them.
        all_bad: none of them is acceptable.
        strength: how clear the preference is, 0 to 1.
    """
    if isinstance(answers, (str, Target)):
        raise SchemaError("answers", "must be a list of two or more handles")
    targets = tuple(_target_of(a) for a in answers)
    ranking = Ranking(
        answers=targets,
        ranks=_ranks(targets, best, ranks),
        shown_order=None if shown_order is None else tuple(shown_order),
        all_bad=all_bad,
        strength=strength,
    )
    return record(_said("comparison", targets[0], author, None, None, ranking=ranking, comment=comment))


def retract(
    about: About = None,
    *,
    kind: FeedbackKind = "rating",
    name: str = "",
    author: str | Author | None = None,
    category: str | None = None,
) -> str:
    """Take an earlier feedback back. It is found by what it was about, its kind and name, and its author.

    An author without an id has nothing by which it could be found, so `author` needs one.
    """
    who = _author_of(author)
    if who.id is None:
        raise SchemaError("author", "needs an id: feedback of nobody in particular cannot be taken back")
    return record(
        Feedback(
            kind=kind, target=_target_of(about), name=name, author=who, category=category, retracted=True
        )
    )


def record(feedback: Feedback) -> str:
    """Send a `Feedback` as it is; what all the others end in. Returns its id."""
    if not isinstance(feedback, Feedback):
        raise SchemaError("feedback", f"must be a Feedback, not {type(feedback).__name__}")
    runtime = state.runtime
    if runtime is None:
        warn("off", "feedback was given while heedloop is not configured; it is lost")
    else:
        _keep_feedback(runtime, feedback)
    return feedback.id


def target(
    about: str | Target | None = None,
    *,
    external: str | None = None,
    session: str | None = None,
    response: str | None = None,
    start: int | None = None,
    end: int | None = None,
    answer: str | None = None,
) -> Target:
    """Something to judge, named in one of four ways.

    Args:
        about: a handle.
        external: the app's own id, as given to `heedloop.context(external_id=…)`.
        session: a whole session.
        response: the model provider's response id, such as `chatcmpl-…`.
        start, end, answer: a range of characters of the answer, and the answer's whole text that binds the range.
    """
    part = None
    if start is not None or end is not None or answer is not None:
        if start is None or end is None or answer is None:
            raise SchemaError("target.range", "needs start, end and answer together")
        if end > len(answer):
            raise SchemaError("target.range", f"ends at {end}, but the answer has {len(answer)} characters")
        part = CharRange(start, end, answer_hash(answer))
    if sum(v is not None for v in (about, external, session, response)) != 1:
        raise SchemaError("target", "needs exactly one of a handle, external, session, response")
    if external is not None:
        return Target(trace_id=f"{_current.external_trace_id(external):032x}", range=part)
    if about is None:
        return Target(session_id=session, response_id=response, range=part)
    return _with_range(_target_of(about), part)


def feedback_token(
    about: About = None,
    *,
    subject: str,
    kinds: Sequence[FeedbackKind] = DEFAULT_KINDS,
    expires_in_s: float = 7 * 86_400.0,
) -> str:
    """A token with which a browser may judge one answer as `subject`, and nothing else. Made offline.

    Empty where heedloop is not configured.
    """
    runtime = state.runtime
    if runtime is None:
        return ""
    where = _target_of(about)
    if where.span_id is None:
        raise SchemaError("about", "a token needs the handle of one answer")
    handle = f"00-{where.trace_id}-{where.span_id}-01"
    return sign_token(runtime.api_key, handle, subject=subject, kinds=kinds, expires_in_s=expires_in_s)


def keep(about: About = None) -> None:
    """Record this answer's whole trace even where sampling left it out."""
    where = _target_of(about)
    if state.runtime is not None and where.trace_id is not None:
        _keep_trace(state.runtime, where.trace_id)


# ------------------------------------------------------------------------------------------------- behind them


def _thumb(value: int, about: About, **said: Any) -> str:
    author, at, metadata = said["author"], said["at"], said["metadata"]
    return record(
        _said(
            "rating",
            about,
            author,
            at,
            metadata,
            value=value,
            scale=THUMB,
            name="thumb",
            comment=said["comment"],
        )
    )


def _said(
    kind: FeedbackKind,
    about: About,
    author: str | Author | None,
    at: datetime | None,
    metadata: Mapping[str, str] | None,
    **fields: Any,
) -> Feedback:
    return Feedback(
        kind=kind,
        target=_target_of(about),
        author=_author_of(author),
        created_at=utc_now() if at is None else at,
        metadata=dict(metadata or {}),
        **fields,
    )


def _target_of(about: About) -> Target:
    if isinstance(about, Target):
        return about
    handle = _current.handle() if about is None else about
    if handle:
        return Target.from_handle(handle)
    if state.runtime is None:
        # Off: handles are empty, nothing is recorded, and the app's call must still not fail. Each empty handle is
        # another answer, so that comparing two of them does not fail either.
        return Target(trace_id=uuid.uuid4().hex)
    raise SchemaError("about", "is empty: no call is going on here; give the handle of the answer")


def _with_range(where: Target, part: CharRange | None) -> Target:
    if part is None:
        return where
    return Target(trace_id=where.trace_id, span_id=where.span_id, response_id=where.response_id, range=part)


def _author_of(author: str | Author | None) -> Author:
    if isinstance(author, Author):
        return author
    if author is not None:
        return Author("end_user", author)
    call = _current.current_call()
    known = _current.current_values().get(names.USER_ID)
    if known is None and call is not None:
        known = call.attributes.get(names.USER_ID)
    return Author("end_user", known)


def _scale(scale: Scale | tuple[float, float] | Sequence[str]) -> Scale:
    if isinstance(scale, Scale):
        return scale
    values = list(scale)
    if values and all(isinstance(v, str) for v in values):
        return Scale(categories=tuple(str(v) for v in values))
    if len(values) != 2:
        raise SchemaError("scale", f"must be (lowest, highest) or a list of categories, not {scale!r}")
    low, high = values
    return Scale(low, high)  # type: ignore[arg-type]  # Scale checks that they are numbers


def _ranks(
    targets: Sequence[Target], best: str | Target | int | None, ranks: Sequence[int] | None
) -> tuple[int, ...]:
    if ranks is not None:
        if best is not None:
            raise SchemaError("ranks", "give best or ranks, not both")
        return tuple(ranks)
    if best is None:
        return (1,) * len(targets)
    if isinstance(best, int):
        if not 0 <= best < len(targets):
            raise SchemaError("best", f"{best} is not an index into {len(targets)} answers")
        index = best
    else:
        keys = [t.key for t in targets]
        if _target_of(best).key not in keys:
            raise SchemaError("best", "is not one of the answers")
        index = keys.index(_target_of(best).key)
    return tuple(1 if i == index else 2 for i in range(len(targets)))


@guarded("keeping a feedback", None)
def _keep_feedback(runtime: Runtime, feedback: Feedback) -> None:
    written = to_json(feedback)
    if runtime.options.redact is not None:
        for name in ("comment", "correction"):
            if name in written:
                written[name] = runtime.options.redact(written[name])
        if "metadata" in written:
            written["metadata"] = {k: runtime.options.redact(v) for k, v in written["metadata"].items()}
    body = json.dumps(written, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    traces = _traces_of(feedback)
    for trace_id in traces:
        runtime.keep_trace(int(trace_id, 16), "feedback")
    wanted = traces if runtime.sampler.rate < 1 else []
    if not runtime.outbox.put_feedback(feedback.id, body, trace_ids=wanted):
        warn("outbox full", "the outbox is full; a feedback was dropped and counted")
    runtime.courier.wake()


@guarded("keeping a trace", None)
def _keep_trace(runtime: Runtime, trace_id: str) -> None:
    runtime.keep_trace(int(trace_id, 16), "kept")
    if runtime.sampler.rate < 1:
        runtime.outbox.want_trace(trace_id)


def _traces_of(feedback: Feedback) -> list[str]:
    targets = feedback.ranking.answers if feedback.ranking is not None else (feedback.target,)
    return [t.trace_id for t in targets if t.trace_id is not None]
