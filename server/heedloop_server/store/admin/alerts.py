"""Alert rules, their states and their history; and which server has the duty to look after them."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from heedloop.responses import AlarmPeriod
from heedloop.schema import utc_now
from heedloop_server.store.connection import ProjectStore, Row, Store

Json = dict[str, Any]
DeliveryStatus = Literal["none", "pending", "delivered", "failed"]


@dataclass(frozen=True, slots=True)
class StoredAlert:
    """A rule with its state, both as JSON; `started_at` is from when on it watches."""

    alert_id: str
    rule: Json
    secret: str
    created_at: datetime
    started_at: datetime
    state: Json = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Delivery:
    """The state of a delivery to a webhook."""

    status: DeliveryStatus = "none"
    attempts: int = 0
    next_at: datetime | None = None
    error: str = ""
    at: datetime | None = None


FEEDBACK = "feedback"
"""Stands for the alert of a delivery that tells of feedback."""


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A change (JSON, as the API shows it without its delivery) of an alert of a project."""

    project: str
    alert_id: str
    change_id: str
    at: datetime
    change: Json
    delivery: Delivery = field(default_factory=Delivery)


_RULES = """
    SELECT
        r.alert_id AS alert_id,
        r.rule AS rule,
        r.secret AS secret,
        r.created_at AS created_at,
        r.started_at AS started_at,
        s.state AS state
    FROM (SELECT * FROM alert_rules FINAL WHERE project_id = {project:String}) AS r
    LEFT JOIN (SELECT * FROM alert_states FINAL WHERE project_id = {project:String}) AS s ON s.alert_id = r.alert_id
"""


def _alert(row: Row) -> StoredAlert:
    state = json.loads(row["state"]) if row["state"] else {}
    return StoredAlert(
        row["alert_id"], json.loads(row["rule"]), row["secret"], row["created_at"], row["started_at"], state
    )


def list_alerts(project: ProjectStore) -> list[StoredAlert]:
    """All alerts of a project, the oldest first."""
    return [_alert(r) for r in project.rows(_RULES + " ORDER BY created_at, alert_id")]


def find_alert(project: ProjectStore, alert_id: str) -> StoredAlert | None:
    """One alert."""
    row = project.row(_RULES + " WHERE r.alert_id = {alert_id:String}", {"alert_id": alert_id})
    return None if row is None else _alert(row)


def save_alert(project: ProjectStore, alert: StoredAlert) -> None:
    """Store a rule, or its newest form."""
    project.insert("alert_rules", [_rule_row(alert, deleted=False)])


def _rule_row(alert: StoredAlert, *, deleted: bool) -> Row:
    return {
        "alert_id": alert.alert_id,
        "rule": "" if deleted else json.dumps(alert.rule, ensure_ascii=False),
        "secret": "" if deleted else alert.secret,
        "created_at": alert.created_at,
        "started_at": alert.started_at,
        "version": time.time_ns(),
        "is_deleted": int(deleted),
    }


def read_state(project: ProjectStore, alert_id: str) -> Json:
    """The state that was saved last; empty where none was."""
    row = project.row(
        "SELECT state FROM alert_states FINAL WHERE project_id = {project:String} AND alert_id = {alert_id:String}",
        {"alert_id": alert_id},
    )
    return json.loads(row["state"]) if row and row["state"] else {}


def save_state(project: ProjectStore, alert_id: str, state: Json) -> None:
    """Store the state of an alert."""
    text = json.dumps(state, ensure_ascii=False)
    row = {"alert_id": alert_id, "state": text, "version": time.time_ns(), "is_deleted": 0}
    project.insert("alert_states", [row])


def delete_alert(project: ProjectStore, alert: StoredAlert) -> None:
    """Delete a rule, its state and its history."""
    project.insert("alert_rules", [_rule_row(alert, deleted=True)])
    deleted = {"alert_id": alert.alert_id, "state": "", "version": time.time_ns(), "is_deleted": 1}
    project.insert("alert_states", [deleted])
    rows = read_history(project, alert.alert_id, limit=100_000)
    save_history(project, [replace(r, change={}) for r in rows], forget=True)


def projects_with_alerts(store: Store) -> list[str]:
    """The projects that have a rule."""
    rows = store.rows("SELECT DISTINCT project_id FROM alert_rules FINAL ORDER BY project_id")
    return [r["project_id"] for r in rows]


# ------------------------------------------------------------------------------------------------------------- history


def save_history(project: ProjectStore, rows: Iterable[HistoryRow], *, forget: bool = False) -> None:
    """Store changes, or what became of their delivery; storing one again changes nothing. `forget` takes them out."""
    project.insert("alert_history", [_history_row(r) | {"is_deleted": int(forget)} for r in rows])


def _history_row(row: HistoryRow) -> Row:
    delivery = row.delivery
    return {
        "alert_id": row.alert_id,
        "change_id": row.change_id,
        "at": row.at,
        "change": json.dumps(row.change, ensure_ascii=False),
        "delivery_status": delivery.status,
        "attempts": delivery.attempts,
        "next_at": delivery.next_at or row.at,
        "delivery_error": delivery.error,
        "delivery_at": delivery.at or row.at,
        "version": time.time_ns(),
        "is_deleted": 0,
    }


def _history(row: Row) -> HistoryRow:
    tried = row["attempts"] > 0
    delivery = Delivery(
        row["delivery_status"],
        row["attempts"],
        row["next_at"],
        row["delivery_error"],
        row["delivery_at"] if tried else None,
    )
    return HistoryRow(
        row["project_id"], row["alert_id"], row["change_id"], row["at"], json.loads(row["change"]), delivery
    )


def read_history(project: ProjectStore, alert_id: str, *, limit: int) -> list[HistoryRow]:
    """The newest changes of an alert."""
    rows = project.rows(
        """
        SELECT *
        FROM alert_history FINAL
        WHERE project_id = {project:String} AND alert_id = {alert_id:String}
        ORDER BY at DESC, change_id
        LIMIT {limit:UInt32}
        """,
        {"alert_id": alert_id, "limit": limit},
    )
    return [_history(r) for r in rows]


def alarm_periods(project: ProjectStore, since: datetime, until: datetime) -> list[AlarmPeriod]:
    """Each time in alarm that touches a period, oldest first."""
    rows = project.rows(
        """
        SELECT
            alert_id,
            at,
            JSONExtractString(change, 'after') AS state
        FROM alert_history FINAL
        WHERE project_id = {project:String} AND at < {until:DateTime64(6,'UTC')}
          AND JSONExtractString(change, 'before') != state
        ORDER BY
            alert_id,
            at,
            change_id
        """,
        {"until": until},
    )
    rules = {a.alert_id: a.rule for a in list_alerts(project)} if rows else {}
    found: list[AlarmPeriod] = []
    for row, following in itertools.zip_longest(rows, rows[1:]):
        rule = rules.get(row["alert_id"])
        if row["state"] != "alarm" or rule is None:
            continue
        end = following["at"] if following and following["alert_id"] == row["alert_id"] else None
        if end is None or end > since:
            found.append(
                AlarmPeriod(
                    alert_id=row["alert_id"],
                    name=rule["name"],
                    metric=rule["metric"],
                    since=row["at"],
                    until=end,
                )
            )
    return sorted(found, key=lambda f: f.since)


def pending_deliveries(store: Store, *, limit: int = 500) -> list[HistoryRow]:
    """The deliveries that are due, at most so many of a project's alerts and of its feedback, the longest due first."""
    rows = store.rows(
        """
        SELECT *
        FROM alert_history FINAL
        WHERE delivery_status = 'pending' AND next_at <= {now:DateTime64(6,'UTC')}
        ORDER BY
            next_at,
            change_id
        LIMIT {limit:UInt32} BY project_id, alert_id = {feedback:String}
        """,
        {"now": utc_now(), "limit": limit, "feedback": FEEDBACK},
    )
    return [_history(r) for r in rows]


# ---------------------------------------------------------------------------------------------------------------- duty


def holds_lease(store: Store, duty: str, holder: str, first_at: datetime, *, lasts: timedelta) -> bool:
    """Say that this server is there, and whether the duty is its: that of the server that is there longest.

    Two servers can both believe it for a moment; what they do must be harmless to do twice.
    """
    now = store.now()
    store.insert("duties", [{"duty": duty, "holder": holder, "first_at": first_at, "beat_at": now}])
    rows = store.rows(
        """
        SELECT holder
        FROM duties FINAL
        WHERE duty = {duty:String} AND beat_at > {alive:DateTime64(6,'UTC')}
        ORDER BY first_at, holder
        LIMIT 1
        """,
        {"duty": duty, "alive": now - lasts},
    )
    return bool(rows) and rows[0]["holder"] == holder
