"""Training jobs: rows from a snapshot, a method over them, an evaluation, a checkpoint with its card.

A job reads its rows only through the REST API and leaves a run folder (see `runs`). It is what `heedloop train` runs, and
it can be called from Python just as well.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from heedloop.client import Client
from heedloop.schema import Comparison, DatasetForm, Demonstration, PromptRow, RunMethod, Unpaired
from heedloop_trainer.alarms import Watch
from heedloop_trainer.cards import model_card
from heedloop_trainer.evaluate import (
    calibration_error,
    compare_policies,
    evaluate_comparisons,
    response_table,
    sample_responses,
)
from heedloop_trainer.gate import decide
from heedloop_trainer.models import (
    RewardModel,
    load_policy,
    load_reward_model,
    load_tokenizer,
    own_pad_token,
    save_model,
    sequence_classifier_from,
    with_lora,
)
from heedloop_trainer.ppo import PPOConfig, train_ppo
from heedloop_trainer.preference import DPOConfig, KTOConfig, train_dpo, train_kto
from heedloop_trainer.reward import RewardConfig, train_reward
from heedloop_trainer.reward_linear import LinearReward, LinearRewardConfig, train_reward_linear
from heedloop_trainer.rollout import RewardFunction
from heedloop_trainer.runs import RunFolder, TrainingResult, file_hashes
from heedloop_trainer.sampling import SamplingConfig
from heedloop_trainer.scratch import SmallShape, small_classifier, small_policy, train_tokenizer
from heedloop_trainer.sft import SFTConfig, train_sft

__all__ = ["CONFIGS", "FORMS", "SCRATCH_SHAPES", "Job", "JobError", "find_snapshot", "run_job"]

log = logging.getLogger(__name__)

CONFIGS: dict[str, type[Any]] = {
    "sft": SFTConfig,
    "reward": RewardConfig,
    "reward_linear": LinearRewardConfig,
    "dpo": DPOConfig,
    "kto": KTOConfig,
    "ppo": PPOConfig,
    "rloo": PPOConfig,
}
"""The configuration class of each method."""

FORMS: dict[str, DatasetForm] = {
    "sft": "demonstrations",
    "reward": "comparisons",
    "reward_linear": "comparisons",
    "dpo": "comparisons",
    "kto": "unpaired",
    "ppo": "prompts",
    "rloo": "prompts",
}
"""The rows that each method learns from."""

SCRATCH_SHAPES = {"tiny": SmallShape(128, 4, 4, 384), "small": SmallShape(256, 6, 8, 768)}
"""Shapes of `--from-scratch`: about 1 and 6 million parameters with a vocabulary of 2,048."""

MAX_WIN_RATE_PROMPTS = 200


class JobError(Exception):
    """A job cannot be done as asked; the message says what to change."""


@dataclass(frozen=True)
class Job:
    """What to train, from what, to where.

    Attributes:
        method: one of `CONFIGS`, or `evaluate`.
        out: the run folder.
        snapshot_id: the frozen dataset.
        config: the method's configuration; None for `evaluate`.
        model: folder of the model to start from (of the new model, for `evaluate`).
        from_scratch: a name of `SCRATCH_SHAPES`: start from random weights instead.
        reference: folder of the frozen policy, where it is not the model itself; the parent, for `evaluate`.
        reward_models: folders of reward models (linear ones too); their mean is the reward.
        held_out_reward: folder of a reward model that judges but is never trained against.
        reward_function: `module:function` in Python.
        lora_rank: 0 trains all weights.
        device: `cpu`, `cuda` and so on.
        save_every: steps between resume points.
        alarms: PPO and RLOO: watch for reward hacking and stop the run when it shows.
    """

    method: str
    out: Path
    snapshot_id: str
    config: Any = None
    model: Path | None = None
    from_scratch: Literal["tiny", "small"] | None = None
    reference: Path | None = None
    reward_models: Sequence[Path] = ()
    held_out_reward: Path | None = None
    reward_function: str | None = None
    lora_rank: int = 0
    device: str = "cpu"
    save_every: int = 50
    alarms: bool = False
    name: str = ""
    model_name: str = ""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


def find_snapshot(client: Client, *, snapshot_id: str | None, name: str | None, default_name: str) -> str:
    """The id of a snapshot: as given, the newest of that name, or a new one of everything there is.

    Raises:
        JobError: no snapshot has that name.
    """
    if snapshot_id is not None:
        return snapshot_id
    if name is None:
        made = client.create_snapshot(default_name)
        log.info("made snapshot %s (%s) of everything in the project", made.id, made.name)
        return made.id
    found = [s for s in client.snapshots() if s.get("name") == name]
    if not found:
        known = sorted({str(s.get("name")) for s in client.snapshots()})
        raise JobError(f"there is no snapshot named {name!r}; there is {', '.join(known) or 'none'}")
    return str(found[0]["id"])


def run_job(job: Job, client: Client, *, say: Callable[[str], None] = log.info) -> RunFolder:
    """Do one job from its snapshot to its checkpoint; answers its run folder.

    Raises:
        JobError: something is missing that only the caller can give.
        ApiError: the server refused.
    """
    method: RunMethod = job.method  # type: ignore[assignment]
    parent = None if job.model is None else _run_id_of(job.model) or str(job.model)
    extra = (
        {}
        if job.model is None or not job.model.is_dir()
        else {
            "model_files": file_hashes(
                list(job.model.glob("*.safetensors")) + list(job.model.glob("tokenizer.json"))
            )
        }
    )
    run = RunFolder.create(
        job.out,
        method,
        config=job.config if job.config is not None else job.sampling,
        name=job.name,
        snapshot_id=job.snapshot_id,
        parent=parent,
        model_name=job.model_name,
        client=client,
        extra=extra,
        save_every=job.save_every,
    )
    try:
        _JOBS[job.method](job, client, run, say)
    except BaseException as err:
        run.fail(err)
        raise
    return run


def _run_id_of(model: Path) -> str | None:
    """The run that wrote a checkpoint, from the manifest beside it."""
    manifest = model.parent / "run.json"
    if model.name != "checkpoint" or not manifest.exists():
        return None
    return json.loads(manifest.read_text(encoding="utf-8")).get("id")


def _rows(client: Client, job: Job, form: DatasetForm, split: Any = "train") -> list[Any]:
    rows = list(client.snapshot_rows(job.snapshot_id, form, split))
    if split == "train" and not rows:
        counts = client.snapshot(job.snapshot_id).get("num_rows", {})
        raise JobError(f"snapshot {job.snapshot_id} has no {form} to train on; it has {counts}")
    return rows


def _held_out(client: Client, job: Job, form: DatasetForm) -> list[Any]:
    """The test split, or the validation split where there is none."""
    return _rows(client, job, form, "test") or _rows(client, job, form, "validation")


def _texts(rows: Sequence[Any]) -> list[str]:
    out: list[str] = []
    for r in rows:
        out += [m.text for m in r.prompt]
        out += [getattr(r, n) for n in ("completion", "chosen", "rejected") if hasattr(r, n)]
    return out


def _policy(job: Job, rows: Sequence[Any]) -> tuple[Any, Any]:
    if job.from_scratch is not None:
        tokenizer = train_tokenizer(_texts(rows))
        model: Any = small_policy(tokenizer, SCRATCH_SHAPES[job.from_scratch], seed=job.config.seed)
    else:
        if job.model is None:
            raise JobError("give --model FOLDER, or --from-scratch tiny where no model can be had")
        tokenizer, model = load_tokenizer(job.model), load_policy(job.model)
    model = model.to(job.device)
    if job.lora_rank:
        model = with_lora(model, rank=job.lora_rank, seed=job.config.seed)
    return model, tokenizer


def _close(
    job: Job,
    run: RunFolder,
    model: Any,
    tokenizer: Any,
    result: TrainingResult,
    *,
    evaluation: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
) -> None:
    """Write the checkpoint and its card, and close the run."""
    checkpoint = run.checkpoint
    save_model(model, tokenizer, checkpoint)
    status = "finished" if result.stopped is None else "stopped"
    record = run.finish(metrics=result.metrics, evaluation=evaluation, status=status, error=result.stopped)
    if job.from_scratch is not None:
        facts = {
            "Made from nothing": "random weights and a tokenizer trained on the same rows",
            **(facts or {}),
        }
    count = sum(p.numel() for p in model.parameters())
    card = model_card(record, num_parameters=count, facts=facts or {}, metrics=result.metrics)
    (checkpoint / "README.md").write_text(card, encoding="utf-8")


def _sft(job: Job, client: Client, run: RunFolder, say: Callable[[str], None]) -> None:
    rows: list[Demonstration] = _rows(client, job, "demonstrations")
    model, tokenizer = _policy(job, rows)
    say(f"SFT on {len(rows):,} demonstrations")
    result = train_sft(job.config, rows, model, tokenizer, run, progress="sft")
    _close(job, run, model, tokenizer, result, facts={"Demonstrations": len(rows)})


def _reward(job: Job, client: Client, run: RunFolder, say: Callable[[str], None]) -> None:
    rows: list[Comparison] = _rows(client, job, "comparisons")
    held_out: list[Comparison] = _held_out(client, job, "comparisons")
    model, tokenizer = _classifier(job, rows)
    say(
        f"reward model of {sum(p.numel() for p in model.parameters()):,} parameters on {len(rows):,} comparisons"
    )
    result = train_reward(job.config, rows, model, tokenizer, run, progress="reward")
    evaluation: dict[str, Any] = {}
    if any(not r.tie for r in held_out):
        reward = RewardModel(model, tokenizer)
        evaluation = evaluate_comparisons(
            held_out, rows, reward_model=reward, max_tokens=job.config.max_tokens
        )
    _close(job, run, model, tokenizer, result, evaluation=evaluation, facts={"Comparisons": len(rows)})


def _classifier(job: Job, rows: Sequence[Comparison]) -> tuple[Any, Any]:
    if job.from_scratch is not None:
        tokenizer = train_tokenizer(_texts(rows))
        shape = SCRATCH_SHAPES[job.from_scratch]
        model: Any = small_classifier(tokenizer, shape, seed=job.config.seed)
    else:
        if job.model is None:
            raise JobError("give --model FOLDER, or --from-scratch tiny where no model can be had")
        tokenizer, policy = load_tokenizer(job.model), load_policy(job.model)
        own_pad_token(policy, tokenizer)
        torch.manual_seed(job.config.seed)
        model = sequence_classifier_from(policy)
    model = model.to(job.device)
    if job.lora_rank:
        model = with_lora(model, rank=job.lora_rank, seed=job.config.seed)
    return model, tokenizer


def _reward_linear(job: Job, client: Client, run: RunFolder, say: Callable[[str], None]) -> None:
    rows: list[Comparison] = _rows(client, job, "comparisons")
    held_out: list[Comparison] = _held_out(client, job, "comparisons")
    say(f"linear reward model on {len(rows):,} comparisons")
    model = train_reward_linear(job.config, rows)
    evaluation: dict[str, Any] = {}
    if any(not r.tie for r in held_out):
        margins = model.margins(held_out)
        evaluation = evaluate_comparisons(held_out, rows, models={"linear reward model": margins})
        decided = [i for i, r in enumerate(held_out) if not r.tie]
        evaluation["calibration_error"] = calibration_error(margins[decided])
    model.save(run.checkpoint)
    metrics = {"num_rows": float(len(rows)), "num_features": float(len(model.weights))}
    run.log(0, **metrics)
    record = run.finish(metrics=metrics, evaluation=evaluation)
    facts = {"Strongest features": ", ".join(f"{n!r} {w:+.2f}" for n, w in model.strongest(12))}
    card = model_card(record, num_parameters=len(model.weights), facts=facts, metrics=metrics)
    (run.checkpoint / "README.md").write_text(card, encoding="utf-8")


def _dpo(job: Job, client: Client, run: RunFolder, say: Callable[[str], None]) -> None:
    rows: list[Comparison] = _rows(client, job, "comparisons")
    model, tokenizer = _policy(job, rows)
    reference = None if job.reference is None else load_policy(job.reference, device=job.device)
    say(f"DPO on {len(rows):,} comparisons")
    result = train_dpo(job.config, rows, model, tokenizer, run, reference=reference, progress="dpo")
    _close(job, run, model, tokenizer, result, facts={"Comparisons": len(rows)})


def _kto(job: Job, client: Client, run: RunFolder, say: Callable[[str], None]) -> None:
    rows: list[Unpaired] = _rows(client, job, "unpaired")
    model, tokenizer = _policy(job, rows)
    reference = None if job.reference is None else load_policy(job.reference, device=job.device)
    say(f"KTO on {len(rows):,} judged completions")
    result = train_kto(job.config, rows, model, tokenizer, run, reference=reference, progress="kto")
    _close(job, run, model, tokenizer, result, facts={"Judged completions": len(rows)})


def _ppo(job: Job, client: Client, run: RunFolder, say: Callable[[str], None]) -> None:
    rows: list[PromptRow] = _rows(client, job, "prompts")
    model, tokenizer = _policy(job, rows)
    reference = None if job.reference is None else load_policy(job.reference, device=job.device)
    reward_model, function = _rewards(job)
    say(
        f"{job.method.upper()} on {len(rows):,} prompts, {job.config.num_rollouts} rollouts of {job.config.batch_size}"
    )
    result = train_ppo(
        job.config,
        rows,
        model,
        tokenizer,
        reference=reference,
        reward_model=reward_model,
        reward_function=function,
        run=run,
        progress=job.method,
        watch=_watch(job),
    )
    if result.stopped:
        say(f"stopped: {result.stopped}")
    _close(job, run, model, tokenizer, result, facts={"Prompts": len(rows)})


def _watch(job: Job) -> Watch | None:
    if not job.alarms:
        return None
    return Watch(judges=[judge_at(job.held_out_reward, job.device)] if job.held_out_reward else [])


def _rewards(job: Job) -> tuple[RewardModel | None, RewardFunction | None]:
    """The reward model that PPO climbs and the function beside it; linear models count as functions."""
    functions: list[RewardFunction] = []
    neural: RewardModel | None = None
    for path in job.reward_models:
        if (path / "linear.json").exists():
            functions.append(LinearReward.load(path))
        elif neural is None:
            neural = load_reward_model(path, device=job.device)
        else:
            raise JobError(
                "give one neural reward model; further ones can be linear, or judge as --held-out-reward"
            )
    if job.reward_function is not None:
        functions.append(_function(job.reward_function))
    if neural is None and not functions:
        raise JobError("PPO needs --reward-model FOLDER, --reward-function MODULE:FUNCTION, or both")
    if not functions:
        return neural, None
    return neural, lambda responses: [sum(v) for v in zip(*(f(responses) for f in functions), strict=True)]


def _function(place: str) -> RewardFunction:
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as err:
        raise JobError(
            f"no reward function at {place!r} ({err}); write MODULE:FUNCTION, importable from here"
        ) from err


def judge_at(path: Path, device: str = "cpu") -> Any:
    """A reward model in a folder, neural or linear."""
    return (
        LinearReward.load(path) if (path / "linear.json").exists() else load_reward_model(path, device=device)
    )


def _evaluate(job: Job, client: Client, run: RunFolder, say: Callable[[str], None]) -> None:
    """Reward models against held-out comparisons; a new policy against its parent on held-out prompts."""
    say(f"evaluating on the held-out rows of snapshot {job.snapshot_id}")
    evaluation: dict[str, Any] = {}
    judges = [*job.reward_models, *([job.held_out_reward] if job.held_out_reward else [])]
    if judges:
        evaluation |= _judge_report(job, client, judges)
    if job.model is not None and job.reference is not None and judges:
        evaluation["win_rate"] = _win_rate_report(job, client, judges[-1])
        evaluation["win_rate"]["judge"] = str(judges[-1])
        evaluation["gate"] = dataclasses.asdict(decide(evaluation["win_rate"]))
    if not evaluation:
        raise JobError(
            "give --reward-model to judge it, or --model, --reference (the parent) and --held-out-reward"
        )
    (run.path / "evaluation.json").write_text(json.dumps(evaluation, indent=2) + "\n", encoding="utf-8")
    run.finish(evaluation=evaluation)


def _judge_report(job: Job, client: Client, judges: Sequence[Path]) -> dict[str, Any]:
    held_out: list[Comparison] = _held_out(client, job, "comparisons")
    if not any(not r.tie for r in held_out):
        return {}
    from heedloop_trainer.evaluate import reward_margins

    margins: dict[str, Any] = {}
    for path in judges:
        judge = judge_at(path, job.device)
        margins[str(path)] = (
            judge.margins(held_out) if isinstance(judge, LinearReward) else reward_margins(judge, held_out)
        )
    return evaluate_comparisons(held_out, _rows(client, job, "comparisons"), models=margins)


def _win_rate_report(job: Job, client: Client, judge: Path) -> dict[str, Any]:
    prompts: list[PromptRow] = _held_out(client, job, "prompts")[:MAX_WIN_RATE_PROMPTS]
    if not prompts:
        raise JobError(f"snapshot {job.snapshot_id} holds out no prompts to compare the models on")
    answers = {}
    for name, path in (("new", job.model), ("parent", job.reference)):
        if path is None:
            raise JobError("a win rate needs --model (the new one) and --reference (its parent)")
        model = load_policy(path, device=job.device)
        answers[name] = sample_responses(model, load_tokenizer(path), prompts, job.sampling)
        del model
        gc.collect()
    found = compare_policies(answers["new"], answers["parent"], judge_at(judge, job.device))
    return {
        **dataclasses.asdict(found),
        "num_prompts": len(prompts),
        **{name: response_table(r) for name, r in answers.items()},
    }


_JOBS: dict[str, Callable[[Job, Client, RunFolder, Callable[[str], None]], None]] = {
    "sft": _sft,
    "reward": _reward,
    "reward_linear": _reward_linear,
    "dpo": _dpo,
    "kto": _kto,
    "ppo": _ppo,
    "rloo": _ppo,
    "evaluate": _evaluate,
}
