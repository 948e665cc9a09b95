"""`heedloop train`: SFT, reward models, DPO, KTO, PPO, RLOO and their evaluation from the feedback in a project."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

HELP = "train a model or a reward model on a project's feedback, or evaluate one"

METHODS = {
    "sft": "supervised fine-tuning on corrections and liked answers",
    "reward": "a Bradley-Terry reward model on comparisons",
    "reward-linear": "a linear reward model on comparisons: start with this one",
    "dpo": "direct preference optimisation on comparisons",
    "kto": "Kahneman-Tversky optimisation on single thumbs",
    "ppo": "PPO against a reward model or function",
    "rloo": "the same without a critic (REINFORCE leave-one-out)",
    "evaluate": "held-out accuracy of reward models; win rate of a model over its parent",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command per method."""
    methods = parser.add_subparsers(dest="method", required=True, metavar="METHOD")
    for name, text in METHODS.items():
        sub = methods.add_parser(name, help=text, description=text)
        _source_arguments(sub)
        _model_arguments(sub, name)
        if name != "evaluate":
            _setting_arguments(sub, name)


def _source_arguments(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("where the rows come from")
    group.add_argument("--url", help="the server's address (HEEDLOOP_URL, else http://127.0.0.1:8321)")
    group.add_argument("--api-key", help="a key with the scopes read and train (HEEDLOOP_API_KEY)")
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
            metavar="MODULE:FUNCTION",
            help="a Python function: responses -> numbers, added to the reward model's",
        )
    if method != "reward-linear":
        group.add_argument("--device", help="cpu, cuda; cuda where there is one")
    group.add_argument(
        "--model-name",
        default="",
        help="the name under which the model will serve; put it on production spans",
    )


def _setting_arguments(sub: argparse.ArgumentParser, method: str) -> None:
    group = sub.add_argument_group("settings (the defaults are the method's own)")
    group.add_argument(
        "--config",
        type=Path,
        metavar="JSON",
        help="a file of settings by name; the options below win over it",
    )
    group.add_argument("--seed", type=int)
    if method == "reward-linear":
        group.add_argument("--inverse-penalty", type=float, metavar="C")
        return
    group.add_argument("--epochs", type=int, help="passes over the rows (ppo, rloo: over each rollout)")
    group.add_argument(
        "--batch-size", type=int, help="rows per optimiser step (ppo, rloo: responses per rollout)"
    )
    group.add_argument("--learning-rate", type=float)
    group.add_argument(
        "--max-tokens",
        type=int,
        help="tokens per micro-batch; lower it when memory runs out, the result stays the same",
    )
    group.add_argument("--max-prompt-tokens", type=int)
    group.add_argument("--max-response-tokens", type=int)
    group.add_argument(
        "--bfloat16", action="store_true", default=None, help="compute in bfloat16 over float32 weights"
    )
    group.add_argument(
        "--save-every", type=int, default=50, metavar="STEPS", help="steps between resume points (default 50)"
    )
    if method in ("ppo", "rloo"):
        group.add_argument("--rollouts", type=int, dest="num_rollouts")
        group.add_argument("--minibatches", type=int)
        group.add_argument("--group-size", type=int)
        group.add_argument(
            "--kl", type=float, dest="kl_coefficient", help="price of a nat of KL to the reference"
        )
        group.add_argument("--kl-budget", type=float, help="stop above this KL per response, in nats")
        group.add_argument("--temperature", type=float)
        group.add_argument(
            "--no-alarms",
            dest="alarms",
            action="store_false",
            help="do not stop when length, diversity or the held-out reward say that the reward is being hacked",
        )


def run(args: argparse.Namespace) -> int:
    """Do the job; 0 when it is done, 1 when it was stopped by an alarm, 2 for anything that must be changed first."""
    from transformers.utils import logging as transformers_logging

    from heedloop.client import ApiError, Client
    from heedloop_trainer.jobs import Job, JobError, find_snapshot, run_job

    transformers_logging.disable_progress_bar()  # a bar for each file that is written says nothing here
    method = args.method.replace("-", "_")
    try:
        client = Client(args.url, args.api_key)
        _check_project(client, args.project)
        snapshot = find_snapshot(
            client, snapshot_id=args.snapshot, name=args.snapshot_name, default_name=args.out.name
        )
        config = None if method == "evaluate" else _config(method, args)
        given = {n: getattr(args, n) for n in _JOB_FIELDS if getattr(args, n, None) is not None}
        job = Job(
            method=method,
            snapshot_id=snapshot,
            config=config,
            reward_models=getattr(args, "reward_model", []),
            lora_rank=getattr(args, "lora", 0),
            device=_device(getattr(args, "device", None)),
            **given,
        )
        done = run_job(job, client, say=lambda text: print(text, flush=True))
    except (JobError, ApiError, ValueError, OSError) as err:
        print(f"heedloop train {args.method}: {err}", file=sys.stderr)
        return 2
    return _report(done)


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
)


def _check_project(client: Any, project: str | None) -> None:
    from heedloop_trainer.jobs import JobError

    own = client.me()["project"]
    if project is not None and project != own:
        raise JobError(f"this key belongs to project {own!r}, not {project!r}; use a key of that project")


def _device(asked: str | None) -> str:
    import torch

    return asked or ("cuda" if torch.cuda.is_available() else "cpu")


def _config(method: str, args: argparse.Namespace) -> Any:
    """The method's configuration: defaults, then the file, then the options."""
    from heedloop_trainer.jobs import CONFIGS

    values: dict[str, Any] = {}
    if method == "rloo":
        values = {"estimator": "rloo", "group_size": 4, "truncation": "mask"}
    if args.config is not None:
        values |= json.loads(args.config.read_text(encoding="utf-8"))
    cls = CONFIGS[method]
    known = {f.name for f in dataclasses.fields(cls)}
    values |= {n: getattr(args, n) for n in known if getattr(args, n, None) is not None}
    config = _nested(cls, values)
    return _with_shared_options(config, args)


def _nested(cls: type[Any], values: dict[str, Any]) -> Any:
    """A configuration from plain values; those of its optimisers and sampling may be objects."""
    from heedloop_trainer.jobs import JobError

    base = cls()
    out: dict[str, Any] = {}
    for name, value in values.items():
        if name not in {f.name for f in dataclasses.fields(cls)}:
            known = ", ".join(f.name for f in dataclasses.fields(cls))
            raise JobError(f"{name!r} is not a setting of {cls.__name__}; it has {known}")
        inner = getattr(base, name)
        out[name] = (
            dataclasses.replace(inner, **value)
            if dataclasses.is_dataclass(inner) and isinstance(value, dict)
            else value
        )
    return dataclasses.replace(base, **out)


def _with_shared_options(config: Any, args: argparse.Namespace) -> Any:
    """Options that live inside a nested configuration: the learning rate, the sampling's length and temperature."""
    rate = getattr(args, "learning_rate", None)
    if rate is not None:
        name = "actor" if hasattr(config, "actor") else "optimiser"
        config = dataclasses.replace(
            config, **{name: dataclasses.replace(getattr(config, name), learning_rate=rate)}
        )
    if hasattr(config, "sampling"):
        wanted = {
            "max_new_tokens": args.max_response_tokens,
            "temperature": args.temperature,
            "seed": config.seed,
        }
        sampling = dataclasses.replace(config.sampling, **{k: v for k, v in wanted.items() if v is not None})
        config = dataclasses.replace(config, sampling=sampling)
    return config


def _report(run: Any) -> int:
    from heedloop_trainer.cards import accuracy_table

    record = run.record
    for name, value in record.metrics.items():
        print(f"  {name:<28} {value:.4g}")
    if record.evaluation.get("accuracy"):
        print(
            f"\n{record.evaluation['num_comparisons']:,} held-out comparisons, 95% intervals clustered by judge:"
        )
        print(accuracy_table(record.evaluation))
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
