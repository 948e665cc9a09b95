"""Streaming out and in: every call and feedback that filters take, in three formats, and lines of feedback with an answer each."""

import io
import json
import random
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from fastapi.testclient import TestClient
from temporary_stores import temporary_store

import heedloop_server.store.datasets.exports as pages
from heedloop.schema import Author, Call, Feedback, Message, Target, Usage, to_json
from heedloop_server.app import create_app
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.settings import Settings
from heedloop_server.store.spans import insert_calls

NUM = 57
START = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
PERIOD = {"since": "2026-03-01T00:00:00Z", "until": "2026-03-02T00:00:00Z"}


def _call(i: int) -> Call:
    return Call(
        trace_id=f"{i + 1:032x}",
        span_id=f"{i + 1:016x}",
        start_time=START + timedelta(microseconds=i // 3),  # three at a time share their start
        duration_ns=i,
        model_answered="model-a" if i % 2 else "model-b",
        input_messages=(Message("user", f"Frage {i}: ü\n"),),
        output_messages=(Message("assistant", f"answer {i}"),),
        usage=Usage(i, None),
        tags=("even",) if i % 2 == 0 else (),
        attributes={"app.x": "1"},
    )


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server whose project holds calls, a few of them judged; sends its key with every request."""
    with (
        temporary_store() as store,
        TestClient(create_app(Settings(data=tmp_path_factory.mktemp("exports")), store=store)) as client,
    ):
        key, _ = make_key(store, "mine", name="all", scopes=SCOPES)
        client.headers["Authorization"] = f"Bearer {key}"
        insert_calls(store.project("mine"), [_call(i) for i in range(NUM)])
        judged = [Target(trace_id=_call(i).trace_id, span_id=_call(i).span_id) for i in range(0, NUM, 5)]
        said = [
            Feedback(kind="rating", target=t, value=i % 2, author=Author("end_user", "ada"), comment="ü")
            for i, t in enumerate(judged)
        ]
        answer = client.post("/v1/feedback", json={"feedback": [to_json(f) for f in said]})
        assert answer.json()["stored"] == len(said)
        yield client


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages so small that an export needs many."""
    monkeypatch.setattr(pages, "MAX_CALLS", 10)
    monkeypatch.setattr(pages, "FEEDBACK_PER_PAGE", 5)


def _lines(client: TestClient, path: str, **params: str) -> list[dict]:
    answer = client.get(path, params=params)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson"), answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.usefixtures("small_pages")
def test_every_call_comes_once_newest_first_and_whole(client: TestClient) -> None:
    found = _lines(client, "/v1/calls/export", **PERIOD)
    expected = sorted((_call(i) for i in range(NUM)), key=lambda c: (c.start_time, c.trace_id), reverse=True)
    assert [c["trace_id"] for c in found] == [c.trace_id for c in expected]
    said = {"num_feedback", "thumb", "flags", "has_correction"}
    assert [{k: v for k, v in c.items() if k not in said} for c in found] == [to_json(c) for c in expected]
    assert sum(c["num_feedback"] for c in found) == len(range(0, NUM, 5))


@pytest.mark.parametrize("num_bytes", [1, 3000])
def test_blocks_that_end_by_their_text_miss_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, num_bytes: int
) -> None:
    monkeypatch.setattr(pages, "BLOCK_BYTES", num_bytes)
    assert len({c["trace_id"] for c in _lines(client, "/v1/calls/export", **PERIOD)}) == NUM


def test_a_transfer_that_broke_off_goes_on_behind_its_last_call(client: TestClient) -> None:
    found = _lines(client, "/v1/calls/export", **PERIOD)
    for num in (1, NUM // 2, NUM):
        last = found[num - 1]
        rest = _lines(client, "/v1/calls/export", **PERIOD, after=f"{last['trace_id']}:{last['span_id']}")
        assert rest == found[num:]
    unknown = client.get("/v1/calls/export", params={"after": f"{'e' * 32}:{'e' * 16}"})
    assert unknown.status_code == 404


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("fmt", ["parquet", "arrow"])
@pytest.mark.parametrize("what", ["calls", "feedback"])
def test_the_formats_say_the_same(client: TestClient, what: str, fmt: str) -> None:
    period = PERIOD if what == "calls" else {}
    lines = _lines(client, f"/v1/{what}/export", **period)
    body = client.get(f"/v1/{what}/export", params={**period, "format": fmt}).content
    table = parquet.read_table(io.BytesIO(body)) if fmt == "parquet" else pa.ipc.open_stream(body).read_all()
    rows = table.to_pylist()
    assert len(rows) == len(lines) > 10
    for row, line in zip(rows, lines, strict=True):
        if what == "feedback":
            assert json.loads(row["record"]) == {
                k: v for k, v in line.items() if k in json.loads(row["record"])
            }
            assert (row["score"], row["feedback_id"]) == (line["value"], line["feedback_id"])
            assert row["model"] == line["model"]
        else:
            assert json.loads(row["input_messages"]) == line["input_messages"]
            assert (row["trace_id"], row["thumb"], row["input_tokens"]) == (
                line["trace_id"],
                line["thumb"],
                line["usage"]["input"],
            )
            assert dict(row["attributes"]) == line["attributes"]


def test_filters_and_nothing_found(client: TestClient) -> None:
    assert len(_lines(client, "/v1/calls/export", **PERIOD, model="model-b")) == (NUM + 1) // 2
    assert {f["value"] for f in _lines(client, "/v1/feedback/export", author_id="ada", kind="rating")} == {
        0,
        1,
    }
    assert _lines(client, "/v1/feedback/export", author_id="nobody") == []
    empty = client.get("/v1/calls/export", params={"model": "none", "format": "parquet"})
    assert parquet.read_table(io.BytesIO(empty.content)).num_rows == 0
    assert client.get("/v1/calls/export", params={"format": "csv"}).status_code == 422
    assert client.get("/v1/calls/export", params={"modle": "x"}).status_code == 422


@pytest.mark.usefixtures("small_pages")
def test_what_comes_in_meanwhile_moves_nothing(client: TestClient) -> None:
    """Pages are read by position: rows newer than the first page neither double nor hide others."""
    store = client.app.state.store.project("mine")  # type: ignore[union-attr]
    filters = pages.CallFilters(
        since=START - timedelta(hours=1), until=START + timedelta(hours=1), tag="even"
    )
    seen = []
    for block in pages.blocks_of_calls(store, filters):
        seen += block.rows["trace_id"].to_pylist()
        late = Call(
            trace_id=uuid.uuid4().hex,
            span_id=uuid.uuid4().hex[:16],
            start_time=START + timedelta(seconds=1),
            tags=("even",),
        )
        insert_calls(store, [late])
    assert sorted(seen) == [_call(i).trace_id for i in range(0, NUM, 2)]


def _entries(num: int) -> list[dict]:
    target = Target(trace_id="ab" * 16, span_id="cd" * 8)
    return [
        to_json(
            Feedback(
                kind="rating", target=target, value=1, author=Author("end_user", f"user-{i}"), id=f"line-{i}"
            )
        )
        for i in range(num)
    ]


def test_lines_are_answered_line_by_line(client: TestClient) -> None:
    good = _entries(1_203)
    lines = [json.dumps(e) for e in good]
    lines[700] = "{broken"
    lines[701] = json.dumps({"kind": "rating"})
    lines[702] = "7"
    body = ("\n\n".join(lines)).encode()
    cuts = sorted(random.Random(1).sample(range(len(body)), 30))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    answer = client.post(
        "/v1/feedback", content=iter(pieces), headers={"Content-Type": "application/x-ndjson"}
    )
    assert answer.status_code == 200, answer.text
    *results, total = [json.loads(line) for line in answer.text.splitlines()]
    assert [r["line"] for r in results] == list(range(1, 1_204))
    assert total == {"stored": 1_200, "replaced": 0, "duplicate": 0, "rejected": 3}
    assert [r["status"] for r in results[699:704]] == ["stored", "rejected", "rejected", "rejected", "stored"]
    assert "no JSON" in results[700]["error"]["message"]
    again = client.post("/v1/feedback", content=body, headers={"Content-Type": "application/x-ndjson"})
    assert json.loads(again.text.splitlines()[-1])["duplicate"] == 1_200


def test_a_line_without_an_end_and_other_media_are_refused(client: TestClient) -> None:
    endless = (b"x" * (1 << 20) for _ in range(40))
    answer = client.post("/v1/feedback", content=endless, headers={"Content-Type": "application/x-ndjson"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    plain = client.post("/v1/feedback", content=b"{}", headers={"Content-Type": "text/csv"})
    assert plain.status_code == 415
    empty = client.post("/v1/feedback", content=b"\n\n", headers={"Content-Type": "application/x-ndjson"})
    assert [json.loads(line) for line in empty.text.splitlines()] == [
        {"stored": 0, "replaced": 0, "duplicate": 0, "rejected": 0}
    ]
