"""The hand-written OTLP encoder writes what the generated protobuf classes read and would have written."""

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from heedloop import _otlp

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
scalars = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=50),
)
attributes = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.one_of(scalars, st.lists(texts, max_size=4), st.lists(st.integers(0, 9), max_size=4)),
    max_size=8,
)


def finished_spans(values, name="a span", kind=SpanKind.CLIENT):
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("scope", "1.2")
    remote = SpanContext(7, 9, True, TraceFlags(1), TraceState([("a", "b")]))
    with tracer.start_as_current_span("parent", links=[Link(remote, {"l": 1})]) as parent:
        parent.add_event("something", {"x": 1.5})
        with tracer.start_as_current_span(name, kind=kind) as span:
            span.set_attributes(values)
            span.set_status(Status(StatusCode.ERROR, "it failed"))
    return exporter.get_finished_spans()


def encoded(spans):
    groups = [
        (
            s.resource.attributes,
            s.instrumentation_scope.name,
            s.instrumentation_scope.version,
            [_otlp.encode_span(s, s.attributes)],
        )
        for s in spans
    ]
    return ExportTraceServiceRequest.FromString(_otlp.encode_request(groups))


@settings(max_examples=60, deadline=None)
@given(attributes, texts)
def test_every_field_reads_back_as_opentelemetry_writes_it(values, name):
    spans = finished_spans(values, name)
    theirs = [s for g in encode_spans(spans).resource_spans for sc in g.scope_spans for s in sc.spans]
    ours = [s for g in encoded(spans).resource_spans for sc in g.scope_spans for s in sc.spans]
    for mine, other in zip(ours, theirs, strict=True):
        mine.flags = other.flags  # OpenTelemetry 1.45 leaves the sampled bit out; W3C wants it in
        for link, reference in zip(mine.links, other.links, strict=True):
            link.trace_state = reference.trace_state
        if not mine.HasField("status"):  # an empty message is what is meant by none
            assert other.status.code == 0 and not other.status.message
            mine.status.SetInParent()
    assert ours == theirs


def test_resource_and_scope_are_there_once_per_group():
    request = encoded(finished_spans({}))
    group = request.resource_spans[0]
    assert group.scope_spans[0].scope.name == "scope"
    assert group.scope_spans[0].scope.version == "1.2"
    assert {a.key for a in group.resource.attributes} >= {"service.name"}


def test_values_that_otlp_has_no_place_for_do_not_lose_the_span():
    span = finished_spans({})[0]
    body = _otlp.encode_span(
        span,
        {"huge": 2**80, "nothing": None, "nested": {"a": [1, {"b": None}]}, "odd": object, "cut": "\ud800x"},
    )
    request = ExportTraceServiceRequest.FromString(_otlp.encode_request([({}, "s", "1", [body])]))
    found = {a.key: a.value for a in request.resource_spans[0].scope_spans[0].spans[0].attributes}
    assert found["huge"].double_value == float(2**80)
    assert found["nothing"].WhichOneof("value") is None
    assert found["nested"].kvlist_value.values[0].value.array_value.values[0].int_value == 1
    assert found["odd"].string_value == "<class 'object'>"
    assert found["cut"].string_value == "?x"
