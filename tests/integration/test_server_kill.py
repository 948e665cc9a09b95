"""kill -9 at random moments during load, and a store that fails: what was acknowledged is there exactly once, and the ledger balances.

A few kills run in the suite; `HEEDLOOP_KILLS=100 pytest tests/integration/test_server_kill.py -k kill_9` runs the long form:
100 under load twice, and 200 at the start, in quarantine or before a store that answers errors.
"""

import itertools
import os
import random
import threading
import time
import uuid
from pathlib import Path

import pytest
import requests
from forked_server import ForkedServer
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from server_process import ServerProcess, ShimProcess, wait_for
from server_requests import span, thumb, traces_request

from heedloop.client import ApiError
from heedloop.schema import to_json

KILLS = int(os.environ.get("HEEDLOOP_KILLS", "2"))
EXPORTERS = 3
PROTOBUF = {"Content-Type": "application/x-protobuf"}


class Exporter(threading.Thread):
    """Sends spans, logs and feedback, and sends again what was not acknowledged, as an SDK does, until told to stop.

    Every `poison_every`th request has a span named `poison`, which a test may let the store refuse.
    """

    def __init__(self, server: ServerProcess, key: str, num_spans: int = 20, poison_every: int = 0) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.num_spans = num_spans
        self.poison_every = poison_every
        self.headers = {"Authorization": f"Bearer {key}"}
        self.stopping = threading.Event()
        self.spans: set[str] = set()
        self.answered: set[str] = set()
        self.num_poison = 0
        self.feedback: set[str] = set()
        self.refused: list[str] = []

    def run(self) -> None:
        for number in itertools.count(1):
            if self.stopping.is_set():
                return
            spans = [span(trace_id=uuid.uuid4().hex, user__id="load") for _ in range(self.num_spans)]
            attributes = [a for a in spans[0].attributes if a.key != "gen_ai.output.messages"]
            del spans[0].attributes[:]
            spans[0].attributes.extend(attributes)  # its answer comes as a log
            poison = [span()] if self.poison_every and number % self.poison_every == 0 else []
            for one in poison:
                one.name = "poison"
            request = traces_request([*poison, *spans], scope=random.choice(("heedloop", "another")))
            if self._until_acknowledged("/v1/traces", headers=PROTOBUF, data=request.SerializeToString()):
                self.spans |= {s.span_id.hex() for s in spans}
                self.num_poison += len(poison)
            if self._until_acknowledged("/v1/logs", headers=PROTOBUF, data=_answer_log(spans[0])):
                self.answered.add(spans[0].span_id.hex())
            given = thumb(spans[0].trace_id.hex(), spans[0].span_id.hex(), author=uuid.uuid4().hex)
            if self._until_acknowledged("/v1/feedback", json=to_json(given)):
                self.feedback.add(given.id)

    def _until_acknowledged(self, path: str, headers: dict[str, str] | None = None, **body) -> bool:
        while True:
            try:
                response = requests.post(
                    self.server.url + path, headers={**self.headers, **(headers or {})}, timeout=10, **body
                )
                if response.status_code == 200:
                    return True
                if response.status_code not in (429, 503):
                    self.refused.append(f"{response.status_code} {response.text}")
                    return False
            except requests.RequestException:
                pass
            if self.stopping.wait(0.02):
                return False


def _answer_log(of: Span) -> bytes:
    request = ExportLogsServiceRequest()
    record = (
        request.resource_logs.add()
        .scope_logs.add()
        .log_records.add(trace_id=of.trace_id, span_id=of.span_id, time_unix_nano=of.start_time_unix_nano)
    )
    record.event_name = "gen_ai.client.inference.operation.details"
    said = '[{"role": "assistant", "parts": [{"type": "text", "content": "Told by a log."}]}]'
    record.attributes.add(key="gen_ai.output.messages").value.string_value = said
    return request.SerializeToString()


def _stop(exporters: list[Exporter]) -> None:
    for e in exporters:
        e.stopping.set()
    for e in exporters:
        e.join(20)
    assert [r for e in exporters for r in e.refused] == []


def _ledger(client):
    try:
        return client.ledger()
    except ApiError:
        return None


def _everything_is_there_once(server: ServerProcess, exporters: list[Exporter]) -> None:
    client = server.client()
    ledger = wait_for(
        lambda: (led := _ledger(client)) and not led.pending and led, what="the log to be empty"
    )
    assert ledger.received == ledger.stored + ledger.rejected + ledger.duplicate
    assert ledger.rejected == ledger.rejected_reasons.get("not_stored", 0)
    calls = list(client.iter_calls(user_id="load"))
    stored = [c.span_id for c in calls]
    acknowledged = set().union(*(e.spans for e in exporters))
    assert acknowledged <= set(stored), f"{len(acknowledged - set(stored))} acknowledged spans are lost"
    assert len(stored) == len(set(stored)), "spans are there twice"
    assert ledger.stored == len(stored), "the ledger does not say what is there"
    told = {c.span_id for c in calls if c.output_preview == "Told by a log."}
    answered = set().union(*(e.answered for e in exporters))
    assert answered <= told, f"{len(answered - told)} acknowledged logs are lost"
    feedback_ids = [f.id for f in client.iter_feedback()]
    wanted = set().union(*(e.feedback for e in exporters))
    assert wanted <= set(feedback_ids), f"{len(wanted - set(feedback_ids))} acknowledged feedbacks are lost"
    assert len(feedback_ids) == len(set(feedback_ids))
    feedback = ledger.feedback
    assert feedback.stored == len(feedback_ids), "the ledger does not say what feedback is there"
    assert feedback.received == feedback.stored + feedback.rejected + feedback.duplicate


@pytest.mark.parametrize("num_spans", [20, 400], ids=["decoded in the server", "decoded in processes"])
def test_kill_9_during_load_loses_and_doubles_nothing(tmp_path: Path, num_spans: int) -> None:
    server = ForkedServer(tmp_path, env={"HEEDLOOP_DECODERS": "1"}).start()
    exporters = [Exporter(server, server.key, num_spans) for _ in range(EXPORTERS)]
    for e in exporters:
        e.start()
    for _ in range(KILLS):
        time.sleep(random.uniform(0.02, 0.8))  # the moment of the kill is the point, not a wait for something
        server.kill()
        server.start()
    before = sum(len(e.spans) for e in exporters)
    wait_for(lambda: sum(len(e.spans) for e in exporters) > before, what="the exporters to go on")
    _stop(exporters)
    assert sum(len(e.spans) for e in exporters) > 50
    assert sum(len(e.feedback) for e in exporters) > 3
    _everything_is_there_once(server, exporters)
    assert server.stop() == 0


def test_kill_9_at_start_up_in_quarantine_and_before_a_stuck_store(tmp_path: Path) -> None:
    shim = ShimProcess(tmp_path / "clickhouse")
    server = ForkedServer(tmp_path, "--store", shim.dsn).start()
    shim.command("ALTER TABLE spans ADD CONSTRAINT no_poison CHECK name != 'poison'")
    exporters = [Exporter(server, server.key, poison_every=n) for n in (0, 3)]
    for e in exporters:
        e.start()
    for number in range(KILLS):
        shim.fail(999 if number % 2 else 0)
        time.sleep(random.uniform(0.02, 0.8))
        server.kill()
        shim.fail(0)
        server.begin()
        time.sleep(random.uniform(0.0, 1.5))
        server.kill()
        server.start()
    wait_for(lambda: exporters[1].num_poison, what="a span that the store refuses")
    _stop(exporters)
    _everything_is_there_once(server, exporters)
    rejected = server.client().ledger().rejected_reasons["not_stored"]
    assert rejected >= exporters[1].num_poison
    assert len(list((tmp_path / "data/log/quarantine").glob("*.pb"))) == rejected
    assert server.stop() == 0
    shim.stop()


def test_a_store_that_answers_errors_loses_nothing(tmp_path: Path) -> None:
    shim = ShimProcess(tmp_path / "clickhouse")
    server = ForkedServer(tmp_path, "--store", shim.dsn).start()
    exporter = Exporter(server, server.key)
    exporter.start()
    wait_for(lambda: exporter.spans, what="the first spans")
    for code in (241, 243, 252, 999):  # memory limit, disk full, too many parts, no keeper
        shim.fail(code)
        assert requests.get(server.url + "/readyz", timeout=10).status_code == 503
        told = requests.post(
            server.url + "/v1/feedback", json=to_json(thumb("ab" * 16)), headers=server.headers(), timeout=10
        )
        assert told.status_code == 503
        assert told.headers["Retry-After"]
        shim.fail(0)
        so_far = len(exporter.spans)
        wait_for(lambda n=so_far: len(exporter.spans) > n, what="spans after the outage")
    _stop([exporter])
    _everything_is_there_once(server, [exporter])
    assert server.stop() == 0
    shim.stop()


def test_spans_are_taken_while_the_store_is_away(tmp_path: Path) -> None:
    shim = ShimProcess(tmp_path / "clickhouse")
    server = ForkedServer(tmp_path, "--store", shim.dsn).start()
    assert (
        server.client().me().project == "default"
    )  # the key is known now; without the store it could not be checked
    shim.fail(999)
    trace_id = uuid.uuid4().hex
    body = traces_request([span(trace_id=trace_id)]).SerializeToString()
    answer = requests.post(
        server.url + "/v1/traces",
        data=body,
        headers={**server.headers(), "Content-Type": "application/x-protobuf"},
        timeout=10,
    )
    assert answer.status_code == 200
    server.kill()  # and the log outlives the process
    shim.fail(0)
    server.start()
    wait_for(lambda: [c for c in server.client().calls().calls if c.trace_id == trace_id], what="the span")
    server.stop()
    shim.stop()


def test_a_graceful_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    server = ForkedServer(tmp_path, env={"HEEDLOOP_SEAL_AFTER_S": "60"}).start()
    body = traces_request([span() for _ in range(30)]).SerializeToString()
    requests.post(
        server.url + "/v1/traces",
        data=body,
        headers={**server.headers(), "Content-Type": "application/x-protobuf"},
        timeout=10,
    )
    assert server.client().ledger().pending == 30
    assert server.stop() == 0
    assert list((tmp_path / "data" / "log").glob("*.log")) == []
    server.start()
    assert server.client().ledger().stored == 30
    server.stop()


def test_a_second_server_on_the_folder_says_so(tmp_path: Path) -> None:
    import subprocess
    import sys

    server = ForkedServer(tmp_path).start()
    command = [
        sys.executable,
        "-m",
        "heedloop_cli.main",
        "serve",
        "--data",
        str(tmp_path / "data"),
        "--port",
        "0",
    ]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert "another server uses" in second.stderr
    assert "clickhouse://" in second.stderr
    taken = subprocess.run([*command[:-1], str(server.port)], capture_output=True, text=True, timeout=60)
    assert taken.returncode == 1
    assert "cannot listen" in taken.stderr
    server.stop()
