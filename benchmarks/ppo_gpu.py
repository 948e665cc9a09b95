"""PPO on a GPU: seconds per rollout step at 0.5 B and 1 B Llama shapes, 256 x (256 + 256) tokens, 1 and 4 epochs; peak memory.

    python benchmarks/ppo_gpu.py [--shape 0.5b|1b|tiny] [--epochs 1 4] [--steps 3] [--device cuda]

Random weights and prompts, bfloat16, checkpointed activations, sampling by the static cache with CUDA graphs. The first step is
left out: it records the graphs. `--shape tiny --device cpu` tries the script itself, on a machine without a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from heedloop.schema import Message, PromptRow, Run
from heedloop_trainer.generation.cached import CachedGenerator, SamplingConfig
from heedloop_trainer.generation.static import StaticGenerator
from heedloop_trainer.nn.models import RewardModel, checkpoint_activations
from heedloop_trainer.nn.optimiser import OptimiserConfig
from heedloop_trainer.ppo.train import PPOConfig, train_ppo
from heedloop_trainer.runs.folder import RunFolder
from ppo import make_prompts, make_tokenizer

SHAPES = {
    "0.5b": {"hidden": 1024, "layers": 24, "heads": 16, "inner": 4096},
    "1b": {"hidden": 2048, "layers": 16, "heads": 32, "inner": 8192},
    "tiny": {"hidden": 64, "layers": 2, "heads": 4, "inner": 128},
}
VOCAB, BATCH, LENGTH = 32_000, 256, 256


def make_model(name: str, seed: int, *, device: str, classifier: bool = False):
    """A Llama of the shape with random weights, on the device."""
    shape = SHAPES[name]
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=shape["hidden"],
        intermediate_size=shape["inner"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        max_position_embeddings=2 * LENGTH,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,  # nothing stops a response
        num_labels=1,
    )
    made = (LlamaForSequenceClassification if classifier else LlamaForCausalLM)(config).to(device)
    return made if classifier else checkpoint_activations(made)


class Clock(RunFolder):
    """When each rollout step ended."""

    def __init__(self) -> None:
        super().__init__(Run(id="bench", method="ppo"), None)
        self.ends = [time.perf_counter()]

    def log(self, step: int, **metrics: float) -> None:
        super().log(step, **metrics)
        self.ends.append(time.perf_counter())


def seconds_per_step(name: str, epochs: int, steps: int, device: str, batch: int, length: int) -> float:
    """The median of the steps after the first."""
    policy = make_model(name, 0, device=device)
    tokenizer = make_tokenizer(VOCAB)
    ids = make_prompts({"vocab": VOCAB, "prompt": length}, batch)
    prompts = [PromptRow((Message("user", " ".join(f"w{i}" for i in row)),)) for row in ids]
    config = PPOConfig(
        num_rollouts=steps + 1,
        batch_size=batch,
        epochs=epochs,
        minibatches=1,
        kl_stop=None,
        truncation="score",
        missing_end_penalty=0.0,
        normalise_on_reference=False,
        sampling=SamplingConfig(length, batch_size=batch),
        actor=OptimiserConfig(1e-6),
        critic=OptimiserConfig(1e-6),
        max_tokens=16_384,
        bfloat16=device != "cpu",
    )
    reward = RewardModel(make_model(name, 1, device=device, classifier=True), tokenizer)
    value = make_model(name, 2, device=device, classifier=True)
    generator = (
        CachedGenerator(policy, frozenset()) if device == "cpu" else StaticGenerator(policy, frozenset())
    )
    clock = Clock()
    train_ppo(
        config, prompts, policy, tokenizer, reward_model=reward, value_model=value, generator=generator, run=clock
    )  # fmt: skip
    return statistics.median(b - a for a, b in itertools.pairwise(clock.ends[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", nargs="+", choices=tuple(SHAPES), default=["0.5b", "1b"])
    parser.add_argument("--epochs", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a prompt, and of a response")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    if args.device != "cpu" and not torch.cuda.is_available():
        print("skipped: torch sees no GPU here; --shape tiny --device cpu tries the script itself")
        return
    where = torch.cuda.get_device_name() if args.device != "cpu" else "cpu"
    print(f"{where}, torch {torch.__version__}, {args.batch} x ({args.length} + {args.length})\n")
    print("| shape | epochs | s per rollout step | peak memory, GiB |\n|---|---|---|---|")
    for name, epochs in itertools.product(args.shape, args.epochs):
        if args.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        took = seconds_per_step(name, epochs, args.steps, args.device, args.batch, args.length)
        peak = torch.cuda.max_memory_allocated() / 2**30 if args.device != "cpu" else float("nan")
        print(f"| {name} | {epochs} | {took:.2f} | {peak:.1f} |")


if __name__ == "__main__":
    main()
