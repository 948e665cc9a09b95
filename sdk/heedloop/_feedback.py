"""Feedback calls: what a user, model or rule thinks of an answer.

Each returns the feedback's id once it is safe in the outbox. Wrong arguments raise `ValueError` with a sentence; a
server that is away does not.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack

from heedloop import _current
from heedloop import attributes as names
from heedloop._around import around
from heedloop._guard import dropped, guarded, shown, warn
from heedloop._plain import is_text, plain_value, shortened
from heedloop._runtime import Runtime, state
from heedloop._tokens import DEFAULT_KINDS, sign_token
from heedloop._values import as_text, as_time, check_names, text_entries
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
    char_range,
    to_json,
    utc_now,
)
from heedloop.schema._kinds import MAX_LABEL_CHARS, MAX_TEXT_CHARS

About = str | Target | None
"""What is judged: a handle or a `Target`. None is refused outside of a call, where it is not known which answer is meant."""

HERE: Any = type("Here", (), {"__repr__": lambda _self: "<the answer that is going on here>"})()
"""The default of `about`: the answer that is going on here; left out with a warning where there is none."""


def thumbs_up(
    about: About = HERE,
    *,
    comment: str | None = None,
    author: str | Author | None = None,
    at: datetime | str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """A thumb up. Returns the feedback's id.

    Args:
        about: the answer's handle; inside a decorated call it may be left out.
        author: the end user's id (a pseudonym will do): the same user's next thumb replaces this one. An `Author` for
            annotators, models and rules.
        at: when it was given, if not now; a time (a naive one is local), or ISO text.
    """
    return _thumb(1, about, comment=comment, author=author, at=at, metadata=metadata)


def thumbs_down(
    about: About = HERE,
    *,
    comment: str | None = None,
    author: str | Author | None = None,
    at: datetime | str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """A thumb down; see `thumbs_up`."""
    return _thumb(0, about, comment=comment, author=author, at=at, metadata=metadata)


def rate(
    about: About,
    value: float | str | None,
    *,
    scale: Scale | tuple[float, float] | Sequence[str] = (0.0, 1.0),
    name: str = "rating",
    comment: str | None = None,
    author: str | Author | None = None,
    at: datetime | str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """A rating on a stated scale: `rate(h, 4, scale=(1, 5), name="helpfulness")`, or one of a list of categories."""
    stated = _scale(scale)
    number = _value(value, stated)
    if number is None:
        return ""
    return _record_feedback(
        "rating", about, author, at, metadata, value=number, scale=stated, name=name, comment=comment
    )


def correct(
    about: About,
    correction: str,
    *,
    comment: str | None = None,
    author: str | Author | None = None,
    at: datetime | str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """What the answer should have been."""
    if not _has_text("correction", correction):
        return ""
    return _record_feedback("correction", about, author, at, metadata, correction=correction, comment=comment)


def flag(
    about: About,
    category: str,
    *,
    severity: Severity | None = None,
    comment: str | None = None,
    author: str | Author | None = None,
    at: datetime | str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Something is wrong with the answer: `inaccurate`, `incomplete`, `misleading`, `policy` or a category of yours."""
    category = as_text("category", category)
    if not _has_text("category", category):
        return ""
    return _record_feedback(
        "flag", about, author, at, metadata, category=category, severity=severity, comment=comment
    )


def comment(
    about: About,
    text: str,
    *,
    author: str | Author | None = None,
    at: datetime | str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Words about the answer, without a rating."""
    if not _has_text("comment", text):
        return ""
    return _record_feedback("comment", about, author, at, metadata, comment=text)


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
    targets = tuple(_target_named(a) for a in answers)
    ranking = Ranking(
        answers=targets,
        ranks=_ranks(targets, best, ranks),
        shown_order=None if shown_order is None else tuple(shown_order),
        all_bad=all_bad,
        strength=strength,
    )
    return _record_feedback("comparison", targets[0], author, None, None, ranking=ranking, comment=comment)


def retract(
    about: About = HERE,
    *,
    kind: FeedbackKind = "rating",
    name: str = "",
    author: str | Author | None = None,
    category: str | None = None,
) -> str:
    """Take an earlier feedback back. It is found by what it was about, its kind and name, and its author.

    An author without an id has nothing by which it could be found, so `author` needs one.
    """
    judge = _author_of(author)
    if judge.id is None:
        raise SchemaError("author", "needs an id: feedback without an author's id cannot be retracted")
    where = _target_of(about)
    if where is None:
        return ""
    return record(
        Feedback(kind=kind, target=where, name=name, author=judge, category=category, retracted=True)
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


def target(about: str | Target | None = None, **named: Unpack[TargetNames]) -> Target:
    """Something to judge, named in one of four ways.

    Args:
        about: a handle.
        external_id: the app's own id, as given to `heedloop.context(external_id=…)`; `external` is another name for it.
        session_id: a whole session; or `session`.
        response_id: the model provider's response id, such as `chatcmpl-…`; or `response`.
        start, end, answer: a range of the answer, and the answer's whole text that binds the range.
        unit: what `start` and `end` count: Unicode `code_points` as Python does, or `utf16` units as browsers do.
    """
    check_names("target", named, TargetNames.__annotations__)
    ids = {n: _id_of(named, n) for n in ("external_id", "session_id", "response_id")}
    if sum(v is not None for v in (about, *ids.values())) != 1:
        raise SchemaError("target", "needs exactly one of a handle, external_id, session_id, response_id")
    part = _range_of(named)
    if ids["external_id"] is not None:
        return Target(trace_id=f"{_current.external_trace_id(ids['external_id']):032x}", range=part)
    if about is None:
        return Target(session_id=ids["session_id"], response_id=ids["response_id"], range=part)
    return _with_range(_target_named(about), part)


class TargetNames(TypedDict, total=False):
    """What `target` takes; see there."""

    external_id: str | None
    session_id: str | None
    response_id: str | None
    start: int | None
    end: int | None
    answer: str | None
    unit: Literal["code_points", "utf16"]
    external: str | None
    session: str | None
    response: str | None


def _id_of(named: Mapping[str, Any], name: str) -> str | None:
    value = named.get(name, named.get(name.removesuffix("_id")))
    return None if value is None else as_text(name, value)


def _range_of(named: Mapping[str, Any]) -> CharRange | None:
    start, end, answer = (named.get(n) for n in ("start", "end", "answer"))
    if start is None and end is None and answer is None:
        return None
    if start is None or end is None or answer is None:
        raise SchemaError("target.range", "needs start, end and answer together")
    return char_range(answer, start, end, named.get("unit", "code_points"))


def feedback_token(
    about: About = HERE,
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
    if where is None:
        return ""
    if where.span_id is None:
        raise SchemaError("about", "a token needs the handle of one answer")
    handle = f"00-{where.trace_id}-{where.span_id}-01"
    return sign_token(runtime.api_key, handle, subject=subject, kinds=kinds, expires_in_s=expires_in_s)


def keep(about: About = HERE) -> None:
    """Record this answer's whole trace even where sampling left it out."""
    where = _target_of(about)
    if where is None:
        return
    if state.runtime is not None and where.trace_id is not None:
        _keep_trace(state.runtime, where.trace_id)


# ------------------------------------------------------------------------------------------------- behind them


def _thumb(value: int, about: About, **details: Any) -> str:
    author, at, metadata = details["author"], details["at"], details["metadata"]
    comment = details["comment"]
    return _record_feedback(
        "rating", about, author, at, metadata, value=value, scale=THUMB, name="thumb", comment=comment
    )


def _record_feedback(
    kind: FeedbackKind,
    about: About,
    author: str | Author | None,
    at: datetime | str | None,
    metadata: Mapping[str, Any] | None,
    **fields: Any,
) -> str:
    where = _target_of(about)
    if where is None:
        return ""
    comment = as_text("comment", fields.pop("comment", None))
    if len(comment) > MAX_TEXT_CHARS:
        dropped("comment", f"is {len(comment):,} characters long; its head and tail are kept")
        comment = shortened(comment, MAX_TEXT_CHARS - 200)
    return record(
        Feedback(
            kind=kind,
            target=where,
            author=_author_of(author),
            created_at=as_time("at", at) or utc_now(),
            metadata=_metadata(metadata),
            comment=comment or None,
            **fields,
        )
    )


def _has_text(name: str, text: Any) -> bool:
    """True for text of a length that can be sent; else it is left out with a warning."""
    size = len(text) if is_text(text) else 0
    if not size:
        dropped(name, f"must be text that is not empty, not {shown(text)}; nothing was sent")
    elif size > MAX_TEXT_CHARS:
        dropped(
            name, f"is {size:,} characters long, at most {MAX_TEXT_CHARS:,} are accepted; nothing was sent"
        )
    return 0 < size <= MAX_TEXT_CHARS


def _metadata(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    entries = text_entries("metadata", metadata)
    if len(entries) > _MAX_METADATA:
        dropped("metadata", f"has {len(entries)} entries; the first {_MAX_METADATA} are kept")
    texts: dict[str, str] = {}
    for key, value in list(entries.items())[:_MAX_METADATA]:
        if key:
            texts[key[:256]] = value if len(value) <= 4096 else shortened(value, 4000)
    return texts


_MAX_METADATA = 64


def _value(value: Any, scale: Scale) -> float | str | None:
    """A rating as its scale has it: a number also where a form gave text; None where nothing was said."""
    plain = plain_value(value)
    if plain is None or plain == "":
        dropped("value", f"must be a number or a category, not {shown(value)}; nothing was sent")
        return None
    if scale.categories:
        return str(plain)
    if isinstance(plain, str):
        try:
            return float(plain)
        except ValueError:
            raise SchemaError("value", f"{plain!r:.80} is not a number") from None
    return plain


def _target_of(about: About) -> Target | None:
    """What is judged; None where it was left out and no call is going on."""
    if about is not HERE:
        return _target_named(about)
    call = _current.current_call()
    if call is None and state.runtime is not None:
        dropped(
            "about", "means the answer that is going on here, and there is none; give the answer's handle"
        )
        return None
    return _target_named("" if call is None else call.answer_handle)


def _target_named(about: About) -> Target:
    if isinstance(about, Target):
        return about
    if about is None and _current.current_call() is not None:
        about = _current.handle()
    if about:
        return Target.from_handle(about)
    if state.runtime is None:
        # Off: handles are empty, nothing is recorded, and the app's call must still not fail. Each empty handle is
        # another answer, so that comparing two of them does not fail either.
        return Target(trace_id=uuid.uuid4().hex)
    raise SchemaError(
        "about",
        f"is {'None' if about is None else 'empty'}, which names no answer; {_current.HOW_TO_TAKE_IT}",
    )


def _with_range(where: Target, part: CharRange | None) -> Target:
    if part is None:
        return where
    return Target(trace_id=where.trace_id, span_id=where.span_id, response_id=where.response_id, range=part)


def _author_of(author: str | Author | None) -> Author:
    if type(author) is Author:
        return author
    author_id = as_text("author", author)
    if len(author_id) > MAX_LABEL_CHARS:
        dropped("author", f"is {len(author_id):,} characters long; at most {MAX_LABEL_CHARS} are accepted")
        author_id = ""
    if author_id:
        return Author("end_user", author_id)
    call = _current.current_call()
    user_id = around().values.get(names.USER_ID)
    if user_id is None and call is not None:
        user_id = call.attributes.get(names.USER_ID)
    return Author("end_user", user_id)


def _scale(scale: Scale | tuple[float, float] | Sequence[str]) -> Scale:
    if isinstance(scale, Scale):
        return scale
    values = list(scale)
    if values and all(isinstance(v, str) for v in values):
        return Scale(categories=tuple(str(v) for v in values))
    if len(values) != 2:
        raise SchemaError("scale", f"must be (lowest, highest) or a list of categories, not {shown(scale)}")
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
        if _target_named(best).key not in keys:
            raise SchemaError("best", "is not one of the answers")
        index = keys.index(_target_named(best).key)
    return tuple(1 if i == index else 2 for i in range(len(targets)))


@guarded("keeping a feedback", None)
def _keep_feedback(runtime: Runtime, feedback: Feedback) -> None:
    record_json = to_json(feedback)
    if runtime.options.redact is not None:
        for name in ("comment", "correction"):
            if name in record_json:
                record_json[name] = runtime.options.redact(record_json[name])
        if "metadata" in record_json:
            record_json["metadata"] = {
                k: runtime.options.redact(v) for k, v in record_json["metadata"].items()
            }
    body = json.dumps(record_json, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    traces = _traces_of(feedback)
    for trace_id in traces:
        runtime.keep_trace(int(trace_id, 16), "feedback")
    wanted = traces if runtime.sampler.rate < 1 else []
    if not runtime.outbox.put_feedback(feedback.id, body, trace_ids=wanted):
        warn("outbox full", "the outbox is full; a feedback was dropped and counted")
    runtime.courier.wake()
    if runtime.options.serverless and _current.current_call() is None:  # else the end of the call delivers it
        runtime.flush(runtime.options.serverless_timeout_s)


@guarded("keeping a trace", None)
def _keep_trace(runtime: Runtime, trace_id: str) -> None:
    runtime.keep_trace(int(trace_id, 16), "kept")
    if runtime.sampler.rate < 1:
        runtime.outbox.want_trace(trace_id)


def _traces_of(feedback: Feedback) -> list[str]:
    targets = feedback.ranking.answers if feedback.ranking is not None else (feedback.target,)
    return [t.trace_id for t in targets if t.trace_id is not None]
