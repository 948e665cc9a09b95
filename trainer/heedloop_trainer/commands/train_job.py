"""A training command carried out: the job that its options ask for, its run, and what is printed of it."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import warnings
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from heedloop.client import ApiError, Client
from heedloop_trainer.commands.settings import configured, given_settings, read_settings, short_names
from heedloop_trainer.evaluation.gate import GateConfig
from heedloop_trainer.evaluation.promotion import PromotionError, promote
from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.jobs.job import CONFIGS, Job, JobError
from heedloop_trainer.jobs.run_job import find_snapshot, run_job
from heedloop_trainer.nn.classifiers import is_headless
from heedloop_trainer.nn.distributed import World, joined
from heedloop_trainer.runs.cards import accuracy_table
from heedloop_trainer.runs.folder import RunFolder

RATE_FACTOR = 10.0
"""Adapters and encoders learn at ten times the rate of a language model's weights, where no rate is given (Schulman et al. 2025,
"LoRA Without Regret"; for MiniLM, BENCHMARKS.md)."""

HEAD_RATE = 10.0
"""An encoder's fresh head learns at so many times the rate of its body."""


def run_command(args: argparse.Namespace) -> int:
    """Do the job; 0 when it is done, 1 when an alarm, a budget or the gate stopped it, 2 for what must be changed first."""
    transformers_logging.disable_progress_bar()  # a bar for each file that is written says nothing here
    # peft asks transformers by an old name
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
    try:
        return _promote(args) if args.method == "promote" else _train(args)
    except (JobError, PromotionError, ApiError, ValueError, OSError) as err:
        print(f"heedloop train {args.method}: {err}", file=sys.stderr)
        return 2


def _train(args: argparse.Namespace) -> int:
    with joined() as world:
        return _train_together(args, world)


def _train_together(args: argparse.Namespace, world: World) -> int:
    client = Client(args.url, args.api_key)
    _check_project(client, args.project)
    snapshot = ""
    if world.is_first:
        snapshot = find_snapshot(
            client, snapshot_id=args.snapshot, name=args.snapshot_name, default_name=args.out.name
        )
    snapshot = world.gather(snapshot)[0]
    method = args.method.replace("-", "_")
    names = {f.name for f in dataclasses.fields(Job)} - {"method", "device", "config", "sampling"}
    given = {n: v for n, v in vars(args).items() if n in names}
    job = Job(
        method=method,
        snapshot_id=snapshot,
        config=None if method == "evaluate" else config_of(method, args),
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
    limits = {
        n: v
        for n in ("num_prompts", "max_regression", "max_length_ratio")
        if (v := getattr(args, n)) is not None
    }
    client = (
        Client(args.url, args.api_key)
        if args.url or args.api_key or "HEEDLOOP_API_KEY" in os.environ
        else None
    )
    done = promote(args.evaluation, args.to, config=GateConfig(**limits), client=client)
    for reason in done.decision.reasons:
        print(f"  not promoted: {reason}")
    if done.folder is not None:
        print(f"promoted: {done.folder} holds it now")
    return 0 if done.decision.promote else 1


def _check_project(client: Client, project: str | None) -> None:
    own = client.me().project
    if project is not None and project != own:
        raise JobError(f"this key belongs to project {own!r}, not {project!r}; use a key of that project")


def _device(asked: str | None) -> str:
    if asked is None and torch.cuda.is_available():
        asked = f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
    return asked or "cpu"


def _sampling(args: argparse.Namespace) -> Any:
    wanted = {
        "max_new_tokens": args.max_response_tokens,
        "temperature": args.temperature,
        "seed": args.seed,
    }
    return SamplingConfig(**{k: v for k, v in wanted.items() if v is not None})


def default_config(method: str) -> Any:
    """The configuration of a method as it is where nothing is asked for."""
    if method not in ("rloo", "grpo"):
        return CONFIGS[method]()
    return CONFIGS[method](estimator=method, group_size=4, truncation="mask")


def config_of(method: str, args: argparse.Namespace) -> Any:
    """The method's configuration: defaults, then the file, then the options."""
    base = default_config(method)
    names = short_names(base)
    file = {} if args.config is None else read_settings(args.config)
    named = {names.get(n, n): v for n, v in file.items()}
    base = configured(base, named)
    given = {path: v for name, path in names.items() if (v := getattr(args, name, None)) is not None}
    given |= given_settings(args)
    rate = names.get("learning_rate", "")
    own = rate.partition(".")[0]
    has_rate = rate in given or rate in named or "learning_rate" in named.get(own, {})
    encoder = method == "reward" and is_headless(getattr(args, "model", None) or "")
    if encoder and "head_rate" not in named:
        given.setdefault("head_rate", HEAD_RATE)
    if (encoder or getattr(args, "lora_rank", 0)) and not has_rate:
        given[rate] = RATE_FACTOR * getattr(base, own).learning_rate
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


def _report(run: RunFolder) -> int:
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
