"""New feedback pushed to a webhook on loopback: signed, at least once, never in the way, nothing imported unless asked for."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
from fastapi.testclient import TestClient
from server_process import ServerProcess, wait_for
from temporary_stores import temporary_store
from webhook_receiver import Hook

from heedloop.schema import Author, Feedback, Target, to_json
from heedloop_cli.main import main
from heedloop_server.alerts.scheduler import tell_in_order
from heedloop_server.app import create_app
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.ingest.feedback_writer import FeedbackWriter
from heedloop_server.settings import Settings
from heedloop_server.store.admin.alerts import FEEDBACK, pending_deliveries, read_history
from heedloop_server.store.admin.erasure import erase
from heedloop_server.store.admin.project_settings import save_project_settings


def said(author: str, value: float = 1.0, **fields) -> Feedback:
    target = Target(trace_id=fields.pop("trace", "ab" * 16))
    return Feedback("rating", target, value=value, author=Author("end_user", author), **fields)


def told(hook: Hook) -> list[dict]:
    return [json.loads(body)["feedback"] for _, body in hook.got]


class World:
    """A project on a store of its own, without a server around it."""

    def __init__(self, store, url: str) -> None:
        self.store, self.project = store, store.project("p")
        self.writer = FeedbackWriter(store)
        save_project_settings(
            self.project, {"feedback_webhook": {"url": url, "secret": "s", "imports": False}}
        )

    def say(self, *feedback: Feedback) -> list[str]:
        return [o.status for o in self.writer.submit("p", feedback).result(60)]

    def tell(self, *, loopback: bool = True) -> None:
        tell_in_order(self.project, pending_deliveries(self.store), loopback)

    def notes(self) -> dict[str, tuple[str, int]]:
        """What waits or failed: its id, its state and its attempts."""
        rows = read_history(self.project, FEEDBACK, limit=500)
        return {r.change_id: (r.delivery.status, r.delivery.attempts) for r in rows}


@pytest.fixture
def hook():
    with Hook() as place:
        yield place


@pytest.fixture
def world(hook) -> Iterator[World]:
    with temporary_store() as store:
        place = World(store, hook.url)
        place.writer.start()
        yield place
        place.writer.stop()


@pytest.fixture
def api(tmp_path) -> Iterator[TestClient]:
    """A server whose rounds come every second, signed in as an admin."""
    with temporary_store() as store:
        text, _ = make_key(store, "shop", name="test", scopes=SCOPES)
        settings = Settings(data=tmp_path, webhook_loopback=True, alert_every_s=1)
        with TestClient(
            create_app(settings, store=store), headers={"Authorization": f"Bearer {text}"}
        ) as client:
            yield client


def post(api: TestClient, *feedback: Feedback) -> None:
    assert api.post("/v1/feedback", json={"feedback": [to_json(f) for f in feedback]}).is_success


def test_feedback_is_told_as_the_api_has_it_signed_and_imported_feedback_only_where_asked(api, hook):
    post(api, said("before"))
    api.get("/v1/feedback")  # waits until it is stored
    set_to = api.patch("/v1/project", json={"feedback_webhook": {"url": hook.url}}).json()
    secret = set_to["webhook_secret"]
    assert "webhook_secret" not in api.get("/v1/project").json()
    assert secret not in api.get("/v1/audit").text
    ada = said("ada", comment="Good \N{HERB}")
    post(api, ada, said("bob", 0.0), said("eve", metadata={"import": "1" * 16}))
    post(api, said("ada", 0.0), said("bob", retracted=True))
    wait_for(lambda: len(hook.got) == 4, what="four requests")
    assert [(f["author"]["id"], f.get("value"), f.get("retracted")) for f in told(hook)][-2:] == [
        ("ada", 0.0, False),
        ("bob", 1.0, True),
    ]
    assert {f["author"]["id"] for f in told(hook)} == {"ada", "bob"}
    assert next(f for f in told(hook) if f["id"] == ada.id)["comment"] == ada.comment
    for headers, body in hook.got:
        signed = headers["X-Heedloop-Timestamp"].encode() + b"." + body
        mac = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        assert headers["X-Heedloop-Signature"] == f"v1={mac}"
        assert json.loads(body)["id"] == headers["X-Heedloop-Delivery"]
    again = api.patch("/v1/project", json={"feedback_webhook": {"url": hook.url, "imports": True}}).json()
    assert "webhook_secret" not in again, "the same receiver keeps its secret"
    post(api, said("joe", metadata={"import": "1" * 16}))
    wait_for(lambda: len(hook.got) == 5, what="the imported one")
    wait_for(
        lambda: api.get("/v1/project").json()["feedback_webhook"]["num_waiting"] == 0, what="all to be done"
    )
    assert api.patch("/v1/project", json={"feedback_webhook": None}).json().get("feedback_webhook") is None
    post(api, said("max"))
    assert len(api.get("/v1/feedback").json()["feedback"]) == 5
    assert len(hook.got) == 5


@pytest.mark.parametrize("url", ["ftp://host/x", "http://", "https://u:pw@host/", "http://host/a b"])
def test_what_is_no_address_is_refused_when_it_is_set(api, url):
    answer = api.patch("/v1/project", json={"feedback_webhook": {"url": url}})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"].startswith("feedback_webhook")


def test_a_receiver_that_fails_gets_the_rest_later_and_in_order(world, hook):
    assert world.say(*(said(f"u{n}") for n in range(5))) == ["stored"] * 5
    hook.answers += [204, 503]
    world.tell()
    assert len(hook.got) == 2
    assert sorted(world.notes().values()) == [("pending", 0)] * 3 + [("pending", 1)]
    (failed,) = [i for i, (_, attempts) in world.notes().items() if attempts]
    world.tell()  # it is not its time yet
    assert world.notes() == {failed: ("pending", 1)}
    assert len({f["author"]["id"] for f in told(hook)}) == 5
    (row,) = read_history(world.project, FEEDBACK, limit=9)
    hook.answers += [500] * 5
    while row.delivery.status == "pending":
        tell_in_order(world.project, [row], True)
        (row,) = read_history(world.project, FEEDBACK, limit=9)
    assert (row.delivery.attempts, row.delivery.error) == (6, "answered 500")
    assert pending_deliveries(world.store) == []


def test_no_private_address_is_told_and_the_feedback_is_stored(world, hook):
    assert world.say(said("ada")) == ["stored"]
    world.tell(loopback=False)
    assert hook.got == []
    assert list(world.notes().values()) == [("failed", 1)]


def test_a_receiver_that_never_ends_its_answer_holds_up_no_feedback(world, hook, monkeypatch):
    monkeypatch.setattr("heedloop_server.alerts.webhooks.TIMEOUT_S", 0.5)
    hook.answers += ["drip"] * 2
    assert world.say(*(said(f"u{n}") for n in range(50))) == ["stored"] * 50
    world.tell()
    assert len(hook.got) == 1, "a receiver that is away is asked once a round"
    assert world.say(said("ada")) == ["stored"]


def test_what_was_erased_is_not_told_and_holds_nothing_up(world, hook):
    world.say(said("ada", trace="cd" * 16), said("bob"))
    erase(world.project, "trace_id", "cd" * 16, erasure_id="e1")
    world.tell()
    assert [f["author"]["id"] for f in told(hook)] == ["bob"]


def test_a_webhook_that_was_taken_away_leaves_nothing_to_tell(world, hook):
    world.say(said("ada"))
    save_project_settings(world.project, {})
    world.tell()
    assert (hook.got, world.notes()) == ([], {})


def test_one_project_that_is_behind_does_not_starve_another(world, hook):
    world.say(*(said(f"u{n}") for n in range(600)))
    save_project_settings(
        world.store.project("q"), {"feedback_webhook": {"url": hook.url, "secret": "s", "imports": False}}
    )
    world.writer.submit("q", [said("ada")]).result(60)
    assert "q" in {r.project for r in pending_deliveries(world.store)}


def test_a_crash_before_the_feedback_is_stored_forgets_nothing(world, hook, monkeypatch):
    def away(*_):
        raise OSError("the disk is full")

    ada = said("ada", created_at=datetime(2026, 3, 1, tzinfo=timezone.utc))
    with monkeypatch.context() as broken:
        broken.setattr("heedloop_server.ingest.feedback_writer.insert_feedback", away)
        broken.setattr("heedloop_server.ingest.feedback_writer.insert_history", away)
        with pytest.raises(OSError, match="full"):
            world.say(ada)
    world.tell()
    assert hook.got == [], "what is not stored is not told"
    assert world.say(ada) == ["stored"]
    world.tell()
    assert [f["author"]["id"] for f in told(hook)] == ["ada"]


def test_every_feedback_is_told_though_the_server_is_killed(tmp_path, hook, monkeypatch, capsys):
    often = {"HEEDLOOP_ALERT_EVERY_S": "1", "HEEDLOOP_WEBHOOK_LOOPBACK": "true"}
    server = ServerProcess(tmp_path, env=often).start()
    monkeypatch.setenv("HEEDLOOP_URL", server.url)
    monkeypatch.setenv("HEEDLOOP_API_KEY", server.key)
    assert main(["webhook"]) == 0
    assert main(["webhook", hook.url]) == 0
    assert "secret hlw_" in capsys.readouterr().out
    client = server.client()
    for first in range(0, 400, 100):
        client.send_feedback([said(f"u{n}") for n in range(first, first + 100)])
    server.kill()
    server.start()
    wait_for(lambda: len({f["author"]["id"] for f in told(hook)}) == 400, what="all of them")
    assert main(["webhook", "off"]) == 0
    assert "nowhere" in capsys.readouterr().out
    assert server.stop() == 0
