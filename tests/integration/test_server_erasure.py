"""Erasure down to the bytes: a planted word is looked for in every file of a real server's data folder, decompressed, before and after.

It must be found before, in the files of every table that holds a person's words; otherwise the search would prove nothing.
"""

import json
import os
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

import lz4.block
import pytest
import requests
from fastapi.testclient import TestClient
from forked_server import ForkedServer
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from server_process import ServerProcess, wait_for
from server_requests import span, traces_request
from temporary_stores import temporary_store

from heedloop.client import Client, NotFound
from heedloop.schema import Author, Call, Feedback, Target, utc_now
from heedloop_server.app import create_app
from heedloop_server.settings import Settings
from heedloop_server.store.admin.erasure import KEPT, ErasureUpkeep, erase, erased_tables, verify
from heedloop_server.store.spans import insert_calls

try:
    from compression import zstd  # Python 3.14
except ImportError:
    from backports import zstd

_NONE, _LZ4, _ZSTD = 0x02, 0x82, 0x90
_HEADER = struct.Struct("<BII")
_CHECKSUM = 16


def _blocks(raw: bytes) -> Iterator[bytes]:
    """The decompressed blocks of one of ClickHouse's compressed files; ends at what is none."""
    at = 0
    while at + _CHECKSUM + _HEADER.size <= len(raw):
        method, size, size_after = _HEADER.unpack_from(raw, at + _CHECKSUM)
        first, end = at + _CHECKSUM + _HEADER.size, at + _CHECKSUM + size
        if end > len(raw) or size < _HEADER.size or size_after > 1 << 28:
            return
        if method == _ZSTD:
            yield zstd.decompress(raw[first:end])
        elif method == _LZ4:
            yield lz4.block.decompress(raw[first:end], uncompressed_size=size_after)
        elif method == _NONE:
            yield raw[first:end]
        at = end


def _files_with(folder: Path, needle: bytes) -> set[Path]:
    """Every file of a folder that holds the word, as it lies there or decompressed."""
    found = set()
    for path in (
        Path(at, name) for at, _, names in os.walk(folder) for name in names
    ):  # which skips folders that leave
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            continue  # a part that is leaving
        if needle in raw or any(needle in block for block in _blocks(raw)):
            found.add(path)
    return found


def _log(trace_id: str, span_id: str, text: str) -> bytes:
    """A log record with the content of a call."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.trace_id, record.span_id = bytes.fromhex(trace_id), bytes.fromhex(span_id)
    record.event_name = "gen_ai.user.message"
    record.attributes.add(key="gen_ai.system").value.string_value = "openai"
    record.body.kvlist_value.values.add(key="content").value.string_value = text
    return request.SerializeToString()


def _plant(server: ServerProcess, word: str, user: str) -> tuple[str, str]:
    """Everything that can hold a person's words holds the word; returns the call's ids."""
    client, (trace_id, span_id) = server.client(), (uuid.uuid4().hex, uuid.uuid4().hex[:16])
    spans = [
        span(
            trace_id=trace_id,
            span_id=span_id,
            question=f"I am {word}",
            answer=f"Hello {word}",
            user__id=user,
            heedloop__metadata__mail=word,
        )
    ]
    client.send_otlp(traces_request(spans).SerializeToString())
    client.send_otlp(_log(trace_id, span_id, f"said {word}"), signal="logs")
    wait_for(lambda: _is_there(client, trace_id), what="the call")
    target = Target(trace_id=trace_id, span_id=span_id)
    said = [
        Feedback(
            kind="rating", target=target, value=0, comment=f"from {word}", author=Author("end_user", user)
        ),
        Feedback(
            kind="correction", target=target, correction=f"No, {word}.", author=Author("annotator", "bob")
        ),
    ]
    assert client.send_feedback(said).stored == 2
    changed = Feedback(
        kind="rating", target=target, value=1, comment=f"again {word}", author=Author("end_user", user)
    )
    assert client.send_feedback([changed]).replaced == 1
    client.create_snapshot(f"with {uuid.uuid4().hex}")
    _review(client, word, trace_id, span_id)
    client.quality_by("metadata.mail")
    aside = server.folder / "data/log/quarantine"
    aside.mkdir(parents=True, exist_ok=True)
    (aside / "1.pb").write_bytes(traces_request(spans).SerializeToString())
    (aside / "2.pb").write_bytes(traces_request([span(answer="somebody else")]).SerializeToString())
    return trace_id, span_id


def _is_there(client: Client, trace_id: str) -> bool:
    try:
        return bool(client.trace(trace_id).spans)
    except NotFound:
        return False


def _review(client: Client, word: str, trace_id: str, span_id: str) -> None:
    """A queue with the call, judged with the word, and a draft with it."""
    questions = [{"name": "why", "kind": "text", "title": "Why?"}]
    queue = client._send("POST", "/v1/review/queues", {"name": "q", "questions": questions})
    path = f"/v1/review/queues/{queue['queue_id']}"
    items = [[{"trace_id": trace_id, "span_id": span_id}]]
    client._send("POST", f"{path}/items", {"source": "targets", "items": items})
    held = client._send("POST", f"{path}/next", {"count": 1})["assignments"][0]["assignment_id"]
    client._send("PUT", f"/v1/review/assignments/{held}/draft", {"answers": {"why": f"draft {word}"}})
    client._send(
        "POST",
        f"/v1/review/assignments/{held}/submit",
        {"answers": {"why": f"because {word}"}, "duration_ms": 5},
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server that lets replaced parts go after a second."""
    env = {"HEEDLOOP_ERASED_PARTS_S": "1"}
    one = ForkedServer(tmp_path_factory.mktemp("erasure"), env=env).start()
    yield one
    assert one.stop() == 0


@pytest.mark.slow
def test_nothing_of_an_erased_person_is_left_in_any_byte(server: ServerProcess) -> None:
    client = server.client()
    word, user = f"planted{uuid.uuid4().hex}", f"user{uuid.uuid4().hex}"
    data = server.folder / "data"
    trace_id, span_id = _plant(server, word, user)
    before = {needle: _files_with(data, needle.encode()) for needle in (word, user)}
    assert all(before.values())
    receipt = client.erase(user_id=user)
    assert {t for t, n in receipt.rows.items() if n} >= {
        "spans", "contents", "feedback", "feedback_history", "snapshot_rows", "review_items", "review_assignments",
    }  # fmt: skip
    assert receipt.num_files == 1
    with pytest.raises(NotFound):  # at once, whether or not it is removed yet
        client.trace(trace_id)
    assert len(list((data / "log/quarantine").iterdir())) == 1
    checked = wait_for(
        lambda: (c := client.erasure(receipt.erasure_id)).done and c,
        what="the parts to leave the disk",
        timeout_s=90,
    )
    assert (checked.old_parts, set(checked.left.values())) == (0, {0})

    def nowhere() -> bool:
        return not any(_files_with(data, needle.encode()) for needle in (word, user))

    wait_for(nowhere, what=f"no byte of {word}", timeout_s=90)
    late = Feedback(kind="comment", target=Target(trace_id=trace_id, span_id=span_id), comment=f"late {word}")
    with pytest.raises(NotFound):
        client.trace(trace_id)
    answer = requests.post(
        server.url + "/v1/feedback",
        json={"feedback": [json.loads(_json(late))]},
        headers=server.headers(),
        timeout=30,
    )
    result = answer.json()["results"][0]
    assert (result["status"], "erased" in result["error"]["message"]) == ("rejected", True)
    assert nowhere()
    assert client.ledger().feedback.rejected_reasons == {"erased": 1}


def _json(feedback: Feedback) -> str:
    from heedloop.schema import to_json

    return json.dumps(to_json(feedback))


def test_the_search_sees_what_is_compressed(server: ServerProcess) -> None:
    word = f"visible{uuid.uuid4().hex}"
    _plant(server, word, f"user{uuid.uuid4().hex}")
    found = _files_with(server.folder / "data", word.encode())
    assert len(found) > 5
    assert any(word.encode() not in p.read_bytes() for p in found if p.exists()), "nothing was compressed"


def test_an_erasure_of_another_project_or_of_nobody_is_not_found(server: ServerProcess) -> None:
    with pytest.raises(NotFound):
        server.client()._get("/v1/erasures/0123456789abcdef")


def test_every_table_is_erased_from_or_said_to_hold_nobodys_words() -> None:
    with temporary_store() as store:
        tables = {
            r["name"]
            for r in store.rows(
                "SELECT name FROM system.tables WHERE database = {db:String}", {"db": store.address.database}
            )
        }
    assert tables == set(erased_tables()) | set(KEPT), tables ^ (set(erased_tables()) | set(KEPT))
    assert not set(erased_tables()) & set(KEPT)


def test_a_running_server_repeats_recent_erasures(tmp_path: Path) -> None:
    late = Call(trace_id=uuid.uuid4().hex, span_id="1" * 16, start_time=utc_now())
    with temporary_store() as store:
        project = store.project("shop")
        erase(project, "trace_id", late.trace_id, erasure_id="e1", old_parts_s=1)
        insert_calls(project, [late], received_at=utc_now())
        assert verify(project, "e1")["spans"] == 1
        settings = Settings(data=tmp_path, decoders=0, alert_every_s=1)
        with TestClient(create_app(settings, store=store)):
            wait_for(lambda: not any(verify(project, "e1").values()), what="the removal", timeout_s=60)


def test_what_a_server_stores_that_had_looked_before_the_erasure_is_removed_soon() -> None:
    late = Call(trace_id=uuid.uuid4().hex, span_id="1" * 16, start_time=utc_now())
    other = Call(trace_id=uuid.uuid4().hex, span_id="2" * 16, start_time=utc_now())
    with temporary_store() as store:
        project = store.project("shop")
        erase(project, "trace_id", late.trace_id, erasure_id="e1", old_parts_s=1)
        insert_calls(project, [late, other], received_at=utc_now())
        assert verify(project, "e1")["spans"] == 1
        ErasureUpkeep(store, old_parts_s=1).round(utc_now())
        assert not any(verify(project, "e1").values())
        assert [
            r["n"] for r in project.rows("SELECT count() AS n FROM spans WHERE project_id = {project:String}")
        ] == [1]
