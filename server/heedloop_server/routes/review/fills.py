"""Filling a review queue: with answers drawn by filters, samples, disagreements, judges or by name, and with gold items."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from fastapi import Body, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from heedloop import responses
from heedloop.responses.jobs import JobResult
from heedloop_server.errors import Invalid, TooLarge
from heedloop_server.filters import read_filters
from heedloop_server.http.openapi import responds
from heedloop_server.http.responses import Router
from heedloop_server.http.services import AdminKey, Jobs, Queues
from heedloop_server.jobs.kinds import Finished, JobContext, Kind
from heedloop_server.judges.drawing import draw_audit, draw_doubtful
from heedloop_server.normalise.values import scrub
from heedloop_server.review.filling import Placing, add_gold, add_items, stored_targets, targets_of
from heedloop_server.review.questions import Question
from heedloop_server.review.queue_service import ReviewQueueService
from heedloop_server.review.submission import rewrite_judgements
from heedloop_server.review.verdicts import verdict_disagreements
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.review.sources import (
    Disagreement,
    Drawn,
    disagreements,
    matching,
    same_prompt,
    sample,
    sessions,
    united,
)

router = Router()

MAX_AT_ONCE = 50_000
"""Items of one request."""


class _Body(BaseModel):
    """A body; lone surrogates, legal in JSON and in no UTF-8, are replaced, because the store could not take them."""

    model_config = ConfigDict(extra="forbid")

    priority: Annotated[int, Field(ge=-100, le=100, strict=True)] | None = None
    assign: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=100)] | None
    ) = None
    calibration: Annotated[str, Field(max_length=100)] = ""

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, given: Any) -> Any:
        return scrub(given)

    def placing(self) -> Placing:
        """How the items are placed: `assign` names who alone is offered them, `calibration` a round that everybody judges."""
        return Placing(self.priority, None if self.assign is None else tuple(self.assign), self.calibration)


Limit = Annotated[int, Field(ge=1, le=MAX_AT_ONCE, strict=True)]
Text = Annotated[str, Field(max_length=1024)]
FilterJson = dict[str, Any]


class FromFilter(_Body):
    """The newest answers that filters take."""

    source: Literal["filter"]
    filters: FilterJson = {}
    limit: Limit = 1_000


class FromSample(_Body):
    """A uniform random sample of them."""

    source: Literal["sample"]
    filters: FilterJson = {}
    size: Limit
    seed: Text | None = None


class FromDisagreement(_Body):
    """Answers on which two kinds of authors disagree."""

    source: Literal["disagreement"]
    kind: Disagreement
    filters: FilterJson = {}
    limit: Limit = 1_000
    judge: Text = ""


class FromLowConfidence(_Body):
    """Answers that a judge could not decide on."""

    source: Literal["low_confidence"]
    filters: FilterJson = {}
    limit: Limit = 1_000
    judge: Text = ""


class FromSamePrompt(_Body):
    """Several answers to one prompt."""

    source: Literal["same_prompt"]
    filters: FilterJson = {}
    answers_per_item: Annotated[int, Field(ge=2, le=8, strict=True)] = 2
    limit: Limit = 1_000


class FromAudit(_Body):
    """Answers that a judge judged, drawn with known probability: the doubtful ones more often once it has audits.

    An item's lot is fixed for its queue, so that drawing again with other probabilities adds to the same sample.
    """

    source: Literal["audit"]
    judge: Text
    filters: FilterJson = {}
    size: Limit
    name: Text | None = None


class FromSessions(_Body):
    """Whole sessions, each one item of its turns."""

    source: Literal["sessions"]
    filters: FilterJson = {}
    limit: Limit = 1_000


class FromTargets(_Body):
    """Named answers: a list of items, each a list of answers."""

    source: Literal["targets"]
    items: Annotated[list[Any], Field(min_length=1)]


NewItems = Annotated[
    FromFilter
    | FromSample
    | FromDisagreement
    | FromLowConfidence
    | FromSamePrompt
    | FromSessions
    | FromAudit
    | FromTargets,
    Field(discriminator="source"),
]

_ITEMS: TypeAdapter[NewItems] = TypeAdapter(NewItems)


@router.post("/v1/review/queues/{queue_id}/items")
@responds(also=[202, 409, 413])
def post_items(
    jobs: Jobs, who: AdminKey, queue_id: str, body: Annotated[NewItems, Body()]
) -> responses.FilledQueue | Response:
    """Fill a queue; items that are in it stay as they are, but for a sample's probability and where they are placed anew.

    202 with the job where it takes longer.
    """
    if isinstance(body, FromSample) and body.seed is None:
        body.seed = secrets.token_hex(16)  # a job that is run again draws the same sample
    request = {"queue_id": queue_id, "body": body.model_dump(mode="json", exclude_unset=True)}
    return jobs.outcome(jobs.start("queue_fill", who, request))


def _fill(job: JobContext) -> Finished:
    project, who, queues = job.project, job.who, cast(ReviewQueueService, job.parts.review)
    queue_id, body = str(job.request["queue_id"]), _ITEMS.validate_python(job.request["body"])
    with queues.locked_queue(who.project, queue_id) as opened:
        questions = opened.queue.questions  # looking for items must not keep the queue's annotators waiting
    missing: list[tuple[str, str]] = []
    if isinstance(body, FromTargets):
        if len(body.items) > MAX_AT_ONCE:
            raise TooLarge(
                f"{len(body.items):,} items; at most {MAX_AT_ONCE:,} are taken at once", field="items"
            )
        named = [targets_of(item, field=f"items[{i}]") for i, item in enumerate(body.items)]
        drawn, missing = stored_targets(project, named)
    elif isinstance(body, FromAudit):
        drawn = draw_audit(project, queue_id, body.judge, body.name, read_filters(body.filters), body.size)
    else:
        drawn = _drawn(project, body, questions)
    with queues.locked_queue(who.project, queue_id) as opened, opened.together():
        before = {i: item.sampling_probability for i, item in opened.work.items.items()}
        filled = add_items(opened, body.source, drawn, missing=missing, placing=body.placing())
        drawn_now = [i for i, p in before.items() if opened.work.items[i].sampling_probability != p]
        said = rewrite_judgements(opened, drawn_now)
    queues.record_all(who.project, queue_id, said, who.key_id)
    write_audit(project.store, who, "fill_queue", queue_id, {"source": body.source, "added": filled.added})
    return Finished(filled, JobResult(filled=filled))


QUEUE_FILL = Kind("queue_fill", "admin", _fill)


def _drawn(
    project: ProjectStore,
    body: FromFilter | FromSample | FromDisagreement | FromLowConfidence | FromSamePrompt | FromSessions,
    questions: Sequence[Question],
) -> Drawn:
    filters = read_filters(body.filters)
    match body:
        case FromFilter():
            return matching(project, filters, limit=body.limit)
        case FromSample():
            return sample(project, filters, size=body.size, seed=body.seed)
        case FromDisagreement():
            drawn = disagreements(project, body.kind, filters, limit=body.limit, judge=body.judge)
            if body.kind == "model_human" and not body.judge:
                verdicts = verdict_disagreements(project, questions, filters, limit=body.limit)
                drawn = united(drawn, verdicts, limit=body.limit)
            return drawn
        case FromLowConfidence():
            return draw_doubtful(project, body.judge, filters, body.limit)
        case FromSessions():
            return sessions(project, filters, limit=body.limit)
        case FromSamePrompt():
            return same_prompt(project, filters, answers_per_item=body.answers_per_item, limit=body.limit)


class NewGold(_Body):
    """Items whose right answers are known."""

    items: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=10_000)]


@router.post("/v1/review/queues/{queue_id}/gold")
def post_gold(queues: Queues, who: AdminKey, queue_id: str, body: NewGold) -> responses.FilledQueue:
    """Add gold and training items; only training ones tell what was right, after the annotator has answered."""
    for i, entry in enumerate(body.items):
        unknown = sorted(set(entry) - {"targets", "answers", "training", "why"})
        if unknown:
            raise Invalid(
                f"items[{i}].{unknown[0]} is no field of a gold item; it has targets, answers, training, why",
                field=f"items[{i}].{unknown[0]}",
            )
    with queues.locked_queue(who.project, queue_id) as opened:
        filled = add_gold(opened, body.items)
        write_audit(opened.project.store, who, "add_gold", queue_id, {"num": len(body.items)})
        return filled
