"""The thread of background jobs: it aggregates hours that are over, evaluates alerts, and delivers to webhooks.

Every server has one; of several on one store, the one that is there longest holds the lease.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from heedloop.schema import format_time, utc_now
from heedloop_server.alerts.evaluate import evaluate
from heedloop_server.alerts.feedback_webhook import feedback_of
from heedloop_server.alerts.messages import message_of
from heedloop_server.alerts.rules import Rule
from heedloop_server.alerts.webhooks import DeliveryResult, post
from heedloop_server.errors import ServerError
from heedloop_server.store.admin.alerts import (
    FEEDBACK,
    Delivery,
    HistoryRow,
    StoredAlert,
    find_alert,
    holds_lease,
    list_alerts,
    pending_deliveries,
    projects_with_alerts,
    save_history,
)
from heedloop_server.store.admin.project_settings import feedback_webhook
from heedloop_server.store.connection import ProjectStore, Store, StoreError
from heedloop_server.store.experiments import EXPERIMENT, find_secret, list_rounds
from heedloop_server.store.quality.rollup import roll_up, roll_up_minutes
from heedloop_server.store.review.queues import QUEUE, find_queue

log = logging.getLogger("heedloop.scheduler")

TICK_S = 5.0
ROLL_UP_S = 30.0
LEASE = "care"
AGAIN_S = (10, 60, 300, 1_800, 7_200)
"""Seconds after each failed attempt until the next; after the last nothing is tried any more."""


class Scheduler:
    """Looks after a store until it is stopped; an error of one round is logged and the next round comes.

    Args:
        alert_every_s: seconds between evaluations.
        loopback: whether webhooks may be on this machine.
        jobs: further work of every round, such as looking after review queues.
        public_url: where users open the dashboard, for links in messages; empty for none.
    """

    def __init__(
        self,
        store: Store,
        *,
        alert_every_s: float,
        loopback: bool,
        jobs: Sequence[Callable[[datetime], None]] = (),
        public_url: str = "",
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._every = timedelta(seconds=alert_every_s)
        self._tick_s = min(TICK_S, alert_every_s)
        self._loopback = loopback
        self._public_url = public_url
        self._holder = secrets.token_hex(8)
        self._since: datetime | None = None
        self._stopping = threading.Event()
        self._next: dict[str, datetime] = {}
        self._counted = ""
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self) -> None:
        """Begin to look after the store."""
        self._thread.start()

    def stop(self) -> None:
        """End; a delivery that is under way is finished first."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._tick_s):
            try:
                self.round(utc_now())
            except Exception as err:  # noqa: BLE001  # the store may be away for a while; the next round tries again
                log.warning("scheduler: %s", err if isinstance(err, ServerError) else repr(err))

    def round(self, now: datetime) -> None:
        """Do what is due."""
        if not self._holds_lease():
            return
        roll_up_minutes(self._store)
        if self._due("roll_up", now, timedelta(seconds=ROLL_UP_S)):
            self._counted = roll_up(self._store, after=self._counted)
        if self._due("alerts", now, self._every):
            self.evaluate_all(now)
        for job in self._jobs:
            _logged(job, now)
        self.deliver()

    def _holds_lease(self) -> bool:
        """Whether this server is there longest. At its first round it only says that it is there, so that two that start at once know
        of each other before one of them begins."""
        since = self._since or self._store.now()
        lasts = max(timedelta(seconds=30), 4 * timedelta(seconds=self._tick_s))
        is_first = holds_lease(self._store, LEASE, self._holder, since, lasts=lasts)
        is_new, self._since = self._since is None, since
        return is_first and not is_new

    def _due(self, what: str, now: datetime, every: timedelta) -> bool:
        if now < self._next.get(what, now):
            return False
        self._next[what] = now + every
        return True

    def evaluate_all(self, now: datetime) -> None:
        """Evaluate every enabled alert; one that fails does not stop the others."""
        for name in projects_with_alerts(self._store):
            project = self._store.project(name)
            for alert in list_alerts(project):
                if self._stopping.is_set():
                    return
                if Rule.model_validate(alert.rule).enabled and self._is_time(alert, now):
                    _logged(evaluate, project, alert, now)

    def _is_time(self, alert: StoredAlert, now: datetime) -> bool:
        """A long window changes slowly: it is looked at every hundredth of itself, or every round."""
        pause = timedelta(hours=Rule.model_validate(alert.rule).window_hours) / 100
        return self._due(f"alert {alert.alert_id}", now, max(self._every, pause))

    def deliver(self) -> int:
        """Send the deliveries that are due; returns how many were tried."""
        waiting = pending_deliveries(self._store)
        of_feedback: dict[str, list[HistoryRow]] = {}
        with ThreadPoolExecutor(4, thread_name_prefix="webhook") as pool:
            for row in waiting:
                if row.alert_id == FEEDBACK:
                    of_feedback.setdefault(row.project, []).append(row)
                else:
                    pool.submit(_logged, tell, self._store, row, self._loopback, self._public_url)
            until = time.monotonic() + self._tick_s
            for project, rows in of_feedback.items():
                pool.submit(_logged, tell_in_order, self._store.project(project), rows, self._loopback, until)
        return len(waiting)


def _logged(work: Callable[..., Any], *args: Any) -> None:
    try:
        work(*args)
    except (StoreError, ServerError, ValueError) as err:
        log.warning("%s: %s", getattr(work, "__name__", work), err)


def tell(store: Store, row: HistoryRow, loopback: bool, public_url: str = "") -> HistoryRow:
    """Try one delivery and store what became of it."""
    project = store.project(row.project)
    if row.alert_id.startswith(QUEUE):
        webhook = _webhook_of_queue(project, row)
    elif row.alert_id.startswith(EXPERIMENT):
        webhook = _webhook_of_experiment(project, row)
    else:
        webhook = _webhook(project, row, public_url)
    if webhook is None:
        delivery = Delivery("failed", row.delivery.attempts, error="the rule has no webhook any more")
    else:
        url, secret, message = webhook
        result = post(url, secret, message, row.change_id, loopback=loopback)
        delivery = _after(row.delivery, result, utc_now())
    after = replace(row, delivery=delivery)
    save_history(project, [after])
    return after


def tell_in_order(
    project: ProjectStore, rows: Sequence[HistoryRow], loopback: bool, until: float = math.inf
) -> None:
    """Tell of feedback until the first that is not taken, or the time is over: a receiver that is away is asked once a round."""
    hook = feedback_webhook(project)
    if hook is None:
        save_history(project, rows, forget=True)
        return
    done: list[HistoryRow] = []
    for row in rows:
        feedback = feedback_of(project, row)
        result = DeliveryResult(False, None, "it is not stored, or was erased", 0.0)
        if feedback is not None:
            message = _head("feedback", row) | {"feedback": feedback}
            result = post(hook["url"], hook["secret"], message, row.change_id, loopback=loopback)
        if result.delivered:
            done.append(row)
        else:
            save_history(project, [replace(row, delivery=_after(row.delivery, result, utc_now()))])
        if time.monotonic() > until or not (result.delivered or feedback is None):
            break
    save_history(project, done, forget=True)


def _webhook(
    project: ProjectStore, row: HistoryRow, public_url: str
) -> tuple[str, str, dict[str, Any]] | None:
    """(address, secret, message) of an alert's change; None where its rule has no webhook."""
    alert = find_alert(project, row.alert_id)
    url = alert.rule.get("webhook_url") if alert else None
    if alert is None or not url:
        return None
    kind = "reminder" if row.change["before"] == row.change["after"] else "alert"
    return (
        url,
        alert.secret,
        message_of(alert, row, kind, row.change_id, project=row.project, public_url=public_url),
    )


def _webhook_of_queue(project: ProjectStore, row: HistoryRow) -> tuple[str, str, dict[str, Any]] | None:
    """The same of what happened in a review queue."""
    queue = find_queue(project, row.alert_id.removeprefix(QUEUE))
    if queue is None or not queue.webhook_url:
        return None
    return queue.webhook_url, queue.webhook_secret, _head("review", row) | {"review": row.change}


def _webhook_of_experiment(project: ProjectStore, row: HistoryRow) -> tuple[str, str, dict[str, Any]] | None:
    """The same of what the server did with an experiment."""
    name = row.alert_id.removeprefix(EXPERIMENT)
    rounds = list_rounds(project, name)
    if not rounds or not rounds[0].spec.webhook_url:
        return None
    message = _head("experiment", row) | {"experiment": row.change}
    return rounds[0].spec.webhook_url, find_secret(project, name), message


def _head(kind: str, row: HistoryRow) -> dict[str, Any]:
    return {"type": kind, "id": row.change_id, "project": row.project, "sent_at": format_time(utc_now())}


def _after(before: Delivery, result: DeliveryResult, now: datetime) -> Delivery:
    attempts = before.attempts + 1
    if result.delivered:
        return Delivery("delivered", attempts, at=now)
    # a refused address stays refused
    if attempts > len(AGAIN_S) or result.error.startswith("refused"):
        return Delivery("failed", attempts, error=result.error, at=now)
    again = now + timedelta(seconds=AGAIN_S[attempts - 1])
    return Delivery("pending", attempts, next_at=again, error=result.error, at=now)
