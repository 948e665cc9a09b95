"""The reward model beside the newest TRL: CPU-seconds per batch of pairs and peak memory.

    python benchmarks/reward.py [--quick] [--peer PYTHON]

Same model (Llama shape 4 x 256, vocabulary 2,048), same pairs, batch of 16, one epoch, same learning rate, one thread, the two
sides alternating in processes of their own. Pairs are random tokens of mixed lengths (32 to 256, as real answers differ in
length) whose first token says which is better, so that both sides can be seen to learn. TRL is installed into a virtual
environment of its own; `--peer PYTHON` names an interpreter that has it already.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ppo import COST, make_model, make_tokenizer, peer_python

BATCH, PAIRS = 16, 160


def make_pairs(count: int) -> list[tuple[str, str, str]]:
    """(prompt, chosen, rejected): chosen answers begin with an even word."""
    rng = random.Random(0)

    def words(first: int) -> str:
        return " ".join(
            f"w{i}" for i in [first, *(rng.randrange(2, COST["vocab"]) for _ in range(rng.randint(31, 255)))]
        )

    return [
        (
            " ".join(f"w{rng.randrange(2, COST['vocab'])}" for _ in range(32)),
            words(2 * rng.randrange(1, 8)),
            words(2 * rng.randrange(1, 8) + 1),
        )
        for _ in range(count)
    ]


def ours(pairs: int) -> dict[str, float]:
    from heedloop.schema import Comparison, Message
    from heedloop_trainer.methods.reward import RewardConfig, train_reward
    from heedloop_trainer.nn.optimiser import OptimiserConfig

    tokenizer = make_tokenizer(COST["vocab"])
    model = make_model(COST, 0, classifier=True)
    rows = [Comparison((Message("user", p),), c, r) for p, c, r in make_pairs(pairs)]
    config = RewardConfig(
        epochs=1, batch_size=BATCH, optimiser=OptimiserConfig(1e-3), ties="drop", max_tokens=8192
    )
    start = time.process_time()
    result = train_reward(config, rows, model, tokenizer)
    return report(start, pairs, result.history[-1]["loss"])


def theirs(pairs: int) -> dict[str, float]:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    tokenizer = make_tokenizer(COST["vocab"])
    names = ("prompt", "chosen", "rejected")
    rows = [dict(zip(names, (p + " ", c, r), strict=True)) for p, c, r in make_pairs(pairs)]
    with tempfile.TemporaryDirectory() as folder:
        config = RewardConfig(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            max_length=512,
            center_rewards_coefficient=0.01,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
        )
        trainer = RewardTrainer(
            model=make_model(COST, 0, classifier=True),
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        start = time.process_time()
        trainer.train()
        losses = [r["loss"] for r in trainer.state.log_history if "loss" in r]
    return report(start, pairs, losses[-1])


def report(start: float, pairs: int, loss: float) -> dict[str, float]:
    return {
        "cpu_s_per_batch": (time.process_time() - start) / (pairs / BATCH),
        "last_loss": float(loss),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def child(python: str, side: str, pairs: int) -> dict[str, float]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [python, __file__, "--side", side, "--pairs", str(pairs)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round, few pairs")
    parser.add_argument("--peers", type=Path, default=Path.home() / ".cache" / "heedloop-peers" / "trl")
    parser.add_argument("--peer", help="an interpreter that has TRL")
    parser.add_argument("--side", choices=("ours", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--pairs", type=int, default=PAIRS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side is not None:
        import torch

        torch.set_num_threads(1)
        print(json.dumps(ours(args.pairs) if args.side == "ours" else theirs(args.pairs)))
        return
    python = args.peer or peer_python(args.peers, "trl")
    sides = {"TRL (newest)": (python, "trl"), "heedloop": (sys.executable, "ours")}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(1 if args.quick else 3):
        for name, (interpreter, side) in sides.items():
            found[name].append(child(interpreter, side, 64 if args.quick else args.pairs))
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, one thread each; medians\n")
    print(
        f"| reward model, batches of {BATCH} pairs | CPU-s per batch | last loss | peak memory, MiB |\n|---|---|---|---|"
    )
    for name, rows in found.items():
        numbers = [
            statistics.median(r[n] for r in rows) for n in ("cpu_s_per_batch", "last_loss", "peak_mib")
        ]
        print(f"| {name} | {numbers[0]:.2f} | {numbers[1]:.3f} | {numbers[2]:.0f} |")


if __name__ == "__main__":
    main()
