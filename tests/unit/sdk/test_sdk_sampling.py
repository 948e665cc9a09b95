"""Head sampling keeps its probability; the tail buffer brings whole traces back, and stays within its memory."""

import contextlib
import random

import heedloop
from heedloop import testing
from heedloop._sampling import Sampler, TailBuffer


def test_the_share_is_kept_and_the_choice_is_the_traces():
    rng = random.Random(7)
    ids = [rng.getrandbits(128) for _ in range(20_000)]
    sampler = Sampler(0.1)
    chosen = [i for i in ids if sampler.chooses(i)]
    assert 0.09 < len(chosen) / len(ids) < 0.11
    assert all(Sampler(0.5).chooses(i) for i in chosen)  # a service that keeps more keeps these too
    assert all(Sampler(1.0).chooses(i) for i in ids)


@heedloop.trace(name="outer")
def outer(q, fail=False):
    with heedloop.span("step"):
        inner(q)
    if fail:
        raise ValueError("no")
    return "x"


@heedloop.trace(name="inner")
def inner(q):
    return "y"


def test_unsampled_calls_stay_home():
    with testing.recording(sample_rate=1e-9) as seen:
        outer("q")
        assert heedloop.handle().endswith("-00")
    assert seen.spans == []


def test_feedback_brings_the_whole_trace_back_with_its_weight():
    with testing.recording(sample_rate=1e-9) as seen:
        outer("q0")
        outer("q1")
        heedloop.thumbs_up(heedloop.handle())
        assert {s.name for s in seen.spans} == {"outer", "step", "inner"}
    assert len({s.trace_id for s in seen.spans}) == 1
    for span in seen.spans:
        assert span.attributes["heedloop.sampling.probability"] == 1.0
        assert span.attributes["heedloop.sampling.kept"] == "feedback"


def test_feedback_given_inside_brings_back_what_comes_later():
    with testing.recording(sample_rate=1e-9) as seen:

        @heedloop.trace(name="call")
        def call(q):
            inner(q)
            heedloop.thumbs_up()
            inner(q)

        call("q")
    assert sorted(s.name for s in seen.spans) == ["call", "inner", "inner"]


def test_errors_and_keep_bring_traces_back():
    with testing.recording(sample_rate=1e-9) as seen:
        with contextlib.suppress(ValueError):
            outer("q", fail=True)
        outer("q")
        heedloop.keep()
    kept = {s.attributes["heedloop.sampling.kept"] for s in seen.spans if s.name == "outer"}
    assert kept == {"error", "kept"}
    assert len(seen.spans) == 6


def test_sampled_calls_say_their_probability():
    with testing.recording(sample_rate=0.5) as seen:
        for _ in range(40):
            inner("q")
    assert 5 <= len(seen.spans) <= 35
    assert {s.attributes["heedloop.sampling.probability"] for s in seen.spans} == {0.5}
    with testing.recording() as seen:
        inner("q")
    assert "heedloop.sampling.probability" not in seen.spans[0].attributes


def test_memory_is_bounded_oldest_first():
    tail = TailBuffer(100_000, 900)
    for trace_id in range(1000):
        tail.add(trace_id, "span", 1000)
    assert tail.num_expired == 1000 - 40
    assert tail.keep(0, "feedback") == []
    assert tail.keep(999, "feedback") == [("span", 1000)]


def test_age_is_bounded():
    tail = TailBuffer(10**9, max_age_s=-1)
    tail.add(1, "span", 10)
    tail.expire()
    assert tail.num_expired == 1 and tail.keep(1, "kept") == []
