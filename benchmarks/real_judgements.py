"""Real human judgements, the whole road: import, counts, snapshot, reward models from scratch beside their baselines.

    HEEDLOOP_SHARED=../shared python benchmarks/real_judgements.py [--sets hh_harmless_pairs,tulu1_human_eval,oasst_sample,ukpconvarg1_pairs]

Starts a server in a temporary folder, imports each file into a project of its own, compares the counts on the server with
those in the file, freezes a snapshot, trains a linear and a small transformer reward model (random weights: nothing is
downloaded) on its train split, and prints held-out accuracy with 95% intervals as Markdown. Splits are by prompt group.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heedloop.client import Client

SETS = ("hh_harmless_pairs", "tulu1_human_eval", "oasst_sample", "ukpconvarg1_pairs")
BASELINES = ("chance", "longer answer wins", "bag of words")
HEEDLOOP = [sys.executable, "-m", "heedloop._cli"]


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, str]]:
    """A server with its data in `folder`: its address and its first key."""
    key_file = folder / "key"
    command = [*HEEDLOOP, "serve", "--data", str(folder / "data"), "--port", "0", "--key-file", str(key_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if found := re.search(r"serves on (http://\S+)", line):
                break
        else:
            raise SystemExit("the server did not start")
        try:
            yield found[1], key_file.read_text().strip()
        finally:
            process.terminate()


def heedloop(url: str, key: str, *args: str) -> str:
    """Output of one `heedloop` command; ends the benchmark where it fails."""
    env = {**os.environ, "HEEDLOOP_URL": url, "HEEDLOOP_API_KEY": key, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([*HEEDLOOP, *args], env=env, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"heedloop {' '.join(args)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def import_set(url: str, first_key: str, name: str, shared: Path) -> tuple[str, dict[str, int]]:
    """Import one file into a new project: the project's key, and the balance that the command printed."""
    out = heedloop(url, first_key, "import", str(shared / "data" / f"{name}.jsonl.gz"), "--project", name)
    key = re.search(r"hl_\w{12}_[\w-]+", out)
    balance = re.search(r"rows\s+([\d,]+) read.*?judgements\s+([\d,]+) sent = ([\d,]+) stored", out, re.S)
    if key is None or balance is None:
        raise SystemExit(f"unexpected output of import:\n{out}")
    rows, sent, stored = (int(n.replace(",", "")) for n in balance.groups())
    return key[0], {"rows": rows, "judgements": sent, "stored": stored}


def count_on_server(client: Client) -> int:
    """Feedback that the server lists, of all kinds."""
    return sum(1 for _ in client.iter_feedback(since="2000-01-01T00:00:00Z"))


def train(url: str, key: str, method: str, out: Path, snapshot: str, *args: str) -> tuple[dict, float]:
    """One run: its evaluation, and the seconds it took."""
    start = time.perf_counter()
    heedloop(url, key, "train", method, "--snapshot", snapshot, "--out", str(out), "--seed", "1", *args)
    return json.loads((out / "run.json").read_text())["evaluation"], time.perf_counter() - start


def cell(found: dict) -> str:
    """An accuracy with its interval."""
    if "low" not in found:
        return f"{found['estimate']:.3f}"
    return f"{found['estimate']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--epochs", default="1")
    args = parser.parse_args()
    shared = os.environ.get("HEEDLOOP_SHARED")
    if not shared:
        print("HEEDLOOP_SHARED names no folder with the real judgements: nothing to do")
        return
    counts, table = [], []
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (url, first_key):
        for name in args.sets.split(","):
            key, balance = import_set(url, first_key, name, Path(shared))
            client = Client(url, key, timeout_s=600)
            counts.append((name, balance, count_on_server(client)))
            snapshot = client.create_snapshot(name, filters={"since": "2000-01-01T00:00:00Z"}).id
            out = Path(folder) / name
            small = ("--from-scratch", "tiny", "--epochs", args.epochs, "--max-prompt-tokens", "128",
                     "--max-response-tokens", "192", "--learning-rate", "3e-4")  # fmt: skip
            linear, linear_s = train(url, key, "reward-linear", out / "linear", snapshot)
            neural, neural_s = train(url, key, "reward", out / "tiny", snapshot, *small)
            table.append((name, linear, linear_s, neural, neural_s))
            print(f"{name}: done, linear {linear_s:.0f} s, transformer {neural_s:.0f} s", flush=True)
    print("\n| set | rows in the file | judgements sent | stored | on the server |\n|---|---|---|---|---|")
    for name, b, found in counts:
        print(f"| {name} | {b['rows']:,} | {b['judgements']:,} | {b['stored']:,} | {found:,} |")
    print(
        "\n| set | train / held out | chance | longer wins | TF-IDF logistic | linear reward model | ~1 M transformer from random weights |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, linear, _, neural, _ in table:
        accuracy = neural["accuracy"]
        own = cell(linear["accuracy"]["reward model"]) if "reward model" in linear["accuracy"] else cell(
            next(v for k, v in linear["accuracy"].items() if k not in BASELINES))  # fmt: skip
        print(
            f"| {name} | {neural['num_train']:,} / {neural['num_comparisons']:,} | "
            + " | ".join(cell(accuracy[b]) for b in BASELINES)
            + f" | {own} | {cell(accuracy['reward model'])} |"
        )


if __name__ == "__main__":
    main()
