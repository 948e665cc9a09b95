"""`heedloop import` of many judgements into an embedded server: rate, processor time, memory, and what a kill leaves.

    python benchmarks/imports.py [--num 1000000] [--form scores|pairs] [--kills 3]

`scores` are Langfuse scores alone (a thumb each, 9 of 10 of named users, on traces that are elsewhere); `pairs` are comparisons
that bring their two answers. With `--kills` the importer is killed (SIGKILL) so often at random moments and started again; the
store must hold every judgement once. Processor seconds are those of importer and server together: a machine that does other
work at the same time lengthens the wall clock, not them. Prints one line of Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heedloop.client import Client

HEEDLOOP = [sys.executable, "-m", "heedloop_cli.main"]


def write_rows(path: Path, num: int, form: str) -> None:
    """A file of `num` judgements."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(num):
            time_of_score = f"2026-{n % 9 + 1:02}-{n % 28 + 1:02}T{n % 24:02}:{n % 60:02}:00Z"
            score = {
                "id": f"s{n}",
                "projectId": "p",
                "name": "user-feedback",
                "source": "API",
                "dataType": "BOOLEAN",
            }
            score |= {"timestamp": time_of_score, "value": n % 3 > 0, "authorUserId": None, "comment": None}
            score |= {"metadata": {"user_id": f"u{n % 90_000}"} if n % 10 else {}}
            score |= {"subject": {"kind": "trace", "id": f"{n + 1:032x}"}}
            answers = {"chosen": f"Two days, and {n % 97} hours.", "rejected": f"Soon, order {n}."}
            pair = {
                "id": n,
                "prompt": f"How long is the delivery of order {n}?",
                "created_at": time_of_score,
                **answers,
            }
            file.write(json.dumps(score if form == "scores" else pair) + "\n")


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, str, int]]:
    """A server with its data in `folder`: its address, its first key, its process."""
    key_file = folder / "key"
    command = [*HEEDLOOP, "serve", "--data", str(folder / "data"), "--port", "0", "--key-file", str(key_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        address = next(
            m[1] for line in process.stdout or () if (m := re.search(r"serves on (http://\S+)", line))
        )
        try:
            yield address, key_file.read_text().strip(), process.pid
        finally:
            process.terminate()


def cpu_of(pid: int) -> float:
    """Processor seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def import_file(path: Path, environment: dict[str, str], kills: int) -> None:
    """The import, killed so often first; raises where the last one fails."""
    command = [*HEEDLOOP, "import", str(path)]
    for _ in range(kills):
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as importer:
            try:
                importer.wait(random.uniform(3, 20))
            except subprocess.TimeoutExpired:
                importer.kill()
    subprocess.run(command, env=environment, check=True)


def settled(client: Client, num: int) -> int:
    """How many judgements the ledger counts, which follows some seconds behind the store."""
    until = time.monotonic() + 60
    while (stored := client.ledger().feedback.stored) < num and time.monotonic() < until:
        time.sleep(1)
    return stored


def main() -> None:
    """Make, import, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num", type=int, default=1_000_000)
    parser.add_argument("--form", choices=("scores", "pairs"), default="scores")
    parser.add_argument("--kills", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = folder / "rows.jsonl"
        write_rows(rows, args.num, args.form)
        with server(folder) as (url, key, pid):
            environment = {
                **os.environ,
                "HEEDLOOP_URL": url,
                "HEEDLOOP_API_KEY": key,
                "XDG_STATE_HOME": str(folder),
            }
            began, cpu = time.monotonic(), cpu_of(pid)
            import_file(rows, environment, args.kills)
            took = time.monotonic() - began
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = cpu_of(pid) - cpu, used.ru_utime + used.ru_stime
            stored = settled(Client(url, key), args.num)
    assert stored == args.num, f"{stored:,} stored of {args.num:,}"
    both = sum(seconds)
    print(
        f"| {args.form} | {args.num:,} | {args.kills} | {args.num / took:,.0f}/s | {2 * args.num / both:,.0f}/s on two cores |"
        f" server {seconds[0]:,.0f} s, importer {seconds[1]:,.0f} s | {used.ru_maxrss / 1024:,.0f} MB |"
    )


if __name__ == "__main__":
    main()
