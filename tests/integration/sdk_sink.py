"""A server for the SDK's tests, on loopback: it keeps what it is sent, and can be ill in every way a server can.

`Sink` runs in the test's process, so that it can be stopped and started again on the same port.
"""

import gzip
import http.server
import json
import threading
import time
from collections import Counter

from heedloop.testing import decode

MODES = ("well", "hung", "slow", "busy", "away", "large", "wrong_key", "garbage")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        sink = self.server.sink
        sink.num_requests += 1
        if (
            self.headers.get("Content-Encoding") == "gzip" and self.path == "/v1/traces"
        ):  # as docs/api.md has it
            body = gzip.decompress(body)
        self.answer(sink, body)

    def answer(self, sink, body):
        mode = sink.mode
        if mode == "hung":
            sink.released.wait(60)
            self.close_connection = True
            return
        if mode == "slow":
            time.sleep(sink.delay_s)
        if mode == "busy":
            self.reply(429, {"error": {"message": "slow down"}}, {"Retry-After": str(sink.delay_s)})
        elif mode == "away":
            self.reply(503, {"error": {"message": "store away"}}, {"Retry-After": str(sink.delay_s)})
        elif mode == "wrong_key":
            self.reply(401, {"error": {"message": "no such key"}})
        elif mode == "garbage":
            self.reply(200, "<html>a proxy's page</html>", {"Content-Type": "text/html"})
        elif mode == "large" and len(body) > sink.max_bytes:
            self.reply(413, {"error": {"message": "too large"}})
        elif self.path == "/v1/traces":
            sink.take_spans(decode(body))
            self.reply(200, {})
        elif self.path == "/v1/feedback":
            self.reply(200, {"results": [sink.take_feedback(f) for f in json.loads(body)["feedback"]]})
        else:
            sink.delivery.append(json.loads(body))
            self.reply(200, {})

    def reply(self, status, body, headers=None):
        payload = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass


class Sink:
    """Keeps spans by id and feedback by id; `num_posts` and `num_span_posts` count how often each of them arrived."""

    def __init__(self):
        self.mode = "well"
        self.delay_s = 0.2
        self.max_bytes = 2000
        self.num_requests = 0
        self.spans = {}
        self.feedback = {}
        self.order = []
        self.num_posts = Counter()
        self.num_span_posts = Counter()
        self.reject = ()
        self.delivery = []
        self.released = threading.Event()
        self.port = 0
        self._lock = threading.Lock()
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self._server = Server(("127.0.0.1", self.port), Handler)
        self._server.sink = self
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def take_spans(self, spans):
        with self._lock:
            self.spans.update({s.span_id: s for s in spans})
            self.num_span_posts.update(s.span_id for s in spans)

    def take_feedback(self, feedback):
        with self._lock:
            known = feedback["id"] in self.feedback
            self.num_posts[feedback["id"]] += 1
            if feedback.get("category") in self.reject:
                error = {"field": "category", "message": "is not welcome"}
                return {"id": feedback["id"], "status": "rejected", "error": error}
            self.feedback[feedback["id"]] = feedback
            if not known:
                self.order.append(feedback["id"])
            return {"id": feedback["id"], "status": "duplicate" if known else "stored"}


def until(condition, timeout_s=10.0):
    """Wait for a condition; fails after the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("the condition did not come true in time")
        time.sleep(0.005)
