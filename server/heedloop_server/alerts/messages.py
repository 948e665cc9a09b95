"""What an alert's webhook is sent: our own record, or what Slack and Teams show as a message with a link.

Slack: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks. Teams: an Adaptive Card in the envelope that the
workflow "Post to a channel when a webhook request is received" takes.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from heedloop.schema import format_time, utc_now
from heedloop_server.alerts.evaluate import alert_of, history_change
from heedloop_server.alerts.rules import Rule
from heedloop_server.http.responses import json_value
from heedloop_server.store.admin.alerts import HistoryRow, StoredAlert

Json = dict[str, Any]
_SIGNS = {"alarm": "\U0001f534", "warning": "\U0001f7e0", "resolved": "\U0001f7e2", "ok": "\U0001f7e2"}


def message_of(
    alert: StoredAlert,
    row: HistoryRow | None,
    kind: str,
    delivery_id: str,
    *,
    project: str,
    public_url: str = "",
) -> Json:
    """The body of a delivery, in the form that the rule's webhook takes.

    Args:
        row: the change that is told; None for a test.
        kind: `alert`, `reminder` or `test`.
        public_url: where users open the dashboard; empty leaves the link out.
    """
    rule = Rule.model_validate(alert.rule)
    link = f"{public_url.rstrip('/')}/alerts?alert_id={quote(alert.alert_id)}" if public_url else None
    text = _text(alert, rule, row, kind)
    if rule.webhook_format == "slack":
        return _slack(text, link)
    if rule.webhook_format == "teams":
        return _teams(text, link)
    return {
        "type": kind,
        "id": delivery_id,
        "project": project,
        "sent_at": format_time(utc_now()),
        "text": text,
        "link": link,
        "alert": json_value(alert_of(alert)),
        "change": json_value(history_change(row)) if row else None,
    }


def _text(alert: StoredAlert, rule: Rule, row: HistoryRow | None, kind: str) -> str:
    state = str(row.change["after"] if row else alert.state.get("state", "ok"))
    said = str((row.change if row else alert.state).get("message") or rule.name)
    return f"{_SIGNS[state]} {'Test of ' if kind == 'test' else ''}{state}: {said}"


def _slack(text: str, link: str | None) -> Json:
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    shown = plain + (f"\n<{link}|Open in heedloop>" if link else "")
    # `text` is what notifications and screen readers get
    return {"text": plain, "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": shown[:3_000]}}]}


def _teams(text: str, link: str | None) -> Json:
    card: Json = {
        "type": "AdaptiveCard",
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "version": "1.4",
        "body": [{"type": "TextBlock", "text": text, "wrap": True}],
    }
    if link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open in heedloop", "url": link}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}
