"""Several answers to one prompt: from an OpenAI-compatible endpoint, sent as calls, ranked by an annotator; and the other commands."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from forked_server import ForkedServer
from review_people import call
from server_process import ServerProcess, wait_for

from heedloop._call_spans import otlp_request
from heedloop.schema import Message
from heedloop_cli.commands import review

RANK = [{"name": "best", "kind": "ranking"}]


class Endpoint(BaseHTTPRequestHandler):
    """Answers like a small server: one completion whatever `n` says, `said` in turn."""

    said: ClassVar[list[str]] = []
    asked: ClassVar[list[dict]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
        text = self.said[(len(self.asked) - 1) % len(self.said)]
        status = 200 if text != "refuse" else 429
        answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_args) -> None:
        pass


@pytest.fixture
def endpoint():
    Endpoint.said, Endpoint.asked = ["one answer", "another answer"], []
    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    one = ForkedServer(tmp_path_factory.mktemp("generate")).start()
    admin = one.client()
    admin.send_otlp(otlp_request([call(f"Question {n}?", f"Stored {n}.", at_s=60 + n) for n in range(3)]))
    wait_for(lambda: len(admin.calls().calls) == 3, what="the calls")
    yield one
    one.stop()


def command(server: ServerProcess, *argv: str) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    review.add_arguments(parser)
    return review.run(parser.parse_args([*argv, "--url", server.url, "--api-key", server.key]))


def new_queue(server: ServerProcess, folder: Path, name: str) -> str:
    questions = folder / "questions.json"
    questions.write_text(json.dumps(RANK))
    guideline = folder / "guideline.md"
    guideline.write_text("Prefer the shorter one.")
    argv = [
        "create",
        name,
        "--questions",
        str(questions),
        "--guideline",
        str(guideline),
        "--judgements",
        "2",
        "--show",
        "model",
    ]
    assert command(server, *argv) == 0
    return next(q.queue_id for q in server.client().review_queues() if q.name == name)


def test_generated_answers_stand_beside_the_stored_one(
    server: ServerProcess, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    queue = new_queue(server, tmp_path, "rank me")
    monkeypatch.setenv("MY_KEY", "sk-secret")
    argv = [
        "generate",
        "rank me",
        "--endpoint",
        endpoint,
        "--model",
        "small",
        "--key-env",
        "MY_KEY",
        "--limit",
        "2",
        "--answers",
        "2",
    ]
    assert command(server, *argv) == 0
    assert "2 prompts, 2 items" in capsys.readouterr().out
    asked = Endpoint.asked[0]
    assert (asked["path"], asked["key"], asked["model"]) == (
        "/v1/chat/completions",
        "Bearer sk-secret",
        "small",
    )
    assert asked["messages"] == [{"role": "user", "content": "Question 0?"}]
    admin = server.client()
    one = admin.next_assignments(queue).assignments[0]
    assert one.messages == [Message("user", "Question 0?")]
    assert {a.text for a in one.answers} == {"Stored 0.", "one answer", "another answer"}
    assert sorted(a.facts["model"] for a in one.answers) == ["model-a", "small", "small"]
    admin.submit_judgement(one.assignment_id, {"best": {"ranks": [2, 1, 1]}})
    said = next(admin.iter_feedback(kind="comparison"))
    assert sorted(said.ranking.ranks) == [1, 1, 2]
    # they were shown to no user: no rate counts them, and each names the call whose prompt it answers
    assert len(admin.calls(since="2020-01-01T00:00:00Z").calls) == 3
    made = admin.calls(answers_only="false", tag="generated").calls
    assert len(made) == 4
    attributes = admin.trace(made[0].trace_id).spans[0].attributes
    assert attributes["heedloop.metadata.generated_for"].startswith("00-")
    assert command(server, *argv) == 0  # the same texts again are the same calls and the same items
    assert "0 items" in capsys.readouterr().out


def test_an_endpoint_that_refuses_ends_with_a_sentence(
    server: ServerProcess, endpoint: str, tmp_path: Path, capsys
) -> None:
    new_queue(server, tmp_path, "refused")
    Endpoint.said = ["refuse"]
    assert command(server, "generate", "refused", "--endpoint", endpoint, "--model", "m") == 2
    assert "answered 429" in capsys.readouterr().err
    assert command(server, "generate", "refused", "--endpoint", endpoint) == 2
    assert "--model" in capsys.readouterr().err
    assert command(server, "generate", "nothing like it", "--endpoint", endpoint, "--model", "m") == 2
    assert "there is no queue" in capsys.readouterr().err


def test_fill_gold_guideline_and_progress(server: ServerProcess, tmp_path: Path, capsys) -> None:
    questions = tmp_path / "q.json"
    questions.write_text(json.dumps([{"name": "thumb", "kind": "thumb"}]))
    assert command(server, "create", "by hand", "--questions", str(questions), "--gold-share", "0.2") == 0
    assert command(server, "fill", "by hand", "--source", "sample", "--size", "2", "--model", "model-a") == 0
    assert "2 added, 0 there already, of 3 that match" in capsys.readouterr().out
    known = server.client().calls().calls[0]
    gold = {
        "targets": [{"trace_id": known.trace_id, "span_id": known.span_id}],
        "answers": {"thumb": 1},
    }
    lines = tmp_path / "gold.jsonl"
    lines.write_text(json.dumps(gold) + "\n")
    assert command(server, "gold", "by hand", str(lines)) == 0
    text = tmp_path / "g.md"
    text.write_text("Be fair.")
    assert command(server, "guideline", "by hand", str(text), "--send-back") == 0
    assert "version 1" in capsys.readouterr().out
    assert command(server, "progress", "by hand") == 0
    assert "1 gold" in capsys.readouterr().out
    text.write_text("{")
    assert command(server, "create", "x", "--questions", str(text)) == 2
    assert "is no JSON" in capsys.readouterr().err


def test_export_and_import(server: ServerProcess, tmp_path: Path, capsys) -> None:
    questions, out = tmp_path / "q.json", tmp_path / "theirs.json"
    questions.write_text(json.dumps([{"name": "thumb", "kind": "thumb"}]))
    assert command(server, "create", "vendor", "--questions", str(questions)) == 0
    assert command(server, "fill", "vendor", "--source", "filter", "--limit", "3", "--model", "model-a") == 0
    assert command(server, "export", "vendor", "--out", str(out), "--format", "jsonl") == 0
    entries = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []
    said = {"annotator": "vendor-1", "submitted_at": "2026-01-01T00:00:00Z"}
    # 501 entries are two posts; what is refused is named by its place in the file
    wrong = {"item_id": entries[0]["item_id"], "judgements": [{**said, "answers": {"thumb": 7}}]}
    good = [{"item_id": e["item_id"], "judgements": [{**said, "answers": {"thumb": 1}}]} for e in entries]
    out.write_text(json.dumps([*good, *[wrong] * 500]), encoding="utf-8")
    capsys.readouterr()
    assert command(server, "import", "vendor", str(out)) == 1
    told = capsys.readouterr()
    assert f"{len(good)} stored, 0 there already, 500 refused" in told.out
    assert told.err.startswith(f"[{len(good)}].answers.thumb by vendor-1: ")
    assert "and 480 more" in told.err
    out.write_text(json.dumps(good), encoding="utf-8")
    assert command(server, "import", "vendor", str(out)) == 0
    assert f"0 stored, {len(good)} there already" in capsys.readouterr().out
    out.write_text("{", encoding="utf-8")
    assert command(server, "import", "vendor", str(out)) == 2
    assert "neither a JSON array nor an object a line" in capsys.readouterr().err
