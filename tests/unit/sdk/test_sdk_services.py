"""One answer over several services: the trace and the answer's handle go along, and nothing behind counts as another answer."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry import baggage, context, propagate, trace

import heedloop
from heedloop import testing


@contextlib.contextmanager
def behind(headers):
    """The service that gets these headers: nothing of the caller's context but what they carry."""
    token = context.attach(context.Context())
    arrived = context.attach(propagate.extract(headers))
    try:
        yield
    finally:
        context.detach(arrived)
        context.detach(token)


@heedloop.trace(name="front")
def front(serve, headers):
    propagate.inject(headers)
    with behind(headers):
        serve()
    return "x"


@heedloop.trace(name="back")
def back(q):
    handles.append(heedloop.handle())
    return "y"


handles: list[str] = []


@pytest.fixture(autouse=True)
def no_handles():
    handles.clear()


def test_a_decorated_call_behind_is_a_part_of_the_answer():
    with testing.recording() as seen:
        front(lambda: back("q"), {})
    outer, inner = seen.span("front"), seen.span("back")
    assert inner.trace_id == outer.trace_id and inner.parent_span_id == outer.span_id
    assert [s.name for s in seen.answers] == ["front"]
    assert handles == [outer.handle] and inner.attributes["heedloop.answer"] is False


def test_feedback_given_behind_is_about_the_answer():
    def serve():
        _, handle = back.with_handle("q")
        heedloop.thumbs_down(handle, author="u")  # after the call, as in a request handler

    with testing.recording() as seen:
        front(serve, {})
    seen.assert_feedback("rating", about=seen.span("front").handle, value=0)


def test_other_instrumentations_spans_behind_are_no_answers():
    def serve():
        with trace.get_tracer("llm").start_as_current_span("chat") as span:
            span.set_attribute("gen_ai.operation.name", "chat")

    with testing.recording() as seen:
        front(serve, {})
    assert seen.span("chat").attributes["heedloop.answer"] is False


def test_it_goes_on_through_a_service_in_the_middle():
    def middle():
        headers = {}
        back("middle")
        with trace.get_tracer("web").start_as_current_span("GET"):
            propagate.inject(headers)
        with behind(headers):
            back("last")

    with testing.recording() as seen:
        front(middle, {})
    assert handles == [seen.span("front").handle] * 2


@pytest.mark.parametrize(
    "carried",
    ["", "nonsense", "00-" + "c" * 32 + "-" + "b" * 16 + "-01", "00-" + "a" * 32 + "-" + "b" * 16 + "-01;x"],
)
def test_a_handle_of_another_trace_or_none_makes_an_answer(carried):
    headers = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    if carried:
        headers["baggage"] = f"heedloop.handle={carried.replace(';', '%3B')}"
    with testing.recording() as seen, behind(headers):
        back("q")
    assert [s.name for s in seen.answers] == ["back"]


def test_an_external_id_begins_a_trace_and_an_answer_of_its_own():
    def serve():
        with heedloop.context(external_id="message-1"):
            back("q")

    with testing.recording() as seen:
        front(serve, {})
    assert sorted(s.name for s in seen.answers) == ["back", "front"]


def test_the_apps_own_baggage_stays_and_ours_ends_with_the_answer():
    headers = {}
    with testing.recording():
        token = context.attach(baggage.set_baggage("tenant", "t1"))
        front(lambda: None, headers)
        assert dict(baggage.get_all()) == {"tenant": "t1"}
        context.detach(token)
    assert "tenant=t1" in headers["baggage"] and "heedloop.handle=00-" in headers["baggage"]


def test_it_works_on_a_provider_of_the_apps():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from opentelemetry import trace; from opentelemetry.sdk.trace import TracerProvider\n"
        "trace.set_tracer_provider(TracerProvider())\n"
        "import test_sdk_services as t\n"
        "t.test_a_decorated_call_behind_is_a_part_of_the_answer()\n"
        "t.test_feedback_given_behind_is_about_the_answer()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
