"""N judgements per answer exactly: many annotators at once, a server killed midway, several servers on one ClickHouse."""

import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from forked_server import ForkedServer
from review_people import THUMB_ONLY, World, call, review_server
from server_process import ServerProcess, ShimProcess, wait_for

from heedloop._call_spans import otlp_request
from heedloop.client import ApiError, Client, Invalid
from heedloop.responses import JudgedAssignment, ReviewAssignment
from heedloop.schema import to_json

KILLS = int(os.environ.get("HEEDLOOP_KILLS", "2"))
WANTED = 2


def test_many_annotators_at_once_share_out_the_places_exactly(tmp_path: Path) -> None:
    with review_server(tmp_path) as new_project:
        server: World = new_project()
        server.calls(12)
        queue = server.queue(judgements_per_item=3)
        people = [server.person(f"annotator-{n}") for n in range(6)]

        def work(person) -> int:
            num = 0
            while one := person.take(queue):
                person.submit(one, {"thumb": num % 2})
                num += 1
            return num

        with ThreadPoolExecutor(len(people)) as pool:
            done = list(pool.map(work, people))
        assert sum(done) == 36
        assert_exact(server.admin.feedback(), num_items=12, wanted=3)
        assert server.admin.ask("GET", f"/review/queues/{queue}")["counts"]["done"] == 12


def assert_exact(feedback: list[dict], *, num_items: int, wanted: int) -> None:
    """Every answer has its judgements, each by another annotator."""
    per_answer = Counter(f["target"]["span_id"] for f in feedback)
    assert per_answer == dict.fromkeys(per_answer, wanted), per_answer
    assert len(per_answer) == num_items
    assert len({(f["target"]["span_id"], f["author"]["id"]) for f in feedback}) == num_items * wanted


class Annotator(threading.Thread):
    """Works a queue to its end as the page does: an item ahead, and sending again until there is an answer."""

    def __init__(self, clients: list[Client], queue_id: str, pause_s: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.clients, self.queue_id, self.pause_s = clients, queue_id, pause_s
        self.acknowledged: dict[str, str] = {}
        self.seen: list[str] = []
        self.refused: list[str] = []

    def run(self) -> None:
        ahead: list[ReviewAssignment] = []
        while True:
            if not ahead:
                found = self._until_answered(lambda c: c.next_assignments(self.queue_id, count=2))
                ahead = found.assignments
                if not ahead and found.progress.remaining:
                    time.sleep(0.1)  # a killed server's claim has not ended yet
                    continue
            if not ahead:
                return
            one, *rest = ahead
            self.seen.append(one.item_id)
            time.sleep(random.uniform(0, self.pause_s))  # people take a moment
            done = self._submit(one, [a.assignment_id for a in rest])
            ahead = rest + (done.assignments if done else [])

    def _submit(self, one: ReviewAssignment, holding: list[str]) -> JudgedAssignment | None:
        try:
            done = self._until_answered(
                lambda c: c.submit_judgement(one.assignment_id, {"thumb": 1}, next=1, holding=holding)
            )
        except Invalid as err:
            self.refused.append(str(err))
            return None
        self.acknowledged[one.item_id] = done.feedback[0]
        return done

    def _until_answered(self, ask):
        while True:
            try:
                return ask(random.choice(self.clients))
            except Invalid:
                raise
            except ApiError:
                time.sleep(0.02)  # the server is down or starting: a page tries again too


def world(server: ServerProcess, num: int, names: list[str]) -> tuple[Client, str, list[str]]:
    """An admin's client, a queue of `num` answers, and a key per name."""
    admin = server.client()
    admin.send_otlp(otlp_request([call(f"Q{n}?", f"A{n}", at_s=60 + n) for n in range(num)]))
    wait_for(lambda: len(admin.calls(limit=500).calls) == num, what="the calls")
    queue = admin.create_review_queue("q", THUMB_ONLY, judgements_per_item=WANTED, lease_s=3600).queue_id
    assert admin.fill_review_queue(queue, "filter").added == num
    return admin, queue, [admin.create_key(name, ["annotate"]).key for name in names]


def judgements(admin: Client) -> list[dict]:
    return [to_json(f) for f in admin.iter_feedback(author_kind="annotator")]


def finish(workers: list[Annotator]) -> None:
    for w in workers:
        w.join(120)
        assert not w.is_alive()
        assert w.refused == []
        assert len(w.seen) == len(set(w.seen)), "an item came twice to one annotator"


@pytest.mark.slow
def test_a_server_killed_midway_loses_and_doubles_nothing(tmp_path: Path) -> None:
    server = ForkedServer(tmp_path).start()
    admin, queue, keys = world(server, 30, ["ada", "bob"])
    workers = [Annotator([server.client(k)], queue, pause_s=0.05) for k in keys]
    for w in workers:
        w.start()
    for n in range(KILLS):
        due = 5 * (n + 1)
        wait_for(
            lambda due=due: sum(len(w.acknowledged) for w in workers) >= due,
            what="some judgements",
            timeout_s=120,
        )
        time.sleep(random.uniform(0, 0.05))  # the moment of the kill is the point
        server.kill()
        server.start()
    finish(workers)
    said = judgements(admin)
    assert_exact(said, num_items=30, wanted=WANTED)
    acknowledged = {f for w in workers for f in w.acknowledged.values()}
    assert acknowledged == {f["feedback_id"] for f in said}
    assert admin.review_queue(queue).counts.done == 30
    assert server.stop() == 0


def test_a_judgement_that_was_killed_before_its_feedback_is_recorded_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with review_server(tmp_path) as new_project:
        server: World = new_project()
        server.calls(2)
        queue = server.queue()
        ada = server.person("ada")
        one, two = ada.next(queue, 2)["assignments"]
        queue_service = server.app.state.review
        real = queue_service.record

        def dies(*_args):
            raise SystemError("as if the process had ended here")

        monkeypatch.setattr(queue_service, "record", dies)
        with pytest.raises(SystemError):
            ada.submit(one, {"thumb": 1})
        assert server.admin.feedback(author_id="ada") == []
        monkeypatch.setattr(queue_service, "record", real)
        queue_service.forget(server.project.project)  # a new process knows nothing
        assert ada.next(queue)["progress"]["done"] == 1
        assert [f["value"] for f in server.admin.feedback(author_id="ada")] == [1.0]
        # the same for an undo: the judgement is taken back although the process ended before the retraction
        ada.submit(two, {"thumb": 0})
        monkeypatch.setattr(queue_service, "record", dies)
        with pytest.raises(SystemError):
            ada.reopen(two)
        monkeypatch.setattr(queue_service, "record", real)
        queue_service.forget(server.project.project)
        assert ada.next(queue)["progress"]["done"] == 1
        assert [f["value"] for f in server.admin.feedback(author_id="ada")] == [1.0]


@pytest.mark.slow
def test_several_servers_on_one_clickhouse_never_give_a_place_twice(tmp_path: Path) -> None:
    shim = ShimProcess(tmp_path / "clickhouse")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = ForkedServer(tmp_path / "a", "--store", shim.dsn).start()
    second = ForkedServer(tmp_path / "b", "--store", shim.dsn).start()
    names = ["ada", "bob", "eve", "kim"]
    admin, queue, keys = world(first, 12, names)
    # each annotator's requests reach either server, as behind a load balancer
    workers = [Annotator([first.client(k), second.client(k)], queue) for k in keys]
    for w in workers:
        w.start()
    finish(workers)
    assert_exact(judgements(admin), num_items=12, wanted=WANTED)
    for server in (first, second):
        assert server.client(first.key).review_queue(queue).counts.done == 12
        assert server.stop() == 0
    shim.stop()
