"""`heedloop train`: SFT, reward models, DPO, KTO, PPO, RLOO, GRPO, rejection sampling, their evaluation and promotion, from a project's feedback.

Under `torchrun -m heedloop_cli.main train …` every process does its share of one run; only the first talks and writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from heedloop_trainer.commands.settings import add_setting_options

SAMPLING = ("ppo", "rloo", "grpo", "rejection")
"""Methods that sample answers and need a reward."""
GRADIENT = ("ppo", "rloo", "grpo")
"""Those of them that hold on to a reference."""

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
        _model_arguments(sub, name)
        if name != "evaluate":
            sub.settings_of = name


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


def _model_arguments(sub: argparse.ArgumentParser, method: str) -> None:
    group = sub.add_argument_group("models")
    if method == "evaluate":
        group.add_argument("--model", type=Path, metavar="PATH", help="the new model")
        group.add_argument("--reference", type=Path, metavar="PATH", help="its parent")
    elif method != "reward-linear":
        group.add_argument("--model", type=Path, metavar="PATH", help="folder of the model to start from")
        group.add_argument(
            "--lora", type=int, default=0, metavar="RANK", help="train low-rank adapters of this rank only"
        )
        group.add_argument(
            "--lora-alpha", type=float, metavar="A", help="adapters are scaled by A / RANK (twice the rank)"
        )
        group.add_argument(
            "--lora-targets",
            type=lambda text: tuple(n.strip() for n in text.split(",") if n.strip()),
            metavar="NAMES",
            help="layers that get adapters, such as q_proj,v_proj (all linear ones)",
        )
        if method != "reward":
            group.add_argument(
                "--save-adapters",
                action="store_true",
                help="leave adapters as adapters in the checkpoint; they are merged in otherwise",
            )
    if method == "reward":
        _reward_arguments(group)
    if method == "reward-linear":
        group.add_argument(
            "--cross-validate", action="store_true", help="hold every prompt group out in turn as well"
        )
    if method == "evaluate":
        group.add_argument(
            "--best-of",
            type=int,
            default=0,
            metavar="N",
            help="also the best of N answers of the parent by the judge",
        )
        group.add_argument(
            "--review-queue",
            metavar="ID",
            help="also put both models' answers to people, in this review queue",
        )
        group.add_argument("--max-response-tokens", type=int, help="longest answer that is sampled (128)")
        group.add_argument("--temperature", type=float, help="of the answers that are compared (1)")
        group.add_argument("--seed", type=int, default=0)
    if method in ("sft", "reward"):
        group.add_argument(
            "--from-scratch",
            choices=("tiny", "small"),
            help="random weights and a tokenizer made from the rows: about 1 or 6 million parameters, which learn little from a thousand judgements",
        )
    if method in ("dpo", "kto", *GRADIENT):
        group.add_argument(
            "--reference",
            type=Path,
            metavar="PATH",
            help="the frozen policy, where it is not the model itself",
        )
    if method in (*SAMPLING, "evaluate"):
        group.add_argument(
            "--reward-model",
            type=Path,
            action="append",
            default=[],
            metavar="PATH",
            help="a reward model (several times: one neural and linear ones)",
        )
        group.add_argument(
            "--held-out-reward",
            type=Path,
            metavar="PATH",
            help="a reward model that judges but is not trained against",
        )
    if method in SAMPLING:
        group.add_argument(
            "--reward-function",
            metavar="PLACE",
            help="FILE.py:NAME or MODULE:NAME, a Python function: responses -> numbers, added to the reward model's",
        )
    if method in GRADIENT:
        group.add_argument(
            "--environment",
            metavar="PLACE",
            help="FILE.py:NAME or MODULE:NAME, a Python function: messages -> the messages that follow, such as tool results",
        )
        group.add_argument(
            "--generator",
            metavar="NAME",
            help="cached (any model and device), static (fixed shapes, CUDA graphs), continuous, or a vLLM server's address",
        )
    if method != "reward-linear":
        group.add_argument("--device", help="cpu, cuda; cuda where there is one")
    group.add_argument(
        "--model-name",
        default="",
        help="the name under which the model will serve; put it on production spans",
    )


def _reward_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--thumbs", action="store_true", help="learn from single thumbs as well")
    group.add_argument(
        "--dimensions",
        type=lambda text: tuple(n.strip() for n in text.split(",") if n.strip()),
        default=(),
        metavar="NAMES",
        help="names of ratings that get an output of their own, such as helpfulness,accuracy,tone",
    )
    group.add_argument(
        "--ensemble",
        type=int,
        default=1,
        metavar="K",
        help="train K models that differ in their seed: their mean is the reward, their spread an alarm",
    )


class _MethodParser(argparse.ArgumentParser):
    """Adds the options that come from a method's dataclass once they are needed: reading them imports torch."""

    settings_of: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        if self.settings_of is not None:
            _setting_arguments(self, self.settings_of)
            self.settings_of = None
        return super().parse_known_args(args, namespace)


def _setting_arguments(sub: argparse.ArgumentParser, method: str) -> None:
    run_group = sub.add_argument_group("the run")
    run_group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML or JSON: the settings below by name; the options win over it",
    )
    run_group.add_argument(
        "--limit", type=int, default=0, metavar="N", help="only the first N rows of the split"
    )
    run_group.add_argument(
        "--mix",
        metavar="FILE:SHARE",
        help="further rows from a JSON Lines file, so many that they are this share of all, such as general.jsonl:0.3",
    )
    run_group.add_argument(
        "--tracker",
        action="append",
        default=[],
        choices=("tensorboard", "wandb", "mlflow"),
        help="also send the metrics there, where it is installed (several times: to each)",
    )
    from heedloop_trainer.commands.train_job import default_config

    group = sub.add_argument_group("settings (names and defaults are those of the method's configuration)")
    add_setting_options(group, default_config(method.replace("-", "_")))
    if method == "reward-linear":
        return
    run_group.add_argument(
        "--chat-template",
        type=Path,
        metavar="FILE",
        help="a Jinja chat template that replaces the tokenizer's own and is saved with the model",
    )
    run_group.add_argument(
        "--save-dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of the weights that are written (float32)",
    )
    group.add_argument(
        "--learning-rate",
        type=float,
        metavar="X",
        help="the highest learning rate of the model (of the actor)",
    )
    if method in SAMPLING:
        group.add_argument(
            "--max-response-tokens", type=int, metavar="N", help="the same as --sampling-max-new-tokens"
        )
        group.add_argument(
            "--temperature", type=float, metavar="X", help="the same as --sampling-temperature"
        )
    run_group.add_argument(
        "--gradient-checkpointing",
        dest="checkpointed",
        action="store_true",
        help="recompute activations in the backward pass: a third slower, far less memory",
    )
    run_group.add_argument(
        "--no-memory-check",
        dest="check_memory",
        action="store_false",
        help="start also what is estimated not to fit into memory",
    )
    run_group.add_argument(
        "--save-every", type=int, default=50, metavar="STEPS", help="steps between resume points (default 50)"
    )
    if method in GRADIENT:
        run_group.add_argument(
            "--no-alarms",
            dest="alarms",
            action="store_false",
            help="do not stop when length, diversity or the held-out reward say that the reward is being hacked",
        )


def run(args: argparse.Namespace) -> int:
    """Do the job; 0 when it is done, 1 when an alarm, a budget or the gate stopped it, 2 for what must be changed first."""
    from heedloop_trainer.commands.train_job import run_command

    return run_command(args)
