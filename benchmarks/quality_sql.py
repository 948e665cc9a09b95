"""What each aggregate of the quality pages costs in the store, without HTTP and without the page.

    python benchmarks/quality_sql.py [--calls 1000000] [--ratings 100000] [--rounds 15] [--data FOLDER] [--markdown]

Calls are spread evenly over 30 days. Hold --ratings and raise --calls to see what the calls themselves cost. A folder that
holds as many calls already is used as it is; its feedback is written anew.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from heedloop_server.filters import CallFilters
from heedloop_server.statistics.findings import most_important
from heedloop_server.store.connection import ProjectStore, Store
from heedloop_server.store.open import open_store
from heedloop_server.store.quality import counts, pairs
from heedloop_server.store.quality.counts import View
from heedloop_server.store.quality.patterns import pattern_cells
from heedloop_server.store.quality.rollup import roll_up_project

PROJECT = "bench"
BATCH = 1_000_000
SINCE = datetime(2026, 10, 22, tzinfo=timezone.utc)
UNTIL = SINCE + timedelta(days=30)

SPANS = """
INSERT INTO spans (project_id, trace_id, span_id, start_time, duration_ns, name, service, environment, operation, is_answer, status,
    provider, model, prompt_name, prompt_version, user_id, session_id, tags, metadata, input_tokens, output_tokens, sampling_probability,
    question, answer, ingested_at)
SELECT {project:String}, unhex(hex(sipHash128(number))), unhex(hex(cityHash64(number))),
    {since:DateTime64(6,'UTC')} + toIntervalMicrosecond(toUInt64(number * {step:Float64})), 800000000 + cityHash64(number, 9) % 4000000000,
    'answer', ['web','api'][1 + cityHash64(number, 1) % 2], 'production', 'chat', true, if(cityHash64(number, 2) % 50 = 0, 'error', 'ok'),
    'openai', ['small-2','large-2'][1 + cityHash64(number, 3) % 2], 'support',
    ['v11','v12','v13'][1 + toUInt8(3 * number / {calls:UInt64})], concat('u', toString(cityHash64(number, 4) % 20000)),
    concat('s', toString(intDiv(number, 5))), [['account','billing','other','refunds','shipping','technical'][1 + cityHash64(number, 6) % 6]],
    map('language', ['de','en','es','fr'][1 + cityHash64(number, 7) % 4]), 100, 200, 1.0,
    concat('How do I change order ', toString(cityHash64(number, 8))),
    repeat('You can change this under Settings. ', 1 + cityHash64(number, 9) % 12), now64(6)
FROM numbers({first:UInt64}, {num:UInt64})
"""
FEEDBACK = """
INSERT INTO feedback (project_id, feedback_id, trace_id, span_id, target_trace_id, target_span_id, kind, name, score, is_thumb, author_kind,
    author_id, call_time, model, prompt_name, prompt_version, service, environment, user_id, session_id, record, created_at, received_at,
    version, is_deleted, call_is_answer, call_status, call_tags, call_metadata, call_answer_chars, call_probability)
SELECT project_id, generateUUIDv4(cityHash64(span_id)), trace_id, span_id, trace_id, span_id, 'rating', 'thumb',
    toFloat64(cityHash64(trace_id, 1) % 1000 < if(tags[1] = 'refunds' AND prompt_version = 'v13', 360, 650)), true, 'end_user', user_id,
    start_time, model, prompt_name, prompt_version, service, environment, user_id, session_id, '{}', start_time, start_time,
    toUnixTimestamp64Micro(start_time), 0, is_answer, status, tags, metadata, toUInt32(lengthUTF8(answer)), sampling_probability
FROM spans
WHERE project_id = {project:String} AND cityHash64(trace_id, 0) % {every:UInt64} = 0
"""


def fill(store: Store, calls: int, ratings: int) -> None:
    """Write the calls, unless they are there, and the ratings."""
    params: dict[str, Any] = {
        "project": PROJECT,
        "since": SINCE,
        "calls": calls,
        "step": 30 * 86_400 * 1e6 / calls,
    }
    there = store.rows("SELECT count() AS n FROM spans WHERE project_id = {project:String}", params)[0]["n"]
    if there != calls:
        store.command("TRUNCATE TABLE spans")
        for first in range(0, calls, BATCH):
            store.command(SPANS, {**params, "first": first, "num": min(BATCH, calls - first)})
    store.command("TRUNCATE TABLE feedback")
    store.command(FEEDBACK, {**params, "every": max(1, calls // ratings)})
    roll_up_project(store.project(PROJECT))


def questions(project: ProjectStore) -> dict[str, Callable[[], Any]]:
    """Name of a panel -> its question over 30 days."""
    view = View(CallFilters(since=SINCE, until=UNTIL))
    one_model = View(CallFilters(since=SINCE, until=UNTIL, model="small-2"))
    return {
        "summary (one period)": lambda: counts.count_total(project, view),
        "overview: time, versions, models, tags": lambda: counts.count_overview(project, view, "day", "tag"),
        "trend by day": lambda: counts.count_over_time(project, view, "day"),
        "trend by hour": lambda: counts.count_over_time(project, view, "hour"),
        "trend by day, one model": lambda: counts.count_over_time(project, one_model, "day"),
        "releases": lambda: counts.releases(project, view),
        "by prompt version": lambda: counts.count_by(project, view, ["prompt_version"]),
        "tag by prompt version": lambda: counts.count_by(project, view, ["tag", "prompt_version"]),
        "by user, counted from the rows": lambda: counts.count_by(project, view, ["user_id"]),
        "by a metadata key": lambda: counts.count_by(project, view, ["metadata.language"]),
        "compare: days of two models": lambda: pairs.count_days(
            project, view, "model", ["small-2", "large-2"]
        ),
        "reasons": lambda: counts.count_feedback(project, view),
        "failure patterns, cells": lambda: pattern_cells(project, view),
        "finding, whole": lambda: most_important(pattern_cells(project, view)),
    }


def timed(ask: Callable[[], Any], rounds: int) -> list[float]:
    """Milliseconds of each round, after one to warm up."""
    ask()
    took: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        ask()
        took.append(1000 * (time.perf_counter() - start))
    return took


def main() -> None:
    """Fill a store and print one line per question."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--ratings", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--data", help="folder to keep the store in")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        store = open_store(f"chdb://{args.data or temporary}")
        fill(store, args.calls, args.ratings)
        project = store.project(PROJECT)
        print(f"{args.calls:,} calls, about {args.ratings:,} rated, 30 days, {args.rounds} rounds")
        for name, ask in questions(project).items():
            took = sorted(timed(ask, args.rounds))
            p50, p95 = statistics.median(took), took[min(len(took) - 1, round(0.95 * (len(took) - 1)))]
            print(
                f"| {name} | {p50:.0f} | {p95:.0f} |"
                if args.markdown
                else f"{name:32} p50 {p50:6.0f} ms   p95 {p95:6.0f} ms"
            )
        store.close()


if __name__ == "__main__":
    main()
