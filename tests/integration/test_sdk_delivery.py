"""Delivery over a real socket: servers that are well, ill, away and back; nothing is lost without being counted."""

import time

import pytest
from sdk_sink import MODES, Sink, until

import heedloop

KEY = "hl_0123456789ab_" + "k" * 43
HANDLE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.fixture
def sink():
    server = Sink()
    yield server
    server.stop()


@pytest.fixture
def start(sink, tmp_path):
    def configure(url=None, **options):
        heedloop.configure(
            url or sink.url,
            KEY,
            service="app",
            environment="test",
            options=heedloop.Options(**{"outbox": tmp_path, "read_timeout_s": 0.5, **options}),
        )

    yield configure
    heedloop.shutdown(0.1)


@heedloop.trace(name="call")
def call(q):
    return q


def timed(function):
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def test_a_healthy_server_gets_everything(sink, start):
    start()
    _, handle = call.with_handle("q")
    heedloop.thumbs_up(handle, author="u")
    how = heedloop.flush(5)
    assert how.complete and how.spans.sent == 1 and how.feedback.sent == 1 and not how.spans.dropped
    (span,) = sink.spans.values()
    (feedback,) = sink.feedback.values()
    assert span.handle == handle and span.resource["deployment.environment.name"] == "test"
    assert feedback["target"] == {"trace_id": span.trace_id, "span_id": span.span_id}


def test_many_long_feedbacks_arrive_in_few_plain_requests(sink, start):
    sink.mode = "away"
    start()
    for i in range(300):
        heedloop.correct(HANDLE, f"{i} " + "word " * 100)
    sink.mode, before = "well", sink.num_requests
    until(lambda: heedloop.flush(1).complete)
    assert len(sink.feedback) == 300 and sink.num_requests - before < 10
    assert heedloop.delivery().feedback.dropped == {}


def test_counts_reach_the_server(sink, start):
    start()
    call("q")
    heedloop.thumbs_up(HANDLE)
    heedloop.flush(5)
    until(lambda: sink.delivery)
    assert sink.delivery[-1]["service"] == "app"
    assert sink.delivery[-1]["feedback"] == {"sent": 1, "waiting": 0, "dropped": {}}


def test_a_burst_of_20_000_is_delivered_whole(sink, start):
    start(read_timeout_s=8)
    for i in range(20_000):
        call(f"q{i}")
    how = heedloop.flush(60)
    assert how.spans.sent == 20_000 and not how.spans.dropped
    assert len(sink.spans) == 20_000


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "well"])
def test_an_ill_server_never_slows_the_app_and_gets_everything_once_it_is_well(sink, start, mode):
    sink.mode, sink.delay_s = mode, 0.4
    start()
    calls = sorted(timed(lambda: call("q")) for _ in range(200))
    assert calls[100] < 0.001 and calls[-1] < 0.5
    for i in range(10):
        assert timed(lambda i=i: heedloop.flag(HANDLE, f"c{i}", author="u")) < 1
    assert timed(lambda: heedloop.flush(0.3)) < 1.5
    how = heedloop.delivery()
    assert how.feedback.waiting + how.feedback.sent == 10 and not how.feedback.dropped
    if mode not in ("slow", "large"):  # those two take something, late or little
        assert how.feedback.sent == 0 and (how.last_error or mode == "hung")
    sink.mode = "well"
    sink.released.set()
    until(lambda: heedloop.flush(1).complete, 20)
    assert [sink.feedback[i]["category"] for i in sink.order] == [f"c{i}" for i in range(10)]
    assert len(sink.spans) == 200
    assert heedloop.delivery().spans.dropped == {} and heedloop.delivery().feedback.dropped == {}


def test_nobody_listens_at_first(sink, start):
    sink.stop()
    assert timed(start) < 2
    heedloop.thumbs_up(call.with_handle("q").handle)
    how = heedloop.flush(0.5)
    assert not how.complete and how.feedback.waiting == 1 and "ConnectionError" in how.last_error
    sink.released.clear()
    sink.start()
    until(lambda: heedloop.flush(1).complete, 20)
    assert len(sink.spans) == 1 and len(sink.feedback) == 1


def test_a_name_that_does_not_resolve_and_a_black_hole(start):
    for url in ("http://no-such-host.invalid:1", "http://192.0.2.1:9"):
        assert timed(lambda url=url: start(url)) < 2.5
        assert call("q") == "q"
        assert timed(lambda: heedloop.shutdown(0.5)) < 1.5


def test_too_large_bodies_are_sent_in_smaller_ones(sink, start):
    sink.mode = "large"
    start()
    for i in range(40):
        call(f"{i} " + "x" * 300)
        heedloop.comment(HANDLE, f"{i} " + "x" * 300)
    how = heedloop.flush(10)
    assert how.complete and len(sink.spans) == 40 and len(sink.feedback) == 40
    heedloop.comment(HANDLE, "x" * 3000)
    call("x" * 3000)
    how = heedloop.flush(10)
    assert how.complete
    assert how.spans.dropped == {"too_large": 1} and how.feedback.dropped == {"refused": 1}


def test_a_refused_feedback_does_not_hold_up_the_others_and_is_kept(sink, start):
    sink.reject = ("bad",)
    start()
    for category in ("a", "bad", "b"):
        heedloop.flag(HANDLE, category)
    how = heedloop.flush(5)
    assert how.complete and how.feedback.sent == 2 and how.feedback.dropped == {"refused": 1}
    assert "is not welcome" in how.last_error
    assert len(heedloop._runtime.state.runtime.outbox.refused_feedback()) == 1


def test_what_waits_survives_a_restart(sink, start):
    sink.mode = "away"
    start()
    call("q")
    heedloop.thumbs_up(HANDLE)
    heedloop.shutdown()
    sink.mode = "well"
    start()
    until(lambda: heedloop.delivery().complete)
    assert len(sink.spans) == 1 and len(sink.feedback) == 1


def test_shutdown_with_a_hung_server_keeps_to_its_time_and_loses_nothing(sink, start):
    sink.mode = "hung"
    start(read_timeout_s=30)
    for i in range(2000):
        call(f"q{i}")
    heedloop.thumbs_up(HANDLE)
    assert timed(heedloop.shutdown) < 2.3
    sink.released.set()
    sink.mode = "well"
    start()
    until(lambda: heedloop.delivery().complete, 20)
    assert len(sink.spans) == 2000 and len(sink.feedback) == 1


def test_memory_is_bounded_while_the_server_hangs(sink, start):
    sink.mode = "hung"
    start(read_timeout_s=30)
    text = "x" * 3000
    for _ in range(40_000):
        call(text)
    runtime = heedloop._runtime.state.runtime
    assert runtime.queue._num_chars <= 64 * 1024 * 1024
    assert len(runtime.queue._queue) <= 32_768
    assert heedloop.delivery().spans.dropped["queue_full"] > 0


def test_an_outbox_that_cannot_be_written(sink, start, tmp_path):
    (tmp_path / "file").write_text("in the way")
    start(outbox=tmp_path / "file")
    heedloop.thumbs_up(HANDLE)
    assert heedloop.flush(5).complete and heedloop.delivery().outbox == "memory"
    assert len(sink.feedback) == 1


def test_serverless_delivers_before_it_returns_and_never_waits_long(sink, start):
    start(serverless=True, serverless_timeout_s=2)
    call("q")
    assert len(sink.spans) == 1
    heedloop.thumbs_up(HANDLE)
    assert len(sink.feedback) == 1
    sink.mode = "hung"
    start(serverless=True, serverless_timeout_s=0.3, read_timeout_s=30)
    assert timed(lambda: call("q")) < 1


def test_configuring_twice_replaces_the_first(sink, start, tmp_path):
    start()
    call("first")
    start(outbox=tmp_path / "second")
    call("second")
    heedloop.flush(5)
    assert {s.input_text for s in sink.spans.values()} == {"first", "second"}
