"""OTLP/gRPC through OpenTelemetry's own exporters into a real server: stored, counted, and refused with the specification's statuses."""

import socket
import uuid
from collections.abc import Iterator

import pytest
from forked_server import ForkedServer
from server_process import ServerProcess, wait_for
from server_requests import span, traces_request

grpc = pytest.importorskip("grpc")
from google.rpc.error_details_pb2 import RetryInfo  # noqa: E402
from google.rpc.status_pb2 import Status  # noqa: E402
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: E402
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
LIMIT = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    """A real server with its gRPC address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {"HEEDLOOP_MAX_BODY_BYTES": str(LIMIT), "HEEDLOOP_MAX_BACKLOG_BYTES": str(8 * LIMIT)}
    one = ForkedServer(tmp_path_factory.mktemp("grpc"), "--grpc-port", str(port), env=env).start()
    yield one, f"127.0.0.1:{port}"
    assert one.stop() == 0


def _call(address: str, body: bytes, path: str = TRACES, **metadata: str) -> bytes:
    with grpc.insecure_channel(address) as channel:
        return channel.unary_unary(path)(body, metadata=tuple(metadata.items()), timeout=30)


def _refused(address: str, body: bytes, **metadata: str) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        _call(address, body, **metadata)
    return caught.value


def _details(error: grpc.RpcError) -> Status:
    return Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_spans_of_the_real_exporter_are_stored(
    server: tuple[ServerProcess, str], compression: grpc.Compression
) -> None:
    one, address = server
    exporter = OTLPSpanExporter(
        endpoint=address,
        insecure=True,
        headers={"authorization": f"Bearer {one.key}"},
        compression=compression,
    )
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("t").start_as_current_span("chat model-a") as made:
        made.set_attribute("gen_ai.operation.name", "chat")
        made.set_attribute("gen_ai.request.model", "model-a")
    trace_id = f"{made.get_span_context().trace_id:032x}"
    provider.shutdown()

    def found() -> bool:
        return trace_id in {c.trace_id for c in one.client().calls(model="model-a").calls}

    wait_for(found, what="the call")


def test_it_is_the_same_ledger(server: tuple[ServerProcess, str]) -> None:
    one, address = server
    before = wait_for(lambda: (led := one.client().ledger()).pending == 0 and led, what="quiet")
    good, bad = span(trace_id=uuid.uuid4().hex), span()
    bad.trace_id = bytes(16)
    answer = _call(
        address, traces_request([good, bad]).SerializeToString(), authorization=f"Bearer {one.key}"
    )
    partial = ExportTraceServiceResponse.FromString(answer).partial_success
    assert (partial.rejected_spans, "ids" in partial.error_message) == (1, True)
    after = wait_for(
        lambda: (led := one.client().ledger()).pending == 0 and led.received > before.received and led,
        what="both",
    )
    grown = {
        n: getattr(after, n) - getattr(before, n) for n in ("received", "stored", "rejected", "duplicate")
    }
    assert grown == {"received": 2, "stored": 1, "rejected": 1, "duplicate": 0}
    for path in (LOGS, METRICS):
        _call(address, b"", path, **{"x-heedloop-key": one.key})


def test_refusals_have_the_statuses_of_the_specification(server: tuple[ServerProcess, str]) -> None:
    one, address = server
    body = traces_request([span()]).SerializeToString()
    reader = one.client().create_key("reader", ["read"]).key
    assert _refused(address, body).code() == grpc.StatusCode.UNAUTHENTICATED
    assert _refused(address, body, authorization="Bearer nonsense").code() == grpc.StatusCode.UNAUTHENTICATED
    assert (
        _refused(address, body, authorization=f"Bearer {reader}").code() == grpc.StatusCode.PERMISSION_DENIED
    )
    unreadable = _refused(address, b"\xff\xff\xff", authorization=f"Bearer {one.key}")
    assert unreadable.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert _details(unreadable).code == 3
    too_large = _refused(address, b"\0" * (LIMIT + 1), authorization=f"Bearer {one.key}")
    assert too_large.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_spent_rate_says_when_to_come_back(tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {"HEEDLOOP_REQUESTS_PER_MINUTE": "1"}
    one = ForkedServer(tmp_path, "--grpc-port", str(port), env=env).start()
    body = traces_request([span()]).SerializeToString()
    error = None
    for _ in range(20):
        try:
            _call(f"127.0.0.1:{port}", body, authorization=f"Bearer {one.key}")
        except grpc.RpcError as err:
            error = err
            break
    assert error is not None
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    wait = RetryInfo()
    assert _details(error).details[0].Unpack(wait)
    assert wait.retry_delay.seconds >= 1
    assert one.stop() == 0
