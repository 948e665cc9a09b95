"""How long 1,000 prompts take at 32 in flight, against an endpoint that needs a fixed time for each.

    python benchmarks/evaluate.py [--prompts 1000] [--in-flight 32] [--delay-ms 100]

The endpoint alone needs prompts x delay / in flight; it runs in a process of its own. Both a run that stores nothing and one
with a server are timed; the baseline is the same number of bare requests from as many threads.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests

from heedloop_cli.commands import evaluate

REPLY = json.dumps(
    {
        "choices": [{"message": {"role": "assistant", "content": "We open at nine."}}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5},
    }
).encode()


class Endpoint(BaseHTTPRequestHandler):
    """Answers after a fixed time."""

    protocol_version = "HTTP/1.1"
    delay_s = 0.1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.delay_s)
        self.send_response(200)
        self.send_header("Content-Length", str(len(REPLY)))
        self.end_headers()
        self.wfile.write(REPLY)

    def log_message(self, *_args: object) -> None:
        pass


class Listener(ThreadingHTTPServer):
    """Takes as many connections at once as there are."""

    daemon_threads = True
    request_queue_size = 256


def serve_endpoint(delay_ms: float) -> None:
    """Print the address and answer until the process ends."""
    Endpoint.delay_s = delay_ms / 1000
    server = Listener(("127.0.0.1", 0), Endpoint)
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()


def bare(url: str, prompts: int, in_flight: int) -> float:
    """Seconds of as many requests from as many threads with a connection each."""
    own = threading.local()

    def ask(number: int) -> None:
        if not hasattr(own, "session"):
            own.session = requests.Session()
        body = {"model": "m", "messages": [{"role": "user", "content": f"Question {number}?"}]}
        own.session.post(f"{url}/chat/completions", json=body, timeout=60).raise_for_status()

    start = time.perf_counter()
    with ThreadPoolExecutor(in_flight) as pool:
        list(pool.map(ask, range(prompts)))
    return time.perf_counter() - start


def evaluated(argv: list[str]) -> float:
    """Seconds of one evaluation."""
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    args = parser.parse_args(argv)
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        assert evaluate.run(args) == 0
    return time.perf_counter() - start


def main() -> None:
    """Time the three and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--delay-ms", type=float, default=100.0)
    parser.add_argument("--endpoint", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.endpoint:
        serve_endpoint(args.delay_ms)
        return
    own = [sys.executable, __file__, "--endpoint", "--delay-ms", str(args.delay_ms)]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(own, stdout=subprocess.PIPE, text=True) as endpoint,
    ):
        assert endpoint.stdout is not None
        url = endpoint.stdout.readline().strip()
        prompts = Path(folder, "prompts.jsonl")
        prompts.write_text(
            "".join(
                json.dumps({"prompt": f"Question {n}?", "reference": "We open at ten."}) + "\n"
                for n in range(args.prompts)
            )
        )
        least = args.prompts * args.delay_ms / 1000 / args.in_flight
        argv = [
            url, "--model", "m", "--file", str(prompts), "--concurrency", str(args.in_flight),
            "--journal", str(Path(folder, "journal.sqlite")),
        ]  # fmt: skip
        print(f"the endpoint alone: {least:.2f} s")
        print(f"bare requests: {bare(url, args.prompts, args.in_flight):.2f} s")
        print(f"heedloop evaluate --local: {evaluated([*argv, '--local']):.2f} s")
        print(f"with a server: {with_server(argv, Path(folder)):.2f} s")
        endpoint.kill()


def with_server(argv: list[str], folder: Path) -> float:
    """Seconds of an evaluation whose answers are stored and compared."""
    command = [
        sys.executable,
        "-m",
        "heedloop_cli.main",
        "serve",
        "--port",
        "0",
        "--data",
        str(folder / "data"),
    ]
    command += ["--key-file", str(folder / "key")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        url = next(w for line in server.stdout for w in line.split() if w.startswith("http://")).rstrip(",.")
        key = (folder / "key").read_text().strip()
        index = argv.index("--journal")
        own = [*argv[:index], "--journal", str(folder / "second.sqlite"), *argv[index + 2 :]]
        seconds = evaluated([*own, "--url", url, "--api-key", key])
        server.kill()
    return seconds


if __name__ == "__main__":
    main()
