"""Judges: stored, their calls counted, and their cards."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Body, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from heedloop.responses.judges import (
    Disagreement,
    Disagreements,
    Judge,
    JudgeCallStatus,
    JudgeCard,
    JudgeComparison,
    JudgeList,
    StoredCalls,
    UnjudgedItems,
)
from heedloop.schema import JudgeSpec, Target, from_json
from heedloop_server.errors import Invalid, NotFound
from heedloop_server.filters import CallFilters, Filters
from heedloop_server.http.auth import Principal, require
from heedloop_server.http.openapi import accepts, responds
from heedloop_server.http.responses import Router, json_response
from heedloop_server.http.services import AnyStore, FeedbackProject, ReadProject
from heedloop_server.judges.audits import JudgedAnswers, exam, may_be_example, read_audits, side
from heedloop_server.judges.card import compare_judges, judge_card
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.judges import (
    JudgeCall,
    insert_judge,
    insert_judge_calls,
    list_judges,
    unjudged_items,
)

router = Router()

Maker = Annotated[Principal, Depends(require("review", "train", "admin"))]
Share = Annotated[float, Query(gt=0, lt=1)]
Question = Annotated[str | None, Query(max_length=256)]
MAX_EXAM = 10_000
Item = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class NewCall(BaseModel):
    """What a judge did with one item, all attempts together."""

    model_config = ConfigDict(extra="forbid")
    item: Item
    status: JudgeCallStatus
    error: Annotated[str, Field(max_length=64)] = ""
    num_calls: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = 1
    input_tokens: Annotated[int, Field(ge=0, lt=2**53, strict=True)] = 0
    output_tokens: Annotated[int, Field(ge=0, lt=2**53, strict=True)] = 0
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = 0.0
    latency_ms: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = 0.0


class NewCalls(BaseModel):
    """Up to 1,000 items."""

    model_config = ConfigDict(extra="forbid")
    calls: Annotated[list[NewCall], Field(max_length=1_000)]


class Verdict(BaseModel):
    """What a version says of one answer, on the judge's scale; null where its reply could not be read."""

    model_config = ConfigDict(extra="forbid")
    target: dict[str, Any]
    value: Annotated[float, Field(allow_inf_nan=False, strict=True)] | None = None


class Verdicts(BaseModel):
    """A version's verdicts on the exam."""

    model_config = ConfigDict(extra="forbid")
    verdicts: Annotated[list[Verdict], Field(max_length=MAX_EXAM)]


class Items(BaseModel):
    """Up to 1,000 items, by their hashes."""

    model_config = ConfigDict(extra="forbid")
    items: Annotated[list[Item], Field(max_length=1_000)]


@router.post("/v1/judges", status_code=201)
@responds(also=[200])
@accepts(JudgeSpec)
def post_judge(store: AnyStore, who: Maker, body: Annotated[dict[str, Any], Body()]) -> Judge | Response:
    """Store a judge; the same again answers 200. It never changes: another prompt or model is another judge."""
    project, spec = store.project(who.project), from_json(JudgeSpec, body)
    known = list_judges(project, spec.id)
    if known:
        return json_response(Judge, known[0], 200)
    insert_judge(project, spec, who.author)
    write_audit(store, who, "create_judge", spec.id, {"form": spec.form, "model": spec.model[:200]})
    return _judge(project, spec.id)


@router.get("/v1/judges")
def get_judges(project: ReadProject) -> JudgeList:
    """All judges with what their runs came to, newest first."""
    return JudgeList(judges=list_judges(project))


@router.get("/v1/judges/{judge_id}")
def get_judge(project: ReadProject, judge_id: str) -> Judge:
    """One judge."""
    return _judge(project, judge_id)


@router.post("/v1/judges/{judge_id}/calls")
def post_judge_calls(project: FeedbackProject, judge_id: str, body: NewCalls) -> StoredCalls:
    """What became of items: cost, tokens, latency, and what failed or could not be read. An item's newest word counts."""
    _judge(project, judge_id)
    calls = [JudgeCall(**c.model_dump()) for c in body.calls]
    return StoredCalls(stored=insert_judge_calls(project, judge_id, calls))


@router.post("/v1/judges/{judge_id}/unjudged")
def post_unjudged(project: ReadProject, judge_id: str, body: Items) -> UnjudgedItems:
    """Which of the items are left to do; failed ones are."""
    return UnjudgedItems(items=unjudged_items(project, judge_id, body.items))


@router.get("/v1/judges/{judge_id}/card")
def get_card(
    project: ReadProject,
    judge_id: str,
    filters: Filters,
    name: Question = None,
    half_width: Share = 0.05,
    max_error: Share = 0.1,
) -> JudgeCard:
    """How far a judge is to be believed about the answers of the filters; of all times unless they name a period.

    `name` chooses among a rubric's dimensions; the first where it names none.
    """
    spec = _judge(project, judge_id).spec
    name = _question(spec, name)
    found = read_audits(project, spec, name, filters.of_all_times())
    return judge_card(judge_id, spec, name, found, half_width=half_width, max_error=max_error)


@router.get("/v1/judges/{judge_id}/disagreements")
def get_disagreements(
    project: ReadProject,
    judge_id: str,
    filters: Filters,
    name: Question = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 20,
) -> Disagreements:
    """Audited answers that the judge got wrong, of the prompts that may be shown to judges; the others are its exam."""
    spec = _judge(project, judge_id).spec
    found = read_audits(project, spec, _question(spec, name), filters.of_all_times())
    wrong = [a for a in [*found.audits, *found.shown] if not a.agrees and may_be_example(a)]
    wrong.sort(key=lambda a: (-abs(a.people - a.judge), a.key))
    held_out = exam(found.audits)
    return Disagreements(
        disagreements=[
            Disagreement(target=a.target, people=a.people, judge=a.judge, guideline=a.guideline)
            for a in wrong[:limit]
            if side(a.people)
        ],
        num_exam=len(held_out),
        exam=[a.target for a in held_out[::-1][:MAX_EXAM]],
    )


@router.post("/v1/judges/{judge_id}/exam")
def post_exam(project: ReadProject, judge_id: str, body: Verdicts) -> JudgeComparison:
    """A judge next to a version of it that is not stored, by that one's verdicts on the exam of `disagreements`.

    A verdict that could not be read is wrong; those on other answers do not count.
    """
    spec = _judge(project, judge_id).spec
    found = exam(read_audits(project, spec, spec.names[0], CallFilters().of_all_times()).audits)
    shares = {from_json(Target, v.target): _share(spec, v.value) for v in body.verdicts}
    theirs = [replace(a, judge=shares[a.target]) for a in found if a.target in shares]
    return compare_judges(found, theirs)


@router.get("/v1/judges/{judge_id}/compare")
def get_comparison(
    project: ReadProject,
    judge_id: str,
    filters: Filters,
    other: Annotated[str, Query(max_length=256)],
    name: Question = None,
) -> JudgeComparison:
    """Whether another judge (a better version, say) is right more often, by the audits of prompts neither may be shown."""
    specs = [_judge(project, j).spec for j in (judge_id, other)]
    name = _question(specs[0], name)
    _question(specs[1], name)
    pools: list[JudgedAnswers] = [read_audits(project, s, name, filters.of_all_times()) for s in specs]
    return compare_judges(*(exam(p.audits) for p in pools))


def _judge(project: ProjectStore, judge_id: str) -> Judge:
    found = list_judges(project, judge_id)
    if not found:
        raise NotFound(f"there is no judge {judge_id!r} in this project")
    return found[0]


def _share(spec: JudgeSpec, value: float | None) -> float:
    share = math.nan if value is None else spec.share(value)
    if share < 0 or share > 1:
        raise Invalid(f"{value:g} is outside the judge's scale", field="verdicts")
    return share


def _question(spec: JudgeSpec, name: str | None) -> str:
    if name is not None and name not in spec.names:
        raise Invalid(f"the judge gives no {name!r}; it gives {', '.join(spec.names)}", field="name")
    return name or spec.names[0]
