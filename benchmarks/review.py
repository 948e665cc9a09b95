"""How long an annotator waits: from Ctrl+Enter to the next answer on screen, in Chromium, over real server and dashboard processes.

    python benchmarks/review.py [--answers 100] [--pause-ms 0 500] [--stored 0] [--items 20000]

Each answer gets a thumb by a number key and Ctrl+Enter. The clock starts in the page at the key event and stops when the next
answer has been painted (two animation frames after it stands there); `saved` is when the server has acknowledged the judgement.
`--pause-ms` is how long the person looks at each answer, a round each; 0 is faster than anybody reads, so that the answers at hand
run out and the round trip itself is measured. `--stored` fills the store with that many further calls first; `--items` is how many the queue holds
where that is more than are judged.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import requests

from heedloop.client import Client

QUESTIONS = [
    {"name": "thumb", "kind": "thumb", "title": "Your rating"},
    {"name": "problem", "kind": "flags", "title": "What is wrong", "categories": ["Wrong fact", "Tone"], "required": False},
    {"name": "places", "kind": "ranges", "title": "Wrong places", "labels": ["Wrong fact"]},
    {"name": "better", "kind": "correction", "title": "Better answer", "required": False},
]  # fmt: skip
ANSWER = "Refunds are issued within 30 days of the return arriving at our warehouse. " * 8

# Run in the page: they note when the keys were pressed (before the page itself hears of it), when another answer was painted,
# and when the judgement was acknowledged.
KEYS = """window.pressed = null; window.pending = [];
addEventListener('keydown', (e) => {
  if (e.key === 'Enter' && e.ctrlKey) { window.pressed = performance.now(); window.pending.push(window.pressed); }
}, true);"""
WATCH = """() => {
  const root = document.querySelector('.rv');
  window.waits = [];
  window.saves = [];
  new MutationObserver(() => {
    if (window.pressed === null) return;
    const begin = window.pressed;
    window.pressed = null;
    requestAnimationFrame(() => requestAnimationFrame(() => window.waits.push(performance.now() - begin)));
  }).observe(root, {attributes: true, attributeFilter: ['data-assignment']});
  const fetched = window.fetch;
  window.fetch = async (...args) => {
    const answer = await fetched(...args);
    if (String(args[0]).endsWith('/submit') && answer.ok) window.saves.push(performance.now() - window.pending.shift());
    return answer;
  };
}"""


def start(*args: str, says: str) -> tuple[subprocess.Popen[str], str]:
    """A `heedloop` command and the address that it prints after `says`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("HEEDLOOP_")} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "heedloop_cli.main", *args]
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout is not None
    said = ""
    for line in child.stdout:
        if says in line:
            return child, line.split(says)[1].split()[0]
        said += line
    raise RuntimeError(f"heedloop {args[0]} ended with {child.wait()}:\n{said}")


def span(i: int, at: datetime) -> dict[str, Any]:
    """One answer as an OTLP/JSON span."""
    begin = int(at.timestamp() * 1e9)
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "large-2",
        "gen_ai.input.messages": _message("user", f"Case {i}: I returned the headphones and have no refund."),
        "gen_ai.output.messages": _message("assistant", ANSWER),
    }
    return {
        "traceId": f"{i + 1:032x}",
        "spanId": f"{i + 1:016x}",
        "name": "answer",
        "kind": 1,
        "startTimeUnixNano": str(begin),
        "endTimeUnixNano": str(begin + 1_200_000_000),
        "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()]
        + [{"key": "heedloop.answer", "value": {"boolValue": True}}],
    }


def _message(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


def fill(url: str, key: str, num: int) -> None:
    """Store so many answers of the last hours, the reviewed ones the newest."""
    now = datetime.now(timezone.utc) - timedelta(minutes=5)
    for first in range(0, num, 1000):
        spans = [span(i, now - timedelta(seconds=i)) for i in range(first, min(num, first + 1000))]
        body = {
            "resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {"name": "bench"}, "spans": spans}]}]
        }
        answer = requests.post(
            f"{url}/v1/traces", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=60
        )
        answer.raise_for_status()
    client = Client(url, key)
    while client.ledger().stored < num:
        time.sleep(0.1)


def queue_of(client: Client, num: int) -> str:
    """A queue of the newest answers."""
    queue_id = client.review("POST", "queues", {"name": "bench", "questions": QUESTIONS})["queue_id"]
    items = [[{"trace_id": f"{i + 1:032x}", "span_id": f"{i + 1:016x}"}] for i in range(num)]
    added = client.review("POST", f"queues/{queue_id}/items", {"source": "targets", "items": items})
    assert added["added"] == num, added
    return str(queue_id)


def work(dashboard: str, key: str, queue_id: str, num: int, pause_ms: int) -> tuple[list[float], list[float]]:
    """Judge everything in Chromium; milliseconds to the next answer on screen, and to the acknowledgement."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.add_init_script(KEYS)
        page.goto(f"{dashboard}/sign-in")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector(".rv-queue")
        page.goto(f"{dashboard}/review?queue={queue_id}")
        page.wait_for_selector(".rv[data-assignment]")
        page.evaluate(WATCH)
        for i in range(num):
            if pause_ms:
                page.wait_for_timeout(pause_ms)
            page.keyboard.press("1")
            page.keyboard.press("Control+Enter")
            page.wait_for_function("n => window.waits.length === n", arg=i + 1, polling=4)
        page.wait_for_function("n => window.saves.length === n", arg=num)
        waits, saves = page.evaluate("[window.waits, window.saves]")
        browser.close()
        return waits, saves


def measure(args: argparse.Namespace, folder: Path) -> dict[int, tuple[list[float], list[float]]]:
    """Per pause the waits and the acknowledgements."""
    server, url = start(
        "serve",
        "--port",
        "0",
        "--data",
        str(folder / "data"),
        "--key-file",
        str(folder / "key"),
        says="serves on ",
    )
    key = (folder / "key").read_text(encoding="utf-8").strip()
    dashboard, page = start("dashboard", "--url", url, "--port", "0", says="dashboard: ")
    try:
        num_items = max(args.answers, args.items)
        fill(url, key, num_items + args.stored)
        client = Client(url, key)
        rounds: dict[int, tuple[list[float], list[float]]] = {}
        for number, pause_ms in enumerate(args.pause_ms, 1):
            queue_id = queue_of(client, num_items)
            annotator = client.create_key(f"bench {pause_ms}", ["annotate"]).key
            rounds[pause_ms] = work(page, annotator, queue_id, args.answers, pause_ms)
            stored = sum(1 for _ in client.iter_feedback(author_kind="annotator", name="thumb"))
            assert stored == number * args.answers, f"{stored} judgements are stored"
        return rounds
    finally:
        for child in (dashboard, server):
            child.terminate()
            child.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument(
        "--pause-ms", type=int, nargs="+", default=[0, 500], help="how long each answer is looked at"
    )
    parser.add_argument("--items", type=int, default=0, help="items of the queue, where more than are judged")
    parser.add_argument("--stored", type=int, default=0, help="further calls in the store")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="heedloop-bench-") as folder:
        rounds = measure(args, Path(folder))
    print(
        f"{args.answers} answers a round, {max(args.answers, args.items) + args.stored:,} calls stored; milliseconds\n"
    )
    print("| looked at each | from Ctrl+Enter to | p50 | p95 | max |\n|---|---|---|---|---|")
    for pause_ms, (waits, saves) in rounds.items():
        for name, values in (("the next answer on screen", waits), ("acknowledged by the server", saves)):
            ordered = sorted(values)
            p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
            print(
                f"| {pause_ms} ms | {name} | {statistics.median(ordered):.0f} | {p95:.0f} | {ordered[-1]:.0f} |"
            )


if __name__ == "__main__":
    main()
