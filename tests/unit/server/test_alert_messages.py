"""What a webhook is sent, in each form: text for people, a link where the dashboard's address is known, nothing that becomes markup."""

from datetime import datetime, timezone

import pytest

from heedloop_server.alerts.messages import message_of
from heedloop_server.alerts.rules import parse_rule
from heedloop_server.store.admin.alerts import HistoryRow, StoredAlert

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
MESSAGE = "<!channel> a & b: the cost over the last 24 h is $12.00; the threshold is $10.00."
URL = "https://quality.example/"


def _message(form, public_url=URL, row=True):
    rule = parse_rule(
        {"name": "a", "metric": "cost", "kind": "threshold", "threshold": 10, "webhook_format": form}
    )
    alert = StoredAlert(
        "a1", rule.model_dump(mode="json"), "s", NOW, NOW, {"state": "alarm", "message": MESSAGE}
    )
    value = {"estimate": 12.0, "low": 12.0, "high": 12.0, "n": 3, "method": "sum"}
    change = {"at": "2026-03-01T00:00:00Z", "before": "ok", "after": "alarm", "value": value, "evidence": 1.0, "num": 3,
              "message": MESSAGE, "acknowledged_by": None}  # fmt: skip
    changed = HistoryRow("p", "a1", "c1", NOW, change) if row else None
    return message_of(alert, changed, "alert" if row else "test", "c1", project="p", public_url=public_url)


def test_our_own_form_has_text_link_and_records():
    found = _message("generic")
    assert (found["type"], found["id"], found["project"]) == ("alert", "c1", "p")
    assert found["text"].endswith(MESSAGE)
    assert found["link"] == "https://quality.example/alerts?alert_id=a1"
    assert found["change"]["value"]["estimate"] == 12.0
    assert _message("generic", public_url="")["link"] is None


def test_slack_gets_text_that_calls_nobody():
    found = _message("slack")
    assert set(found) == {"text", "blocks"}
    assert "&lt;!channel&gt; a &amp; b" in found["text"]
    shown = found["blocks"][0]["text"]["text"]
    assert shown.endswith("<https://quality.example/alerts?alert_id=a1|Open in heedloop>")
    assert "<" not in _message("slack", public_url="")["blocks"][0]["text"]["text"]


def test_teams_gets_a_card_with_a_button():
    card = _message("teams")["attachments"][0]["content"]
    assert card["body"][0]["text"].endswith(MESSAGE)
    assert card["actions"] == [
        {
            "type": "Action.OpenUrl",
            "title": "Open in heedloop",
            "url": "https://quality.example/alerts?alert_id=a1",
        }
    ]
    assert "actions" not in _message("teams", public_url="")["attachments"][0]["content"]


@pytest.mark.parametrize("form", ["generic", "slack"])
def test_a_test_says_so(form):
    assert "Test of alarm" in _message(form, row=False)["text"]
