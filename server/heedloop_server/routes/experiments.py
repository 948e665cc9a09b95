"""Experiments: defined, started, ramped, decided, and what the SDK assigns by."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, Any, Literal

from fastapi import Body, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from heedloop.responses.experiments import (
    AssignmentPlans,
    Experiment,
    ExperimentList,
    ExperimentResults,
    NewExperiment,
)
from heedloop.schema import ExperimentSpec, Prompt, SchemaError, from_json, utc_now
from heedloop_server.alerts.webhooks import check_webhook_url
from heedloop_server.errors import NotFound
from heedloop_server.experiments.lifecycle import (
    decided,
    new_experiment,
    paused,
    plan_of,
    ramped,
    served_rounds,
    started,
    with_prompts,
)
from heedloop_server.experiments.results import experiment_results, step_probabilities
from heedloop_server.http.auth import Principal, require
from heedloop_server.http.openapi import accepts, responds
from heedloop_server.http.responses import Router, json_response
from heedloop_server.http.services import AnyStore, ReadProject
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.datasets.runs import find_run
from heedloop_server.store.experiments import (
    find_secret,
    list_rounds,
    newest_rounds,
    save_experiment,
)
from heedloop_server.store.judges import list_judges
from heedloop_server.store.prompts import named_prompts

router = Router()

Changer = Annotated[Principal, Depends(require("train", "admin"))]
Sender = Annotated[Principal, Depends(require("ingest", "feedback"))]
Round = Annotated[int | None, Query(ge=1)]


class ExperimentChange(BaseModel):
    """What shall happen to an experiment.

    `start` (also goes on after a pause), `pause`, `ramp` (to `share`, or by one step), `promote` (`arm` to everybody), `roll_back`.
    """

    model_config = ConfigDict(extra="forbid")
    action: Literal["start", "pause", "ramp", "promote", "roll_back"]
    share: Annotated[float, Field(gt=0, le=1, strict=True)] | None = None
    arm: Annotated[str, Field(max_length=64)] = ""
    reason: Annotated[str, Field(max_length=1000)] = ""


@router.get("/v1/assignments")
@responds(also=[304])
def get_assignments(store: AnyStore, request: Request, who: Sender) -> AssignmentPlans | Response:
    """The plans of all experiments, for the SDK; with the `ETag` of the last response in `If-None-Match` 304 where nothing changed."""
    project = store.project(who.project)
    served = served_rounds(list_rounds(project))
    prompts = named_prompts(project, (a.prompt for e in served for a in e.spec.arms))
    plans = AssignmentPlans(plans=[plan_of(e, prompts) for e in served])
    response = json_response(AssignmentPlans, plans)
    etag = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
    known = request.headers.get("if-none-match", "")
    if etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return response


@router.post("/v1/experiments", status_code=201)
@accepts(ExperimentSpec)
def post_experiment(store: AnyStore, who: Changer, body: Annotated[dict[str, Any], Body()]) -> NewExperiment:
    """Define an experiment, as a draft; the secret of its webhook is in this answer and nowhere else."""
    project, spec = store.project(who.project), from_json(ExperimentSpec, body)
    _check(project, spec)
    rounds = newest_rounds(list_rounds(project, spec.name))
    made = new_experiment(spec, rounds[0] if rounds else None, who.author, utc_now())
    secret = f"hlw_{secrets.token_urlsafe(32)}"
    save_experiment(project, made, secret)
    write_audit(store, who, "define_experiment", made.name, {"round": made.round})
    return NewExperiment(experiment=made, webhook_secret=secret)


@router.get("/v1/experiments")
def get_experiments(project: ReadProject) -> ExperimentList:
    """All experiments in their newest round, newest first."""
    return ExperimentList(experiments=newest_rounds(list_rounds(project)))


@router.get("/v1/experiments/{experiment}")
def get_experiment(project: ReadProject, experiment: str, round: Round = None) -> Experiment:
    """One experiment, in its newest round unless another is named."""
    return _experiment(project, experiment, round)


@router.get("/v1/experiments/{experiment}/results")
def get_experiment_results(project: ReadProject, experiment: str, round: Round = None) -> ExperimentResults:
    """What was found up to now; looking changes nothing, and may be done at any time."""
    return experiment_results(project, _experiment(project, experiment, round), utc_now())


@router.post("/v1/experiments/{experiment}")
@responds(also=[409])
def change_experiment(store: AnyStore, who: Changer, experiment: str, body: ExperimentChange) -> Experiment:
    """Start, pause, ramp or decide an experiment."""
    project = store.project(who.project)
    changed = _changed(project, _experiment(project, experiment, None), body)
    save_experiment(project, changed, find_secret(project, experiment))
    details = body.model_dump(exclude_defaults=True) | {"round": changed.round}
    write_audit(store, who, f"{body.action}_experiment", experiment, details)
    return changed


def _changed(project: ProjectStore, experiment: Experiment, body: ExperimentChange) -> Experiment:
    now = utc_now()
    if body.action == "start":
        named = with_prompts(experiment, _prompts(project, experiment.spec))
        return started(named, experiment.spec.weights, now)
    if body.action == "pause":
        return paused(experiment, body.reason)
    if body.action == "ramp":
        return ramped(experiment, body.share, step_probabilities(project, experiment), now)
    arm = experiment.spec.control if body.action == "roll_back" else body.arm
    return decided(experiment, arm, body.reason, now)


def _experiment(project: ProjectStore, name: str, round: int | None) -> Experiment:
    found = [e for e in list_rounds(project, name) if round is None or e.round == round]
    if not found:
        raise NotFound(
            f"there is no experiment {name[:80]!r} in this project"
            + (f" with a round {round}" if round else "")
        )
    return max(found, key=lambda e: e.round)


def _check(project: ProjectStore, spec: ExperimentSpec) -> None:
    """Raise `SchemaError` where the webhook is no address, or a judge, an arm's run or its prompt is not known."""
    if spec.webhook_url:
        try:
            check_webhook_url(spec.webhook_url)
        except ValueError as err:
            raise SchemaError("webhook_url", str(err)) from None
    for metric in (spec.metric, *(g.metric for g in spec.guardrails)):
        if metric.kind == "judge" and not list_judges(project, metric.name):
            raise SchemaError("metric.name", f"there is no judge {metric.name!r:.80} in this project")
    for arm in spec.arms:
        if arm.run and find_run(project, arm.run) is None:
            raise SchemaError("arms.run", f"there is no run {arm.run!r:.80} in this project")
    _prompts(project, spec)


def _prompts(project: ProjectStore, spec: ExperimentSpec) -> dict[str, Prompt]:
    """The versions that the arms name; raises `SchemaError` where one names none."""
    found = named_prompts(project, (a.prompt for a in spec.arms))
    for arm in spec.arms:
        if arm.prompt and arm.prompt not in found:
            name, _, chosen = arm.prompt.partition("@")
            raise SchemaError(
                "arms.prompt",
                f"{arm.prompt!r:.80}: there is no version or label {chosen!r:.70} of a prompt {name!r:.80} in this project; "
                "`heedloop prompt list` shows what there is",
            )
    return found
