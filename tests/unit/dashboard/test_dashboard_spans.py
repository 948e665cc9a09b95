"""A trace's spans as a waterfall, and what a span without messages was given and gave back."""

from datetime import datetime, timedelta, timezone

import pytest

from heedloop.responses import Trace
from heedloop.schema import Call, Message, Target
from heedloop_dashboard.spans import (
    MAX_SPANS,
    answer_span,
    is_tool,
    judged_span,
    payloads,
    sent_messages,
    waterfall,
)

START = datetime(2026, 11, 21, 9, tzinfo=timezone.utc)


def _span(span_id, at, *, parent=None, **more):
    values = {"name": span_id, "duration_ns": 10**9, "operation": "", "parent_span_id": parent, **more}
    return Call("ab" * 16, span_id, START + timedelta(seconds=at), **values)


def _trace(spans, answer_span_id=None):
    return Trace(
        trace_id="ab" * 16, answer_span_id=answer_span_id, spans=spans, feedback=[], snapshots=[], runs=[]
    )


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result"),
        ("input.value", "output.value"),
        ("traceloop.entity.input", "traceloop.entity.output"),
        ("tool_arguments", "tool_response"),
        ("ai.toolCall.args", "ai.toolCall.result"),
        ("mlflow.spanInputs", "mlflow.spanOutputs"),
        ("langfuse.observation.input", "langfuse.observation.output"),
    ],
)
def test_arguments_and_result_are_found_under_every_convention(given, got):
    span = _span("a", 0, operation="execute_tool", attributes={given: '{"order": 7}', got: "späť"})
    assert payloads(span) == [
        {"title": "Arguments", "text": '{\n  "order": 7\n}'},
        {"title": "Result", "text": "späť"},
    ]


def test_a_tool_without_a_result_says_so_and_another_span_without_content_is_silent():
    failed = _span(
        "a", 0, attributes={"gen_ai.tool.name": "lookup", "gen_ai.tool.call.arguments": "[1"}, status="error"
    )
    assert payloads(failed) == [{"title": "Arguments", "text": "[1"}, {"title": "Result", "text": "(empty)"}]
    assert is_tool(_span("a", 0, attributes={"openinference.span.kind": "TOOL"}))
    assert payloads(_span("a", 0, attributes={"http.route": "/x"})) == []
    assert payloads(_span("a", 0, attributes={"input.value": "q"})) == [{"title": "Input", "text": "q"}]


@pytest.mark.parametrize(
    "broken", ["", "[", "7", '["x"]', '[{"role": "user"}]', '[{"role": "user", "parts": [{"type": "text"}]}]']
)
def test_messages_of_a_span_that_is_no_call_are_read_and_broken_ones_are_none(broken):
    one = '[{"role": "user", "parts": [{"type": "text", "content": "hi"}, {"type": "image"}]}]'
    span = _span("a", 0, attributes={"gen_ai.input.messages": one, "gen_ai.output.messages": broken})
    assert sent_messages(span) == [{"role": "user", "text": "hi"}]


def test_attempts_are_numbered_where_the_one_before_failed():
    spans = [
        _span("root", 0),
        *(
            _span(f"t{i}", i, parent="root", name="fetch", status=s)
            for i, s in enumerate(("error", "error", "ok"), 1)
        ),
        _span("u", 5, parent="root", name="fetch"),
        _span("other", 6, parent="root", name="rank", status="error"),
    ]
    found = {r["span_id"]: r["attempt"] for r in waterfall(spans)}
    assert found == {"root": 0, "t1": 1, "t2": 2, "t3": 3, "u": 0, "other": 0}


def test_loops_and_orphans_are_shown_once():
    spans = [
        _span("a", 1, parent="b"),
        _span("b", 2, parent="a"),
        _span("c", 0, parent="gone", error_message="HTTP 503"),
    ]
    rows = waterfall(spans)
    assert [(r["span_id"], r["depth"]) for r in rows] == [("c", 0), ("a", 0), ("b", 1)]
    assert rows[0]["error"] == "HTTP 503"


def test_thousands_of_spans_in_a_chain_are_no_recursion():
    spans = [_span(f"s{i}", 0, parent=f"s{i - 1}" if i else None) for i in range(MAX_SPANS + 10)]
    rows = waterfall(spans)
    assert len(rows) == MAX_SPANS
    assert rows[-1]["depth"] == MAX_SPANS - 1


@pytest.mark.parametrize(
    ("named", "seen", "shown"),
    [("tool", "last", "tool"), (None, "last", "last"), ("unknown", "last", "last"), (None, None, "asked")],
)
def test_a_trace_opens_at_the_span_named_else_at_the_answer_its_user_saw(named, seen, shown):
    message = (Message("assistant", "x"),)
    spans = [
        _span("root", 0),
        _span("asked", 1, input_messages=message, output_messages=message if seen else (), is_answer=True),
        _span("tool", 2),
        _span("last", 3, output_messages=message if seen else ()),
    ]
    assert answer_span(_trace(spans, seen), named).span_id == shown
    assert answer_span(_trace([]), named) is None


def test_feedback_on_the_frameworks_span_around_a_trace_is_about_the_answer_its_user_saw():
    http, failed, last = "a" * 16, "b" * 16, "c" * 16
    spans = [_span(http, 0), _span(failed, 1, parent=http, operation="chat"), _span(last, 2, parent=http)]
    trace = _trace(spans, last)

    def judged(span_id=None):
        return judged_span(trace, Target(trace_id=trace.trace_id, span_id=span_id)).span_id

    assert judged(http) == last
    assert judged() == last
    assert judged(failed) == failed
