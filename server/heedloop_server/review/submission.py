"""What annotators do with an assignment: go on with it later, submit it, skip it, take it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

from heedloop.responses import TrainingResult
from heedloop.schema import Call, Feedback, answer_hash, utc_now
from heedloop_server.errors import Conflict, NotFound
from heedloop_server.review.judgement import context_of, feedback_of, retractions
from heedloop_server.review.open_queue import OpenQueue
from heedloop_server.review.responses import Judgement, check_judgement, to_stored
from heedloop_server.review.training import compare
from heedloop_server.store.review.assignments import REOPENED, Assignment, sent_back_with

_TICK = timedelta(microseconds=1)


@dataclass(slots=True)
class Submitted:
    """A judgement whose assignment is stored (or will be, at the end of `together`), and the feedback that is to be recorded for it."""

    queue_id: str
    feedback: list[Feedback]
    key_id: str
    training: TrainingResult | None = None
    feedback_ids: list[str] = field(default_factory=list[str])


def own(opened: OpenQueue, assignment_id: str, annotator: str) -> Assignment:
    """The annotator's own assignment; raises `NotFound` for another annotator's, as if there were none."""
    a = opened.work.assignment(assignment_id)
    if a is None or a.annotator != annotator or not opened.work.admits(annotator) or a.state == "withdrawn":
        raise NotFound(f"there is no assignment {assignment_id!r} for you in this project")
    return a


def submit(
    opened: OpenQueue,
    a: Assignment,
    answers: object,
    *,
    key_id: str,
    duration_ms: int = 0,
    guideline: int | None = None,
    revision: int | None = None,
    hashes: Sequence[str] | None = None,
    at: datetime | None = None,
) -> Submitted:
    """Store a judgement; the same again changes nothing, another one replaces it.

    Args:
        answers: by question, in the order shown.
        guideline: the version that was shown, where it is not the one of the lease.
        revision: of the judgement that was shown; another one means that it was judged elsewhere meanwhile.
        hashes: of the answers' texts that were shown, in that order.
        at: when it was made, where that was not now.

    Raises:
        SchemaError: an answer is wrong; it names the question.
        Conflict: the queue is closed, the item is full, the answers are not those that were shown, the judgement was
            changed elsewhere, or the guideline that was shown was replaced and judgements under it are sent back.
    """
    calls = _calls(opened, a)
    shown = [calls[i] for i in a.shown_order]
    _same_texts(shown, hashes)
    is_session = opened.work.items[a.item_id].is_session
    texts = [c.output_text for c in shown]
    judgement = check_judgement(opened.queue.questions, answers, texts, is_session=is_session)
    judgement = to_stored(opened.queue.questions, judgement, a.shown_order)
    a = opened.whole(a)
    if a.state != "done" or a.answers != judgement:
        _check_accepting(opened)
        _same_revision(a, revision)
        if at is None:
            _guideline_counts(opened, a, a.guideline if guideline is None else guideline, answers)
        a = _holding(opened, a, key_id, answers)
        return _store(opened, a, judgement, calls, key_id, duration_ms, guideline, at)
    feedback = feedback_of(
        opened.queue.questions, judgement, context_of(opened.work.items[a.item_id], a, calls)
    )
    return _submitted(opened, a, feedback, [], judgement, key_id)


def _store(
    opened: OpenQueue,
    a: Assignment,
    judgement: Judgement,
    calls: Sequence[Call],
    key_id: str,
    duration_ms: int,
    guideline: int | None,
    at: datetime | None,
) -> Submitted:
    questions, project = opened.queue.questions, opened.project.project
    before = (
        feedback_of(questions, dict(a.answers), context_of(opened.work.items[a.item_id], a, calls))
        if a.answers is not None
        else []
    )
    now = max(at or utc_now(), a.judged_at + _TICK)
    done = a.moved(
        state="done",
        answers=judgement,
        draft=None,
        reason="",
        revision=a.revision + 1,
        judged_at=now,
        duration_ms=duration_ms,
        guideline=_shown_guideline(opened, a, guideline),
        expires_at=now,
        key_id=key_id,
    )
    about = context_of(opened.work.items[a.item_id], done, calls)
    feedback = feedback_of(questions, judgement, about)
    retracted = retractions(project, before, feedback, about)
    done = replace(done, feedback_ids=tuple(f.identity(project) for f in feedback))
    opened.keep([done])
    return _submitted(opened, done, feedback, retracted, judgement, key_id)


def _submitted(
    opened: OpenQueue,
    a: Assignment,
    feedback: Sequence[Feedback],
    retracted: Sequence[Feedback],
    judgement: Judgement,
    key_id: str,
) -> Submitted:
    project = opened.project.project
    item = opened.work.items[a.item_id]
    submitted = Submitted(opened.queue.queue_id, [*retracted, *feedback], key_id)
    submitted.feedback_ids = [str(f.identity(project)) for f in feedback]
    if item.gold == "training":
        submitted.training = compare(opened.queue.questions, item, a.shown_order, judgement)
    return submitted


def skip(opened: OpenQueue, a: Assignment, reason: str) -> Assignment:
    """The annotator will not judge it; others may. Again: only the reason changes."""
    _check_accepting(opened)
    if a.state == "done":
        raise Conflict("it is judged already; take the judgement back (reopen) before skipping it")
    if a.state == "skipped" and a.reason == reason:
        return a
    now = utc_now()
    skipped = opened.whole(a).moved(state="skipped", reason=reason, judged_at=now, expires_at=now)
    opened.keep([skipped])
    return skipped


def rewrite_judgements(opened: OpenQueue, item_ids: Sequence[str]) -> list[Feedback]:
    """Store the judgements of these items again, as of a moment later, and say their feedback: it depends on the item.

    An item that was in the queue when a random sample drew it has a probability from then on. The feedback on it from
    before belongs to the sample as well: without it, the sample would leave out whatever the queue was filled with first.
    """
    done = [a for i in item_ids for a in opened.work.of_item(i) if a.state == "done"]
    calls = opened.contents(sorted({a.item_id for a in done}))
    feedback: list[Feedback] = []
    for a in opened.all_whole(done):
        if a.item_id in calls and a.answers is not None:
            again = dict(a.answers)
            about = calls[a.item_id]
            feedback += _store(opened, a, again, about, a.key_id, a.duration_ms, None, a.judged_at).feedback
    return feedback


def reopen(opened: OpenQueue, a: Assignment, *, key_id: str) -> tuple[Assignment, Submitted | None]:
    """Take a judgement or a skip back and hold the item again, with the old answers as draft."""
    _check_accepting(opened)
    if a.state == "leased" and a.expires_at > utc_now():
        return opened.whole(a), None
    if not (a.state == "done" and opened.work.counts(a)):
        return _holding(opened, a, key_id, None), None
    calls = _calls(opened, a)
    a = opened.whole(a)
    feedback = feedback_of(
        opened.queue.questions, dict(a.answers or {}), context_of(opened.work.items[a.item_id], a, calls)
    )
    now = max(utc_now(), a.judged_at + _TICK)
    leased = a.moved(
        state="leased",
        reason=REOPENED,
        draft=opened.as_shown(a),
        judged_at=now,
        leased_at=now,
        expires_at=now + timedelta(seconds=opened.queue.lease_s),
        guideline=opened.guideline.number,
    )
    opened.keep([leased])
    retracted = retractions(
        opened.project.project, feedback, [], context_of(opened.work.items[a.item_id], leased, calls)
    )
    return leased, _submitted(opened, leased, [], retracted, {}, key_id)


def send_back(opened: OpenQueue, a: Assignment, remark: str, *, key_id: str) -> Submitted:
    """A reviewer sends one judgement back: it is retracted, and its annotator is offered it first, with the remark.

    Raises:
        Conflict: it is no judgement, or the queue is closed.
    """
    _check_accepting(opened)
    if a.state != "done":
        raise Conflict("there is no judgement to send back: it is not submitted")
    leased, retracted = reopen(opened, a, key_id=key_id)
    now = utc_now()
    opened.keep([leased.moved(reason=sent_back_with(remark), expires_at=now - timedelta(seconds=10))])
    return retracted or Submitted(opened.queue.queue_id, [], key_id)


def release(opened: OpenQueue, annotator: str) -> int:
    """End the running leases of an annotator, or all where none is named; returns how many. Drafts are kept."""
    now = utc_now()
    running = [
        a
        for item_id in opened.work.items
        for a in opened.work.of_item(item_id)
        if a.state == "leased" and a.expires_at > now and annotator in ("", a.annotator)
    ]
    # ten seconds in the past: other servers leave a lease that long, because clocks differ
    ended = now - timedelta(seconds=10)
    opened.keep([a.touched(expires_at=ended) for a in opened.all_whole(running)])
    return len(running)


def keep_draft(
    opened: OpenQueue,
    a: Assignment,
    answers: Mapping[str, Any],
    *,
    key_id: str,
) -> Assignment:
    """Keep unfinished answers and restart the lease."""
    _check_accepting(opened)
    if a.state in ("done", "skipped"):
        raise Conflict(f"it is {a.state} already; reopen it before working on it again")
    a = _holding(opened, a, key_id, answers)
    until = utc_now() + timedelta(seconds=opened.queue.lease_s)
    kept = a.touched(draft=dict(answers), expires_at=until)
    opened.keep([kept])
    return kept


def _holding(opened: OpenQueue, a: Assignment, key_id: str, answers: object) -> Assignment:
    """The assignment, leased to its annotator: as it is, or again where its lease ended and a judgement is still wanted.

    Raises:
        Conflict: others have given all the judgements that are wanted; what was answered is kept as a draft.
    """
    now = utc_now()
    a = opened.whole(a)
    if (a.state == "leased" and a.expires_at > now) or (a.state == "done" and opened.work.counts(a)):
        return a
    if opened.work.wanted(a.item_id, a.annotator, now):
        again = opened.lease_items(a.annotator, [a.item_id], key_id=key_id)
        if again:
            return again[0]
    if isinstance(answers, Mapping):
        opened.keep([a.touched(draft=dict(answers))])
    raise Conflict(
        "your lease of this item ended and others have judged it since; no further judgement is wanted. Go on with the next item"
    )


def _check_accepting(opened: OpenQueue) -> None:
    if opened.queue.status not in ("open", "paused"):
        raise Conflict(
            f"the queue {opened.queue.name!r} is {opened.queue.status}; nothing is taken in any more"
        )


def _calls(opened: OpenQueue, a: Assignment) -> list[Call]:
    calls = opened.contents([a.item_id]).get(a.item_id)
    if calls is None:
        raise Conflict(
            "the answer is not in the store any more (erased, or past its retention); go on with the next item"
        )
    return calls


def _same_texts(shown: Sequence[Call], hashes: Sequence[str] | None) -> None:
    if hashes is not None and list(hashes) != [answer_hash(c.output_text) for c in shown]:
        raise Conflict(
            "the answer's text is not the one that was shown (it came in anew since); load the item again",
            field="answer_hashes",
        )


def _same_revision(a: Assignment, shown: int | None) -> None:
    if shown is not None and shown != a.revision:
        raise Conflict(
            "you judged this in another tab or on another device meanwhile, and that judgement is stored; look back to change it",
            field="revision",
        )


def _guideline_counts(opened: OpenQueue, a: Assignment, shown: int, answers: object) -> None:
    """Refuse a judgement under a guideline that was sent back; what was answered stays as a draft under the new one."""
    if shown >= opened.queue.judged_from:
        return
    if a.state == "leased" and isinstance(answers, Mapping):
        now = opened.guideline.number
        opened.keep([a.touched(guideline=now, draft=dict(cast(Mapping[str, Any], answers)))])
    raise Conflict(
        f"the guideline has changed to version {opened.guideline.number} while you worked on this, and judgements under "
        f"version {shown} do not count any more; your answers are kept: read it, check them and save again",
        field="guideline_version",
    )


def _shown_guideline(opened: OpenQueue, a: Assignment, shown: int | None) -> int:
    """The version that was shown: the lease's, or a newer one that the page has loaded since."""
    if shown is None:
        return a.guideline
    if not a.guideline <= shown <= opened.guideline.number:
        raise Conflict(
            f"guideline version {shown} was not shown with this item; it was between {a.guideline} and {opened.guideline.number}",
            field="guideline_version",
        )
    return shown
