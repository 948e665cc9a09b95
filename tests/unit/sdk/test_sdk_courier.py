"""How the outbox is delivered: in order, with pauses, and with the traces that others are asked for."""

import sqlite3
import threading
import time

import pytest

import heedloop
from heedloop._configure import start
from heedloop._delivery import Courier, pause_s
from heedloop._options import Options
from heedloop._outbox import Outbox
from heedloop._transport import Response
from heedloop.testing import TEST_KEY, MemoryTransport

HANDLE = "00-" + "a" * 32 + "-" + "b" * 16 + "-00"


def begin(transport, outbox, **settings):
    return start(
        transport,
        outbox,
        Options(),
        resource={},
        api_key=TEST_KEY,
        **{"sample_rate": 1.0, "capture": True, **settings},
    )


class Picky(MemoryTransport):
    """A server that refuses a whole batch, without results, where one entry of it is wrong."""

    def post(self, path, body, *, content_type):
        if path == "/v1/feedback" and b'"wrong' in body:
            return Response("refused", 422, "wrong")
        return super().post(path, body, content_type=content_type)


@pytest.mark.parametrize("wrong", [0, 3, 6, 10, None])
def test_a_refused_batch_is_sent_in_halves_and_in_its_order(wrong):
    server, outbox = Picky(), Outbox(None)
    runtime = begin(server, outbox)
    runtime.courier.close(time.monotonic() + 5)  # all of it is one batch
    runtime.courier.reset()
    names = [f"wrong {i}" if i == wrong else f"{i:02}" for i in range(11)]
    for name in names:
        heedloop.comment(HANDLE, name, author=name)
    heedloop.shutdown(10)
    assert [f.comment for f in server.feedback] == [n for n in names if not n.startswith("wrong")]
    assert len(outbox.refused_feedback()) == (wrong is not None)


@pytest.mark.parametrize(
    "ask", [lambda: heedloop.thumbs_up(HANDLE, author="u"), lambda: heedloop.keep(HANDLE)]
)
def test_a_judged_trace_that_sampling_left_out_is_asked_of_the_other_processes(tmp_path, ask):
    worker = Outbox(tmp_path / "outbox-0.sqlite3")
    begin(MemoryTransport(), Outbox(tmp_path / "outbox-0.sqlite3"), sample_rate=1e-9)
    ask()
    heedloop.shutdown(10)
    assert [trace_id for _seq, trace_id in worker.wanted_since(0)] == ["a" * 32]


def test_a_comparisons_traces_are_all_asked_for(tmp_path):
    worker = Outbox(tmp_path / "outbox-0.sqlite3")
    begin(MemoryTransport(), Outbox(tmp_path / "outbox-0.sqlite3"), sample_rate=1e-9)
    heedloop.compare([HANDLE, HANDLE.replace("a", "c")], best=0, author="u")
    heedloop.shutdown(10)
    assert {trace_id for _seq, trace_id in worker.wanted_since(0)} == {"a" * 32, "c" * 32}


def test_a_wanted_trace_is_remembered_for_an_hour(tmp_path):
    path = tmp_path / "o"
    asking, answering = Outbox(path), Outbox(path)
    asking.want_trace("a" * 32)
    answering.forget_wanted()  # as every process does when it starts
    ((seq, trace_id),) = answering.wanted_since(0)
    assert trace_id == "a" * 32 and answering.wanted_since(seq) == []
    with sqlite3.connect(path) as db:
        db.execute("UPDATE wanted SET created = created - 3601")
    answering.forget_wanted()
    assert answering.wanted_since(0) == []
    assert sqlite3.connect(path).execute("SELECT count(*) FROM wanted").fetchone() == (0,)


def test_pauses_grow_to_a_minute_and_differ():
    for attempt in range(1, 40):
        whole = min(0.25 * 2**attempt, 60.0)
        pauses = [pause_s(attempt) for _ in range(20)]
        assert all(whole / 2 <= p <= whole for p in pauses) and len(set(pauses)) > 10
    assert pause_s(3, 17.5) == 17.5 and pause_s(30, 0.0) == 0.0


class Away(MemoryTransport):
    """A server that cannot take anything now."""

    def __init__(self, retry_after_s):
        super().__init__()
        self.retry_after_s = retry_after_s
        self.num_posts = 0
        self.posted = threading.Event()

    def post(self, path, body, *, content_type):
        del path, body, content_type
        self.num_posts += 1
        self.posted.set()
        return Response("later", 503, "away", self.retry_after_s)


@pytest.mark.parametrize("retry_after_s", [None, 300.0])
def test_between_two_attempts_there_is_a_pause_however_often_it_is_woken(retry_after_s, monkeypatch):
    monkeypatch.setattr("heedloop._delivery._FIRST_BACKOFF_S", 300.0)
    monkeypatch.setattr("heedloop._delivery._LONGEST_BACKOFF_S", 300.0)
    server, outbox = Away(retry_after_s), Outbox(None)
    ticks = threading.Semaphore(0)
    courier = Courier(outbox, server, on_response=lambda: None, on_tick=ticks.release, report_counts=dict)
    outbox.put_feedback("id", b"{}")
    courier.wake()
    assert server.posted.wait(10)
    for _ in range(10):  # ten more rounds of the thread
        courier.wake()
        assert ticks.acquire(timeout=10)
    courier.close(time.monotonic() + 5)
    assert server.num_posts == 1


def test_spans_of_a_server_that_is_away_are_kept_without_asking_it_again():
    server, outbox = Away(300.0), Outbox(None)
    runtime = begin(server, outbox)

    @heedloop.trace
    def call(q):
        return q

    call("first")
    runtime.queue.flush(time.monotonic() + 10)
    runtime.courier.close(time.monotonic() + 5)
    before = server.num_posts
    for _ in range(3):
        call("later")
        runtime.queue.flush(time.monotonic() + 10)
    assert server.num_posts == before and outbox.num_waiting() == (0, 4)
    heedloop.shutdown(0)
