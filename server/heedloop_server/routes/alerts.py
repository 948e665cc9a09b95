"""Alerts: rules, states, history, acknowledging, and trying the webhook."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Body, Query

from heedloop.responses import Alert, AlertPreview, Alerts, DeletedAlert, History, NewAlert, WebhookTest
from heedloop.schema import SchemaError, format_time, utc_now
from heedloop_server.alerts.evaluate import alert_of, evaluate, history_change, new_alert_of
from heedloop_server.alerts.measure import preview
from heedloop_server.alerts.messages import message_of
from heedloop_server.alerts.rules import Rule, parse_rule
from heedloop_server.alerts.webhooks import post
from heedloop_server.errors import Conflict, NotFound
from heedloop_server.http.openapi import accepts
from heedloop_server.http.responses import Router
from heedloop_server.http.services import (
    AdminKey,
    AdminProject,
    AnyStore,
    Configuration,
    ReadProject,
    ReviewKey,
)
from heedloop_server.store.admin.alerts import (
    HistoryRow,
    StoredAlert,
    delete_alert,
    find_alert,
    list_alerts,
    read_history,
    save_alert,
    save_history,
    save_state,
)
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.connection import ProjectStore

router = Router()

Given = Annotated[dict[str, Any], Body()]

MAX_ALERTS = 200
_WORST = ("alarm", "warning", "resolved", "ok")


@router.get("/v1/alerts")
def get_alerts(project: ReadProject) -> Alerts:
    """All alerts, the worst state first."""
    found = [alert_of(a) for a in list_alerts(project)]
    return Alerts(alerts=sorted(found, key=lambda a: (_WORST.index(a.state), a.name)))


@router.get("/v1/alerts/{alert_id}")
def get_alert(project: ReadProject, alert_id: str) -> Alert:
    """One alert."""
    return alert_of(_find(project, alert_id))


def _find(project: ProjectStore, alert_id: str) -> StoredAlert:
    found = find_alert(project, alert_id)
    if found is None:
        raise NotFound(f"there is no alert {alert_id[:80]} in this project")
    return found


@router.post("/v1/alerts", status_code=201)
@accepts(Rule)
def post_alert(project: AdminProject, who: AdminKey, given: Given) -> NewAlert:
    """Make a rule and look at once; the secret is in this answer and nowhere else."""
    rule = parse_rule(given)
    if len(list_alerts(project)) >= MAX_ALERTS:
        raise Conflict(f"a project has at most {MAX_ALERTS} alerts; delete one first")
    now = utc_now()
    secret = f"hlw_{secrets.token_urlsafe(32)}"
    alert = StoredAlert(secrets.token_hex(8), rule.model_dump(mode="json"), secret, now, now)
    save_alert(project, alert)
    write_audit(project.store, who, "create_alert", alert.alert_id, {"name": rule.name})
    return new_alert_of(evaluate(project, alert, now))


@router.post("/v1/alerts/preview")
@accepts(Rule)
def preview_alert(project: ReadProject, given: Given) -> AlertPreview:
    """How often a rule would have fired in the last 30 days; nothing is stored."""
    return preview(project, parse_rule(given), utc_now())


@router.patch("/v1/alerts/{alert_id}")
def patch_alert(project: AdminProject, who: AdminKey, alert_id: str, given: Given) -> Alert:
    """Change some of a rule's fields; changing what is measured starts its state anew."""
    alert = _find(project, alert_id)
    before = Rule.model_validate(alert.rule)
    if not given:
        raise SchemaError("rule", "names no field to change")
    after = parse_rule({**alert.rule, **given})
    now = utc_now()
    same = after.measures_as(before)
    changed = replace(
        alert,
        rule=after.model_dump(mode="json"),
        started_at=alert.started_at if same else now,
        state=alert.state if same else {},
    )
    save_alert(project, changed)
    write_audit(project.store, who, "change_alert", alert_id, {"fields": sorted(given)})
    return alert_of(evaluate(project, changed, now) if after.enabled and not same else changed)


@router.delete("/v1/alerts/{alert_id}")
def remove_alert(project: AdminProject, who: AdminKey, alert_id: str) -> DeletedAlert:
    """Delete a rule and its history."""
    delete_alert(project, _find(project, alert_id))
    write_audit(project.store, who, "delete_alert", alert_id, {})
    return DeletedAlert(id=alert_id, deleted=True)


@router.get("/v1/alerts/{alert_id}/history")
def get_history(
    project: ReadProject, alert_id: str, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> History:
    """The changes of an alert's state, newest first."""
    _find(project, alert_id)
    return History(history=[history_change(r) for r in read_history(project, alert_id, limit=limit)])


@router.post("/v1/alerts/{alert_id}/acknowledge")
def acknowledge(
    store: AnyStore,
    who: ReviewKey,
    alert_id: str,
    by: Annotated[str, Body(min_length=1, max_length=200)],
    comment: Annotated[str, Body(max_length=2_000)] = "",
) -> Alert:
    """Somebody has seen it: no reminders until the state changes."""
    project = store.project(who.project)
    alert = _find(project, alert_id)
    now = utc_now()
    state = alert.state | {"acknowledged_by": by, "acknowledged_at": format_time(now)}
    save_state(project, alert_id, state)
    row = {
        "at": format_time(now),
        "before": state.get("state", "ok"),
        "after": state.get("state", "ok"),
        "value": state.get("value"),
        "evidence": state.get("evidence", 0.0),
        "num": state.get("num", 0),
        "message": comment,
        "acknowledged_by": by,
    }
    save_history(project, [HistoryRow(who.project, alert_id, secrets.token_hex(12), now, row)])
    return alert_of(replace(alert, state=state))


@router.post("/v1/alerts/{alert_id}/test")
def try_webhook(project: AdminProject, settings: Configuration, alert_id: str) -> WebhookTest:
    """Send a test message now."""
    alert = _find(project, alert_id)
    url = alert.rule.get("webhook_url")
    if not url:
        raise Conflict("this alert has no webhook; set webhook_url first")
    delivery_id = secrets.token_hex(12)
    message = message_of(
        alert, None, "test", delivery_id, project=project.project, public_url=settings.public_url
    )
    found = post(url, alert.secret, message, delivery_id, loopback=settings.webhook_loopback)
    return WebhookTest(
        delivered=found.delivered,
        status=found.status,
        error=found.error or None,
        took_ms=round(found.took_ms, 1),
    )
