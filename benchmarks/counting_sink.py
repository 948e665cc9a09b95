"""A server on loopback that takes what every SDK sends: it counts OTLP spans, or accepts and never answers.

    python benchmarks/counting_sink.py well|hung

Prints its address, then the number of spans so far for every line it reads.
"""

from __future__ import annotations

import gzip
import http.server
import json
import subprocess
import sys
import threading
import time

WEAVE_ANSWER = json.dumps(
    {
        "data": {
            "project": {"name": "bench"},
            "viewer": {"username": "b", "defaultEntity": {"name": "bench"}},
        },
        "min_required_weave_python_version": "0.0.1",
        "digest": "a" * 43,
    }
).encode()
"""What weave wants to hear before it starts (who the account is, which version will do) and where it stores a function."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else b""
        if self.server.hung:
            time.sleep(3600)
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if "/v1/traces" in self.path or "/otel" in self.path:
            self.server.num_spans += count_spans(body)
        payload = b"{}" if "/v1/" in self.path else WEAVE_ANSWER
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_PUT = do_PATCH = do_POST

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    hung = False
    num_spans = 0

    def handle_error(self, request, client_address):
        pass


def count_spans(body):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    return sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)


def sink(*, hung=False):
    """Serve in a process of its own; prints its address, and the number of spans for every line it reads."""
    server = Server(("127.0.0.1", 0), Handler)
    server.hung = hung
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    for _line in sys.stdin:
        print(server.num_spans, flush=True)


class Sink:
    """The server in a process of its own."""

    def __init__(self, *, hung=False):
        command = [sys.executable, __file__, "hung" if hung else "well"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()

    def num_spans(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    sink(hung=sys.argv[1] == "hung")
