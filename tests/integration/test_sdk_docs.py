"""The examples in docs/sdk.md and docs/recipes run as they are written, each file in a process of its own."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest
from sdk_sink import Sink

import heedloop
from heedloop.schema import Case, Check, Message, to_json

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "sdk.md", *sorted((DOCS / "recipes").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.S | re.M)
WITH_PEERS = re.compile(r"^```python needs=(\S+)\n(.*?)^```", re.S | re.M)
"""Examples that need other packages; they run where these are installed, against a provider that this file plays."""
OF_THE_APP = "app"
"""What an example needs that tests the reader's own app."""
PEERS = [(p, *m.groups()) for p in PAGES for m in WITH_PEERS.finditer(p.read_text()) if m[1] != OF_THE_APP]

CHAT = {
    "id": "chatcmpl-17",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-x-0901",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Thirty days."}}
    ],
    "usage": {"prompt_tokens": 21, "completion_tokens": 4, "total_tokens": 25},
}
CHUNKS = [{"index": 0, "finish_reason": "stop", "delta": {"role": "assistant", "content": "Thirty days."}}]
RESPONSE = {
    "id": "resp_17",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "gpt-x-0901",
    "parallel_tool_calls": False,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {
            "id": "msg_17",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Thirty days.", "annotations": []}],
        }
    ],
    "usage": {
        "input_tokens": 21,
        "output_tokens": 4,
        "total_tokens": 25,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}


class Provider(http.server.BaseHTTPRequestHandler):
    """What a model's provider answers, in both of OpenAI's APIs."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        payload = json.dumps(RESPONSE if self.path.endswith("/responses") else CHAT).encode()
        kind = "application/json"
        if request.get("stream"):
            chunk = {**CHAT, "object": "chat.completion.chunk", "choices": CHUNKS}
            payload, kind = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode(), "text/event-stream"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


@pytest.fixture
def provider():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture
def sink():
    server = Sink()
    yield server
    server.stop()


@pytest.mark.parametrize("page", [p for p in PAGES if BLOCK.search(p.read_text())], ids=lambda p: p.stem)
def test_the_examples_run(page, sink, tmp_path):
    run("\n\n".join(BLOCK.findall(page.read_text())), sink, tmp_path)
    assert page.stem == "testing" or sink.spans


def test_the_example_of_the_readme_runs(sink, tmp_path):
    (code,) = BLOCK.findall((DOCS.parent / "README.md").read_text())
    address = '"http://127.0.0.1:8321", api_key="hl_…", '
    assert address in code  # the environment has the sink's instead
    model = "def my_llm(question):\n    return 'Thirty days.'\n\n"
    run(model + code.replace(address, ""), sink, tmp_path)
    (answer,) = sink.spans.values()
    assert (answer.input_text, answer.output_text) == ("Where is my refund?", "Thirty days.")
    assert answer.attributes["gen_ai.request.model"] == "small-2"
    assert sorted(f["kind"] for f in sink.feedback.values()) == ["correction", "rating"]
    assert {f["target"]["span_id"] for f in sink.feedback.values()} == {answer.span_id}


@pytest.mark.parametrize(("page", "needs", "code"), PEERS, ids=[p.stem for p, *_ in PEERS])
def test_the_examples_with_other_packages_run(page, needs, code, sink, provider, tmp_path):
    for package in needs.split(","):
        if not installed(package):
            pytest.skip(f"{page.name}: {package} is not installed")
    run(code, sink, tmp_path, OPENAI_BASE_URL=provider, OPENAI_API_KEY="k", OPENAI_AGENTS_DISABLE_TRACING="0")
    answers = [s for s in sink.spans.values() if s.is_answer]
    assert [s.output_text for s in answers] == ["Thirty days."]
    assert answers[0].attributes["gen_ai.response.model"] == "gpt-x-0901"


@pytest.mark.parametrize(("said", "outcome"), [("Within 14 days.", 0), ("Within 30 days.", 1)])
def test_the_gate_of_the_recipe_is_closed_to_what_users_corrected(tmp_path, said, outcome):
    page = (DOCS / "recipes" / "gate-in-ci.md").read_text()
    (code,) = [code for needs, code in WITH_PEERS.findall(page) if needs == OF_THE_APP]
    check = Check("token_f1", least=0.9)
    case = Case("a1", (Message("user", "How long?"),), reference="Within 14 days.", checks=(check,))
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "support.jsonl").write_text(json.dumps(to_json(case)) + "\n")
    (tmp_path / "app.py").write_text(f"def answer(question):\n    return {said!r}\n")
    (tmp_path / "test_support.py").write_text(code)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "HEEDLOOP"))}
    own = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_support.py"]
    done = subprocess.run(own, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == outcome, done.stdout
    assert f"1 {('passed', 'failed')[outcome]}" in done.stdout


def installed(package):
    try:
        return find_spec(package) is not None
    except ImportError:
        return False


def run(code, sink, folder, **more):
    """An example in a process of its own, with heedloop's environment and nothing of pytest's."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
        "HEEDLOOP_URL": sink.url,
        "HEEDLOOP_API_KEY": "hl_0123456789ab_" + "k" * 43,
        "HEEDLOOP_OUTBOX": str(folder),
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr


def test_every_example_runs_or_says_what_it_needs():
    for page in PAGES:
        fences = re.findall(r"^```python(.*)$", page.read_text(), re.M)
        assert all(f == "" or f.startswith(" needs=") for f in fences), page


def test_every_public_name_is_in_the_docs():
    text = "\n".join(p.read_text() for p in PAGES)
    missing = [n for n in heedloop.__all__ if not re.search(rf"\b{n}\b", text)]
    assert missing == []


def test_every_option_is_in_the_docs():
    text = (DOCS / "sdk.md").read_text()
    missing = [f for f in heedloop.Options.__dataclass_fields__ if f"`{f}`" not in text]
    assert missing == []
