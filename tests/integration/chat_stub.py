"""An endpoint that speaks the OpenAI protocol and fails in every way it is told to."""

import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Stub(ThreadingHTTPServer):
    """`says` answers by the number in `Question N`; `faults` decides by question and attempt what goes wrong."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[int] = Counter()
        self.models: list[dict] = []
        self.faults = lambda question, attempt: ""
        self.says = lambda question, body: f"Because.\nVERDICT: {'NO' if question % 2 else 'YES'}"
        self.held = threading.Event()
        self.held.set()
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        super().__exit__(*error)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        question = int(re.search(r"Question (\d+)", prompt)[1])
        with self.server.lock:
            self.server.asked[question] += 1
            self.server.models.append(body)
            attempt = self.server.asked[question]
        self.server.held.wait(60)
        fault = self.server.faults(question, attempt)
        if fault in ("400", "401", "429", "500"):
            self._send(int(fault), b'{"error": {"message": "no"}}')
        elif fault == "garbage":
            self._send(200, b"<html>a proxy's page</html>")
        elif fault == "cut":
            self._send(200, b'{"choices": [', length=500)
        elif fault == "slow":
            self._drip()
        else:
            says = fault or self.server.says(question, body)
            content = {"choices": [{"message": {"role": "assistant", "content": says}}]}
            usage = {"usage": {"prompt_tokens": 20, "completion_tokens": 10}}
            self._send(200, json.dumps(content | usage).encode())

    def _send(self, status: int, body: bytes, length: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def _drip(self) -> None:
        """A byte now and then, for longer than the worker waits in all."""
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        end = threading.Event()
        try:
            while not end.wait(0.05):
                self.wfile.write(b" " * 17000)
        except OSError:
            pass

    def log_message(self, *_args) -> None:
        pass
