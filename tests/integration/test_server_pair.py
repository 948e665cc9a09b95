"""Two servers on one ClickHouse: what two clients say of one provider call, each to another server at the same moment, is one call."""

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from forked_server import ForkedServer
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from server_process import ServerProcess, ShimProcess, wait_for
from server_requests import span, traces_request

NUM_RACES = int(os.environ.get("HEEDLOOP_TEST_RACES", "12"))
"""Provider calls of each kind."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ServerProcess]]:
    folder: Path = tmp_path_factory.mktemp("pair")
    shim = ShimProcess(folder / "clickhouse")
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    one = ForkedServer(folder / "one", "--store", shim.dsn).start()
    two = ForkedServer(folder / "two", "--store", shim.dsn).start()
    yield [one, two]
    for server in (one, two):
        server.stop()
    shim.stop()


def post(server: ServerProcess, key: str, spans: list[Span], scope: str) -> int:
    body = traces_request(spans, scope=scope).SerializeToString()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-protobuf"}
    return requests.post(server.url + "/v1/traces", data=body, headers=headers, timeout=60).status_code


def foreign(trace_id: str, **attributes: str | int | bool) -> Span:
    """A provider call as another instrumentation sends it."""
    one = span(trace_id=trace_id, **attributes)
    others = [a for a in one.attributes if a.key != "heedloop.answer"]
    del one.attributes[:]
    one.attributes.extend(others)
    return one


def test_what_comes_late_through_another_server_is_erased_too(pair: list[ServerProcess]) -> None:
    """A span of a trace through one server at the moment at which the other erases the trace, before or after it."""
    one, two = pair
    traces = [uuid.uuid4().hex for _ in range(NUM_RACES)]

    def race(trace_id: str) -> str:
        with ThreadPoolExecutor(2) as clients:
            posted = clients.submit(post, two, one.key, [span(trace_id=trace_id)], "app")
            erased = clients.submit(one.client().erase, trace_id=trace_id)
            assert posted.result() == 200
            return erased.result().erasure_id

    with ThreadPoolExecutor(4) as races:
        erasures = list(races.map(race, traces))
    client = two.client(one.key)
    wait_for(lambda: not client.ledger().pending, what="what was posted to be loaded")
    for erasure_id in erasures:
        wait_for(
            lambda e=erasure_id: not any(client.erasure(e).left.values()), what="nothing of it to be left"
        )
    assert not {c.trace_id for c in client.iter_calls()} & set(traces)


def test_one_provider_call_through_two_servers_is_one_call(pair: list[ServerProcess]) -> None:
    one, two = pair
    key, client = one.key, one.client()
    shared = {uuid.uuid4().hex: f"chatcmpl-{i}" for i in range(NUM_RACES)}  # one response id
    nested = [
        uuid.uuid4().hex for _ in range(NUM_RACES)
    ]  # a client's call around the instrumentation's, without ids

    def race(trace_id: str) -> list[int]:
        response = {"gen_ai__response__id": shared[trace_id]} if trace_id in shared else {}
        outer, inner = foreign(trace_id, **response), foreign(trace_id, **response)
        if trace_id not in shared:
            inner.parent_span_id = outer.span_id
        with ThreadPoolExecutor(2) as clients:
            first = clients.submit(post, one, key, [outer], "openai")
            second = clients.submit(post, two, key, [inner], "openinference")
            return [first.result(), second.result()]

    with ThreadPoolExecutor(4) as races:
        for statuses in races.map(race, [*shared, *nested]):
            assert statuses == [200, 200]
    traces = {*shared, *nested}
    wait_for(lambda: client.ledger().stored >= 2 * len(traces), what="both spans of every trace")

    def calls_of_traces() -> dict[str, int]:
        found = dict.fromkeys(traces, 0)
        for call in client.iter_calls():
            found[call.trace_id] += 1
        return found

    wait_for(lambda: set(calls_of_traces().values()) == {1}, what="one call in every trace", timeout_s=60)
    assert all(len(client.trace(t).spans) == 2 for t in traces)
