"""Case sets: what users and reviewers said, as versions of prompts to be answered better."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, cast

from fastapi import Body, Query
from fastapi.responses import Response, StreamingResponse
from typing_extensions import TypedDict

from heedloop.responses.evaluations import CaseSetList
from heedloop.schema import Case, CaseSet, canonical_json, to_json, utc_now
from heedloop_server.curate.cases import make_cases
from heedloop_server.errors import Invalid, NotFound, Unavailable
from heedloop_server.filters import read_filters
from heedloop_server.http.openapi import accepts, responds
from heedloop_server.http.responses import Router, json_response
from heedloop_server.http.services import Intakes, ReadProject, TrainProject
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.datasets.snapshot_calls import read_calls
from heedloop_server.store.datasets.snapshots import read_judgements
from heedloop_server.store.evaluations import list_case_sets, save_case_set
from heedloop_server.store.filters import of_evaluation

router = Router()

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
LEAST_F1 = 0.5
LOADED_WITHIN_S = 30.0


class NewCaseSet(TypedDict):
    """A set to make a version of; `filters` as of `GET /v1/calls`, the rest as in docs/evaluate.md."""

    name: str
    filters: NotRequired[dict[str, Any] | None]
    least_f1: NotRequired[float]
    judge: NotRequired[str]


@router.post("/v1/cases", status_code=201)
@responds(also=[200])
@accepts(NewCaseSet)
def post_cases(
    intake: Intakes, project: TrainProject, body: Annotated[dict[str, Any], Body()]
) -> CaseSet | Response:
    """Make a version of a case set from the feedback that there is; 200 where it would be the newest one again."""
    query = _query(body)
    name = body.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Invalid(f"{name!r:.80} is no name: a to z, 0 to 9, then also _ and -, at most 64", field="name")
    if not intake.wait_until_loaded(LOADED_WITHIN_S):
        raise Unavailable("calls that came before still wait for the store; send the case set again")
    newest = next(iter(list_case_sets(project, name)), None)
    made = CaseSet(
        name=name, version=newest.version + 1 if newest else 1, as_of=utc_now(), created_at=utc_now(),
        num_cases=0, hash="", query=query,
    )  # fmt: skip
    cases = _cases(project, made)
    digest = hashlib.sha256(canonical_json([to_json(c) for c in cases]).encode("utf-8", "replace"))
    if newest is not None and newest.hash == digest.hexdigest():
        return json_response(CaseSet, newest, 200)
    done = CaseSet(
        name=name, version=made.version, as_of=made.as_of, created_at=made.created_at,
        num_cases=len(cases), hash=digest.hexdigest(), query=query,
    )  # fmt: skip
    save_case_set(project, done)
    return done


def _query(body: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(body) - set(NewCaseSet.__annotations__))
    if unknown:
        raise Invalid(f"{unknown[0]} is not a field of a case set", field=unknown[0])
    filters, least, judge = body.get("filters"), body.get("least_f1", LEAST_F1), body.get("judge", "")
    if of_evaluation(read_filters(filters)):
        raise Invalid("an evaluation's answers make no cases", field="filters.environment")
    if isinstance(least, bool) or not isinstance(least, (int, float)) or not 0 <= least <= 1:
        raise Invalid(f"{least!r:.80} is not a share from 0 to 1", field="least_f1")
    if not isinstance(judge, str) or len(judge) > 256:
        raise Invalid(f"{judge!r:.80} is no question's name", field="judge")
    return {"filters": dict(filters or {}), "least_f1": float(least), "judge": judge}


def _cases(project: ProjectStore, one: CaseSet) -> list[Case]:
    """The cases of a version: from what was stored at its time and is there still."""
    query = cast(dict[str, Any], one.query)
    filters = read_filters(query.get("filters"))
    return make_cases(
        project.project,
        read_calls(project, filters, one.as_of),
        read_judgements(project, filters, one.as_of),
        least_f1=query.get("least_f1", LEAST_F1),
        judge=query.get("judge", ""),
    )


@router.get("/v1/cases")
def get_case_sets(project: ReadProject) -> CaseSetList:
    """All versions of all case sets."""
    return CaseSetList(case_sets=list_case_sets(project))


@router.get("/v1/cases/{case_set}")
@responds(media={"application/x-ndjson": {"type": "string"}})
def get_cases(
    project: TrainProject, case_set: str, version: Annotated[int | None, Query(ge=1)] = None
) -> StreamingResponse:
    """The cases of a set as JSON Lines (`heedloop.schema.Case`); the newest version where none is named."""
    found = next((s for s in list_case_sets(project, case_set) if version in (None, s.version)), None)
    if found is None or not case_set:
        raise NotFound(
            f"there is no case set {case_set!r:.80}{f' version {version}' if version else ''} in this project"
        )
    lines = (f"{canonical_json(to_json(c))}\n" for c in _cases(project, found))
    return StreamingResponse(lines, media_type="application/x-ndjson")
