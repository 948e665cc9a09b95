"""Real human judgements, the whole road: import, counts, snapshot, reward models from scratch beside their baselines.

    HEEDLOOP_SHARED=../shared python benchmarks/real_judgements.py [--sets hh_harmless_pairs,tulu1_human_eval,…] [--linear-only]

Starts a server in a temporary folder, imports each file into a project of its own, compares the counts on the server with
those in the file, freezes a snapshot, trains a linear and a small transformer reward model (random weights: nothing is
downloaded) on its train split, evaluates both again with `heedloop train evaluate`, and prints held-out accuracy with 95%
intervals as Markdown. Splits are by prompt group.

UKPConvArg1's pairs are frozen with `near_duplicate=1` (each of the 32 topics is a prompt group) and `consensus=majority` (one
row per pair, weighted by agreement); `--cross-validate` trains on 31 topics and tests on the other, 32 times. The published
accuracy is on the 11,650 "strict" pairs, so those margins are scored against their gold as well. The visitors' own thumbs
(ukpconvarg1_args) make comparisons of their own.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from heedloop.client import Client
from heedloop.schema import Comparison
from heedloop_trainer.evaluation.calibration import calibration_error
from heedloop_trainer.evaluation.estimates import cluster_bootstrap

SETS = ("oasst_sample", "tulu1_human_eval", "hh_harmless_pairs", "ukpconvarg1_args", "ukpconvarg1_pairs")
RULES = {
    "ukpconvarg1_args": {"near_duplicate": 1},
    "ukpconvarg1_pairs": {"near_duplicate": 1, "consensus": "majority"},
}
BASELINES = ("chance", "longer answer wins", "bag of words")
HEEDLOOP = [sys.executable, "-m", "heedloop_cli.main"]


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
    """Output of one `heedloop` command, whose progress and errors pass to ours; ends the benchmark where it fails."""
    env = {"OMP_NUM_THREADS": "2", **os.environ, "HEEDLOOP_URL": url, "HEEDLOOP_API_KEY": key}
    done = subprocess.run([*HEEDLOOP, *args], env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"heedloop {' '.join(args)}:\n{done.stdout}")
    return done.stdout


def import_set(url: str, first_key: str, name: str, shared: Path) -> tuple[str, dict[str, int]]:
    """Import one file into a new project: the project's key, and the balance that the command printed."""
    out = heedloop(url, first_key, "import", str(shared / "data" / f"{name}.jsonl.gz"), "--project", name)
    key = re.search(r"hl_\w{12}_[\w-]+", out)
    balance = re.search(
        r"rows\s+([\d,]+) read.*?judgements\s+([\d,]+) read = ([\d,]+) stored.*?([\d,]+) left out", out, re.S
    )
    if key is None or balance is None:
        raise SystemExit(f"unexpected output of import:\n{out}")
    rows, read, stored, left_out = (int(n.replace(",", "")) for n in balance.groups())
    return key[0], {"rows": rows, "judgements": read - left_out, "stored": stored}


def count_on_server(client: Client) -> int:
    """Feedback that the server lists, of all kinds."""
    return sum(1 for _ in client.iter_feedback(since="2000-01-01T00:00:00Z"))


def train(url: str, key: str, method: str, out: Path, snapshot: str, *args: str) -> tuple[dict, float]:
    """One run: its evaluation, and the seconds it took."""
    start = time.perf_counter()
    seed = () if method == "evaluate" else ("--seed", "1")
    heedloop(url, key, "train", method, "--snapshot", snapshot, "--out", str(out), *seed, *args)
    manifest = json.loads((out / "run.json").read_text())
    return manifest.get("evaluation", {}), time.perf_counter() - start


def cell(found: dict) -> str:
    """An accuracy with its interval."""
    if "low" not in found:
        return f"{found['estimate']:.3f}"
    return f"{found['estimate']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def against_gold(shared: Path, rows: list[Comparison], margins_file: Path) -> str:
    """Cross-validated margins of UKPConvArg1 against the published strict gold: one line."""
    data = shared / "data"
    text = {(a["topic"], a["arg"]): a["text"] for a in lines(data / "ukpconvarg1_args.jsonl.gz")}
    with margins_file.open(encoding="utf-8", newline="") as file:
        margins = [float(r["margin"]) for r in csv.DictReader(file)]
    found = {(r.chosen, r.rejected): m for r, m in zip(rows, margins, strict=True)}
    by_topic: dict[str, list[float]] = {}
    for pair in lines(data / "ukpconvarg1_pairs.jsonl.gz"):
        if pair["strict"] is None:
            continue
        names = ("a1", "a2") if pair["strict"] == "a1" else ("a2", "a1")
        better, worse = (text[pair["topic"], pair[n]] for n in names)
        margin = found.get((better, worse), -found.get((worse, better), math.nan))
        by_topic.setdefault(pair["topic"], []).append(margin)
    every = np.array([m for topic in by_topic.values() for m in topic])
    missing = int(np.isnan(every).sum())
    macro = np.mean([np.mean([m > 0 for m in topic if m == m]) for topic in by_topic.values()])
    known = every[~np.isnan(every)]
    interval = cluster_bootstrap((every > 0).astype(float), [t for t, ms in by_topic.items() for _ in ms])
    return (
        f"UKPConvArg1, {len(every):,} strict pairs ({missing} not in the snapshot), {len(by_topic)} topics: macro {macro:.4f}, "
        f"micro {interval.text} by topic, expected calibration error {calibration_error(known):.4f} (published SVM 0.78; known 0.795)"
    )


def lines(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


SMALL = (
    "--from-scratch", "tiny", "--max-prompt-tokens", "128", "--max-response-tokens", "192", "--learning-rate", "3e-4",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--epochs", default="1")
    parser.add_argument("--linear-only", action="store_true", help="leave the transformer out")
    args = parser.parse_args()
    shared = os.environ.get("HEEDLOOP_SHARED")
    if not shared:
        print("HEEDLOOP_SHARED names no folder with the real judgements: nothing to do")
        return
    counts, table, gold = [], [], ""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (url, first_key):
        for name in args.sets.split(","):
            key, balance = import_set(url, first_key, name, Path(shared))
            client = Client(url, key, timeout_s=600)
            counts.append((name, balance, count_on_server(client)))
            every = {"since": "2000-01-01T00:00:00Z"}
            snapshot = client.create_snapshot(name, filters=every, rules=RULES.get(name)).id
            out = Path(folder) / name
            folds = ("--cross-validate",) if name == "ukpconvarg1_pairs" else ()
            linear, linear_s = train(url, key, "reward-linear", out / "linear", snapshot, *folds)
            neural, neural_s = {}, 0.0
            judges = ["--reward-model", str(out / "linear" / "checkpoint")]
            if not args.linear_only:
                neural, neural_s = train(
                    url, key, "reward", out / "tiny", snapshot, *SMALL, "--epochs", args.epochs
                )
                judges += ["--reward-model", str(out / "tiny" / "checkpoint")]
            judged, _ = train(url, key, "evaluate", out / "evaluation", snapshot, *judges)
            if name == "ukpconvarg1_pairs":
                rows = list(client.snapshot_rows(snapshot, "comparisons"))
                gold = against_gold(Path(shared), rows, out / "linear" / "cross_validation.csv")
            table.append((name, linear, neural, judged))
            print(f"{name}: done, linear {linear_s:.0f} s, transformer {neural_s:.0f} s", flush=True)
    report(counts, table)
    print(f"\n{gold}")


def report(counts: list, table: list) -> None:
    """Both tables as Markdown."""
    print("\n| set | rows in the file | judgements sent | stored | on the server |\n|---|---|---|---|---|")
    for name, b, found in counts:
        print(f"| {name} | {b['rows']:,} | {b['judgements']:,} | {b['stored']:,} | {found:,} |")
    print(
        "\n| set | train / held out | chance | longer wins | TF-IDF logistic | linear reward model (ECE) | ~1 M transformer from "
        "random weights | ceiling |\n|---|---|---|---|---|---|---|---|"
    )
    for name, linear, neural, judged in table:
        if not linear.get("accuracy"):
            print(f"| {name} | nothing decided is held out | | | | | | |")
            continue
        accuracy, own = linear["accuracy"], linear["accuracy"]["linear reward model"]
        again = [v for k, v in judged["accuracy"].items() if k.endswith("linear/checkpoint")]
        if again != [own]:
            raise SystemExit(f"{name}: evaluate says {again}, training said {own}")
        tiny = cell(neural["accuracy"]["reward model"]) if neural else "-"
        ceiling = linear.get("agreement_ceiling")
        print(
            f"| {name} | {linear['num_train']:,} / {linear['num_comparisons']:,} | "
            + " | ".join(cell(accuracy[b]) for b in BASELINES)
            + f" | {cell(own)} ({linear['calibration_error']:.3f}) | {tiny} | {'-' if ceiling is None else f'{ceiling:.3f}'} |"
        )


if __name__ == "__main__":
    main()
