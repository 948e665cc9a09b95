"""`heedloop train`: SFT, reward models, DPO, KTO, PPO, RLOO, their evaluation and promotion, from a project's feedback.

Under `torchrun -m heedloop_cli.main train …` every process does its share of one run; only the first talks and writes.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedloop_trainer.commands.settings import add_setting_options, configured, given_settings, read_settings

if TYPE_CHECKING:
    from heedloop_trainer.nn.distributed import World

HELP = "train a model or a reward model on a project's feedback, or evaluate one"

LORA_RATE = 10.0
"""Adapters learn at ten times the rate of all weights, where no rate is given (Schulman et al. 2025, "LoRA Without Regret")."""

METHODS = {
    "sft": "supervised fine-tuning on corrections and liked answers",
    "reward": "a Bradley-Terry reward model on comparisons",
    "reward-linear": "a linear reward model on comparisons: start with this one",
    "dpo": "direct preference optimisation on comparisons",
    "kto": "Kahneman-Tversky optimisation on single thumbs",
    "ppo": "PPO against a reward model or function",
    "rloo": "the same without a critic (REINFORCE leave-one-out)",
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
    if method in ("dpo", "kto", "ppo", "rloo"):
        group.add_argument(
            "--reference",
            type=Path,
            metavar="PATH",
            help="the frozen policy, where it is not the model itself",
        )
    if method in ("ppo", "rloo", "evaluate"):
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
    if method in ("ppo", "rloo"):
        group.add_argument(
            "--reward-function",
            metavar="PLACE",
            help="FILE.py:NAME or MODULE:NAME, a Python function: responses -> numbers, added to the reward model's",
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
    group = sub.add_argument_group("settings (names and defaults are those of the method's configuration)")
    add_setting_options(group, _defaults(method.replace("-", "_")))
    if method == "reward-linear":
        return
    run_group.add_argument(
        "--chat-template",
        type=Path,
        metavar="FILE",
        help="a Jinja chat template that replaces the tokenizer's own and is saved with the model",
    )
    group.add_argument(
        "--learning-rate",
        type=float,
        metavar="X",
        help="the highest learning rate of the model (of the actor)",
    )
    if method in ("ppo", "rloo"):
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
    if method in ("ppo", "rloo"):
        run_group.add_argument(
            "--no-alarms",
            dest="alarms",
            action="store_false",
            help="do not stop when length, diversity or the held-out reward say that the reward is being hacked",
        )


def run(args: argparse.Namespace) -> int:
    """Do the job; 0 when it is done, 1 when an alarm, a budget or the gate stopped it, 2 for what must be changed first."""
    from transformers.utils import logging as transformers_logging

    from heedloop.client import ApiError
    from heedloop_trainer.evaluation.promotion import PromotionError
    from heedloop_trainer.jobs.job import JobError

    transformers_logging.disable_progress_bar()  # a bar for each file that is written says nothing here
    try:
        return _promote(args) if args.method == "promote" else _train(args)
    except (JobError, PromotionError, ApiError, ValueError, OSError) as err:
        print(f"heedloop train {args.method}: {err}", file=sys.stderr)
        return 2


def _train(args: argparse.Namespace) -> int:
    from heedloop_trainer.nn.distributed import joined

    with joined() as world:
        return _train_together(args, world)


def _train_together(args: argparse.Namespace, world: World) -> int:
    from heedloop.client import Client
    from heedloop_trainer.jobs.job import Job
    from heedloop_trainer.jobs.run_job import find_snapshot, run_job

    client = Client(args.url, args.api_key)
    _check_project(client, args.project)
    snapshot = ""
    if world.is_first:
        snapshot = find_snapshot(
            client, snapshot_id=args.snapshot, name=args.snapshot_name, default_name=args.out.name
        )
    snapshot = world.gather(snapshot)[0]
    method = args.method.replace("-", "_")
    given = {n: getattr(args, n) for n in _JOB_FIELDS if getattr(args, n, None) is not None}
    job = Job(
        method=method,
        snapshot_id=snapshot,
        config=None if method == "evaluate" else _config(method, args),
        reward_models=getattr(args, "reward_model", []),
        lora_rank=getattr(args, "lora", 0),
        device=_device(getattr(args, "device", None)),
        **({"sampling": _sampling(args)} if method == "evaluate" else {}),
        **given,
    )
    done = run_job(job, client, say=_say if world.is_first else _say_nothing, world=world)
    return _report(done) if world.is_first else 0


def _say(text: str) -> None:
    print(text, flush=True)


def _say_nothing(text: str) -> None:
    """What processes besides the first say."""


def _promote(args: argparse.Namespace) -> int:
    from heedloop.client import Client
    from heedloop_trainer.evaluation.gate import GateConfig
    from heedloop_trainer.evaluation.promotion import promote

    limits = {
        n: v
        for n in ("num_prompts", "max_regression", "max_length_ratio")
        if (v := getattr(args, n)) is not None
    }
    told = (
        Client(args.url, args.api_key)
        if args.url or args.api_key or "HEEDLOOP_API_KEY" in os.environ
        else None
    )
    done = promote(args.evaluation, args.to, config=GateConfig(**limits), client=told)
    for reason in done.decision.reasons:
        print(f"  not promoted: {reason}")
    if done.folder is not None:
        print(f"promoted: {done.folder} holds it now")
    return 0 if done.decision.promote else 1


_JOB_FIELDS = (
    "out",
    "model",
    "from_scratch",
    "reference",
    "held_out_reward",
    "reward_function",
    "save_every",
    "model_name",
    "alarms",
    "thumbs",
    "dimensions",
    "ensemble",
    "cross_validate",
    "best_of",
    "review_queue",
    "generator",
    "checkpointed",
    "check_memory",
    "lora_alpha",
    "lora_targets",
    "save_adapters",
    "limit",
    "chat_template",
)


def _check_project(client: Any, project: str | None) -> None:
    from heedloop_trainer.jobs.job import JobError

    own = client.me()["project"]
    if project is not None and project != own:
        raise JobError(f"this key belongs to project {own!r}, not {project!r}; use a key of that project")


def _device(asked: str | None) -> str:
    import torch

    if asked is None and torch.cuda.is_available():
        asked = f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
    return asked or "cpu"


def _sampling(args: argparse.Namespace) -> Any:
    from heedloop_trainer.generation.cached import SamplingConfig

    wanted = {
        "max_new_tokens": args.max_response_tokens,
        "temperature": args.temperature,
        "seed": args.seed,
    }
    return SamplingConfig(**{k: v for k, v in wanted.items() if v is not None})


def _defaults(method: str) -> Any:
    """The configuration of a method as it is where nothing is asked for."""
    from heedloop_trainer.jobs.job import CONFIGS

    rloo = {"estimator": "rloo", "group_size": 4, "truncation": "mask"}
    return CONFIGS[method](**(rloo if method == "rloo" else {}))


def _config(method: str, args: argparse.Namespace) -> Any:
    """The method's configuration: defaults, then the file, then the options."""
    base = _defaults(method)
    if args.config is not None:
        base = configured(base, read_settings(args.config))
    given: dict[str, Any] = {}
    own = "actor" if hasattr(base, "actor") else "optimiser"
    if getattr(args, "learning_rate", None) is not None:
        given[f"{own}.learning_rate"] = args.learning_rate
    elif getattr(args, "lora", 0) and getattr(base, own) == getattr(_defaults(method), own):
        given[f"{own}.learning_rate"] = LORA_RATE * getattr(base, own).learning_rate
    if hasattr(base, "sampling"):
        given |= {
            "sampling.max_new_tokens": args.max_response_tokens,
            "sampling.temperature": args.temperature,
        }
        given = {k: v for k, v in given.items() if v is not None}
    given |= given_settings(args)
    if hasattr(base, "sampling"):
        given.setdefault("sampling.seed", given.get("seed", base.seed))
    return configured(base, given)


def _print_cross_validation(found: dict[str, Any]) -> None:
    accuracy = found["accuracy"]
    print(
        f"\nevery prompt group held out once, {found['num_folds']} folds, {found['num_comparisons']:,} comparisons:"
    )
    print(f"  {'accuracy':<28} {accuracy['estimate']:.4f} [{accuracy['low']:.4f}, {accuracy['high']:.4f}]")
    print(f"  {'mean of the folds':<28} {found['mean_of_folds']:.4f}")
    print(f"  {'longer answer wins':<28} {found['longer_wins_mean_of_folds']:.4f}")
    print(f"  {'length, sign fitted':<28} {found['length_wins_mean_of_folds']:.4f}")
    print(f"  {'expected calibration error':<28} {found['calibration_error']:.4f}")


def _report(run: Any) -> int:
    from heedloop_trainer.runs.cards import accuracy_table

    record = run.record
    for name, value in record.metrics.items():
        print(f"  {name:<28} {value:.4g}")
    if record.evaluation.get("accuracy"):
        print(
            f"\n{record.evaluation['num_comparisons']:,} held-out comparisons, 95% intervals clustered by judge:"
        )
        print(accuracy_table(record.evaluation))
    if "calibration_error" in record.evaluation:
        print(f"  {'expected calibration error':<28} {record.evaluation['calibration_error']:.4f}")
    if record.evaluation.get("cross_validation"):
        _print_cross_validation(record.evaluation["cross_validation"])
    if record.evaluation.get("win_rate"):
        rate = record.evaluation["win_rate"]
        for name in ("win_rate", "length_controlled"):
            found = rate[name]
            print(f"  {name:<28} {found['estimate']:.3f} [{found['low']:.3f}, {found['high']:.3f}]")
    for reason in record.evaluation.get("gate", {}).get("reasons", ()):
        print(f"  not to be promoted: {reason}")
    if record.evaluation.get("gate", {}).get("promote"):
        print("  may be promoted: the gain is significant and not one of length")
    print(f"\nrun {record.id}: {record.status}{f' ({record.error})' if record.error else ''}; {run.folder}")
    return 0 if record.status == "finished" else 1
