"""What each training method does with its job: read its rows, make its model, train, evaluate, write everything down."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heedloop.schema import Comparison, RatedCompletion, Unpaired
from heedloop_trainer.alarms import Watch
from heedloop_trainer.calibration import fit_temperature
from heedloop_trainer.cards import model_card
from heedloop_trainer.cross_validation import cross_validate
from heedloop_trainer.distributed import unsharded
from heedloop_trainer.evaluate import evaluate_comparisons, reward_margins
from heedloop_trainer.jobs import Job, JobError, Working, held_out, read_rows
from heedloop_trainer.judges import load_judge, margins_of, write_ensemble
from heedloop_trainer.memory import available_bytes, estimate_memory, what_to_change
from heedloop_trainer.models import (
    RewardModel,
    checkpoint_activations,
    load_policy,
    load_tokenizer,
    name_outputs,
    own_pad_token,
    save_model,
    sequence_classifier_from,
    stop_ids,
    with_lora,
)
from heedloop_trainer.ppo import train_ppo
from heedloop_trainer.preference import train_dpo, train_kto
from heedloop_trainer.report_page import write_report
from heedloop_trainer.reward import JudgedRow, train_reward
from heedloop_trainer.reward_linear import LinearReward, train_reward_linear
from heedloop_trainer.rollout import RewardFunction
from heedloop_trainer.runs import RunFolder, TrainingResult
from heedloop_trainer.sampling import Generator
from heedloop_trainer.sampling_batching import ContinuousGenerator
from heedloop_trainer.sampling_static import StaticGenerator
from heedloop_trainer.sampling_vllm import VLLMGenerator
from heedloop_trainer.scratch import SmallShape, small_classifier, small_policy, train_tokenizer
from heedloop_trainer.sft import train_sft
from heedloop_trainer.slices import read_attributes

__all__ = ["METHODS", "SCRATCH_SHAPES"]

SCRATCH_SHAPES = {"tiny": SmallShape(128, 4, 4, 384), "small": SmallShape(256, 6, 8, 768)}
"""Shapes of `--from-scratch`: about 1 and 6 million parameters with a vocabulary of 2,048."""


# ------------------------------------------------------------------------------------------------- the methods


def _sft(working: Working) -> None:
    job, rows = working.job, read_rows(working, "demonstrations")
    model, tokenizer = _policy(working, rows)
    working.say(f"SFT on {len(rows):,} demonstrations")
    result = train_sft(
        job.config, rows, model, tokenizer, working.run, progress=_bar(working), world=working.world
    )
    _close(working, model, tokenizer, result, facts={"Demonstrations": len(rows)})


def _dpo(working: Working) -> None:
    job, rows = working.job, read_rows(working, "comparisons")
    model, tokenizer = _policy(working, rows, num_frozen=1)
    working.say(f"DPO on {len(rows):,} comparisons")
    result = train_dpo(
        job.config,
        rows,
        model,
        tokenizer,
        working.run,
        reference=_reference(job),
        progress=_bar(working),
        world=working.world,
    )
    _close(working, model, tokenizer, result, facts={"Comparisons": len(rows)})


def _kto(working: Working) -> None:
    job, rows = working.job, read_rows(working, "unpaired")
    model, tokenizer = _policy(working, rows, num_frozen=1)
    working.say(f"KTO on {len(rows):,} judged completions")
    result = train_kto(
        job.config,
        rows,
        model,
        tokenizer,
        working.run,
        reference=_reference(job),
        progress=_bar(working),
        world=working.world,
    )
    _close(working, model, tokenizer, result, facts={"Judged completions": len(rows)})


def _ppo(working: Working) -> None:
    job, rows, config = working.job, read_rows(working, "prompts"), working.job.config
    if job.lora_rank and working.world.size > 1:
        raise JobError(
            "PPO trains adapters (--lora) in one process only; leave --lora out, or start it without torchrun"
        )
    separate = config.estimator == "ppo" and config.critic_body == "separate"
    model, tokenizer = _policy(
        working, rows, num_trained=2 if separate else 1, num_frozen=1 + len(job.reward_models)
    )
    reward_model, function = _rewards(job)
    working.say(
        f"{job.method.upper()} on {len(rows):,} prompts, {config.num_rollouts} rollouts of {config.batch_size}"
    )
    result = train_ppo(
        config,
        rows,
        model,
        tokenizer,
        reference=_reference(job),
        reward_model=reward_model,
        reward_function=function,
        generator=_generator(working, model, tokenizer),
        run=working.run,
        progress=_bar(working),
        watch=_watch(job),
        world=working.world,
    )
    if result.stopped:
        working.say(f"stopped: {result.stopped}")
    _close(working, model, tokenizer, result, facts={"Prompts": len(rows)})


def _reward(working: Working) -> None:
    """One reward model, or several that differ in their seed; judged on what was held out."""
    job = working.job
    rows = _judged_rows(working)
    members: list[tuple[Any, Any, TrainingResult]] = []
    for k in range(job.ensemble):
        config = dataclasses.replace(job.config, seed=job.config.seed + k)
        model, tokenizer = _classifier(working, rows, seed=config.seed)
        working.say(
            f"reward model{_of(k, job.ensemble)} of {sum(p.numel() for p in model.parameters()):,} parameters on {len(rows):,} "
            "judgements"
        )
        run = working.run if job.ensemble == 1 else RunFolder.in_memory("reward")
        result = train_reward(
            config, rows, model, tokenizer, run, progress=_bar(working), world=working.world
        )
        members.append((_whole(working, model), tokenizer, result))
    if not working.world.is_first:
        return
    _close_reward(working, members, rows)


def _judged_rows(working: Working) -> list[JudgedRow]:
    job = working.job
    needed = not job.thumbs  # thumbs alone can train it, too
    rows: list[JudgedRow] = read_rows(working, "comparisons", "train" if needed else None)
    rows = [r for r in rows if r.split == "train"]
    if job.thumbs:
        rows += read_rows(working, "unpaired")
    if job.dimensions:
        rows += read_rows(working, "rated")
        named = {n for r in rows if isinstance(r, RatedCompletion) for n in r.ratings}
        missing = sorted(set(job.dimensions) - named)
        if missing:
            raise JobError(
                f"no rating of the snapshot is named {missing[0]!r}; there is {', '.join(sorted(named))}"
            )
    return rows


def _close_reward(
    working: Working, members: list[tuple[Any, Any, TrainingResult]], rows: Sequence[Any]
) -> None:
    run = working.run
    validation = [r for r in read_rows(working, "comparisons", "validation") if not r.tie]
    names = [f"member-{k}" for k in range(len(members))]
    for (model, tokenizer, result), name in zip(members, names, strict=True):
        reward = RewardModel(model, tokenizer)
        margins = reward_margins(reward, validation) if validation else np.zeros(0)
        reward.calibrate(fit_temperature(margins, np.array([r.weight for r in validation])))
        save_model(model, tokenizer, run.checkpoint / name if len(members) > 1 else run.checkpoint)
        if len(members) > 1:
            for row in result.history:
                run.log(int(row["step"]), **{f"{name}/{k}": v for k, v in row.items() if k != "step"})
    if len(members) > 1:
        write_ensemble(run.checkpoint, names)
    result = members[0][2]
    evaluation = _judge_held_out(working, "reward model", run.checkpoint)
    facts = {"Comparisons": sum(isinstance(r, Comparison) for r in rows)}
    facts |= {"Single thumbs": sum(isinstance(r, Unpaired) for r in rows), "Members": len(members)}
    _finish(working, members[0][0], result, evaluation=evaluation, facts=facts)


def _reward_linear(working: Working) -> None:
    job, run = working.job, working.run
    rows: list[Comparison] = read_rows(working, "comparisons")
    working.say(f"linear reward model on {len(rows):,} comparisons")
    model = train_reward_linear(job.config, rows)
    model.save(run.checkpoint)
    evaluation = _judge_held_out(working, "linear reward model", run.checkpoint)
    if job.cross_validate:
        every = read_rows(working, "comparisons", None)
        working.say(f"cross-validating over {len({r.group for r in every}):,} prompt groups")
        found = cross_validate(every, job.config)
        evaluation["cross_validation"] = found.report
        found.save(run.path / "cross_validation.csv", every)
    metrics = {"num_rows": float(len(rows)), "num_features": float(len(model.weights))}
    run.log(0, **metrics)
    facts = {"Strongest features": ", ".join(f"{n!r} {w:+.2f}" for n, w in model.strongest(12))}
    result = TrainingResult(metrics, run.history)
    _finish(working, None, result, evaluation=evaluation, facts=facts, num_parameters=len(model.weights))


METHODS: dict[str, Callable[[Working], None]] = {
    "sft": _sft,
    "reward": _reward,
    "reward_linear": _reward_linear,
    "dpo": _dpo,
    "kto": _kto,
    "ppo": _ppo,
    "rloo": _ppo,
}


# ------------------------------------------------------------------------------------------------- making models


def _bar(working: Working) -> str | None:
    return working.job.method if working.world.is_first else None


def _of(k: int, total: int) -> str:
    return "" if total == 1 else f" {k + 1} of {total}"


def _texts(rows: Sequence[Any]) -> list[str]:
    out: list[str] = []
    for r in rows:
        out += [m.text for m in r.prompt]
        out += [getattr(r, n) for n in ("completion", "chosen", "rejected") if hasattr(r, n)]
    return out


def _policy(
    working: Working, rows: Sequence[Any], *, num_trained: int = 1, num_frozen: int = 0
) -> tuple[Any, Any]:
    """The policy to train with its tokenizer, on its device; refused where it will not fit into memory."""
    job = working.job
    if job.from_scratch is not None:
        tokenizer = train_tokenizer(_texts(rows))
        model: Any = small_policy(tokenizer, SCRATCH_SHAPES[job.from_scratch], seed=job.config.seed)
    else:
        if job.model is None:
            raise JobError("give --model FOLDER, or --from-scratch tiny where no model can be had")
        tokenizer, model = load_tokenizer(job.model), load_policy(job.model)
    return _prepared(working, model, job.config.seed, num_trained, num_frozen), tokenizer


def _classifier(working: Working, rows: Sequence[Any], *, seed: int) -> tuple[Any, Any]:
    job = working.job
    num_labels = 1 + len(job.dimensions)
    if job.from_scratch is not None:
        tokenizer = train_tokenizer(_texts(rows))
        shape = SCRATCH_SHAPES[job.from_scratch]
        model: Any = small_classifier(tokenizer, shape, num_labels=num_labels, seed=seed)
    else:
        if job.model is None:
            raise JobError("give --model FOLDER, or --from-scratch tiny where no model can be had")
        tokenizer, policy = load_tokenizer(job.model), load_policy(job.model)
        own_pad_token(policy, tokenizer)
        torch.manual_seed(seed)
        model = sequence_classifier_from(policy, num_labels=num_labels)
    if job.dimensions:
        name_outputs(model, ("reward", *job.dimensions))
    return _prepared(working, model, seed, 1, 0), tokenizer


def _prepared(working: Working, model: Any, seed: int, num_trained: int, num_frozen: int) -> Any:
    job = working.job
    if job.lora_rank:
        model = with_lora(model, rank=job.lora_rank, seed=seed)
    if job.checkpointed:
        checkpoint_activations(model)
    if job.check_memory:
        _refuse_what_does_not_fit(working, model, num_trained, num_frozen)
    return model.to(job.device)


def _refuse_what_does_not_fit(working: Working, model: Any, num_trained: int, num_frozen: int) -> None:
    job, config = working.job, working.job.config
    sampling = getattr(config, "sampling", None)
    decoded = 0
    if sampling is not None:
        together = min(sampling.batch_size, config.batch_size)
        decoded = together * (config.max_prompt_tokens + sampling.max_new_tokens)
    found = estimate_memory(
        model,
        max_tokens=config.max_tokens,
        num_trained=num_trained,
        num_frozen=num_frozen,
        num_whole=int(sampling is not None and working.world.size > 1),
        decoded_tokens=decoded,
        bfloat16=config.bfloat16,
        world_size=working.world.size,
    )
    free = available_bytes(job.device)
    if free is None or found.total <= free:
        return
    advice = what_to_change(config, checkpointed=job.checkpointed, lora=job.lora_rank > 0, device=job.device)
    raise JobError(
        f"this run would take about {found.text} and {job.device} has {free / 2**30:.1f} GiB free. What makes it smaller: "
        f"{advice}. --no-memory-check starts it all the same"
    )


def _reference(job: Job) -> Any:
    return None if job.reference is None else load_policy(job.reference, device=job.device)


def _generator(working: Working, model: Any, tokenizer: Any) -> Generator | None:
    """What writes the responses; None for the cached decoder, which PPO makes itself."""
    name, stops = working.job.generator, stop_ids(model, tokenizer)
    if name == "cached":
        return None
    if working.world.size > 1:
        raise JobError("over several processes each samples with the cached generator; leave --generator out")
    if name == "static":
        return StaticGenerator(model, stops, bfloat16=working.job.config.bfloat16)
    if name == "continuous":
        return ContinuousGenerator(model, stops)
    if name.startswith(("http://", "https://")):
        folder = working.run.path / "vllm"
        return VLLMGenerator(name, str(folder), stops, policy=model, folder=folder)
    raise JobError(
        f"there is no generator {name!r}; there is cached, static, continuous, or a vLLM server's http address"
    )


def _watch(job: Job) -> Watch | None:
    if not job.alarms:
        return None
    return Watch(judges=[load_judge(job.held_out_reward, device=job.device)] if job.held_out_reward else [])


def _rewards(job: Job) -> tuple[RewardModel | None, RewardFunction | None]:
    """The reward model that PPO climbs and the function beside it; linear models count as functions."""
    functions: list[RewardFunction] = []
    neural: RewardModel | None = None
    for path in job.reward_models:
        judge = load_judge(path, device=job.device)
        if isinstance(judge, LinearReward):
            functions.append(judge)
        elif neural is None:
            neural = judge
        else:
            raise JobError(
                "give one neural reward model; further ones can be linear, members of an ensemble, or judge as --held-out-reward"
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


# ------------------------------------------------------------------------------------------------- writing down


def _judge_held_out(working: Working, name: str, path: Path) -> dict[str, Any]:
    """Held-out accuracy of the reward model in a folder, beside its baselines; empty where nothing is held out."""
    rows: list[Comparison] = held_out(working, "comparisons")
    if not any(not r.tie for r in rows):
        return {}
    judge = load_judge(path, device=working.job.device)
    return evaluate_comparisons(
        rows,
        read_rows(working, "comparisons", "train"),
        models={name: margins_of(judge, rows)},
        ceiling=agreement_ceiling(working),
        attributes=read_attributes(working.client, {t for r in rows for t in r.trace_ids}),
    )


def agreement_ceiling(working: Working) -> float | None:
    """The accuracy that no model can exceed on single votes, as the snapshot's report has it."""
    report = working.client.snapshot(working.job.snapshot_id).get("report") or {}
    return (report.get("comparisons") or {}).get("agreement_ceiling")


def _whole(working: Working, model: Any) -> Any:
    """The model itself, or over several processes its weights gathered into one."""
    return model if working.world.size == 1 else unsharded(model)


def _close(
    working: Working, model: Any, tokenizer: Any, result: TrainingResult, *, facts: dict[str, Any]
) -> None:
    """Write the checkpoint, its card and report, and close the run."""
    model = _whole(working, model)
    if not working.world.is_first:
        return
    save_model(model, tokenizer, working.run.checkpoint)
    _finish(working, model, result, facts=facts)


def _finish(
    working: Working,
    model: Any,
    result: TrainingResult,
    *,
    facts: dict[str, Any],
    evaluation: dict[str, Any] | None = None,
    num_parameters: int | None = None,
) -> None:
    job, run = working.job, working.run
    status = "finished" if result.stopped is None else "stopped"
    record = run.finish(metrics=result.metrics, evaluation=evaluation, status=status, error=result.stopped)
    if job.from_scratch is not None:
        facts = {"Made from nothing": "random weights and a tokenizer trained on the same rows", **facts}
    count = sum(p.numel() for p in model.parameters()) if num_parameters is None else num_parameters
    card = model_card(record, num_parameters=count, facts=facts, metrics=result.metrics)
    (run.checkpoint / "README.md").write_text(card, encoding="utf-8")
    write_report(run)
