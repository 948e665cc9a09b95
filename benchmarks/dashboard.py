"""What the quality page costs: each panel's question over HTTP on the embedded store, the whole page's reading, and a rerun.

    python benchmarks/dashboard.py [--calls 1000000 [10000000]] [--rated 0.1] [--rounds 15] [--data FOLDER] [--markdown] [--no-page]
    python benchmarks/dashboard.py --calls 1000000 10000000 --ratings 100000   # the same ratings among ten times the calls

Calls are spread evenly over 30 days, one in ten is rated; they are written by the store's own INSERT SELECT, because what is
measured here is reading. `--data` keeps the stores (a folder per size) and uses those that are there: filling takes about 20 s a
million. With several sizes they are served side by side and each panel is asked of one after the other, so that a busy machine
is busy for all. The page's script runs in Streamlit's own test harness in this process: no browser, no socket to it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from heedloop.client import Client

PROJECT = "default"
BATCH = 500_000

SPANS = """
INSERT INTO spans (project_id, trace_id, span_id, start_time, duration_ns, name, service, environment, operation, is_answer,
    status, provider, model, model_answered, prompt_name, prompt_version, user_id, session_id, tags, metadata, input_tokens,
    output_tokens, cost, sampling_probability, question, answer, ingested_at)
SELECT '{project}', {trace}, {span}, {at}, 800000000 + n % 2000000000, 'answer', 'support', 'production', 'chat', true,
    if(n % 199 = 0, 'error', 'ok'), 'local', {model}, {model}, 'support', {version}, concat('user-', toString(n % 20000)),
    concat('chat-', toString(intDiv(n, 4))), [{tag}], map('language', ['en','de','es','fr'][1 + n % 4]), 200 + n % 300, 40 + n % 90, 0.0012,
    1.0, concat('A question about ', {tag}, ', number ', toString(n)),
    concat('An answer about ', {tag}, ', number ', toString(n), '. It says what there is to say in one more sentence, which is of no use.'), now64(6)
FROM (SELECT number AS n FROM numbers({first}, {num}))
"""
FEEDBACK = """
INSERT INTO feedback (project_id, feedback_id, trace_id, span_id, target_trace_id, target_span_id, kind, name, score, is_thumb,
    author_kind, author_id, call_time, model, prompt_name, prompt_version, service, environment, user_id, session_id, record,
    created_at, received_at, version, call_is_answer, call_status, call_tags, call_metadata, call_answer_chars, call_probability)
SELECT '{project}', generateUUIDv4(n), {trace}, {span}, {trace}, {span}, 'rating', 'thumb', {up}, true, 'end_user', concat('user-', toString(n % 20000)),
    {at}, {model}, 'support', {version}, 'support', 'production', concat('user-', toString(n % 20000)), concat('chat-', toString(intDiv(n, 4))),
    concat('{{"kind":"rating","target":{{"trace_id":"', lower(hex({trace})), '","span_id":"', lower(hex({span})), '"}},"name":"thumb","value":', toString({up}), ',"scale":{{"min":0,"max":1}},"author":{{"kind":"end_user","id":"u"}},"created_at":"2026-01-01T00:00:00Z","id":"', toString(n), '"}}'),
    {at}, now64(6), 1, true, 'ok', [{tag}], map('language', ['en','de','es','fr'][1 + n % 4]), 120, 1.0
FROM (SELECT number * {every} AS n FROM numbers({first}, {num}))
"""


def columns(calls: int, period_s: float = 29.9 * 86_400) -> dict[str, str]:
    """Expressions over the call's number `n`; hashes keep the fields independent of each other."""
    topic = "['account','billing','other','refunds','shipping','technical'][1 + cityHash64(n, 1) % 6]"
    version = "['v11','v12','v13'][1 + cityHash64(n, 2) % 3]"
    now = datetime.now(timezone.utc)
    step_us = int(period_s * 1e6 / calls)
    return {
        "project": PROJECT,
        "trace": "toFixedString(unhex(lpad(lower(hex(toUInt64(n + 1))), 32, '0')), 16)",
        "span": "toFixedString(unhex(lpad(lower(hex(toUInt64(n + 1))), 16, '0')), 8)",
        # one moment for both tables: a rating's call_time is the call's own
        "at": f"toDateTime64('{now:%Y-%m-%d %H:%M:%S}', 6, 'UTC') - toIntervalMicrosecond(toInt64({calls} - n) * {step_us})",
        "tag": topic,
        "version": version,
        "model": "['large-2','small-2'][1 + cityHash64(n, 3) % 2]",
        "up": f"if(cityHash64(n, 4) % 100 < if({topic} = 'refunds' AND {version} = 'v13', 36, 64), 1, 0)",
    }


def fill(dsn: str, calls: int, rated: float) -> float:
    """Write the calls and their ratings, and count what is over, as the server's scheduler does; seconds it took."""
    from heedloop_server.store.open import open_store
    from heedloop_server.store.quality.rollup import roll_up_project

    begin = time.perf_counter()
    store = open_store(dsn, num_clients=2, threads=2)
    chosen = columns(calls)
    every = round(1 / rated)
    for first in range(0, calls, BATCH):
        store.command(SPANS.format(**chosen, first=first, num=min(BATCH, calls - first)))
    for first in range(0, calls // every, BATCH):
        store.command(
            FEEDBACK.format(**chosen, every=every, first=first, num=min(BATCH, calls // every - first))
        )
    # what merges do with the small parts of a real store, of which these few large ones have none
    for table, projection in (("spans", "minutes"), ("feedback", "minutes"), ("feedback", "by_call")):
        store.command(f"ALTER TABLE {table} MATERIALIZE PROJECTION {projection}", mutations_sync=2)
    counting = time.perf_counter()
    roll_up_project(store.project(PROJECT))
    print(f"counted before in {time.perf_counter() - counting:.0f} s", file=sys.stderr)
    store.close()
    return time.perf_counter() - begin


def panels(client: Client) -> dict[str, Callable[..., Any]]:
    """The quality page's questions, and the lists'."""
    return {
        "summary": client.quality_summary,
        "trend, 30 days": client.quality_trend,
        "by prompt version": lambda **f: client.quality_by("prompt_version", **f),
        "by model": lambda **f: client.quality_by("model", **f),
        "heatmap, tag by version": lambda **f: client.quality_by("tag", field2="prompt_version", **f),
        "by language (metadata)": lambda **f: client.quality_by("language", **f),
        "who rates": lambda **f: client.quality_raters(**f),
        "releases": client.quality_releases,
        "reasons": client.quality_reasons,
        "finding": lambda **f: client.quality_finding(**f),
        "over-represented": lambda **f: client.quality_overrepresented(**f),
        "recent thumbs-down, list of 8": lambda **f: client.calls(limit=8, rating="down", **f),
        "traces, list of 50": lambda **f: client.calls(limit=50, **f),
        "overview: the page's panels at once": lambda **f: client.quality_overview(**f),
        "models, facet": lambda **f: client.facets("model", **f),
    }


def timed(ask: Callable[..., Any], rounds: int) -> list[float]:
    """Milliseconds of each of `rounds` calls after one that warms up; every call asks about a slightly other period."""
    from heedloop_dashboard.filters import window

    ask(**window("30 d", datetime.now(timezone.utc)))
    taken = []
    for _ in range(rounds):
        period = window("30 d", datetime.now(timezone.utc))
        begin = time.perf_counter()
        ask(**period)
        taken.append(1000 * (time.perf_counter() - begin))
    return taken


def page_rounds(url: str, key: str, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of a rerun of the page's script: with reading from the server, and with answers at hand."""
    from streamlit.testing.v1 import AppTest

    import heedloop_dashboard.fetch as fetch
    from heedloop_dashboard.auth.sessions import SESSIONS
    from heedloop_dashboard.server import SCRIPT

    SESSIONS.configure(url, local_key=key)
    app = AppTest.from_file(str(SCRIPT), default_timeout=300).run()
    assert not app.exception, app.exception
    reading, kept = [], []
    for _ in range(rounds):
        fetch.FRESH_S = 0.0
        begin = time.perf_counter()
        app.run()
        reading.append(1000 * (time.perf_counter() - begin))
        fetch.FRESH_S = 600.0
        app.run()
        begin = time.perf_counter()
        app.run()
        kept.append(1000 * (time.perf_counter() - begin))
    return reading, kept


def p50_p95(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]


def serve(folder: Path, key_file: Path) -> tuple[subprocess.Popen[str], str]:
    """A real server on the filled folder."""
    command = [
        sys.executable,
        "-m",
        "heedloop_cli.main",
        "serve",
        "--port",
        "0",
        "--data",
        str(folder),
        "--key-file",
        str(key_file),
    ]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert child.stdout is not None
    for line in child.stdout:
        if "serves on " in line:
            return child, line.split("serves on ")[1].strip()
    raise RuntimeError(f"the server ended with {child.wait()}")


def filled(args: argparse.Namespace, calls: int, root: Path) -> Path:
    """The folder of a store with so many calls, filled where it is not."""
    rated = args.ratings / calls if args.ratings else args.rated
    folder = root / f"{calls}-{round(calls * rated)}"
    if (folder / "clickhouse").exists():
        print(f"reading what {folder} holds already", flush=True)
        return folder
    print(f"filling {calls:,} calls, {calls * rated:,.0f} rated …", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--fill", str(folder), "--calls", str(calls), "--rated", str(rated)]
    took = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(f"filled in {took.stdout.strip()} s", flush=True)
    return folder


Rows = dict[str, list[float]]


def measure(args: argparse.Namespace, root: Path) -> list[Rows]:
    """Per size: name of a panel -> milliseconds of its rounds, the sizes asked in turn."""
    folders = [filled(args, calls, root) for calls in args.calls]
    servers = [serve(folder, folder / "key") for folder in folders]
    try:
        keys = [(folder / "key").read_text(encoding="utf-8").strip() for folder in folders]
        asked = [panels(Client(url, key)) for (_, url), key in zip(servers, keys, strict=True)]
        rows: list[Rows] = [{} for _ in asked]
        with ThreadPoolExecutor(8) as pool:
            for questions in asked:
                page = [questions[n] for n in PAGE]
                questions["overview and recent thumbs-down at once"] = lambda page=page, **f: list(
                    pool.map(lambda ask: ask(**f), page)
                )
            for name in asked[0]:
                for taken, questions in zip(rows, asked, strict=True):
                    taken[name] = timed(questions[name], args.rounds)
                show(args, name, [taken[name] for taken in rows])
        if args.page:
            for taken, (_, url), key in zip(rows, servers, keys, strict=True):
                reading, kept = page_rounds(url, key, args.rounds)
                taken |= {"page rerun, with reading": reading, "page rerun, answers at hand": kept}
            for name in ("page rerun, with reading", "page rerun, answers at hand"):
                show(args, name, [taken[name] for taken in rows])
        return rows
    finally:
        for child, _ in servers:
            child.terminate()
            child.wait(30)


PAGE = ("overview: the page's panels at once", "recent thumbs-down, list of 8")
"""What the quality page asks."""


def show(args: argparse.Namespace, name: str, sizes: list[list[float]]) -> None:
    """One line: the panel, and p50 and p95 of each size."""
    found = [v for values in sizes for v in p50_p95(values)]
    cells = [f"{v:.0f}" for v in found]
    ratio = f"{found[2] / found[0]:.2f}" if len(sizes) == 2 else ""
    if args.markdown:
        print(f"| {name} | {' | '.join([*cells, ratio] if ratio else cells)} |", flush=True)
    else:
        print(f"{name:<34}{''.join(f'{c:>9}' for c in cells)}{ratio:>8}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--rated", type=float, default=0.1)
    parser.add_argument(
        "--ratings", type=int, default=0, help="so many ratings whatever the calls; instead of --rated"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--data", type=Path, help="folder for the stores, kept afterwards")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--no-page", dest="page", action="store_false", help="panels only")
    parser.add_argument("--fill", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fill is not None:
        store = (args.fill / "clickhouse").absolute()
        print(f"{fill(f'chdb://{store}', args.calls[0], args.rated):.0f}")
        return
    sizes = ", ".join(f"{c:,}" for c in args.calls)
    rated = f"{args.ratings:,} ratings" if args.ratings else f"{args.rated:.0%} rated"
    print(
        f"\n{sizes} calls over 30 days, {rated}; milliseconds over {args.rounds} rounds: p50 and p95 of each size"
    )
    print("and, of two sizes, the ratio of their p50\n" if len(args.calls) == 2 else "")
    with tempfile.TemporaryDirectory(prefix="heedloop-bench-") as scratch:
        measure(args, args.data or Path(scratch))


if __name__ == "__main__":
    main()
