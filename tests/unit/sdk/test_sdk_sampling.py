"""Head sampling keeps its probability; the tail buffer brings whole traces back, and stays within its memory."""

import contextlib
import random

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace._sampling_experimental._trace_state import OtelTraceState
from opentelemetry.sdk.trace._sampling_experimental._util import calculate_threshold
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from opentelemetry.trace.propagation import set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import heedloop
from heedloop import _guard, testing
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
        assert outer.with_handle("q").handle.endswith("-00")
    assert seen.spans == []


def test_feedback_brings_the_whole_trace_back_with_its_weight():
    with testing.recording(sample_rate=1e-9) as seen:
        outer("q0")
        heedloop.thumbs_up(outer.with_handle("q1").handle)
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
        heedloop.keep(outer.with_handle("q").handle)
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


def incoming(tracestate="", flags="01"):
    """The context of a request from another service."""
    headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-{flags}"}
    if tracestate:
        headers["tracestate"] = tracestate
    return TraceContextTextMapPropagator().extract(headers)


@contextlib.contextmanager
def within(given):
    token = context.attach(given)
    try:
        yield
    finally:
        context.detach(token)


def test_the_probability_goes_out_with_the_trace():
    with testing.recording(sample_rate=0.5):
        carriers = []

        @heedloop.trace(name="call")
        def call(q):
            with heedloop.span("step"):
                headers = {}
                TraceContextTextMapPropagator().inject(headers)
                carriers.append(headers)

        for _ in range(64):
            call("q")
    sampled = [c for c in carriers if c["traceparent"].endswith("-01")]
    unsampled = [c for c in carriers if c["traceparent"].endswith("-00")]
    assert sampled and unsampled
    assert {c["tracestate"] for c in sampled} == {"ot=th:8"}  # OpenTelemetry's own example for one half
    assert all("tracestate" not in c for c in unsampled)
    ours = OtelTraceState.parse(TraceState.from_header([sampled[0]["tracestate"]]))
    assert ours.threshold == calculate_threshold(0.5)
    for c in carriers:  # a service behind this one that decides by the threshold decides the same
        assert (int(c["traceparent"][21:35], 16) >= ours.threshold) == c["traceparent"].endswith("-01")


def test_a_service_behind_another_records_with_the_others_probability():
    for tracestate, rate, expected in [
        ("ot=th:e6666666666668", 1.0, 0.1),
        ("vendor=x,ot=rv:abcdef01234567;th:c", 0.9, 0.25),
        ("ot=th:0", 0.5, None),  # everything is recorded there, so this is no sample either
        ("ot=th:xyz", 0.5, 0.5),
        ("", 0.5, 0.5),
        ("", 1.0, None),
    ]:
        with testing.recording(sample_rate=rate) as seen, within(incoming(tracestate)):
            inner("q")
        found = seen.spans[0].attributes.get("heedloop.sampling.probability")
        assert found == (None if expected is None else pytest.approx(expected)), tracestate


def test_an_unsampled_parent_is_obeyed_and_its_trace_can_be_brought_back():
    with testing.recording(options=heedloop.Options(follow_sampling=True)) as seen:
        with within(incoming(flags="00")):
            _, handle = inner.with_handle("q")
            assert seen.spans == []
            heedloop.thumbs_up(handle)
        assert seen.spans[0].attributes["heedloop.sampling.probability"] == 1.0
        assert seen.spans[0].attributes["heedloop.sampling.kept"] == "feedback"


def test_other_instrumentations_spans_agree():
    with testing.recording(sample_rate=0.5) as seen:
        tracer = trace.get_tracer("other")
        contexts = []
        for _ in range(32):
            with tracer.start_as_current_span("client") as span:
                contexts.append(span.get_span_context())
                inner("q")
    for c in contexts:
        assert c.trace_state.get("ot") == ("th:8" if c.trace_flags.sampled else None)
    assert seen.spans and {s.attributes["heedloop.sampling.probability"] for s in seen.spans} == {0.5}


def test_an_unsampled_parent_of_unknown_probability_loses_no_answer(caplog):
    _guard._last_said.clear()
    with testing.recording() as seen, within(incoming(flags="00")):
        inner("q")
        with trace.get_tracer("web").start_as_current_span("GET /chat"):
            inner("q")
    assert [s.attributes.get("heedloop.sampling.probability") for s in seen.spans] == [None, None]
    assert "follow_sampling" in caplog.text


def test_coverage_under_unsampled_parents_counts_by_the_rate_of_heedloop():
    with testing.recording(sample_rate=0.5) as seen:
        for i in range(64):
            parent = SpanContext(i << 50 | 1, 2, True, TraceFlags(0))
            with within(set_span_in_context(NonRecordingSpan(parent))):
                inner("q")
    assert 0 < len(seen.spans) < 64
    assert {s.attributes["heedloop.sampling.probability"] for s in seen.spans} == {0.5}


def test_a_stated_probability_of_an_unsampled_parent_is_followed():
    with testing.recording() as seen, within(incoming("ot=th:c", flags="00")):
        inner("q")
    assert seen.spans == []
