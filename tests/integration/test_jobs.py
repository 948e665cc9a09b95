"""Long work is a job: each kind over HTTP, cancelled, left by a killed server, and of several servers on one store."""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from fastapi.testclient import TestClient
from forked_server import ForkedServer
from server_process import ServerProcess, wait_for
from temporary_stores import temporary_store

from heedloop.client import Client, JobFailed
from heedloop.responses import Job
from heedloop.schema import Author, Call, Feedback, Message, Target, to_json, utc_now
from heedloop_server.app import create_app
from heedloop_server.http.auth import SCOPES, Principal, make_key
from heedloop_server.jobs.kinds import Finished, JobContext, Kind
from heedloop_server.jobs.runner import MAX_ATTEMPTS, JobRunner
from heedloop_server.settings import Settings
from heedloop_server.store.admin.jobs import find_job, save_job
from heedloop_server.store.connection import Store
from heedloop_server.store.spans import insert_calls

KILLS = int(os.environ.get("HEEDLOOP_KILLS", "2"))
LATER = {"HEEDLOOP_ANSWER_WITHIN_S": "0"}
"""Every job is answered with 202."""


def call(question: str = "Where is my parcel?", **fields: Any) -> Call:
    return Call(
        trace_id=secrets.token_hex(16),
        span_id=secrets.token_hex(8),
        start_time=utc_now(),
        is_answer=True,
        input_messages=(Message("user", question),),
        output_messages=(Message("assistant", f"It is on its way. {secrets.token_hex(4)}"),),
        **fields,
    )


def thumb(of: Call, value: int = 0) -> Feedback:
    return Feedback(
        kind="rating",
        value=value,
        target=Target(of.trace_id, of.span_id),
        author=Author("end_user", secrets.token_hex(4)),
    )


@contextmanager
def serving(store: Store, folder: Path, **settings: Any) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(data=folder, **settings), store=store)) as client:
        yield client


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server that answers each job with 202."""
    with (
        temporary_store() as store,
        serving(store, tmp_path_factory.mktemp("data"), answer_within_s=0) as client,
    ):
        yield client


def key_of(client: TestClient, *scopes: str, project: str = "shop") -> dict[str, str]:
    text, _ = make_key(client.app.state.store, project, name="Ann", scopes=scopes or SCOPES)
    return {"Authorization": f"Bearer {text}"}


def over(client: TestClient, auth: dict[str, str], response: Any) -> dict[str, Any]:
    """The job of a response of 202, when it is over."""
    assert response.status_code == 202, response.text
    place = response.headers["Location"]
    assert place == f"/v1/jobs/{response.json()['id']}"

    def job() -> Any:
        found = client.get(place, headers=auth).json()
        return found if found["state"] not in ("queued", "running") else None

    return wait_for(job, what="the job to be over", timeout_s=60)


def fill(client: TestClient, auth: dict[str, str], num: int, project: str = "shop") -> None:
    """Answers of as many users, each with a thumb down."""
    calls = [call(user_id=f"u{n}") for n in range(num)]
    insert_calls(client.app.state.store.project(project), calls)
    body = {"feedback": [to_json(thumb(c)) for c in calls]}
    assert client.post("/v1/feedback", json=body, headers=auth).status_code == 200


def test_each_kind_is_answered_with_its_job_and_gives_what_the_route_gives(later: TestClient) -> None:
    auth = key_of(later)
    fill(later, auth, 12)
    snapshot = over(later, auth, later.post("/v1/snapshots", json={"name": "a"}, headers=auth))
    assert (snapshot["state"], snapshot["started_by"], snapshot["can_cancel"]) == ("done", "Ann", False)
    assert later.get(snapshot["result"]["path"], headers=auth).json()["name"] == "a"
    questions = [{"name": "thumb", "kind": "thumb", "title": "Good?"}]
    queue = later.post("/v1/review/queues", json={"name": "q", "questions": questions}, headers=auth).json()
    path = f"/v1/review/queues/{queue['queue_id']}/items"
    filled = over(later, auth, later.post(path, json={"source": "sample", "size": 5}, headers=auth))
    assert filled["result"]["filled"]["added"] == 5
    found = over(later, auth, later.get("/v1/quality/clusters", headers=auth))
    again = later.get(found["result"]["path"], headers=auth)
    assert (again.status_code, again.json()["num_low_rated"]) == (200, 12)
    erased = later.post("/v1/erasures", json={"user_id": "u3"}, headers=auth)
    assert erased.status_code == 200
    wait_for(lambda: _job_of(later, auth, "erasure")["state"] == "done", what="the removal", timeout_s=60)
    assert (
        later.get(_job_of(later, auth, "erasure")["result"]["path"], headers=auth).json()["left"]["spans"]
        == 0
    )
    one = {"id": secrets.token_hex(8), "source": "jsonl", "names": ["f"], "status": "finished"}
    later.post("/v1/imports", json={**one, "started_at": "2026-10-03T08:00:00Z"}, headers=auth)
    undone = over(later, auth, later.post(f"/v1/imports/{one['id']}/undo", headers=auth))
    assert undone["result"]["undone"]["id"] == one["id"]
    assert later.get("/v1/calls/export", headers=auth).status_code == 200
    assert _job_of(later, auth, "export")["state"] == "done"


def _job_of(client: TestClient, auth: dict[str, str], kind: str) -> dict[str, Any]:
    return next(j for j in client.get("/v1/jobs", headers=auth).json()["jobs"] if j["kind"] == kind)


def test_a_key_sees_the_jobs_that_it_may_start_in_its_project(later: TestClient) -> None:
    auth = key_of(later, project="mine")
    job = over(later, auth, later.post("/v1/snapshots", json={"name": "a"}, headers=auth))
    for who in (key_of(later, "read", project="mine"), key_of(later)):
        assert job["id"] not in [j["id"] for j in later.get("/v1/jobs", headers=who).json()["jobs"]]
        assert later.get(f"/v1/jobs/{job['id']}", headers=who).status_code == 404
        assert later.delete(f"/v1/jobs/{job['id']}", headers=who).status_code == 404
    assert later.get("/v1/jobs", headers=key_of(later, "ingest", project="mine")).status_code == 403
    assert later.delete(f"/v1/jobs/{job['id']}", headers=auth).status_code == 409  # it is over


def test_a_job_that_failed_says_why(later: TestClient) -> None:
    auth = key_of(later)
    wrong = later.post("/v1/review/queues/none/items", json={"source": "sample", "size": 5}, headers=auth)
    job = over(later, auth, wrong)
    assert job["state"] == "failed"
    assert "none" in job["error"]


# ---------------------------------------------------------------------------------------------------- the runner


class Steps:
    """A kind of job that reads, waits to be let on, writes, and waits again."""

    def __init__(self) -> None:
        self.begun, self.on, self.written, self.end = (threading.Event() for _ in range(4))
        self.num_runs = 0

    def run(self, job: JobContext) -> Finished:
        self.num_runs += 1
        self.begun.set()
        self.on.wait(60)
        job.project.store.ping()
        job.project.store.command("SELECT 1")
        self.written.set()
        self.end.wait(60)
        job.project.store.ping()
        return Finished("made")


WHO = Principal("shop", frozenset(SCOPES), "k1", "Ann")


@contextmanager
def running(store: Store, steps: Steps, **how: Any) -> Iterator[JobRunner]:
    kinds = [Kind("snapshot", "train", steps.run)]
    runner = JobRunner(store, SimpleNamespace(), kinds, **{"at_once": 1, "answer_s": 0, **how})  # type: ignore[arg-type]
    runner.open(is_alone=False)
    try:
        yield runner
    finally:
        steps.on.set()
        steps.end.set()
        runner.close()


def test_a_job_ends_before_it_writes_or_goes_on_to_its_end() -> None:
    steps = Steps()
    with temporary_store() as store, running(store, steps) as runner:
        shop = store.project("shop")
        first, second = (runner.start("snapshot", WHO, {}) for _ in range(2))
        steps.begun.wait(60)
        seen = {j.id: j for j in runner.list(shop, WHO.scopes)}
        assert [seen[j.stored.job_id].state for j in (first, second)] == ["running", "queued"]
        for job in seen.values():
            runner.cancel(shop, job)
        assert second.is_over.wait(60)  # it had not begun
        steps.on.set()
        assert first.is_over.wait(60)
        assert [j.state for j in runner.list(shop, WHO.scopes)] == ["cancelled", "cancelled"]
        assert not steps.written.is_set()
        third = runner.start("snapshot", WHO, {})
        steps.written.wait(60)
        job = runner.find(shop, third.stored.job_id, WHO.scopes)
        assert job is not None
        assert not job.can_cancel
        third.is_cancelled = True  # came too late
        steps.end.set()
        assert third.is_over.wait(60)
        assert third.stored.state == "done"


def test_a_silent_servers_job_is_taken_over_and_its_late_owner_stores_nothing() -> None:
    slow, quick = Steps(), Steps()
    quick.on.set()
    quick.end.set()
    with temporary_store() as store, running(store, slow) as one, running(store, quick) as two:
        job = one.start("snapshot", WHO, {"name": "a"})
        slow.begun.wait(60)
        two.take_over(silent_s=3600)
        assert quick.num_runs == 0  # its server spoke a moment ago
        two.take_over(silent_s=0)
        stored = wait_for(
            lambda: (j := find_job(store.project("shop"), job.stored.job_id)) and j.state == "done" and j,
            what="the other server to do it",
            timeout_s=60,
        )
        assert (stored.attempt, quick.num_runs) == (2, 1)
        one.beat()
        assert job.is_lost
        assert job.is_cancelled
        slow.on.set()
        assert job.is_over.wait(60)
        assert find_job(store.project("shop"), job.stored.job_id) == stored


def test_a_job_that_ends_its_server_each_time_is_given_up() -> None:
    steps = Steps()
    with temporary_store() as store, running(store, steps) as runner:
        job = runner.begin("snapshot", WHO, {})
        runner._own.clear()  # as after a kill
        job.stored.attempt = MAX_ATTEMPTS
        save_job(store, job.stored)
        runner.take_over(silent_s=0)
        stored = find_job(store.project("shop"), job.stored.job_id)
        assert stored is not None
        assert (stored.state, stored.request, steps.num_runs) == ("interrupted", {}, 0)


def test_what_is_cancelled_at_one_server_ends_at_the_other_and_a_stopped_server_leaves_its_job() -> None:
    steps, others = Steps(), Steps()
    with temporary_store() as store, running(store, others) as two:
        shop = store.project("shop")
        with running(store, steps) as one:
            job = one.start("snapshot", WHO, {})
            steps.begun.wait(60)
            seen = two.find(shop, job.stored.job_id, WHO.scopes)
            assert seen is not None
            two.cancel(shop, seen)
            one.beat()
            steps.on.set()
            assert job.is_over.wait(60)
            assert job.stored.state == "cancelled"
            steps.on.clear()
            steps.begun.clear()
            left = one.start("snapshot", WHO, {"name": "b"})
            steps.begun.wait(60)
            threading.Timer(0, one.close).start()
            wait_for(lambda: left.is_cancelled, what="the server to stop", timeout_s=60)
        stored = find_job(shop, left.stored.job_id)
        assert stored is not None
        assert (stored.state, stored.request) == ("queued", {"name": "b"})


def test_a_stream_is_listed_while_it_runs_and_broken_off_when_cancelled() -> None:
    with temporary_store() as store, running(store, Steps(), answer_s=0) as runner:
        shop = store.project("shop")
        runner.kinds = {"export": Kind("export", "read")}
        pieces = runner.watch("export", WHO, iter([b"ab", b"c", b"d"]))
        next(pieces)
        next(pieces)
        (job,) = runner.list(shop, frozenset(["read"]))
        assert (job.state, job.done, job.unit) == ("running", 2, "bytes")
        runner.cancel(shop, job)
        with pytest.raises(ConnectionAbortedError):
            next(pieces)
        dropped = runner.watch("export", WHO, iter([b"ab", b"c"]))
        next(dropped)
        del dropped
        assert {j.state for j in runner.list(shop, frozenset(["read"]))} == {"cancelled", "interrupted"}


# ------------------------------------------------------------------------------------------------- the client


def test_the_client_waits_tells_how_far_it_is_and_cancels(tmp_path: Path) -> None:
    server = ForkedServer(tmp_path, env=LATER).start()
    client = server.client()
    told: list[Job] = []
    client.on_job = told.append
    assert client.create_snapshot("a").name == "a"
    assert {j.state for j in told} >= {"done"}
    with pytest.raises(JobFailed, match="none"):
        client.fill_review_queue("none", "sample", size=5)

    def interrupt(job: Job) -> None:
        raise KeyboardInterrupt

    client.on_job = interrupt
    with pytest.raises(KeyboardInterrupt):
        client.create_snapshot("b")
    job = client.jobs()[0]
    assert wait_for(lambda: client.job(job.id).is_over, what="the job to be over", timeout_s=60)
    assert server.stop() == 0


# ------------------------------------------------------------------------------------------------------ kills


def test_kill_9_during_jobs_of_every_kind_leaves_none_half_there_and_loses_none(tmp_path: Path) -> None:
    """Jobs are begun, the server is killed at a random moment; started again, each ends, and what it made is whole."""
    server = ForkedServer(tmp_path, env=LATER).start()
    client = server.client()
    calls = [call(user_id=f"u{n}") for n in range(200)]
    client.send_calls(calls)
    client.send_feedback([thumb(c, n % 2) for n, c in enumerate(calls)])
    questions = [{"name": "thumb", "kind": "thumb", "title": "Good?"}]
    queue_id = client.create_review_queue("q", questions).queue_id
    names: set[str] = set()
    for number in range(KILLS):
        begun = _begin_all(server, queue_id, number)
        time.sleep(random.uniform(0.0, 0.4))  # the moment of the kill is the point, not a wait for something
        server.kill()
        server.start()
        wait_for(lambda: all(j.is_over for j in client.jobs()), what="the jobs to be over", timeout_s=120)
        for job in map(client.job, begun):
            assert job.state == ("interrupted" if job.kind == "export" else "done"), job
            _is_whole(client, server, job)
        names |= {client.job(i).kind for i in begun}
        assert {b.state for b in client.backups()} <= {"done"}
    assert names >= {"snapshot", "queue_fill", "clusters", "erasure", "backup", "import_undo"}
    assert server.stop() == 0


def _begin_all(server: ServerProcess, queue_id: str, number: int) -> list[str]:
    """Begin a job of each kind; returns those whose row the server had acknowledged."""
    url, auth = server.url, server.headers()
    one = {"id": secrets.token_hex(8), "source": "jsonl", "names": ["f"], "status": "finished"}
    requests.post(
        f"{url}/v1/imports", json={**one, "started_at": "2026-10-03T08:00:00Z"}, headers=auth, timeout=60
    )
    posts: list[tuple[str, dict[str, Any]]] = [
        ("/v1/erasures", {"user_id": f"u{number}"}),
        ("/v1/snapshots", {"name": f"s{number}"}),
        (f"/v1/review/queues/{queue_id}/items", {"source": "sample", "size": 20}),
        (f"/v1/imports/{one['id']}/undo", {}),
        ("/v1/backups", {"name": f"b{number}"}),
    ]
    random.shuffle(posts)
    for path, body in posts:
        assert requests.post(url + path, json=body, headers=auth, timeout=60).status_code in (200, 202), path
    since = f"2026-10-{1 + number % 28:02}T00:00:00Z"
    requests.get(f"{url}/v1/quality/clusters", params={"since": since}, headers=auth, timeout=60)
    return [j.id for j in server.client().jobs()][:6]


def _is_whole(client: Client, server: ServerProcess, job: Job) -> None:
    """What the job made is there, and all of it."""
    assert job.result is not None
    if job.kind == "snapshot":
        snapshot = client.snapshot(str(job.result.path).rsplit("/", 1)[1])
        num = sum(1 for form in snapshot.num_rows for _ in client.snapshot_rows(snapshot.id, form))
        made = sum(n for splits in snapshot.num_rows.values() for n in splits.values())
        assert num == made - snapshot.num_erased
        assert snapshot.num_erased <= 10  # of one user's rows, not what was lost
    elif job.kind == "queue_fill":
        filled = job.result.filled
        assert filled is not None
        assert filled.added + filled.known == 20
    elif job.kind == "erasure":
        assert not any(client.erasure(str(job.result.path).rsplit("/", 1)[1]).left.values())
    elif job.kind == "clusters":
        path = server.url + str(job.result.path)
        assert requests.get(path, headers=server.headers(), timeout=60).status_code == 200
