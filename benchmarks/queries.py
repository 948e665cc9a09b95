"""How long the pages' questions take over many calls.

    python benchmarks/queries.py [--calls 1000000] [--folder FOLDER] [--loaded 10000] [--out FILE]

Fills an embedded store with calls of 30 days (made by the engine itself: questions and answers of dictionary words with rare ones
among them, one judgement in nine) and asks what the routes ask, through the very functions of the routes. Median of seven, after one
to warm up; two threads a query. `--folder` keeps the store and finds it again. `--loaded` asks everything again while the loader of
this process stores that many spans a second (its processor time, the making of the spans too, is in the answers then).
About two minutes for a million calls, eight for ten million.
"""

import argparse
import random
import statistics
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from heedloop_server.filters import CallFilters
from heedloop_server.ingest.loader import SpanLoader
from heedloop_server.ingest.quarantine import Quarantine
from heedloop_server.ingest.record import TRACES, LoggedRequest, pack
from heedloop_server.ingest.segments import Segment
from heedloop_server.store.connection import Store
from heedloop_server.store.feedback import feedback_of_trace, list_feedback
from heedloop_server.store.open import open_store
from heedloop_server.store.quality.counts import View, count_over_time
from heedloop_server.store.quality.rollup import roll_up_project
from heedloop_server.store.quality.summaries import facet_values, judgements_of
from heedloop_server.store.spans import list_calls, trace_calls
from ingest_load import Patched, bodies

END = datetime(2026, 11, 1, tzinfo=timezone.utc)
BLOCK = 500_000

_WORDS = "['order','refund','late','return','please','customer','invoice','parcel','address','thank','monday','policy','water','engine','light','screen','cable','password','account','email']"

_SPANS = f"""
INSERT INTO spans (
    project_id, trace_id, span_id, start_time, duration_ns, name, service, environment, operation, is_answer, status, model, model_requested,
    prompt_name, prompt_version, user_id, session_id, tags, input_tokens, output_tokens, cost, sampling_probability, question, answer,
    input_messages, attributes, ingested_at
)
WITH {_WORDS} AS words
SELECT
    'p', unhex(hex(sipHash128(number))), unhex(hex(sipHash64(number))),
    fromUnixTimestamp64Micro(toInt64({{start}} + number * {{step}}), 'UTC'), 200000000 + number % 900000000, 'answer', 'shop', 'production', 'chat', true,
    if(number % 50 = 0, 'error', 'ok'), concat('model-', toString(number % 3)), concat('model-', toString(number % 3)), concat('prompt-', toString(number % 4)),
    toString(1 + intDiv(number * 12, {{total}})), concat('user-', toString(sipHash64(number, 1) % 20000)), concat('s-', toString(intDiv(number, 4))), [concat('tag', toString(number % 10))],
    150 + number % 100, 80 + number % 50, 0.0001 * (number % 9), 1,
    arrayStringConcat(arrayMap(i -> words[1 + sipHash64(number, i) % 20], range(40)), ' ') AS q,
    concat(arrayStringConcat(arrayMap(i -> words[1 + sipHash64(number, i, 2) % 20], range(70)), ' '), if(number % 20011 = 7, ' zanzibar', '')),
    concat('[{{{{"role":"user","text":"', q, '"}}}}]'), map('gen_ai.system', 'x', 'app.request', toString(number)), now64(6)
FROM numbers({{first}}, {{count}})
"""
_FEEDBACK = """
INSERT INTO feedback (
    project_id, feedback_id, trace_id, span_id, target_trace_id, target_span_id, kind, name, score, is_thumb, author_kind, author_id, call_time,
    model, prompt_name, prompt_version, service, environment, user_id, session_id, record, created_at, received_at, version, is_deleted, label
)
SELECT
    project_id, generateUUIDv4(), trace_id, span_id, trace_id, span_id, if(h % 10 = 0, 'flag', 'rating'), if(h % 10 = 0, 'flag', 'thumb'), if(h % 10 = 0, NULL, toFloat64(h % 4 > 0)),
    h % 10 > 0, 'end_user', user_id, start_time, model, prompt_name, prompt_version, service, environment, user_id, session_id,
    concat('{"kind":"rating","value":1,"target":{"trace_id":"', lower(hex(trace_id)), '","span_id":"', lower(hex(span_id)), '"},"id":"x"}'),
    start_time + 60, start_time + 60, toUnixTimestamp64Micro(start_time), 0, if(h % 10 = 0, 'inaccurate', '')
FROM (SELECT *, cityHash64(trace_id) AS h FROM spans WHERE cityHash64(span_id) % 9 = 0)
"""


def fill(store: Store, num: int) -> None:
    """`num` calls spread evenly over the 30 days before END, and a judgement for every ninth."""
    period_us = 30 * 86_400_000_000
    start = int((END - timedelta(days=30)).timestamp() * 1e6)
    for first in range(0, num, BLOCK):
        holes = {
            "start": start,
            "step": period_us // num,
            "total": num,
            "first": first,
            "count": min(BLOCK, num - first),
        }
        sql = _SPANS
        for name, value in holes.items():
            sql = sql.replace("{" + name + "}", str(value)).replace("{{", "{").replace("}}", "}")
        store.command(sql)
    store.command(_FEEDBACK)
    # what merges do with the small parts of a real store, of which this large one has none; and what the scheduler counts
    for projection in ("minutes", "by_call"):
        store.command(f"ALTER TABLE feedback MATERIALIZE PROJECTION {projection}", mutations_sync=2)
    roll_up_project(store.project("p"))


def questions(store: Store) -> dict[str, Callable[[], object]]:
    """What the pages ask."""
    project = store.project("p")
    month = {"since": END - timedelta(days=30), "until": END}
    one = store.rows(
        "SELECT lower(hex(trace_id)) AS t, user_id FROM spans WHERE project_id = 'p' LIMIT 1 OFFSET 5000"
    )[0]
    newest = list_calls(project, CallFilters(**month), limit=50, after=None)
    page = [(r["trace_id_hex"], r["span_id_hex"]) for r in newest]
    times = [r["start_time"] for r in newest]

    def listed(**filters: object) -> Callable[[], object]:
        chosen = CallFilters(**{**month, **filters})  # type: ignore[arg-type]
        return lambda: list_calls(project, chosen, limit=50, after=None)

    return {
        "a trace by its id (goal 40 ms)": lambda: trace_calls(project, one["t"]),
        "the feedback of a trace": lambda: feedback_of_trace(project, one["t"]),
        "the newest 50 calls (100 ms)": listed(),
        "the newest 50 of a model and version (100 ms)": listed(model="model-1", prompt_version="12"),
        "the newest 50 of a user (200 ms)": listed(user_id=one["user_id"]),
        "the newest 50 rated down (200 ms)": listed(rating="down"),
        "what was said about a page of calls": lambda: judgements_of(project, page, times),
        "a rare word in question or answer (200 ms)": listed(text="zanzibar"),
        "two common words (200 ms)": listed(text="refund password"),
        "the newest 50 feedbacks": lambda: list_feedback(project, {}, limit=50, after=None),
        "the models of 30 days with counts": lambda: facet_values(project, "model", CallFilters(**month)),
        "thumbs by hour over 30 days (160 ms)": lambda: count_over_time(
            project, View(CallFilters(**month)), "hour"
        ),
    }


class Loading:
    """A loader at work beside the questions: segments of the log, each of half a second, one after the other."""

    def __init__(self, store: Store, folder: Path, rate: int) -> None:
        self._folder = folder
        self._loader = SpanLoader(
            store,
            server_id="benchmark",
            quarantine=Quarantine(folder),
            on_feedback=lambda *_: None,
            on_names=lambda *_: None,
        )
        self._made = [Patched(b) for b in bodies(40, 50)]
        self._num_requests = rate // 50 // 2
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.num_spans = 0

    def __enter__(self) -> "Loading":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        number, due = 0, time.perf_counter()
        while not self._stopping.wait(max(0.0, due - time.perf_counter())):
            number, due = number + 1, due + 0.5
            segment = self._write(number)
            self._loader.load(segment)
            segment.path.unlink()
            self.num_spans += self._num_requests * 50

    def _write(self, number: int) -> Segment:
        path = self._folder / f"{number:012d}.log"
        with path.open("wb") as file:
            for i in range(self._num_requests):
                at = time.time_ns() // 1000 + i
                body = pack(LoggedRequest(TRACES, "p", at, 50, random.choice(self._made).fresh()))
                file.write(struct.pack("<II", len(body), zlib.crc32(body)) + body)
        return Segment(path, number, path.stat().st_size)


def measure(store: Store, title: str) -> list[str]:
    """One table of all questions."""
    lines = [f"| {title} | median ms | slowest ms |", "|---|---|---|"]
    for name, ask in questions(store).items():
        ask()
        times = []
        for _ in range(7):
            began = time.perf_counter()
            ask()
            times.append((time.perf_counter() - began) * 1e3)
        lines.append(f"| {name} | {statistics.median(times):.0f} | {max(times):.0f} |")
    return lines


def report(folder: Path, calls: int, rate: int) -> list[str]:
    """The whole report over the store in a folder, filled where it is new."""
    is_new = not (folder / "store").exists()
    store = open_store(f"chdb://{(folder / 'store').absolute()}", threads=2)
    began = time.perf_counter()
    if is_new:
        fill(store, calls)
    filled = time.perf_counter() - began
    size = store.rows(
        "SELECT sum(bytes_on_disk) AS b, sum(rows) AS n FROM system.parts WHERE active AND table = 'spans'"
    )[0]
    lines = [
        f"{size['n']:,} calls of 30 days ({size['b'] / size['n']:,.0f} B a call on disk, filled in {filled:.0f} s), two threads a query.",
        "",
    ]
    lines += measure(store, "question")
    if rate:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as log, Loading(store, Path(log), rate) as loading:
            loaded = measure(store, "question, while spans come in")
        lines += [
            "",
            f"{loading.num_spans / (time.perf_counter() - began):,.0f} spans/s were stored beside these:",
            "",
            *loaded,
        ]
    store.close()
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--loaded", type=int, default=0, metavar="SPANS_PER_SECOND")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        text = "\n".join(report(folder, args.calls, args.loaded)) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
