"""What the server does for running experiments by itself: it looks, keeps what it found, and follows their rules."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from heedloop.responses.experiments import Experiment, ExperimentResults, Look
from heedloop.schema import format_time
from heedloop_server.errors import ServerError
from heedloop_server.experiments.lifecycle import decided, paused, ramped
from heedloop_server.experiments.results import experiment_results, step_probabilities
from heedloop_server.experiments.rules import Action, next_action
from heedloop_server.store.admin.alerts import Delivery, HistoryRow, save_history
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.connection import ProjectStore, Store, StoreError
from heedloop_server.store.experiments import (
    EXPERIMENT,
    find_secret,
    list_rounds,
    newest_rounds,
    projects_with_experiments,
    save_experiment,
    save_look,
)

log = logging.getLogger("heedloop.experiments")


@dataclass(frozen=True, slots=True)
class _Server:
    """Who acts, for the audit log."""

    project: str
    key_id: str = "server"


class ExperimentUpkeep:
    """Looks after all running experiments in rounds; doing a round twice changes nothing.

    Args:
        every_s: seconds between two rounds.
    """

    def __init__(self, store: Store, *, every_s: float) -> None:
        self._store = store
        self._every = timedelta(seconds=every_s)
        self._next: datetime | None = None

    def round(self, now: datetime) -> None:
        """Do what is due; an experiment that fails does not stop the others."""
        if self._next is not None and now < self._next:
            return
        self._next = now + self._every
        for name in projects_with_experiments(self._store):
            project = self._store.project(name)
            for experiment in newest_rounds(list_rounds(project)):
                try:
                    look_after(project, experiment, now)
                except (ServerError, StoreError, ValueError) as err:
                    log.warning("experiment %s: %s", experiment.name, err)


def look_after(project: ProjectStore, experiment: Experiment, now: datetime) -> Experiment:
    """Look at one experiment and do what its rules say; returns it as it is then."""
    if experiment.state != "running":
        return experiment
    found = experiment_results(project, experiment, now)
    save_look(project, experiment, look_of(found, now))
    action = next_action(found, now)
    return experiment if action is None else act(project, experiment, action, now)


def look_of(found: ExperimentResults, now: datetime) -> Look:
    """What is kept of a look for the chart over time."""
    steps = found.experiment.steps
    return Look(at=now, share=steps[-1].share if steps else 0.0, arms=found.metrics[0].arms[1:])


def act(project: ProjectStore, experiment: Experiment, action: Action, now: datetime) -> Experiment:
    """Do one action, write it in the audit log, and tell the webhook."""
    if action.kind == "ramp":
        changed = ramped(experiment, None, step_probabilities(project, experiment), now)
    elif action.kind == "pause":
        changed = paused(experiment, action.reason)
    else:
        changed = decided(experiment, action.arm, action.reason, now)
    save_experiment(project, changed, find_secret(project, changed.name))
    details = {"round": changed.round, "arm": action.arm, "reason": action.reason[:1000]}
    write_audit(project.store, _Server(project.project), f"{action.kind}_experiment", changed.name, details)
    log.warning("experiment %s: %s: %s", changed.name, action.kind, action.reason)
    _tell(project, changed, action, now)
    return changed


def _tell(project: ProjectStore, experiment: Experiment, action: Action, now: datetime) -> None:
    change = {
        "at": format_time(now),
        "experiment": experiment.name,
        "round": experiment.round,
        "event": action.kind,
        "arm": action.arm,
        "reason": action.reason,
    }
    # an id of what happened, not of the attempt: two servers that both act tell it once
    identity = f"{experiment.name} {experiment.round} {action.kind} {len(experiment.steps)}"
    change_id = hashlib.sha256(identity.encode()).hexdigest()[:24]
    delivery = Delivery("pending", next_at=now) if experiment.spec.webhook_url else Delivery()
    row = HistoryRow(project.project, f"{EXPERIMENT}{experiment.name}", change_id, now, change, delivery)
    save_history(project, [row])
