"""Runs `heedloop demo` for three seeds and prints the Markdown table of BENCHMARKS.md.

    python benchmarks/demo_seeds.py [--seeds 1 2 3] [--reports FOLDER]

Each seed is a whole demo in a process of its own: another base model, other users, other questions. The rates are those that the
server gave for fresh simulated users on held-out questions. With `--reports`, seeds whose report is already there are not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--reports", type=Path, help="folder of the reports; a temporary one where not given")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="demo-seeds-") as temporary:
        folder = args.reports or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        reports = [report_of(seed, folder) for seed in args.seeds]
    print(table(reports))
    failures = [r["seed"] for r in reports if not holds(r)]
    if failures:
        print(f"\nThe goal does not hold for seed {', '.join(map(str, failures))}.")
    return 1 if failures else 0


def report_of(seed: int, folder: Path) -> dict[str, Any]:
    """The report of one seed, run now unless it is there already."""
    path = folder / f"demo-seed-{seed}.json"
    if not path.exists():
        started = time.perf_counter()
        command = [sys.executable, "-m", "heedloop_cli.main", "demo", "--no-serve", "--seed", str(seed)]
        subprocess.run([*command, "--report", str(path)], check=True, stdout=sys.stderr)
        report = json.loads(path.read_text())
        report["command_s"] = time.perf_counter() - started
        path.write_text(json.dumps(report, indent=2) + "\n")
    return json.loads(path.read_text())


def holds(report: dict[str, Any]) -> bool:
    """The goal: PPO above base with intervals apart, PPO not below SFT, no held-out question in the training snapshots."""
    base, sft, ppo = (stage["rate"] for stage in report["stages"])
    return ppo["low"] > base["high"] and ppo["estimate"] >= sft["estimate"] and report["num_leaked"] == 0


def table(reports: list[dict[str, Any]]) -> str:
    """One line per seed."""
    lines = [
        "| seed | base | after SFT | after PPO | rated answers (base, SFT, PPO) | KL SFT‖base, PPO‖SFT | held-out accuracy: reward model | bag of words | wall | processor |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in reports:
        rates = " | ".join(percent(s["rate"]) for s in r["stages"])
        rated = ", ".join(str(s["num_rated"]) for s in r["stages"])
        kl = ", ".join(f"{s['kl']:.2f}" for s in r["stages"] if s["kl"] is not None)
        found = [r["reward_accuracy"].get(name) for name in ("reward model", "bag of words")]
        accuracy = " | ".join(percent(a) if a else "" for a in found)
        wall = r.get("command_s") or sum(lap["wall_s"] for lap in r["laps"])
        cpu = sum(lap["cpu_s"] for lap in r["laps"])
        lines.append(f"| {r['seed']} | {rates} | {rated} | {kl} | {accuracy} | {wall:.0f} s | {cpu:.0f} s |")
    return "\n".join(lines)


def percent(found: dict[str, float]) -> str:
    return f"{100 * found['estimate']:.1f}% [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
