"""Beside OpenTelemetry: as the only set-up, on a set-up that exists, and with other people's spans inside our calls."""

import json
import subprocess
import sys
import textwrap
from importlib.util import find_spec

import pytest
from opentelemetry import propagate
from opentelemetry import trace as trace_api
from opentelemetry.context import attach, detach

import heedloop
from heedloop import testing


def llm_span(name="chat m", **attributes):
    with trace_api.get_tracer("some.instrumentation", "1.0").start_as_current_span(name) as span:
        span.set_attributes({"gen_ai.operation.name": "chat", **attributes})


def test_foreign_spans_inside_a_call_are_no_answers_and_tell_it_their_model():
    with testing.recording() as seen:

        @heedloop.trace(name="call")
        def call(q):
            heedloop.set(user="u", session="s")
            llm_span(
                **{"gen_ai.request.model": "m", "gen_ai.response.model": "m-2", "gen_ai.provider.name": "p"}
            )
            return "x"

        call("q")
        llm_span("chat outside")
    inner, outer = seen.span("chat m"), seen.span("call")
    assert inner.attributes["heedloop.answer"] is False
    assert inner.parent_span_id == outer.span_id and inner.scope == "some.instrumentation"
    assert inner.attributes["user.id"] == "u" and inner.attributes["gen_ai.conversation.id"] == "s"
    assert outer.attributes["gen_ai.request.model"] == "m"
    assert outer.attributes["gen_ai.response.model"] == "m-2"
    assert outer.attributes["gen_ai.provider.name"] == "p"
    assert "heedloop.answer" not in seen.span("chat outside").attributes
    assert inner.resource["service.name"] == "test"


def test_openinference_and_older_instrumentations_tell_their_model_too():
    for sent in (
        {"llm.model_name": "m-2", "llm.provider": "p", "gen_ai.operation.name": "chat"},
        {"gen_ai.response.model": "m-2", "gen_ai.system": "p"},
    ):
        with testing.recording() as seen:

            @heedloop.trace(name="call")
            def call(q, sent=sent):
                llm_span("embed", **{"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "e-1"})
                llm_span(**sent)

            call("q")
        found = seen.span("call").attributes
        assert (found["gen_ai.response.model"], found["gen_ai.provider.name"]) == ("m-2", "p")
        assert "gen_ai.request.model" not in found


def test_context_reaches_foreign_spans_outside_of_calls():
    with testing.recording() as seen, heedloop.context(user="u", tags=["t"]):
        llm_span()
    assert seen.span("chat m").attributes["user.id"] == "u"
    assert list(seen.span("chat m").attributes["heedloop.tags"]) == ["t"]


def test_a_call_under_a_foreign_span_joins_its_trace_and_is_the_answer():
    with testing.recording() as seen:

        @heedloop.trace(name="call")
        def call(q):
            return "x"

        with trace_api.get_tracer("web").start_as_current_span("GET /") as server:
            call("q")
    assert seen.span("call").parent_span_id == f"{server.get_span_context().span_id:016x}"
    assert seen.span("call").attributes["heedloop.answer"] is True


def test_w3c_propagation_in_and_out():
    with testing.recording() as seen:
        headers = {}

        @heedloop.trace(name="call")
        def call(q):
            propagate.inject(headers)

        token = attach(propagate.extract({"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}))
        call("q")
        detach(token)
    span = seen.span("call")
    assert span.trace_id == "1" * 32 and span.parent_span_id == "2" * 16
    assert headers["traceparent"] == f"00-{span.trace_id}-{span.span_id}-01"


def test_the_callers_sampling_decision_is_followed():
    with testing.recording(sample_rate=1e-9) as seen:

        @heedloop.trace(name="call")
        def call(q):
            llm_span()

        token = attach(propagate.extract({"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}))
        call("q")
        detach(token)
        call("q")
    assert sorted(s.name for s in seen.spans) == ["call", "chat m"]


def test_foreign_spans_of_unsampled_traces_come_back_with_the_feedback():
    with testing.recording(sample_rate=1e-9) as seen:

        @heedloop.trace(name="call")
        def call(q):
            llm_span()

        _, handle = call.with_handle("q")
        heedloop.thumbs_down(handle)
    assert sorted(s.name for s in seen.spans) == ["call", "chat m"]


def test_foreign_content_is_redacted_and_stays_json():
    options = heedloop.Options(redact=heedloop.Redactor(), max_value_chars=500)
    content = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "hi\njo@example.com"}]}])
    with testing.recording(options=options) as seen:
        llm_span(**{"gen_ai.input.messages": content, "big": "x" * 1000, "gen_ai.request.model": "a@b.cd"})
    attributes = seen.span("chat m").attributes
    assert json.loads(attributes["gen_ai.input.messages"])[0]["parts"][0]["content"] == "hi\n[email]"
    assert attributes["big"] == "x" * 500 and attributes["heedloop.truncated"] == ["big"]
    assert attributes["gen_ai.request.model"] == "a@b.cd"


def in_a_fresh_process(code):
    start = """
    import heedloop, json
    from opentelemetry import trace as trace_api
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from heedloop import testing

    @heedloop.trace(name="call")
    def call(q):
        heedloop.set(model="m")
        with heedloop.span("step"):
            with trace_api.get_tracer("lib").start_as_current_span("foreign"):
                pass
        return "x"
    """
    text = textwrap.dedent(start) + textwrap.dedent(code)
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)


CHECK = """
theirs = {s.name: s for s in exporter.get_finished_spans()}
assert set(theirs) == {"call", "step", "foreign"}, theirs
assert theirs["call"].attributes["heedloop.answer"] is True
assert "content" in theirs["call"].attributes["gen_ai.input.messages"]
assert theirs["foreign"].attributes["heedloop.answer"] is False
assert theirs["foreign"].parent.span_id == theirs["step"].context.span_id
ours = {s.name: s for s in seen.spans}
assert set(ours) == {"call", "step", "foreign"} and len(seen.spans) == 3
for name, span in ours.items():
    assert span.span_id == f"{theirs[name].context.span_id:016x}"
assert ours["call"].input_text == "q" and ours["call"].output_text == "x"
assert handle == ours["call"].handle
"""


def test_on_a_set_up_that_exists_both_see_the_same_spans():
    in_a_fresh_process(
        """
        exporter = InMemorySpanExporter()
        provider = TracerProvider(resource=Resource.create({"service.name": "theirs", "team": "t"}))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace_api.set_tracer_provider(provider)
        for _ in range(2):  # a second start does not export twice
            exporter.clear()
            with testing.recording() as seen:
                _, handle = call.with_handle("q")
        """
        + textwrap.indent(CHECK, "        ")
        + """
        assert ours["call"].resource["service.name"] == "test"
        assert ours["call"].resource["team"] == "t"
        """
    )


def test_a_processor_that_is_added_later_sees_our_spans_too():
    in_a_fresh_process(
        """
        exporter = InMemorySpanExporter()
        with testing.recording() as seen:
            trace_api.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
            _, handle = call.with_handle("q")
        """
        + textwrap.indent(CHECK, "        ")
    )


def test_spans_can_be_left_to_a_collector():
    in_a_fresh_process(
        """
        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace_api.set_tracer_provider(provider)
        with testing.recording(options=heedloop.Options(export_spans=False)) as seen:
            heedloop.thumbs_up(call.with_handle("q").handle)
        assert len(exporter.get_finished_spans()) == 3
        assert seen.spans == [] and len(seen.feedback) == 1
        """
    )


def test_only_spans_about_llms_and_inside_calls_are_taken_unless_all_are_asked_for():
    def run(options):
        with testing.recording(options=options) as seen:
            tracer = trace_api.get_tracer("opentelemetry.instrumentation.fastapi")
            with tracer.start_as_current_span("GET /chat"):
                llm_span()

                @heedloop.trace(name="call")
                def call(q):
                    with tracer.start_as_current_span("inside"):
                        return q

                call("q")
        return {s.name for s in seen.spans}

    assert run(heedloop.Options()) == {"chat m", "call", "inside"}
    assert run(heedloop.Options(all_spans=True)) == {"GET /chat", "chat m", "call", "inside"}


def test_opentelemetrys_own_switch_and_resource_are_read(monkeypatch):
    from heedloop._runtime import default_resource, state

    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop,team=a%20b, region = eu,broken")
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    found = default_resource()
    assert (found["service.name"], found["team"], found["region"]) == ("shop", "a b", "eu")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    heedloop.configure("http://127.0.0.1:1", "hl_0123456789ab_" + "k" * 43)
    assert state.runtime is None and heedloop.handle() == "" and heedloop.thumbs_up("", author="u")


def test_threads_that_a_call_starts_go_on_inside_it_where_that_is_asked_for():
    import threading
    from concurrent.futures import ThreadPoolExecutor

    from heedloop._threads import carry_into_threads

    @heedloop.trace(name="inner")
    def inner(q):
        return q

    @heedloop.trace(name="outer")
    def outer(q):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(inner, q).result()
        thread = threading.Thread(target=inner, args=(q,))
        thread.start()
        thread.join()

    try:
        for threads, num_answers in ((True, 1), (False, 3)):
            with testing.recording(options=heedloop.Options(threads=threads)) as seen:
                outer("q")
            assert len(seen.answers) == num_answers and len(seen.spans) == 3
    finally:
        carry_into_threads(always=False)


def test_what_the_samplers_of_the_app_leave_out_is_recorded_by_our_own_rate():
    in_a_fresh_process(
        """
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
        exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=ALWAYS_OFF)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace_api.set_tracer_provider(provider)
        with testing.recording() as seen:
            _, handle = call.with_handle("q")
            heedloop.thumbs_up(handle)
        assert exporter.get_finished_spans() == ()
        ours = {s.name: s for s in seen.spans}
        assert set(ours) == {"call", "step"} and handle == ours["call"].handle
        assert ours["step"].parent_span_id == ours["call"].span_id and ours["call"].is_answer
        with testing.recording(options=heedloop.Options(follow_sampling=True)) as seen:
            call("q")
        assert seen.spans == []
        with testing.recording(options=heedloop.Options(export_spans=False)) as seen:
            call("q")
        assert seen.spans == []
        """
    )


def test_a_set_up_that_comes_after_ours_is_told_plainly():
    in_a_fresh_process(
        """
        import logging
        lines = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())
        logging.getLogger("heedloop").addHandler(handler)
        with testing.recording() as seen:
            trace_api.set_tracer_provider(TracerProvider())
            call("q")
        assert any("call heedloop.configure() after it" in line for line in lines), lines
        assert {s.name for s in seen.spans} == {"call", "step", "foreign"}
        """
    )


@pytest.mark.parametrize("first", ["logfire", "heedloop"])
def test_logfire_shares_spans_or_is_told_plainly(first):
    if find_spec("logfire") is None:
        pytest.skip("logfire is not installed")
    in_a_fresh_process(
        f"""
        import logfire
        exporter = InMemorySpanExporter()
        processor = SimpleSpanProcessor(exporter)
        def set_up():
            logfire.configure(send_to_logfire=False, console=False, additional_span_processors=[processor])
        if {first!r} == "logfire":
            set_up()
        with testing.recording() as seen:
            if {first!r} == "heedloop":
                set_up()
            with logfire.span("request"):
                _, handle = call.with_handle("q")
        assert [s.handle for s in seen.answers] == [handle]
        theirs = {{s.name for s in exporter.get_finished_spans()}}
        assert ("call" in theirs) == ({first!r} == "logfire"), theirs
        """
    )
