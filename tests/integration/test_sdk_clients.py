"""Real LLM clients against a fake provider on loopback, through other people's instrumentations.

Each must end as the same normalised call that `@heedloop.trace` around the same client gives. Needs openai, anthropic and
at least one instrumentation of each installed; says what is missing.
"""

import functools
import http.server
import json
import os
import subprocess
import sys
import textwrap
import threading
from importlib.util import find_spec

import pytest

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
MESSAGE = {
    "id": "msg_17",
    "type": "message",
    "role": "assistant",
    "model": "claude-x-0901",
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "content": [{"type": "text", "text": "Thirty days."}],
    "usage": {"input_tokens": 21, "output_tokens": 4},
}


def chat_chunks():
    head = {"id": "chatcmpl-18", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x-0901"}
    for text in ("Thirty ", "days."):
        yield {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    yield {**head, "choices": [], "usage": CHAT["usage"]}


def message_events():
    yield (
        "message_start",
        {
            "message": {
                **MESSAGE,
                "id": "msg_18",
                "content": [],
                "usage": {"input_tokens": 21, "output_tokens": 1},
            }
        },
    )
    yield "content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}
    for text in ("Thirty ", "days."):
        yield "content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}}
    yield "content_block_stop", {"index": 0}
    yield "message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}
    yield "message_stop", {}


class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_chat = self.path.endswith("/chat/completions")
        if not request.get("stream"):
            return self.reply("application/json", json.dumps(CHAT if is_chat else MESSAGE))
        if is_chat:
            body = "".join(f"data: {json.dumps(c)}\n\n" for c in chat_chunks()) + "data: [DONE]\n\n"
        else:
            body = "".join(
                f"event: {kind}\ndata: {json.dumps({'type': kind, **event})}\n\n"
                for kind, event in message_events()
            )
        return self.reply("text/event-stream", body)

    def reply(self, kind, body):
        payload = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def provider():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


PROGRAM = """
import json, sys
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
import heedloop
from heedloop import testing
from heedloop.schema import to_json
from heedloop_server.normalise import normalise_request
from heedloop_server.normalise.duplicates import fold

MESSAGES = [{"role": "user", "content": "How long is the return window?"}]
client, instrumentor = sys.argv[1:]

def ask(messages, stream=False):
    if client == "openai":
        import openai
        chat = openai.OpenAI(base_url=URL + "/v1", api_key="k").chat.completions
        extra = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        return chat.create(model="gpt-x", messages=messages, **extra)
    import anthropic
    api = anthropic.Anthropic(base_url=URL, api_key="k").messages
    return api.create(model="claude-x", messages=messages, max_tokens=50, **({"stream": True} if stream else {}))

with testing.recording() as seen:
    if instrumentor == "trace":
        ask = heedloop.trace(model="gpt-x" if client == "openai" else "claude-x")(ask)
    else:
        from heedloop import _instrument
        library = _instrument.LIBRARIES[client]
        chosen = _instrument.Library(library.module, (instrumentor,))
        assert _instrument._switch_on(chosen) == instrumentor.split(":")[0]
    ask(MESSAGES)
    list(ask(MESSAGES, True))
    seen.spans
calls = []
for body in seen.transport.span_bodies:
    calls += normalise_request(ExportTraceServiceRequest.FromString(body))
found = sorted((c for c in fold(calls) if c.operation), key=lambda c: c.start_time)
print(json.dumps([to_json(c) for c in found]))
"""

OPENAI = (
    "openinference.instrumentation.openai:OpenAIInstrumentor",
    "opentelemetry.instrumentation.openai:OpenAIInstrumentor",
    "opentelemetry.instrumentation.openai_v2:OpenAIInstrumentor",
)
ANTHROPIC = (
    "openinference.instrumentation.anthropic:AnthropicInstrumentor",
    "opentelemetry.instrumentation.anthropic:AnthropicInstrumentor",
)

COUNTS_ONE_TOO_MANY = (ANTHROPIC[1], "stream")
"""Adds the first event's count to the last one's, which holds it already (0.62.4)."""
SILENT_ON_STREAMS = OPENAI[2]
"""Its spans do not say whether the answer was streamed (2.4b0)."""


@functools.cache
def normalised(provider, client, instrumentor):
    """The calls of a whole answer and of a stream, recorded in one process."""
    module = instrumentor.split(":")[0]
    for needed in (client, module) if instrumentor != "trace" else (client,):
        try:
            found = find_spec(needed)
        except ImportError:
            found = None
        if found is None:
            pytest.skip(f"{needed} is not installed")
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
        "NO_PROXY": "127.0.0.1",
    }
    program = f"URL = {provider!r}\n" + textwrap.dedent(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-c", program, client, instrumentor],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    if "cannot be switched on" in done.stderr:
        pytest.skip(f"{module} does not work with what is installed: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr[-2000:]
    calls = json.loads(done.stdout.splitlines()[-1])
    assert len(calls) == 2, [c["name"] for c in calls]
    return [{field: call.get(field) for field in FIELDS} for call in calls]


FIELDS = ("provider", "model_requested", "model_answered", "input_messages", "output_messages", "usage", "response_id", "stream")  # fmt: skip
MODES = ["whole", "stream"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("client", "instrumentor"),
    [("openai", i) for i in OPENAI] + [("anthropic", i) for i in ANTHROPIC],
)
def test_the_same_call_whoever_records_it(provider, client, instrumentor, mode):
    ours = normalised(provider, client, "trace")[MODES.index(mode)]
    theirs = dict(normalised(provider, client, instrumentor)[MODES.index(mode)])
    # Some say zero where the provider said nothing about cached tokens.
    theirs["usage"] = {
        name: count for name, count in theirs["usage"].items() if count or name in ("input", "output")
    }
    if (instrumentor, mode) == COUNTS_ONE_TOO_MANY and theirs["usage"]["output"] == 5:
        theirs["usage"]["output"] = 4
    if instrumentor == SILENT_ON_STREAMS:
        theirs["stream"] = ours["stream"]
    assert ours["usage"] == {"input": 21, "output": 4}
    assert ours["output_messages"] == [{"role": "assistant", "text": "Thirty days."}]
    assert theirs == ours


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("client", ["openai", "anthropic"])
def test_the_decorator_reads_the_clients_own_answer(provider, client, mode):
    ours = normalised(provider, client, "trace")[MODES.index(mode)]
    is_openai = client == "openai"
    assert ours == {
        "provider": client,
        "model_requested": "gpt-x" if is_openai else "claude-x",
        "model_answered": "gpt-x-0901" if is_openai else "claude-x-0901",
        "input_messages": [{"role": "user", "text": "How long is the return window?"}],
        "output_messages": [{"role": "assistant", "text": "Thirty days."}],
        "usage": {"input": 21, "output": 4},
        "response_id": ("chatcmpl-" if is_openai else "msg_") + ("17" if mode == "whole" else "18"),
        "stream": mode == "stream",
    }
