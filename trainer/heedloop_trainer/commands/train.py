"""`heedloop train`: SFT, reward models, DPO, KTO, PPO, RLOO, GRPO, rejection sampling, their evaluation and promotion, from a project's feedback.

Under `torchrun -m heedloop_cli.main train …` every process does its share of one run; only the first talks and writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from heedloop_trainer.commands.settings import add_job_options, add_setting_options

HELP = "train a model or a reward model on a project's feedback, or evaluate one"

METHODS = {
    "sft": "supervised fine-tuning on corrections and liked answers",
    "reward": "a Bradley-Terry reward model on comparisons",
    "reward-linear": "a linear reward model on comparisons: start with this one",
    "dpo": "direct preference optimisation on comparisons",
    "kto": "Kahneman-Tversky optimisation on single thumbs",
    "ppo": "PPO against a reward model or function",
    "rloo": "the same without a critic (REINFORCE leave-one-out)",
    "grpo": "the same with rewards standardised within each prompt's answers",
    "rejection": "rejection sampling: SFT on the best of several answers by the reward",
    "evaluate": "held-out accuracy of reward models; win rate of a model over its parent",
    "promote": "put an evaluated model where production loads it from, if the gate lets it through",
}


MODEL = {"--model": "model", "--device": "device"}
LORA = {"--lora": "lora_rank", "--lora-alpha": "lora_alpha", "--lora-targets": "lora_targets"}
POLICY = {**MODEL, **LORA, "--save-adapters": "save_adapters"}
REWARDS = {"--reward-model": "reward_models", "--held-out-reward": "held_out_reward"}
FUNCTION = {"--reward-function": "reward_function"}
ANCHORED = {**POLICY, "--reference": "reference"}
GRADIENT = {
    **ANCHORED, **REWARDS, **FUNCTION, "--environment": "environment", "--generator": "generator", "--no-alarms": "alarms",
}  # fmt: skip
MODEL_OPTIONS: dict[str, dict[str, str]] = {
    "sft": {**POLICY, "--from-scratch": "from_scratch"},
    "reward": {
        **MODEL, **LORA, "--from-scratch": "from_scratch", "--thumbs": "thumbs", "--dimensions": "dimensions",
        "--ensemble": "ensemble",
    },
    "reward-linear": {"--cross-validate": "cross_validate"},
    "dpo": ANCHORED,
    "kto": ANCHORED,
    "ppo": GRADIENT,
    "rloo": GRADIENT,
    "grpo": GRADIENT,
    "rejection": {**POLICY, **REWARDS, **FUNCTION},
    "evaluate": {
        **MODEL, **REWARDS, "--reference": "reference", "--best-of": "best_of", "--review-queue": "review_queue",
    },
}  # fmt: skip
"""What a job is asked for, by method: the options and the fields of `Job` that they set."""
RUN_OPTIONS = {"--limit": "limit", "--mix": "mix", "--tracker": "trackers"}
"""Of every method that trains."""
TRAINED_OPTIONS = {
    "--chat-template": "chat_template", "--save-dtype": "save_dtype", "--gradient-checkpointing": "checkpointed",
    "--no-memory-check": "check_memory", "--save-every": "save_every",
}  # fmt: skip
"""Of those that train a neural model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command per method."""
    methods = parser.add_subparsers(
        dest="method", required=True, metavar="METHOD", parser_class=_MethodParser
    )
    for name, text in METHODS.items():
        sub = methods.add_parser(name, help=text, description=text)
        if name == "promote":
            _promote_arguments(sub)
            continue
        _source_arguments(sub)
        sub.options_of = name


def _connection_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--url", help="the server's address (HEEDLOOP_URL, else http://127.0.0.1:8321)")
    group.add_argument("--api-key", help="a key with the scopes read and train (HEEDLOOP_API_KEY)")


def _promote_arguments(sub: argparse.ArgumentParser) -> None:
    _connection_arguments(sub.add_argument_group("the server that is told"))
    group = sub.add_argument_group("what goes where")
    group.add_argument(
        "--evaluation",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of an evaluate run with a win rate",
    )
    group.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="DIR",
        help="what production loads; the model before it stays in DIR.previous",
    )
    gate = sub.add_argument_group("the gate")
    gate.add_argument("--min-prompts", type=int, dest="num_prompts", help="held-out prompts needed (50)")
    gate.add_argument("--max-regression", type=float, help="largest loss of win rate in any slice (0.1)")
    gate.add_argument("--max-length-ratio", type=float, help="new answers may be this much longer (1.5)")


def _source_arguments(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("where the rows come from")
    _connection_arguments(group)
    group.add_argument("--project", help="the project this key must belong to; an error where it does not")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--snapshot", metavar="ID", help="the dataset snapshot")
    which.add_argument(
        "--snapshot-name",
        metavar="NAME",
        help="the newest snapshot of this name; with neither, one is made now",
    )
    group.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="the run folder; the same command goes on with it after a crash",
    )


class _MethodParser(argparse.ArgumentParser):
    """Adds the options that come from dataclasses once they are needed: reading them imports torch."""

    options_of: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        if self.options_of is not None:
            _method_arguments(self, self.options_of)
            self.options_of = None
        return super().parse_known_args(args, namespace)


def _method_arguments(sub: argparse.ArgumentParser, method: str) -> None:
    from heedloop_trainer.commands.train_job import Job, default_config

    models = sub.add_argument_group("models")
    add_job_options(models, Job, {**MODEL_OPTIONS[method], "--model-name": "model_name"})
    if method == "evaluate":
        models.add_argument("--max-response-tokens", type=int, help="longest answer that is sampled (128)")
        models.add_argument("--temperature", type=float, help="of the answers that are compared (1)")
        models.add_argument("--seed", type=int, default=0)
        return
    run_group = sub.add_argument_group("the run")
    run_group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML or JSON: the settings below by name; the options win over it",
    )
    is_neural = method != "reward-linear"
    add_job_options(run_group, Job, RUN_OPTIONS | (TRAINED_OPTIONS if is_neural else {}))
    group = sub.add_argument_group("settings (names and defaults are those of the method's configuration)")
    config = default_config(method.replace("-", "_"))
    add_setting_options(group, config)
    if is_neural:
        group.add_argument(
            "--learning-rate",
            type=float,
            metavar="X",
            help="the highest learning rate of the model (of the actor)",
        )
    if hasattr(config, "sampling"):
        group.add_argument(
            "--temperature", type=float, metavar="X", help="the same as --sampling-temperature"
        )
        if not hasattr(config, "max_response_tokens"):
            group.add_argument(
                "--max-response-tokens", type=int, metavar="N", help="the same as --sampling-max-new-tokens"
            )


def run(args: argparse.Namespace) -> int:
    """Do the job; 0 when it is done, 1 when an alarm, a budget or the gate stopped it, 2 for what must be changed first."""
    from heedloop_trainer.commands.train_job import run_command

    return run_command(args)
