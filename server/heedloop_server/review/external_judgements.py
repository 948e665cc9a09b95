"""Judgements, drafts and skips that were made in another tool, stored as if they had been made here."""

from __future__ import annotations

from dataclasses import replace

from heedloop.schema import MAX_LABEL_CHARS, SchemaError, utc_now
from heedloop_server.errors import Conflict
from heedloop_server.review.formats import External
from heedloop_server.review.open_queue import OpenQueue
from heedloop_server.review.responses import check_judgement, draft_to_shown, to_shown
from heedloop_server.review.submission import Submitted, skip, submit

_DAY_MS = 86_400_000


def take_in(opened: OpenQueue, external: External, *, key_id: str) -> Submitted | None:
    """Store a judgement under its own annotator, time and guideline; None where the same is there already.

    It counts as those made here do, also where an item then has more than were wanted. Of a draft or a skip, whose
    `feedback` is empty, only the assignment is stored; a judgement that is there already counts more than either.

    Raises:
        SchemaError: an answer is wrong, or the annotator's name, time or guideline is.
        Conflict: the queue is closed, or the answer is not in the store any more.
    """
    _check(opened, external)
    if external.state != "done":
        return _unfinished(opened, external, key_id)
    item = opened.work.items[external.item_id]
    calls = opened.contents([item.item_id])[item.item_id]
    texts = [c.output_text for c in calls]
    questions = opened.queue.questions
    judgement = check_judgement(questions, external.answers, texts, is_session=item.is_session)
    known = opened.work.of(item.item_id, external.annotator)
    if known is not None and known.state == "done":
        known = opened.whole(known)
        if known.answers == judgement:
            return None
    elif known is None or known.state != "leased":
        known = opened.hold(external.annotator, item.item_id, key_id=key_id)
    if external.guideline_version is not None:
        known = replace(known, guideline=external.guideline_version)
    return submit(
        opened,
        known,
        to_shown(opened.queue.questions, judgement, known.shown_order),
        key_id=key_id,
        duration_ms=min(external.duration_ms or 0, _DAY_MS),
        at=external.submitted_at,
    )


def _unfinished(opened: OpenQueue, external: External, key_id: str) -> Submitted | None:
    known = opened.work.of(external.item_id, external.annotator)
    known = opened.whole(known) if known is not None else None
    if known is not None and known.state == "done" and external.state == "skipped":
        raise Conflict(
            "it is judged here; its annotator has to take the judgement back before it can be skipped"
        )
    if (
        known is not None
        and known.state in ("done", "skipped")
        and (external.state == "draft" or known.reason == external.reason)
    ):
        return None
    held = known or opened.hold(external.annotator, external.item_id, key_id=key_id)
    if external.state == "skipped":
        skip(opened, held, external.reason)
    else:
        draft = draft_to_shown(opened.queue.questions, external.answers, held.shown_order)
        if held.draft == draft:
            return None
        opened.keep([held.touched(draft=draft)])
    return Submitted(opened.queue.queue_id, [], key_id)


def _check(opened: OpenQueue, external: External) -> None:
    if not external.annotator.strip() or len(external.annotator) > MAX_LABEL_CHARS:
        raise SchemaError("annotator", f"must be a name of 1 to {MAX_LABEL_CHARS} characters")
    if external.submitted_at is not None and external.submitted_at > utc_now():
        raise SchemaError("submitted_at", "is in the future")
    version = external.guideline_version
    if version is not None and not 0 <= version <= opened.guideline.number:
        raise SchemaError(
            "guideline_version",
            f"{version} is no version of the guideline; there are 0 to {opened.guideline.number}",
        )
