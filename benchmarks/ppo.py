"""PPO beside TRL 1.12.0 (the last release that has PPO): CPU-seconds per rollout step and until a known optimum, peak memory.

    python benchmarks/ppo.py [--quick] [--only cost|optimum] [--seeds N] [--peer PYTHON]

Same model, prompts, lengths, batch and epochs, one thread, the two sides alternating in processes of their own. TRL is
installed into a virtual environment of its own under --peers (made on the first run); `--peer PYTHON` names an
interpreter that has it already.

- cost: Llama shape 4 x 256 (4.3 M parameters, vocabulary 2,048), 32 prompts of 64 tokens + 64 response tokens, 2 epochs,
  1 minibatch, actor and critic. CPU-seconds per rollout step, without the first.
- optimum: reward = share of even token ids of 16, whose KL-regularised optimum is 0.998; 64 responses per rollout, learning
  rate 1e-3, beta 0.01. CPU-seconds until a rollout's mean reaches 0.9: TRL with its 4 epochs (its num_mini_batches does
  nothing), ours with the same 4 epochs, and ours with 2 epochs x 2 minibatches that really step.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

TRL = "trl==1.12.0"
COST = {"hidden": 256, "layers": 4, "vocab": 2048, "prompt": 64, "response": 64, "batch": 32, "epochs": 2}
OPTIMUM = {"hidden": 64, "layers": 2, "vocab": 256, "prompt": 8, "response": 16, "batch": 64, "epochs": 4}
GOAL = 0.9


def make_model(shape: dict[str, int], seed: int, classifier: bool = False):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=shape["vocab"],
        hidden_size=shape["hidden"],
        intermediate_size=3 * shape["hidden"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=4,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,  # nothing stops a response: both sides write the same number of tokens
        num_labels=1,
    )
    return (LlamaForSequenceClassification if classifier else LlamaForCausalLM)(config)


def make_tokenizer(vocab: int):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<end>": 1, **{f"w{i}": i for i in range(2, vocab)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    made.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return made


def make_prompts(shape: dict[str, int], count: int) -> list[list[int]]:
    import numpy as np

    return np.random.default_rng(0).integers(2, shape["vocab"], (count, shape["prompt"])).tolist()


class Meter:
    """CPU-seconds and scores by rollout step; ends the process's work when the goal is reached."""

    def __init__(self, steps: int, goal: float | None) -> None:
        self.rows: list[tuple[float, float]] = []
        self.steps, self.goal = steps, goal
        self.start = time.process_time()

    def done(self, score: float) -> bool:
        self.rows.append((time.process_time() - self.start, score))
        return len(self.rows) >= self.steps or (self.goal is not None and score >= self.goal)

    def report(self) -> dict[str, float | int | None]:
        times = [t for t, _ in self.rows]
        gaps = [b - a for a, b in itertools.pairwise(times)]
        reached = [
            (i + 1, t) for i, (t, s) in enumerate(self.rows) if self.goal is not None and s >= self.goal
        ]
        return {
            "cpu_s_per_step": statistics.median(gaps) if gaps else times[0],
            "rollouts_to_goal": reached[0][0] if reached else None,
            "cpu_s_to_goal": reached[0][1] if reached else None,
            "last_score": self.rows[-1][1],
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


class Reached(Exception):
    pass


def even_share(ids: list[int]) -> float:
    return sum(i % 2 == 0 for i in ids) / len(ids)


def ours(task: str, seed: int, steps: int, minibatches: int, epochs: int) -> dict:
    from heedloop.schema import Message, PromptRow
    from heedloop_trainer.generation.cached import CachedGenerator, SamplingConfig
    from heedloop_trainer.nn.models import RewardModel
    from heedloop_trainer.nn.optimiser import OptimiserConfig
    from heedloop_trainer.ppo.train import PPOConfig, train_ppo
    from heedloop_trainer.runs.folder import RunFolder

    shape = COST if task == "cost" else OPTIMUM
    tokenizer, policy = make_tokenizer(shape["vocab"]), make_model(shape, seed)
    prompts = [
        PromptRow((Message("user", " ".join(f"w{i}" for i in ids)),)) for ids in make_prompts(shape, 512)
    ]
    meter = Meter(steps, GOAL if task == "optimum" else None)

    class Run(RunFolder):
        def log(self, step: int, **metrics: float) -> None:
            super().log(step, **metrics)
            if meter.done(metrics["objective/score"]):
                raise Reached

    from heedloop.schema import Run as Record

    config = PPOConfig(
        num_rollouts=steps,
        batch_size=shape["batch"],
        epochs=epochs,
        minibatches=minibatches,
        kl_coefficient=0.05 if task == "cost" else 0.01,
        kl_stop=None if task == "cost" else 0.05,
        truncation="score",
        missing_end_penalty=0.0,
        normalise_on_reference=False,
        sampling=SamplingConfig(shape["response"], batch_size=shape["batch"], seed=seed),
        actor=OptimiserConfig(1e-3),
        critic=OptimiserConfig(1e-3),
        max_tokens=8192,
        seed=seed,
    )
    reward = RewardModel(make_model(shape, seed + 1, classifier=True), tokenizer) if task == "cost" else None
    value = make_model(shape, seed + 2, classifier=True)
    function = None if task == "cost" else lambda rs: [even_share(r.token_ids) for r in rs]
    with contextlib.suppress(Reached):
        train_ppo(
            config, prompts, policy, tokenizer, reward_model=reward, reward_function=function, value_model=value,
            generator=CachedGenerator(policy, frozenset()), run=Run(Record(id="bench", method="ppo"), None),
        )  # fmt: skip
    return meter.report()


def theirs(task: str, seed: int, steps: int, epochs: int, folder: Path) -> dict:
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    import torch
    from datasets import Dataset
    from torch import nn
    from transformers import TrainerCallback
    from transformers.modeling_outputs import BaseModelOutput
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    shape = COST if task == "cost" else OPTIMUM
    meter = Meter(steps, GOAL if task == "optimum" else None)

    class EvenBody(nn.Module):
        """As a reward model's body: the share of even response tokens so far, as the one hidden state."""

        def forward(self, input_ids, **_):
            even = (input_ids[:, shape["prompt"] :] % 2 == 0).float()
            share = even.cumsum(1) / torch.arange(1, even.shape[1] + 1)
            return BaseModelOutput(
                hidden_states=(nn.functional.pad(share, (shape["prompt"], 0))[:, :, None],)
            )

    class Even(nn.Module):
        base_model_prefix = "body"

        def __init__(self) -> None:
            super().__init__()
            self.body, self.anchor = EvenBody(), nn.Parameter(torch.zeros(1))

        def score(self, hidden):
            return hidden

    class Watch(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if logs and "objective/scores" in logs and meter.done(float(logs["objective/scores"])):
                raise Reached

    config = PPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=shape["batch"],
        gradient_accumulation_steps=1,
        num_mini_batches=1,
        num_ppo_epochs=epochs,
        total_episodes=shape["batch"] * (steps + 1),
        response_length=shape["response"],
        local_rollout_forward_batch_size=shape["batch"],
        temperature=1.0,
        kl_coef=0.05 if task == "cost" else 0.01,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        missing_eos_penalty=None,
        num_sample_generations=0,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        bf16=False,
        use_cpu=True,
        seed=seed,
    )
    rows = Dataset.from_dict({"input_ids": make_prompts(shape, 512)})
    reward = make_model(shape, seed + 1, classifier=True) if task == "cost" else Even()
    trainer = PPOTrainer(
        args=config,
        processing_class=make_tokenizer(shape["vocab"]),
        model=make_model(shape, seed),
        ref_model=make_model(shape, seed),
        reward_model=reward,
        value_model=make_model(shape, seed + 2, classifier=True),
        train_dataset=rows,
        eval_dataset=rows.select(range(8)),
        callbacks=[Watch()],
    )
    meter.start = time.process_time()
    with contextlib.suppress(Reached):
        trainer.train()
    return meter.report()


def peer_python(folder: Path, package: str = TRL) -> str:
    """A virtual environment with TRL that shares this one's torch and transformers."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        site = next((folder / "lib").glob("python3*")) / "site-packages"
        here = next(p for p in sys.path if p.endswith("site-packages"))
        (site / "base.pth").write_text(here + "\n")
        subprocess.run([python, "-m", "pip", "install", "-q", package, "datasets"], check=True)
    return str(python)


def child(python: str, *args: object) -> dict:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([python, __file__, *map(str, args)], env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{args}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare_cost(python: str, seeds: int, steps: int) -> None:
    """CPU-seconds and memory of a rollout step at equal settings."""
    sides = {"TRL 1.12.0": (python, "trl"), "heedloop": (sys.executable, "ours")}
    cost: dict[str, list[dict]] = {name: [] for name in sides}
    for seed in range(seeds):
        for name, (interpreter, side) in sides.items():
            args = ("--side", side, "--task", "cost", "--seed", seed, "--steps", steps)
            cost[name].append(child(interpreter, *args))
    print("\n| per rollout step (32 x (64 + 64), 2 epochs) | CPU-s | peak memory, MiB |\n|---|---|---|")
    for name, found in cost.items():
        print(f"| {name} | {median(found, 'cpu_s_per_step'):.2f} | {median(found, 'peak_mib'):.0f} |")


def compare_optimum(python: str, seeds: int, steps: int) -> None:
    """CPU-seconds until the task with the known optimum is nearly solved."""
    variants = {
        "TRL 1.12.0, 4 epochs": (python, "trl", 4, 1),
        "heedloop, 4 epochs x 1 minibatch": (sys.executable, "ours", 4, 1),
        "heedloop, 2 epochs x 2 minibatches": (sys.executable, "ours", 2, 2),
    }
    reached: dict[str, list[dict]] = {name: [] for name in variants}
    for seed in range(seeds):
        for name, (interpreter, side, epochs, minibatches) in variants.items():
            args = ("--side", side, "--task", "optimum", "--seed", seed, "--steps", steps)
            reached[name].append(child(interpreter, *args, "--epochs", epochs, "--minibatches", minibatches))
    print(
        f"\n| until {GOAL} of 1 ({seeds} seeds) | rollouts | CPU-s | peak memory, MiB | reached |\n|---|---|---|---|---|"
    )
    for name, found in reached.items():
        hit = [f for f in found if f["cpu_s_to_goal"] is not None]
        numbers = (
            f"{median(hit, 'rollouts_to_goal'):.0f} | {median(hit, 'cpu_s_to_goal'):.1f}" if hit else "- | -"
        )
        print(f"| {name} | {numbers} | {median(found, 'peak_mib'):.0f} | {len(hit)} of {len(found)} |")


def median(found: list[dict], name: str) -> float:
    return statistics.median(f[name] for f in found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two seeds and one, few steps: three minutes")
    parser.add_argument("--only", choices=("cost", "optimum"), help="one of the two tables")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--peers", type=Path, default=Path.home() / ".cache" / "heedloop-peers" / "trl-1.12.0"
    )
    parser.add_argument("--peer", help="an interpreter that has TRL 1.12.0")
    parser.add_argument("--side", choices=("ours", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--task", choices=("cost", "optimum"), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=6, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=2, help=argparse.SUPPRESS)
    parser.add_argument("--minibatches", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side is None:
        python = args.peer or peer_python(args.peers)
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, one thread each, medians; load {os.getloadavg()[0]:.1f}"
        )
        if args.only in (None, "cost"):
            compare_cost(python, 1 if args.quick else 2, 3 if args.quick else 6)
        if args.only in (None, "optimum"):
            compare_optimum(python, 2 if args.quick else args.seeds, 60)
        return
    import torch

    torch.set_num_threads(1)
    if args.side == "ours":
        found = ours(args.task, args.seed, args.steps, args.minibatches, args.epochs)
    else:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            found = theirs(args.task, args.seed, args.steps, args.epochs, Path(folder))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
