"""`heedloop import` of other systems' exports against a real server: calls whole, feedback joined, nothing twice, broken off anywhere."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
import uvicorn
from mcp import Client as McpClient
from server_process import wait_for
from temporary_stores import temporary_store

from heedloop.client import Client
from heedloop.schema import Author, Call, Message
from heedloop_cli.commands.mcp_command import server_of
from heedloop_cli.main import main
from heedloop_server.app import create_app
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.settings import Settings
from heedloop_server.store.connection import Store

ALWAYS = {"since": "1970-01-02T00:00:00Z"}


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[str, Store]]:
    """The address of a real server on a free port, and its store."""
    with temporary_store() as store:
        app = create_app(Settings(data=tmp_path_factory.mktemp("data")), store=store)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        wait_for(lambda: server.started, what="the server")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", store
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(served, monkeypatch, tmp_path) -> Client:
    """A client of a fresh project; the command finds the same server, key and state folder in the environment."""
    url, store = served
    text, _ = make_key(store, f"shop_{secrets.token_hex(4)}", name="test", scopes=SCOPES)
    monkeypatch.setenv("HEEDLOOP_URL", url)
    monkeypatch.setenv("HEEDLOOP_API_KEY", text)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Client(url, text)


def stored(client: Client) -> Client:
    wait_for(lambda: client.ledger().pending == 0, what="everything to be stored", timeout_s=300)
    return client


def request(n: int, **changes) -> dict:
    row = {
        "request_id": f"8b0f7f0e-0000-4000-8000-{n:012x}",
        "request_created_at": f"2026-10-03T08:14:{n % 60:02}Z",
    }
    row |= {
        "delay_ms": 1500,
        "request_user_id": "ada@example.org",
        "provider": "OPENAI",
        "cost": 0.25,
        "prompt_tokens": 31,
    }
    row |= {
        "request_body": {"model": "m", "temperature": 0.5, "messages": [{"role": "user", "content": f"Q{n}"}]}
    }
    row |= {
        "response_body": {
            "id": f"cmpl-{n}",
            "choices": [{"message": {"role": "assistant", "content": f"A{n}"}}],
        }
    }
    row |= {"prompt_id": "p", "prompt_version": "3", "feedback_rating": n % 2 == 0, "feedback_id": f"f{n}"}
    return row | {"feedback_created_at": "2026-10-03T09:00:00Z", "scores": {}} | changes


def write(path, rows) -> str:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def test_a_call_comes_with_all_that_its_source_knows(client, tmp_path, capsys):
    failed = request(2, response_status=500, response_body={}, feedback_rating=None)
    assert main(["import", write(tmp_path / "f.json", [request(1), failed])]) == 0
    assert "calls               2 read = 2 stored + 0 known" in capsys.readouterr().out
    calls = {c.trace_id[-1]: c for c in stored(client).iter_calls(**ALWAYS)}
    assert {k: c.status for k, c in calls.items()} == {"1": "ok", "2": "error"}
    (call,) = client.trace(calls["1"].trace_id).spans
    assert (call.usage.input, call.cost, call.provider, call.model_requested) == (31, 0.25, "openai", "m")
    assert (call.duration_ns, call.prompt_version, call.response_id) == (1_500_000_000, "3", "cmpl-1")
    assert call.params["temperature"] == 0.5
    assert call.user_id.startswith("h_")
    assert call.attributes["heedloop.metadata.source_id"] == request(1)["request_id"]
    (feedback,) = client.iter_feedback()
    assert (feedback.call_span_id, feedback.metadata["source"]) == (call.span_id, "helicone")


def test_a_second_import_stores_nothing_and_a_dry_run_sends_nothing(client, tmp_path, capsys):
    path = write(tmp_path / "f.json", [request(n) for n in range(20)])
    assert main(["import", path, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.count("  example     rating 'thumb'") == 3
    assert "20 read = 20 stored" in out
    assert list(client.iter_feedback()) == []
    assert main(["import", path]) == 0
    stored(client)
    capsys.readouterr()
    assert main(["import", path]) == 0
    out = capsys.readouterr().out
    assert "judgements         20 read = 0 stored + 20 known + 0 left out" in out
    assert "calls              20 read = 0 stored + 20 known" in out
    assert sum(1 for _ in client.iter_calls(**ALWAYS)) == 20


def test_two_records_of_one_id_are_one_and_what_the_second_says_is_left_out_by_name(client, tmp_path, capsys):
    twice = [request(1), request(1), request(1, feedback_rating=True)]
    assert main(["import", write(tmp_path / "f.json", twice)]) == 0
    out = capsys.readouterr().out
    assert "3 read = 1 stored + 1 known + 1 left out" in out
    assert "1 another record of the same id has other content: the first counts" in out
    (feedback,) = stored(client).iter_feedback()
    assert feedback.value == 0.0


def test_feedback_joins_a_call_that_has_the_same_response(client, tmp_path, capsys):
    own = Call("ab" * 16, "cd" * 8, start_time=datetime(2026, 10, 3, 8, tzinfo=timezone.utc), service="shop", response_id="cmpl-1", model_answered="m",
               output_messages=(Message("assistant", "A1"),), input_messages=(Message("user", "Q1"),))  # fmt: skip
    client.send_calls([own])
    stored(client)
    assert main(["import", write(tmp_path / "f.json", [request(1), request(2)])]) == 0
    assert "calls               2 read = 1 stored + 1 known" in capsys.readouterr().out
    joined = [f for f in stored(client).iter_feedback() if f.call_trace_id == own.trace_id]
    assert [f.target.span_id for f in joined] == [own.span_id]


def test_unknown_scales_are_left_out_until_they_are_said(client, tmp_path, capsys):
    score = {
        "id": "s",
        "name": "csat",
        "dataType": "NUMERIC",
        "value": 4,
        "source": "API",
        "timestamp": "2026-05-01T10:00:00Z",
    }
    path = write(tmp_path / "f.json", [score | {"subject": {"kind": "session", "id": "s1"}}])
    assert main(["import", path]) == 0
    assert (
        "1 the scale of 'csat' is not known: say it with --scale 'csat=LOW..HIGH'" in capsys.readouterr().out
    )
    assert main(["import", path, "--scale", "csat=5..1"]) == 0
    (one,) = client.iter_feedback()
    assert (one.value, one.scale.max, one.metadata["source_value"]) == (2.0, 5.0, "4.0")
    for wrong in ("csat", "csat=1", "csat=5..5", "=1..5"):
        assert main(["import", path, "--scale", wrong]) == 2
        assert "--scale" in capsys.readouterr().err


def test_an_import_that_is_killed_goes_on_and_gives_the_same_store(client, tmp_path, capsys):
    path = write(tmp_path / "f.json", [request(n) for n in range(6000)])
    command = [sys.executable, "-m", "heedloop_cli.main", "import", path]
    importer = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL)
    cursors = tmp_path / "state" / "heedloop" / "imports"
    wait_for(lambda: list(cursors.glob("*.json")), what="the first batch", timeout_s=120)
    importer.send_signal(signal.SIGKILL)
    importer.wait()
    assert main(["import", path]) == 0
    out = capsys.readouterr().out
    assert "rows            6,000 read" in out
    assert not list(cursors.glob("*.json"))
    stored(client)
    assert sum(1 for _ in client.iter_feedback()) == 6000
    assert len({c.trace_id for c in client.iter_calls(**ALWAYS)}) == 6000
    assert client.ledger().feedback.stored == 6000


def test_an_import_is_recorded_and_undone_as_one(served, client, tmp_path, capsys):
    first = write(tmp_path / "a.json", [request(n) for n in range(5)])
    assert main(["import", first]) == 0
    older = {f.id: f.value for f in stored(client).iter_feedback()}
    score = {"id": "s", "name": "ok", "dataType": "BOOLEAN", "source": "API", "metadata": {"user_id": "u"}}
    score |= {"subject": {"kind": "session", "id": "s1"}}
    rows = [score | {"value": v, "id": f"s{v}", "timestamp": f"2026-05-0{v + 1}T10:00:00Z"} for v in (0, 1)]
    assert main(["import", write(tmp_path / "b.json", rows[:1])]) == 0
    assert (
        main(
            [
                "import",
                write(
                    tmp_path / "c.json", [rows[1], score | {"value": 1, "subject": {"kind": "experiment"}}]
                ),
            ]
        )
        == 0
    )
    newest, before, *_ = client.imports()
    assert (newest.source, newest.names, newest.status) == ("langfuse", ["c.json"], "finished")
    assert (newest.num_read, newest.num_stored, newest.num_replaced, newest.num_known) == (2, 1, 1, 0)
    assert newest.left_out == {"a score of an experiment": 1}
    assert newest.num_read == newest.num_stored + newest.num_known + sum(newest.left_out.values())
    store = served[1]
    store.command(f"OPTIMIZE TABLE {store.topology.altered('feedback')} FINAL")  # what was replaced is gone
    undone = client.undo_import(newest.id)
    assert (undone.num_calls, undone.num_feedback, undone.num_restored) == (0, 1, 1)
    (left,) = [f for f in client.iter_feedback() if f.name == "ok"]
    assert (left.value, left.metadata["import"]) == (0.0, before.id)
    assert {f.id: f.value for f in client.iter_feedback() if f.name != "ok"} == older
    whole = client.imports()[-1]
    undone = client.undo_import(whole.id)
    assert (undone.num_calls, undone.num_feedback) == (5, 5)
    assert list(client.iter_calls(**ALWAYS)) == []
    assert client.imports()[-1].status == "undone"
    capsys.readouterr()
    assert main(["import", first]) == 0
    assert "judgements          5 read = 5 stored + 0 known" in capsys.readouterr().out
    assert sum(1 for _ in stored(client).iter_calls(**ALWAYS)) == 5


def exported(client: Client, what: str) -> list[dict]:
    rows = [json.loads(line) for line in b"".join(client.export(what, **ALWAYS)).splitlines()]
    for row in rows:
        row.pop("received_at", None)
        row.pop("feedback_id", None)
        for marks in (row.get("attributes", {}), row.get("metadata", {})):
            marks.pop("heedloop.metadata.import", None)
            marks.pop("import", None)
    return sorted(rows, key=lambda r: r.get("id") or r["trace_id"] + r["span_id"])


def test_a_project_moves_to_another_and_nothing_of_it_changes(served, client, tmp_path, monkeypatch, capsys):
    tool = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    asked = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "Q ä🌿"}]},
    ]
    said = {
        "choices": [
            {
                "message": {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [tool],
                    "reasoning_content": "hm",
                }
            }
        ]
    }
    body = {
        "model": "m",
        "messages": asked,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    }
    rows = [request(1), request(2, response_status=500), request(3, request_body=body, response_body=said)]
    pair = {"prompt": "Q", "chosen": "A", "rejected": "B", "annotator": "w1", "created_at": "2026-05-01"}
    main(["import", write(tmp_path / "a.json", rows)])
    main(["import", write(tmp_path / "b.json", [pair])])
    stored(client)
    first = {what: exported(client, what) for what in ("calls", "feedback")}
    assert (len(first["calls"]), len(first["feedback"])) == (5, 4)
    for what in first:
        assert main(["export", what, "--out", str(tmp_path), "--where", "since=1970-01-02T00:00:00Z"]) == 0
    url, store = served
    text, _ = make_key(store, f"other_{secrets.token_hex(4)}", name="test", scopes=SCOPES)
    monkeypatch.setenv("HEEDLOOP_API_KEY", text)
    assert main(["import", str(tmp_path / "calls.jsonl"), str(tmp_path / "feedback.jsonl")]) == 0
    assert "(heedloop)" in capsys.readouterr().out
    other = stored(Client(url, text))
    assert {what: exported(other, what) for what in first} == first


def test_feedback_goes_out_as_requests_and_what_has_no_place_is_named(client, tmp_path, capsys):
    main(["import", write(tmp_path / "a.json", [request(n) for n in range(3)])])
    main(["import", write(tmp_path / "b.json", [{"prompt": "Q", "chosen": "A", "rejected": "B"}])])
    capsys.readouterr()
    assert main(["export", "feedback", "--to", "langfuse", "--out", str(tmp_path)]) == 0
    assert "1 left out: langfuse has no place for a comparison of several answers" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "feedback-langfuse.jsonl").read_text().splitlines()]
    assert {(x["path"], x["body"]["dataType"]) for x in lines} == {("/api/public/scores", "BOOLEAN")}
    assert main(["export", "calls", "--to", "langfuse"]) == 2
    assert "is for `export feedback`" in capsys.readouterr().err


def test_an_agent_reads_and_writes_with_the_scopes_of_its_key(served, client, tmp_path):
    assert main(["import", write(tmp_path / "f.json", [request(n) for n in range(3)])]) == 0
    stored(client)

    async def use(key: str, *calls: tuple[str, dict]) -> list:
        async with McpClient(server_of(Client(client.url, key))) as agent:
            names = {t.name for t in (await agent.list_tools()).tools}
            assert {"search", "search_calls", "search_feedback", "read_trace", "failures", "compare"} < names
            return [await agent.call_tool(name, arguments) for name, arguments in calls]

    found, feedback, hits, failures = asyncio.run(
        use(client._key, ("search_calls", {"filters": ALWAYS}), ("search_feedback", {"filters": {"kind": "rating"}, "limit": 2}),
            ("search", {"words": "A1"}), ("failures", {"filters": ALWAYS}))
    )  # fmt: skip
    calls = json.loads(found.content[0].text)["calls"]
    assert (len(calls), len(json.loads(feedback.content[0].text)["feedback"])) == (3, 2)
    assert not hits.is_error
    assert not failures.is_error
    trace = calls[0]["trace_id"]
    judged = {
        "kind": "rating",
        "trace_id": trace,
        "name": "grounded",
        "value": 4,
        "scale": [1, 5],
        "author_id": "judge-1",
    }
    read_back, wrote, wrong = asyncio.run(
        use(
            client._key,
            ("read_trace", {"trace_id": trace}),
            ("write_feedback", judged),
            ("read_trace", {"trace_id": "x"}),
        )
    )
    assert json.loads(read_back.content[0].text)["spans"][0]["trace_id"] == trace
    assert json.loads(wrote.content[0].text)["status"] == "stored"
    assert wrong.is_error
    (one,) = [f for f in client.iter_feedback() if f.name == "grounded"]
    assert (one.author, one.scale.max, one.metadata["source"]) == (Author("model", "judge-1"), 5.0, "mcp")
    _, store = served
    reader, _ = make_key(store, client.me().project, name="reader", scopes=("read",))
    (refused,) = asyncio.run(use(reader, ("write_feedback", judged)))
    assert refused.is_error
    assert "feedback" in refused.content[0].text
