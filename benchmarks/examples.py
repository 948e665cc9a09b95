"""How long `POST /v1/examples` takes with many liked answers, over HTTP, one request after another.

    python benchmarks/examples.py [--answers 100000] [--requests 500]

The answers and their thumbs are put into an embedded store; the server is a process of its own. Printed: the time of the first index, the
50th, 95th and 99th percentile of the requests' times, and how long after its thumb a new answer is an example.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import requests

from heedloop.schema import Author, Call, Feedback, Message, Target, utc_now
from heedloop_server.http.auth import PROJECT_SCOPES, make_key
from heedloop_server.store.feedback import JudgedCall, StoredFeedback, insert_feedback
from heedloop_server.store.migrate import migrate
from heedloop_server.store.open import open_store
from heedloop_server.store.spans import insert_calls

OPENERS = ("How do I", "Can I", "Where do I", "Why can I not", "What happens if I", "When may I")
VERBS = ("return", "exchange", "track", "cancel", "repair", "insure", "gift", "store", "assemble", "clean")
AT_ONCE = 5_000


def question(rng: random.Random) -> str:
    """A question of common and rare words."""
    things = " ".join(f"item{int(rng.paretovariate(0.6)) % 20_000}" for _ in range(rng.randint(1, 4)))
    return (
        f"{rng.choice(OPENERS)} {rng.choice(VERBS)} my {things} that I bought in shop {rng.randint(1, 400)}?"
    )


def fill(folder: Path, num: int) -> str:
    """A store with `num` liked answers; the key of its project."""
    rng = random.Random(0)
    store = open_store(f"chdb://{(folder / 'clickhouse').absolute()}")
    migrate(store)
    project = store.project("p")
    for first in range(0, num, AT_ONCE):
        calls = [call(question(rng), first + i) for i in range(min(AT_ONCE, num - first))]
        insert_calls(project, calls)
        insert_feedback(project, [liked("p", c, i) for i, c in enumerate(calls)])
    key, _ = make_key(store, "p", name="bench", scopes=PROJECT_SCOPES)
    store.close()
    return key


def call(asked: str, i: int) -> Call:
    """An answer of some 60 words."""
    return Call(
        trace_id=uuid.uuid4().hex, span_id=uuid.uuid4().hex[:16], start_time=utc_now() - timedelta(seconds=10 + i % 10**6),
        model_answered="m", input_messages=(Message("user", asked),), output_messages=(Message("assistant", f"Answer {i}. " + "It takes a week. " * 15),),
    )  # fmt: skip


def liked(project: str, one: Call, i: int) -> StoredFeedback:
    """A user's thumb on it."""
    thumb = Feedback(
        "rating", Target(trace_id=one.trace_id, span_id=one.span_id), value=1, author=Author("end_user", f"u{i}")
    )  # fmt: skip
    stored = StoredFeedback.of(project, thumb, utc_now())
    judged = JudgedCall(one.trace_id, one.span_id, one.start_time, model="m")
    return StoredFeedback(
        stored.feedback, stored.feedback_id, stored.version, stored.received_at, judged, "bench"
    )


def serve(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """The server and its address."""
    command = [sys.executable, "-m", "heedloop_cli.main", "serve", "--port", "0", "--data", str(folder)]
    child = subprocess.Popen(
        command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        if "http://127.0.0.1:" in line:
            return child, "http://127.0.0.1:" + line.split("http://127.0.0.1:")[1].split()[0].rstrip("/,.")
    raise RuntimeError(f"the server ended with {child.wait()}")


class Asking:
    """One connection that asks for examples."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {key}"

    def ask(self, text: str) -> requests.Response:
        """The response to a question."""
        return self._session.post(f"{self._url}/v1/examples", json={"question": text, "k": 3}, timeout=60)

    def first_index_s(self) -> float:
        """Seconds until the first response that is no 503."""
        started = time.perf_counter()
        while self.ask("Where is my item7?").status_code == 503:
            time.sleep(0.2)
        return time.perf_counter() - started

    def times_ms(self, num: int) -> Iterator[float]:
        """Milliseconds of `num` requests, each for another question."""
        rng = random.Random(1)
        for _ in range(num):
            asked = question(rng)
            started = time.perf_counter()
            assert self.ask(asked).status_code == 200
            yield 1e3 * (time.perf_counter() - started)

    def new_answer_s(self, trace_id: str, span_id: str, text: str) -> float:
        """Seconds from a correction until it is an example."""
        said = {"kind": "correction", "correction": "A new answer.", "target": {"trace_id": trace_id, "span_id": span_id}, "author": {"kind": "end_user", "id": "new"}}  # fmt: skip
        assert self._session.post(f"{self._url}/v1/feedback", json={"feedback": [said]}, timeout=60).ok
        started = time.perf_counter()
        while "A new answer." not in self.ask(text).text:
            time.sleep(0.02)
        return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        key = fill(Path(name), args.answers)
        child, url = serve(Path(name))
        try:
            asking = Asking(url, key)
            print(f"{args.answers:,} liked answers; the first index took {asking.first_index_s():.1f} s")
            times = sorted(asking.times_ms(args.requests))
            cuts = statistics.quantiles(times, n=100)
            print(f"{args.requests} requests: p50 {cuts[49]:.1f} ms, p95 {cuts[94]:.1f} ms, p99 {cuts[98]:.1f} ms")  # fmt: skip
            one = asking.ask("Can I return my item1 that I bought in shop 1?").json()["examples"][0]
            took = asking.new_answer_s(one["trace_id"], one["span_id"], one["question"])
            print(f"a new correction was an example after {took:.2f} s")
        finally:
            child.terminate()
            child.wait()


if __name__ == "__main__":
    main()
