"""The thread of background jobs: it aggregates hours that are over, evaluates alerts, and delivers to webhooks.

Every server has one; of several on one store, the one that is there longest holds the lease.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from heedloop.schema import format_time, utc_now
from heedloop_server.alerts.evaluate import alert_of, evaluate, history_change
from heedloop_server.alerts.rules import Rule
from heedloop_server.alerts.webhooks import DeliveryResult, post
from heedloop_server.errors import ServerError
from heedloop_server.http.responses import json_value
from heedloop_server.store.admin.alerts import (
    Delivery,
    HistoryRow,
    StoredAlert,
    find_alert,
    holds_lease,
    list_alerts,
    pending_deliveries,
    projects_with_alerts,
    save_history,
    with_delivery,
)
from heedloop_server.store.connection import Store, StoreError
from heedloop_server.store.quality.rollup import roll_up

log = logging.getLogger("heedloop.caretaker")

TICK_S = 5.0
ROLL_UP_S = 30.0
DUTY = "care"
AGAIN_S = (10, 60, 300, 1_800, 7_200)
"""Seconds after each failed attempt until the next; after the last nothing is tried any more."""


class Scheduler:
    """Looks after a store until it is stopped; an error of one round is logged and the next round comes.

    Args:
        alert_every_s: seconds between evaluations.
        loopback: whether webhooks may be on this machine.
    """

    def __init__(self, store: Store, *, alert_every_s: float, loopback: bool) -> None:
        self._store = store
        self._every = timedelta(seconds=alert_every_s)
        self._tick_s = min(TICK_S, alert_every_s)
        self._loopback = loopback
        self._holder = secrets.token_hex(8)
        self._since = utc_now()
        self._stopping = threading.Event()
        self._next: dict[str, datetime] = {}
        self._counted = ""
        self._thread = threading.Thread(target=self._care, name="caretaker", daemon=True)

    def start(self) -> None:
        """Begin to look after the store."""
        self._thread.start()

    def stop(self) -> None:
        """End; a delivery that is under way is finished first."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _care(self) -> None:
        while not self._stopping.wait(self._tick_s):
            try:
                self.round(utc_now())
            except Exception as err:  # noqa: BLE001  # the store may be away for a while; the next round tries again
                log.warning("caretaker: %s", err if isinstance(err, ServerError) else repr(err))

    def round(self, now: datetime) -> None:
        """Do what is due."""
        lasts = max(timedelta(seconds=30), 4 * timedelta(seconds=self._tick_s))
        if not holds_lease(self._store, DUTY, self._holder, self._since, lasts=lasts):
            return
        if self._due("roll_up", now, timedelta(seconds=ROLL_UP_S)):
            self._counted = roll_up(self._store, after=self._counted)
        if self._due("alerts", now, self._every):
            self.evaluate_all(now)
        self.deliver()

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
        if not waiting:
            return 0
        with ThreadPoolExecutor(4, thread_name_prefix="webhook") as pool:
            list(pool.map(lambda row: _logged(tell, self._store, row, self._loopback), waiting))
        return len(waiting)


def _logged(work: Callable[..., Any], *args: Any) -> None:
    try:
        work(*args)
    except (StoreError, ServerError, ValueError) as err:
        log.warning("%s: %s", work.__name__, err)


def tell(store: Store, row: HistoryRow, loopback: bool) -> HistoryRow:
    """Try one delivery and store what became of it."""
    project = store.project(row.project)
    alert = find_alert(project, row.alert_id)
    url = alert.rule.get("webhook_url") if alert else None
    if alert is None or not url:
        after = with_delivery(
            row, Delivery("failed", row.delivery.attempts, error="the rule has no webhook any more")
        )
    else:
        kind = "reminder" if row.change["before"] == row.change["after"] else "alert"
        result = post(url, alert.secret, message_of(alert, row, kind, row.change_id), loopback=loopback)
        after = with_delivery(row, _after(row.delivery, result, utc_now()))
    save_history(project, [after])
    return after


def _after(before: Delivery, result: DeliveryResult, now: datetime) -> Delivery:
    attempts = before.attempts + 1
    if result.delivered:
        return Delivery("delivered", attempts, at=now)
    # a refused address stays refused
    if attempts > len(AGAIN_S) or result.error.startswith("refused"):
        return Delivery("failed", attempts, error=result.error, at=now)
    again = now + timedelta(seconds=AGAIN_S[attempts - 1])
    return Delivery("pending", attempts, next_at=again, error=result.error, at=now)


def message_of(alert: StoredAlert, row: HistoryRow | None, kind: str, delivery_id: str) -> dict[str, Any]:
    """What a webhook is sent."""
    return {
        "type": kind,
        "id": delivery_id,
        "project": row.project if row else None,
        "sent_at": format_time(utc_now()),
        "alert": json_value(alert_of(alert)),
        "change": json_value(history_change(row)) if row else None,
    }
