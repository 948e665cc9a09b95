"""Alerts from a rule to a webhook on loopback: states, history, signatures, retries, and what must never be told."""

import contextlib
import hashlib
import hmac
import json
import os
import socket
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest
from fastapi.testclient import TestClient
from server_process import wait_for
from temporary_stores import temporary_store
from webhook_receiver import Hook

from heedloop.schema import Author, Call, Feedback, Message, Target, format_time
from heedloop_server.alerts import webhooks
from heedloop_server.alerts.evaluate import evaluate
from heedloop_server.alerts.rules import parse_rule
from heedloop_server.alerts.scheduler import Scheduler, tell
from heedloop_server.app import create_app
from heedloop_server.http.auth import make_key
from heedloop_server.ingest.feedback_writer import FeedbackWriter
from heedloop_server.settings import Settings
from heedloop_server.store.admin.alerts import (
    StoredAlert,
    find_alert,
    pending_deliveries,
    read_history,
    save_alert,
)
from heedloop_server.store.spans import insert_calls

NUM_RACES = int(os.environ.get("HEEDLOOP_TEST_RACES", "12"))
NOW = datetime.now(timezone.utc).replace(minute=30, second=0, microsecond=0)


# ------------------------------------------------------------------------------------------------------------ the world


class World:
    """A project whose users rate as they are told to."""

    def __init__(self, store):
        self.store, self.project, self.num = store, store.project("p"), 0
        self.desk = FeedbackWriter(store)
        self.desk.start()

    def say(self, at, *, up, down, tag="billing", errors=0):
        """Answers at one moment with thumbs up and down, and answers that failed without a rating."""
        thumbs = [1.0] * up + [0.0] * down + [None] * errors
        calls = [self._call(at, tag, "error" if t is None else "ok") for t in thumbs]
        insert_calls(self.project, calls, received_at=at)
        said = [
            Feedback("rating", Target(trace_id=c.trace_id, span_id=c.span_id), value=t,
                     author=Author("end_user", c.span_id), created_at=at)
            for c, t in zip(calls, thumbs, strict=True) if t is not None
        ]  # fmt: skip
        self.desk.submit("p", said).result()

    def _call(self, at, tag, status):
        self.num += 1
        return Call(
            trace_id=f"{self.num:032x}", span_id=f"{self.num:016x}", start_time=at, duration_ns=10**9, name="answer",
            service="web", model_requested="small", tags=(tag,), status=status,
            output_messages=(Message("assistant", "Yes."),),
        )  # fmt: skip

    def alert(self, **rule):
        given = {"name": "billing is worse", "filters": {"tag": ["billing"]}, **rule}
        alert = StoredAlert("a1", parse_rule(given).model_dump(mode="json"), "s3cret", NOW, NOW)
        save_alert(self.project, alert)
        return alert

    def look(self, at):
        return evaluate(self.project, find_alert(self.project, "a1"), at).state

    def history(self):
        rows = reversed(read_history(self.project, "a1", limit=50))
        return [(r.change["before"], r.change["after"]) for r in rows]


@pytest.fixture
def world():
    with temporary_store() as store:
        place = World(store)
        yield place
        place.desk.stop()


@pytest.fixture
def hook():
    with Hook() as place:
        yield place


# --------------------------------------------------------------------------------------------------------------- states


def test_a_threshold_goes_through_all_states_and_back(world):
    world.alert(kind="threshold", threshold=0.6, window_hours=2, min_count=20)
    world.say(NOW - timedelta(minutes=5), up=8, down=2)
    assert world.look(NOW)["state"] == "ok"  # too few to say anything
    world.say(NOW - timedelta(minutes=4), up=20, down=18)
    found = world.look(NOW)
    assert (found["state"], found["value"]["n"], found["num"]) == ("warning", 48, 48)
    world.say(NOW - timedelta(minutes=3), up=0, down=60)
    found = world.look(NOW + timedelta(minutes=1))
    assert (found["state"], found["evidence"]) == ("alarm", 1.0)
    assert "25.9%" in found["message"]
    assert "threshold is 60.0%" in found["message"]
    world.say(NOW + timedelta(hours=3), up=50, down=5)
    assert world.look(NOW + timedelta(hours=3, minutes=1))["state"] == "resolved"
    assert world.look(NOW + timedelta(hours=3, minutes=2))["state"] == "resolved"
    world.say(NOW + timedelta(hours=6), up=50, down=5)
    assert world.look(NOW + timedelta(hours=6, minutes=1))["state"] == "ok"
    assert world.history() == [
        ("ok", "warning"),
        ("warning", "alarm"),
        ("alarm", "resolved"),
        ("resolved", "ok"),
    ]


def test_another_segment_and_silence_change_nothing(world):
    world.alert(kind="threshold", threshold=0.6, window_hours=2, min_count=20)
    world.say(NOW - timedelta(minutes=5), up=0, down=100, tag="shipping")
    found = world.look(NOW)
    assert (found["state"], found["value"], found["error"]) == ("ok", None, None)


def test_drift_is_looked_at_period_by_period_against_what_was_normal(world):
    for day in range(1, 6):
        world.say(NOW - timedelta(days=day), up=32, down=8)
    world.alert(window_hours=6, baseline_days=7, min_count=30)
    assert world.look(NOW)["baseline_used"] == pytest.approx(0.8, abs=0.01)
    for i in range(1, 9):
        world.say(NOW + timedelta(hours=6 * i - 3), up=10, down=10)
        world.look(NOW + timedelta(hours=6 * i, minutes=5))
    assert world.history() == [("ok", "warning"), ("warning", "alarm")]
    for i in range(9, 14):
        world.say(NOW + timedelta(hours=6 * i - 3), up=18, down=2)
    found = world.look(NOW + timedelta(hours=6 * 14))  # the server slept: all periods at once
    assert found["state"] in ("resolved", "ok")
    assert ("alarm", "resolved") in world.history()
    assert find_alert(world.project, "a1").state["baseline_used"] == pytest.approx(0.8, abs=0.01)


def test_a_rule_without_a_past_waits_for_its_baseline(world):
    world.alert(window_hours=1, min_count=30)
    found = world.look(NOW)
    assert found["state"] == "ok"
    assert "no baseline yet" in found["error"]
    world.say(NOW + timedelta(minutes=10), up=30, down=10)
    found = world.look(NOW + timedelta(hours=1))
    assert (found["error"], found["baseline_used"]) == (None, pytest.approx(0.744, abs=0.01))


@pytest.mark.parametrize(
    ("rule", "share", "filters"),
    [
        ({"metric": "errors", "threshold": 0.1}, 0.2, {"status": "error", "tag": ["billing"]}),
        ({"metric": "coverage", "threshold": 0.9}, 0.8, {"rating": "none", "tag": ["billing"]}),
        (
            {"metric": "share", "of": {"rating": "down"}, "threshold": 0.3},
            0.4,
            {"rating": "down", "tag": ["billing"]},
        ),
    ],
)
def test_other_metrics_and_the_link_to_their_answers(world, rule, share, filters, tmp_path):
    world.say(NOW - timedelta(minutes=5), up=80, down=80, errors=40)
    key, _ = make_key(world.store, "p", name="all", scopes=["read", "admin"])
    app = create_app(Settings(data=tmp_path), store=world.store)
    alert = world.alert(kind="threshold", window_hours=2, **rule)
    found = world.look(NOW)
    assert found["value"]["estimate"] == pytest.approx(share)
    assert found["state"] == "alarm"
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        shown = client.get(f"/v1/alerts/{alert.alert_id}").json()
        assert {k: v for k, v in shown["link_filters"].items() if k not in ("since", "until")} == filters
        listed = client.get("/v1/calls", params={**shown["link_filters"], "limit": 500}).json()["calls"]
    assert len(listed) == round(share * 200) if rule["metric"] != "coverage" else 40


def test_evaluating_twice_writes_one_row(world):
    """Another server at the same time, or this one after it was killed between history and state."""
    world.alert(kind="threshold", threshold=0.6, window_hours=2, webhook_url="http://example.com/")
    world.say(NOW - timedelta(minutes=5), up=0, down=60)
    before = find_alert(world.project, "a1")
    for minutes in (0, 0, 7):  # by the state before it
        evaluate(world.project, before, NOW + timedelta(minutes=minutes))
    assert world.history() == [("ok", "alarm")]
    assert len(pending_deliveries(world.store)) == int(datetime.now(timezone.utc) >= NOW)


def test_one_of_several_servers_has_the_duty(world):
    world.alert(kind="threshold", threshold=0.6, window_hours=2)
    world.say(NOW - timedelta(minutes=5), up=0, down=60)
    first, second = (Scheduler(world.store, alert_every_s=60, loopback=False) for _ in range(2))
    first.round(NOW)
    assert world.history() == [], "it only says that it is there"
    first.round(NOW)
    assert world.history() == [("ok", "alarm")]
    world.alert(kind="threshold", threshold=0.001, window_hours=2)
    for _ in range(2):
        second.round(NOW + timedelta(hours=1))
    assert world.history() == [("ok", "alarm")]


def test_servers_that_start_at_once_tell_an_alert_once(world, hook):
    rule = parse_rule(
        {
            "name": "billing is worse", "kind": "threshold", "threshold": 0.6, "window_hours": 2, "webhook_url": hook.url,
            "filters": {"tag": ["billing"]},
        }
    )  # fmt: skip
    now = datetime.now(timezone.utc)
    world.say(now - timedelta(minutes=5), up=0, down=60)
    for n in range(NUM_RACES):
        world.store.command("TRUNCATE TABLE duties")  # the servers of the race before are gone
        save_alert(world.project, StoredAlert(f"race-{n}", rule.model_dump(mode="json"), "s3cret", now, now))
        servers = [Scheduler(world.store, alert_every_s=0.05, loopback=True) for _ in range(3)]
        for server in servers:
            server.start()
        wait_for(lambda num=n + 1: len(hook.got) >= num, what="the alert to be told")
        wait_for(lambda: not pending_deliveries(world.store), what="what became of it to be stored")
        for server in servers:
            server.stop()
    told = [json.loads(body)["alert"]["id"] for _, body in hook.got]
    assert sorted(told) == sorted(f"race-{n}" for n in range(NUM_RACES))


def test_a_reminder_comes_until_somebody_acknowledges(world):
    world.alert(kind="threshold", threshold=0.6, window_hours=24, remind_hours=2)
    world.say(NOW - timedelta(minutes=5), up=0, down=60)
    for minutes in (0, 60, 121, 130, 245):
        world.look(NOW + timedelta(minutes=minutes))
    assert world.history() == [("ok", "alarm"), ("alarm", "alarm"), ("alarm", "alarm")]


# -------------------------------------------------------------------------------------------------------------- webhook


def test_a_delivery_is_signed_tried_again_and_bounded(world, hook):
    past = datetime.now(timezone.utc) - timedelta(hours=1)
    alert = world.alert(kind="threshold", threshold=0.6, window_hours=2, webhook_url=hook.url)
    world.say(past - timedelta(minutes=5), up=0, down=60)
    evaluate(world.project, alert, past)
    hook.answers += [500, 302]
    (row,) = pending_deliveries(world.store)
    for expected in ("answered 500", "redirects are not followed"):
        row = tell(world.store, row, True)
        assert row.delivery.status == "pending"
        assert expected in row.delivery.error
    row = tell(world.store, row, True)
    assert (row.delivery.status, row.delivery.attempts) == ("delivered", 3)
    assert pending_deliveries(world.store) == []
    assert len(hook.got) == 3
    assert len({h["X-Heedloop-Delivery"] for h, _ in hook.got}) == 1
    headers, body = hook.got[-1]
    signed = headers["X-Heedloop-Timestamp"].encode() + b"." + body
    expected = hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
    assert headers["X-Heedloop-Signature"] == f"v1={expected}"
    sent = json.loads(body)
    assert (sent["type"], sent["change"]["after"], sent["alert"]["name"]) == (
        "alert",
        "alarm",
        "billing is worse",
    )
    assert "secret" not in body.decode()
    hook.answers += [500] * 9
    for _ in range(6):
        row = tell(world.store, row, True)
    assert row.delivery.status == "failed"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
     "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:db8::1",
     "198.18.0.1", "192.0.0.1", "192.0.2.1", "240.0.0.1", "168.63.129.16", "192.88.99.1", "192.31.196.1", "192.52.193.1",
     "198.51.100.1", "203.0.113.1", "2001::1", "2001:20::1", "2001:2::1", "3fff::1", "3ffe::1", "100::1", "64:ff9b:1::1", "5f00::1",
     "fec0::1", "2620:4f:8000::1", "2002:808:808::1", "64:ff9b::808:808"],
)  # fmt: skip
def test_no_address_but_a_public_one_is_told(address):
    with pytest.raises(webhooks.Refused):
        webhooks.check_address(address, loopback=False)
    if address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        webhooks.check_address(address, loopback=True)
    else:
        with contextlib.suppress(webhooks.Refused):
            webhooks.check_address(address, loopback=True)
            assert "127" in address or "7f00" in address


def test_public_addresses_pass():
    for address in ("93.184.215.14", "8.8.8.8", "2606:4700:4700::1111"):
        webhooks.check_address(address, loopback=False)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::1]", "0"]
)
def test_names_of_this_machine_are_refused_after_they_are_resolved(hook, host):
    url = hook.url.replace("127.0.0.1", host)
    found = webhooks.post(url, "s", {})
    assert not found.delivered
    assert found.status is None
    assert hook.got == []


def test_a_name_with_one_private_address_is_refused_and_the_checked_address_is_the_one_connected(
    hook, monkeypatch
):
    """Resolved once: what the name says a moment later (rebinding) is never asked."""
    port = hook.server.server_port
    asked = []

    def resolve(host, port, *_, **__):
        asked.append(host)
        addresses = ["93.184.215.14", "127.0.0.1"] if host == "both.example" else ["127.0.0.1"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    found = webhooks.post(f"http://both.example:{port}/", "s", {})
    assert found.error.startswith("refused: 127.0.0.1")
    assert hook.got == []
    found = webhooks.post(f"http://once.example:{port}/", "s", {}, loopback=True)
    assert found.delivered
    assert asked == ["both.example", "once.example"]
    assert hook.got[0][0]["Host"] == f"once.example:{port}"


def test_an_answer_that_drips_is_cut(hook, monkeypatch):
    monkeypatch.setattr(webhooks, "TIMEOUT_S", 0.6)
    hook.answers.append("drip")
    found = webhooks.post(hook.url, "s", {}, loopback=True)  # which would never end
    assert not found.delivered


def test_nobody_listens(hook):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    found = webhooks.post(url, "s", {}, loopback=True)
    assert "ConnectionRefused" in found.error


# ----------------------------------------------------------------------------------------------------------------- REST


@pytest.fixture
def api(world, tmp_path):
    settings = Settings(data=tmp_path, alert_every_s=1, webhook_loopback=True)
    app = create_app(settings, store=world.store)
    scopes = {"admin": ["read", "admin", "annotate"], "reader": ["read"]}
    keys = {n: make_key(world.store, "p", name=n, scopes=s)[0] for n, s in scopes.items()}
    keys["other"] = make_key(world.store, "q", name="other", scopes=["read", "admin", "annotate"])[0]
    with TestClient(app) as client:
        yield lambda who, method, path, **more: client.request(
            method, f"/v1/alerts{path}", headers={"Authorization": f"Bearer {keys[who]}"}, **more
        )


RULE = {"name": "down", "kind": "threshold", "threshold": 0.6, "window_hours": 2, "min_count": 20}


def test_from_a_rule_to_the_webhook_by_the_server_itself(world, hook, api):
    made = api("admin", "POST", "", json={**RULE, "webhook_url": hook.url})
    assert made.status_code == 201, made.text
    alert = made.json()
    assert (alert["state"], alert["secret"][:4]) == ("ok", "hlw_")
    assert api("admin", "POST", f"/{alert['id']}/test").json()["delivered"] is True
    assert json.loads(hook.got[0][1])["type"] == "test"
    world.say(datetime.now(timezone.utc) - timedelta(minutes=1), up=0, down=60)
    deadline = time.monotonic() + 150
    while len(hook.got) < 2 and time.monotonic() < deadline:
        api("admin", "PATCH", f"/{alert['id']}", json={"min_count": 10 + len(hook.got)})
        threading.Event().wait(0.2)
    headers, body = hook.got[1]
    signed = headers["X-Heedloop-Timestamp"].encode() + b"." + body
    assert headers["X-Heedloop-Signature"] == f"v1={hmac.new(alert['secret'].encode(), signed, hashlib.sha256).hexdigest()}"  # fmt: skip
    (row,) = [
        r for r in api("reader", "GET", f"/{alert['id']}/history").json()["history"] if r["after"] == "alarm"
    ][:1]
    assert row["value"]["estimate"] == 0
    seen = api("admin", "POST", f"/{alert['id']}/acknowledge", json={"by": "Ada", "comment": "known"}).json()
    assert seen["acknowledged_by"] == "Ada"
    assert api("reader", "GET", f"/{alert['id']}/history").json()["history"][0]["acknowledged_by"] == "Ada"
    (listed,) = api("reader", "GET", "").json()["alerts"]
    assert "secret" not in listed
    assert api("admin", "DELETE", f"/{alert['id']}").json()["deleted"] is True
    assert api("reader", "GET", "").json()["alerts"] == []
    assert api("reader", "GET", f"/{alert['id']}/history").status_code == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"metric": "mood"}, "metric"),
        ({"threshold": None}, "rule"),
        ({"threshold": 1.5}, "threshold"),
        ({"filters": {"colour": "red"}}, "filters"),
        ({"filters": {"since": "2026-01-01T00:00:00Z"}}, "filters"),
        ({"metric": "share"}, "rule"),
        ({"of": {"status": "error"}}, "rule"),
        ({"metric": "share", "of": {"model": "a"}, "filters": {"model": "b"}}, "rule"),
        ({"webhook_url": "file:///etc/passwd"}, "webhook_url"),
        ({"webhook_url": "http://u:p@example.com/"}, "webhook_url"),
        ({"webhook_url": "http://example.com:99999/"}, "webhook_url"),
        ({"webhook_url": "http://example.com/\r\nX: y"}, "webhook_url"),
        ({"window_hours": 0}, "window_hours"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_rule_is_refused_by_its_field(api, change, field):
    answer = api("admin", "POST", "", json=RULE | change)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["field"].startswith(field)
    assert api("reader", "GET", "").json()["alerts"] == []


def test_who_may_what(api):
    made = api("admin", "POST", "", json=RULE).json()
    path = f"/{made['id']}"
    assert api("reader", "POST", "", json=RULE).status_code == 403
    for method, what, body in (("PATCH", "", {"name": "x"}), ("DELETE", "", None), ("POST", "/test", None),
                               ("POST", "/acknowledge", {"by": "x"})):  # fmt: skip
        assert api("reader", method, path + what, json=body).status_code == 403
        assert api("other", method, path + what, json=body).status_code == 404
    assert api("other", "GET", path).status_code == 404
    assert api("other", "GET", "").json()["alerts"] == []
    assert api("admin", "POST", f"{path}/test").status_code == 409
    assert api("admin", "PATCH", path, json={"name": "renamed"}).json()["name"] == "renamed"
    assert format_time(datetime.now(timezone.utc)) > made["created_at"]
