"""Experiments and what was found of them, as rows."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime

from heedloop.responses.experiments import Experiment, Look
from heedloop.schema import from_json
from heedloop_server.http.responses import json_value
from heedloop_server.store.connection import ProjectStore, Store

MAX_LOOKS = 1_000
"""The newest hours of one experiment that are read."""
EXPERIMENT = "experiment:"
"""How the id begins under which what happens in an experiment stands among the alerts' deliveries."""


def save_experiment(project: ProjectStore, experiment: Experiment, secret: str) -> None:
    """Store an experiment, new or changed."""
    record = json.dumps(json_value(experiment), ensure_ascii=False)
    row = {"name": experiment.name, "round": experiment.round, "record": record, "secret": secret}
    project.insert("experiments", [row | {"version": time.time_ns()}], **project.lasting)


def find_secret(project: ProjectStore, name: str) -> str:
    """What signs the webhook of the newest round; empty where there is no such experiment."""
    row = project.row(
        """
        SELECT secret
        FROM experiments FINAL
        WHERE project_id = {project:String} AND name = {name:String}
        ORDER BY round DESC
        LIMIT 1
        """,
        {"name": name},
        **project.fresh,
    )
    return row["secret"] if row else ""


def list_rounds(project: ProjectStore, name: str = "") -> list[Experiment]:
    """All rounds of all experiments, or of one, the newest first."""
    rows = project.rows(
        """
        SELECT record
        FROM experiments FINAL
        WHERE project_id = {project:String} AND {name:String} IN ('', name)
        """,
        {"name": name},
        **project.fresh,
    )
    rounds = [from_json(Experiment, json.loads(r["record"]), strict=False) for r in rows]
    return sorted(rounds, key=lambda e: (e.created_at, e.name, e.round), reverse=True)


def newest_rounds(rounds: Sequence[Experiment]) -> list[Experiment]:
    """Of every name the newest round, in the order given."""
    newest: dict[str, Experiment] = {}
    for experiment in rounds:
        known = newest.get(experiment.name)
        if known is None or experiment.round > known.round:
            newest[experiment.name] = experiment
    return list(newest.values())


def projects_with_experiments(store: Store) -> list[str]:
    """The projects that have an experiment."""
    rows = store.rows("SELECT DISTINCT project_id FROM experiments ORDER BY project_id")
    return [r["project_id"] for r in rows]


def save_look(project: ProjectStore, experiment: Experiment, look: Look) -> None:
    """Store what one look found, in place of the one before of the same hour."""
    row = {
        "name": experiment.name,
        "round": experiment.round,
        "hour": look.at.replace(minute=0, second=0, microsecond=0),
        "look": json.dumps(json_value(look), ensure_ascii=False),
        "version": time.time_ns(),
    }
    project.insert("experiment_looks", [row])


def read_looks(project: ProjectStore, experiment: Experiment, until: datetime) -> list[Look]:
    """The looks at one round up to a time, the oldest first."""
    rows = project.rows(
        """
        SELECT look
        FROM experiment_looks FINAL
        WHERE project_id = {project:String}
          AND name = {name:String}
          AND round = {round:UInt32}
          AND hour <= {until:DateTime64(6,'UTC')}
        ORDER BY hour DESC
        LIMIT {limit:UInt32}
        """,
        {"name": experiment.name, "round": experiment.round, "until": until, "limit": MAX_LOOKS},
    )
    return [from_json(Look, json.loads(r["look"]), strict=False) for r in reversed(rows)]
