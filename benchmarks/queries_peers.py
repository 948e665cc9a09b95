"""The same few spans in heedloop, Phoenix and MLflow, and what the same two questions take over HTTP.

    python benchmarks/queries_peers.py [--spans 3000] [--rounds 25] [--phoenix VENV] [--mlflow VENV]

Each gets the same spans (one a trace, 1.2 KB) from one exporter, as fast as it takes them; asked is when its own store holds them all.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest_load import ServerProcess, bodies
from ingest_peers import PEERS, serving, stored_spans

PER_REQUEST = 50
WAIT_S = 300.0

Ask = Callable[[requests.Session], requests.Response]


def post(url: str, body: bytes, headers: dict[str, str]) -> None:
    """Send a body until it is taken."""
    while True:
        headers = {"Content-Type": "application/x-protobuf", **headers}
        response = requests.post(url, body, headers=headers, timeout=120)
        if response.status_code == 200:
            return
        if response.status_code not in (429, 503):
            response.raise_for_status()
        time.sleep(0.2)


def wait_until(count: Callable[[], int], num: int) -> float:
    """Seconds until so many are stored; fails after `WAIT_S`."""
    began = time.perf_counter()
    while (stored := count()) < num:
        if time.perf_counter() - began > WAIT_S:
            raise SystemExit(f"{stored} of {num} stored after {WAIT_S:.0f} s")
        time.sleep(0.2)
    return time.perf_counter() - began


def measure(name: str, questions: dict[str, Ask], rounds: int) -> None:
    """Print the median and the slowest of each question, after one to warm up."""
    with requests.Session() as session:
        for question, ask in questions.items():
            taken = []
            for _ in range(rounds + 1):
                began = time.perf_counter()
                response = ask(session)
                response.raise_for_status()
                taken.append(1000 * (time.perf_counter() - began))
            size = len(response.content) / 1000
            median = statistics.median(taken[1:])
            print(f"| {name} | {question} | {median:.1f} | {max(taken[1:]):.1f} | {size:.0f} |", flush=True)


def heedloop(sent: list[bytes], trace_id: str, num: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder)).start()
        try:
            for body in sent:
                post(f"{server.url}/v1/traces", body, server.headers())
            client = server.client()
            wait_until(lambda: client.quality_summary().num_answers, num)
            headers = server.headers()
            measure(
                "heedloop",
                {
                    "the newest 50": lambda s: s.get(f"{server.url}/v1/calls?limit=50", headers=headers),
                    "a trace by its id": lambda s: s.get(
                        f"{server.url}/v1/traces/{trace_id}", headers=headers
                    ),
                },
                rounds,
            )
        finally:
            server.kill()


def phoenix(url: str, trace_id: str) -> dict[str, Ask]:
    spans = f"{url}/v1/projects/default/spans"
    return {
        "the newest 50": lambda s: s.get(f"{spans}?limit=50"),
        "a trace by its id": lambda s: s.get(f"{spans}?trace_id={trace_id}"),
    }


def mlflow(url: str, trace_id: str) -> dict[str, Ask]:
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
    search = {"locations": [place], "max_results": 50, "order_by": ["timestamp_ms DESC"]}
    traces = f"{url}/api/3.0/mlflow/traces"
    return {
        "the newest 50": lambda s: s.post(f"{traces}/search", json=search),
        "a trace by its id": lambda s: s.get(f"{traces}/get?trace_id=tr-{trace_id}"),
    }


QUESTIONS = {"phoenix": phoenix, "mlflow": mlflow}


def peer(name: str, environment: Path, sent: list[bytes], trace_id: str, num: int, rounds: int) -> None:
    known = PEERS[name]
    with serving(name, environment) as (_, folder, port):
        url = f"http://127.0.0.1:{port}"
        for body in sent:
            post(f"{url}/v1/traces", body, known.headers)
        wait_until(lambda: stored_spans(folder / known.count[0], known.count[1]), num)
        measure(known.name, QUESTIONS[name](url, trace_id), rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spans", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=25)
    for name in PEERS:
        parser.add_argument(f"--{name}", type=Path)
    args = parser.parse_args()
    sent = bodies(args.spans // PER_REQUEST, PER_REQUEST)
    middle = ExportTraceServiceRequest.FromString(sent[len(sent) // 2])
    trace_id = middle.resource_spans[0].scope_spans[0].spans[0].trace_id.hex()
    num = PER_REQUEST * len(sent)
    print("| system | question | median ms | slowest ms | KB |\n|---|---|---|---|---|")
    heedloop(sent, trace_id, num, args.rounds)
    for name in PEERS:
        if environment := getattr(args, name):
            peer(name, environment, sent, trace_id, num, args.rounds)


if __name__ == "__main__":
    main()
