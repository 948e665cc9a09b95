"""How fast the review desk answers: 100,000 calls, a queue of 10,000 items, one judgement and the next item per request.

`python benchmarks/review_desk.py [--calls 100000] [--items 10000] [--judge 300] [--annotators 2]` starts a real `heedloop serve` on a new
folder, fills it, and lets annotators work over HTTP, each in a thread with its own key.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
import uuid
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "integration"))

from server_process import ServerProcess, wait_for

from heedloop._call_spans import otlp_request
from heedloop.client import Client
from heedloop.schema import Call, Message, utc_now

QUESTIONS = [
    {"name": "thumb", "kind": "thumb"},
    {"name": "helpfulness", "kind": "scale", "min": 1, "max": 5},
    {"name": "wrong", "kind": "flags", "categories": ["fact", "tone"]},
    {"name": "better", "kind": "correction"},
    {"name": "note", "kind": "text", "required": False},
]
ANSWER = "Refunds are issued within 30 days of the return arriving at our warehouse. " * 8


def fill(client: Client, num: int) -> None:
    """Send `num` calls of the last day."""
    now = utc_now()
    for first in range(0, num, 2_000):
        calls = [
            Call(
                trace_id=uuid.uuid4().hex,
                span_id=uuid.uuid4().hex[:16],
                start_time=now - timedelta(seconds=i * 0.5),
                name="answer",
                service="app",
                model_answered=f"model-{i % 3}",
                input_messages=(Message("system", "Be kind."), Message("user", f"Where is refund {i}?")),
                output_messages=(Message("assistant", f"{i}: {ANSWER}"),),
            )
            for i in range(first, min(num, first + 2_000))
        ]
        client.send_otlp(otlp_request(calls))
    wait_for(lambda: not client.ledger().pending, what="the calls to be stored", timeout_s=300)


def work(client: Client, queue_id: str, num: int, times: dict[str, list[float]]) -> None:
    """Judge `num` items, each submission answered with the item after the next, as the page does."""
    ahead = client.next_assignments(queue_id, count=2).assignments
    for i in range(num):
        one, *rest = ahead
        body = {"thumb": i % 2, "helpfulness": 1 + i % 5, "wrong": [{"category": "fact"}], "note": "a note"}
        began = time.perf_counter()
        done = client.submit_judgement(
            one.assignment_id, body, next=1, holding=[a.assignment_id for a in rest], duration_ms=5
        )
        times["submit"].append(time.perf_counter() - began)
        ahead = rest + done.assignments
        began = time.perf_counter()
        client.save_draft(ahead[0].assignment_id, {"note": "half"})
        times["draft"].append(time.perf_counter() - began)


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--judge", type=int, default=300)
    parser.add_argument("--annotators", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder)).start()
        try:
            print(json.dumps(measure(server, args)))
        finally:
            server.stop()


def measure(server: ServerProcess, args: argparse.Namespace) -> dict[str, object]:
    """Milliseconds per request at the median and the 95th percentile."""
    admin = server.client()
    fill(admin, args.calls)
    queue = admin.create_review_queue("bench", QUESTIONS, judgements_per_item=2).queue_id
    began = time.perf_counter()
    admin.fill_review_queue(queue, "filter", limit=args.items)
    filled_s = time.perf_counter() - began
    times: dict[str, list[float]] = {"submit": [], "draft": []}
    keys = [admin.create_key(f"annotator-{i}", ["annotate"]).key for i in range(args.annotators)]
    workers = [
        threading.Thread(target=work, args=(server.client(key), queue, args.judge, times)) for key in keys
    ]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    return {
        "calls": args.calls,
        "items": args.items,
        "annotators": args.annotators,
        "fill_s": round(filled_s, 2),
        **{f"{name}_ms": _percentiles(took) for name, took in times.items()},
    }


def _percentiles(took: list[float]) -> dict[str, float]:
    ordered = sorted(took)
    return {f"p{q}": round(1000 * ordered[int(len(ordered) * q / 100)], 1) for q in (50, 95, 99)}


if __name__ == "__main__":
    main()
