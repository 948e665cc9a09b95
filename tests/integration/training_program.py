"""A training program for tests that need processes of their own, started once: it imports everything, then forks for each run.

`python training_program.py` reads requests from its standard input, one JSON line each, `{"method": "sft", "folder": "…",
"kill_at": null, "num_ranks": 1}`, and answers each with the exit statuses of its ranks. A run makes the same little model and rows every
time, trains, and leaves the parameters in FOLDER/parameters.safetensors. With `kill_at` it ends itself with SIGKILL as soon as that
step is logged. Several ranks train together, as under torchrun.
"""

import dataclasses
import json
import os
import random
import signal
import socket
import sys
import traceback
from pathlib import Path

import torch
from safetensors.torch import save_file

from heedloop.schema import Comparison, Demonstration, Message, PromptRow
from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.methods.reward import RewardConfig, train_reward
from heedloop_trainer.methods.sft import SFTConfig, train_sft
from heedloop_trainer.nn.distributed import World, full_state, joined
from heedloop_trainer.nn.models import RewardModel
from heedloop_trainer.nn.optimiser import OptimiserConfig
from heedloop_trainer.nn.scratch import SmallShape, small_classifier, small_policy, train_tokenizer
from heedloop_trainer.ppo.train import PPOConfig, train_ppo
from heedloop_trainer.runs.folder import RunFolder

SHAPE = SmallShape(16, 2, 2, 32)
WORDS = ["yes", "no", "the cat", "a dog sits", "why not", "thanks a lot"]


def asked(i: int) -> tuple[Message, ...]:
    return (Message("user", f"{WORDS[i % 6]} {WORDS[i * 5 % 6]}?"),)


class Run(RunFolder):
    """A run that is killed at a step, where asked."""

    kill_at: int | None = None

    def log(self, step: int, **metrics: float) -> None:
        super().log(step, **metrics)
        if step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def main(method: str, folder: Path, kill_at: int | None = None) -> None:
    torch.set_num_threads(1)
    with joined() as world:
        train(method, folder, kill_at, world)


def train(method: str, folder: Path, kill_at: int | None, world: World) -> None:
    tokenizer = train_tokenizer(WORDS, vocab_size=300)
    settings = {"sft": sft_config, "reward": reward_config, "ppo": ppo_config, "rloo": rloo_config}[method]()
    place = folder if world.is_first else folder / f"rank{world.rank}"
    run = Run.create(place, method, config=settings, save_every=2)
    run.kill_at = kill_at
    model = small_classifier(tokenizer, SHAPE) if method == "reward" else small_policy(tokenizer, SHAPE)
    state = TRAIN[method](settings, model, tokenizer, run, world)
    if world.is_first:
        save_file({k: v.contiguous().clone() for k, v in state.items()}, folder / "parameters.safetensors")


def sft_config() -> SFTConfig:
    return SFTConfig(epochs=2, batch_size=5, optimiser=OptimiserConfig(1e-2), max_tokens=64)


def reward_config() -> RewardConfig:
    return RewardConfig(epochs=2, batch_size=5, optimiser=OptimiserConfig(1e-2), max_tokens=64)


def ppo_config() -> PPOConfig:
    return PPOConfig(
        num_rollouts=5,
        batch_size=9,
        epochs=2,
        minibatches=2,
        kl_target=0.5,
        kl_horizon=50,
        max_tokens=64,
        sampling=SamplingConfig(8, batch_size=4),
        actor=OptimiserConfig(1e-2),
        critic=OptimiserConfig(1e-2),
    )


def rloo_config() -> PPOConfig:
    return dataclasses.replace(ppo_config(), estimator="rloo", group_size=3, truncation="score")


def run_sft(config, model, tokenizer, run, world):
    rows = [Demonstration(asked(i), WORDS[(i + 1) % 6] * (1 + i % 3)) for i in range(13)]
    train_sft(config, rows, model, tokenizer, run, world=world)
    return full_state(model)


def run_reward(config, model, tokenizer, run, world):
    rows = [Comparison(asked(i), WORDS[i % 6], WORDS[(i + 1) % 6] * 2, tie=i == 4) for i in range(13)]
    train_reward(config, rows, model, tokenizer, run, world=world)
    return full_state(model)


def run_ppo(config, model, tokenizer, run, world):
    torch.manual_seed(3)
    reward = RewardModel(small_classifier(tokenizer, SHAPE, seed=3), tokenizer)
    prompts = [PromptRow(asked(i)) for i in range(7)]
    train_ppo(config, prompts, model, tokenizer, reward_model=reward, run=run, world=world)
    return full_state(model)


TRAIN = {"sft": run_sft, "reward": run_reward, "ppo": run_ppo, "rloo": run_ppo}


def fork(method: str, folder: str, kill_at: int | None, environment: dict[str, str]) -> int:
    """Train in a process of its own; its id."""
    if child := os.fork():
        return child
    os.dup2(2, 1)  # what a run prints is no answer
    os.environ.update(environment)
    try:
        main(method, Path(folder), kill_at)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def ranks(count: int) -> list[dict[str, str]]:
    """What torchrun tells each of its processes; nothing to a process alone."""
    if count == 1:
        return [{}]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    return [{**place, "RANK": str(n), "LOCAL_RANK": str(n)} for n in range(count)]


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives to clients."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)):
                return port


def train_as_asked(method: str, folder: str, kill_at: int | None = None, num_ranks: int = 1) -> list[int]:
    """The exit statuses of the ranks; where one fails, the others are ended, as torchrun does."""
    running = {fork(method, folder, kill_at, e) for e in ranks(num_ranks)}
    statuses = []
    while running:
        child, status = os.wait()
        running.discard(child)
        statuses.append(os.waitstatus_to_exitcode(status))
        for other in running if status else ():
            os.kill(other, signal.SIGKILL)
    return statuses


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(train_as_asked(**json.loads(line))), flush=True)
