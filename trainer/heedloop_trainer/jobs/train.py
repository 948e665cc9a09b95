"""What each training method does with its job: read its rows, make its model, train, evaluate, write everything down."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heedloop.schema import Comparison, RatedCompletion, Unpaired
from heedloop_trainer.evaluation.calibration import fit_temperature
from heedloop_trainer.evaluation.cross_validation import cross_validate
from heedloop_trainer.evaluation.evaluate import reward_margins, sample_responses, score_responses
from heedloop_trainer.evaluation.judges import load_judge, margins_of, write_ensemble
from heedloop_trainer.jobs.held_out import comparison_report
from heedloop_trainer.jobs.job import JobContext, JobError, held_out, read_rows
from heedloop_trainer.jobs.models import (
    classifier_for,
    environment_for,
    generator_for,
    policy_for,
    reference_for,
    rewards_for,
    watch_for,
)
from heedloop_trainer.jobs.training_rows import training_rows, validation_rows
from heedloop_trainer.methods.preference import ImplicitRewards, train_dpo, train_kto
from heedloop_trainer.methods.rejection import best_demonstrations
from heedloop_trainer.methods.reward import JudgedRow, train_reward
from heedloop_trainer.methods.reward_linear import train_reward_linear
from heedloop_trainer.methods.sft import SFTConfig, demonstration_loss, train_sft
from heedloop_trainer.nn.checkpoints import adapter_base, is_adapter, save_model
from heedloop_trainer.nn.distributed import unsharded
from heedloop_trainer.nn.encoder import Encoder, readable
from heedloop_trainer.nn.models import Policy, RewardModel, evaluating
from heedloop_trainer.ppo.train import train_ppo
from heedloop_trainer.runs.cards import model_card
from heedloop_trainer.runs.folder import RunFolder, TrainingResult
from heedloop_trainer.runs.report_page import write_report

# ------------------------------------------------------------------------------------------------- the methods


def _from_rows(context: JobContext) -> None:
    """SFT, DPO or KTO: a policy learns from rows that are there; DPO and KTO hold on to a frozen reference."""
    job = context.job
    train, noun = ROW_METHODS[job.method]
    rows = training_rows(context)
    anchored = job.method != "sft"
    model, tokenizer = policy_for(context, rows, num_frozen=int(anchored))
    context.say(f"{job.method.upper()} on {len(rows):,} {noun}")
    frozen = {"reference": reference_for(job)} if anchored else {}
    judge = _judge_of(context, model, tokenizer, frozen.get("reference"))
    result = train(
        job.config,
        rows,
        model,
        tokenizer,
        context.run,
        validation=validation_rows(context),
        progress=_bar(context),
        world=context.world,
        **frozen,
    )
    _close(context, model, tokenizer, result, facts={noun.capitalize(): len(rows)}, judge=judge)


HeldOutJudge = Callable[[Any], tuple[dict[str, float], dict[str, Any]]]
"""What held-out rows say of a trained model: metrics, and an evaluation."""


def _judge_of(context: JobContext, model: Any, tokenizer: Any, reference: Any) -> HeldOutJudge | None:
    """How the trained model will be judged; what must be measured before training is measured here."""
    config = context.job.config
    if not context.world.is_first:
        return None
    if isinstance(config, SFTConfig):
        rows = held_out(context, "demonstrations")
        before = demonstration_loss(config, rows, model, tokenizer)

        def losses(trained: Any) -> tuple[dict[str, float], dict[str, Any]]:
            after = demonstration_loss(config, rows, trained, tokenizer)
            if before is None or after is None:
                return {}, {}
            return {"held_out_loss_before": before, "held_out_loss": after}, {}

        return losses
    anchor = Policy(reference or model, bfloat16=config.bfloat16)
    with evaluating(anchor):
        encoder = Encoder.of(config, tokenizer)
        pairs = ImplicitRewards(config, encoder, anchor, held_out(context, "comparisons"), needed=False)

    def accuracy(trained: Any) -> tuple[dict[str, float], dict[str, Any]]:
        if not any(not r.tie for r in pairs.rows):
            return {}, {}
        margins = pairs.margins(Policy(trained, bfloat16=config.bfloat16))
        return {}, comparison_report(context, pairs.rows, {"policy (implicit reward)": margins})

    return accuracy


ROW_METHODS: dict[str, tuple[Callable[..., TrainingResult], str]] = {
    "sft": (train_sft, "demonstrations"),
    "dpo": (train_dpo, "comparisons"),
    "kto": (train_kto, "judged completions"),
}
"""What trains, and what its rows are called."""


def _ppo(context: JobContext) -> None:
    job, rows, config = context.job, training_rows(context), context.job.config
    if job.lora_rank and context.world.size > 1:
        raise JobError(
            "PPO trains adapters (--lora) in one process only; leave --lora out, or start it without torchrun"
        )
    separate = config.estimator == "ppo" and config.critic_body == "separate"
    model, tokenizer = policy_for(
        context, rows, num_trained=2 if separate else 1, num_frozen=1 + len(job.reward_models)
    )
    reward_model, function = rewards_for(job)
    context.say(
        f"{job.method.upper()} on {len(rows):,} prompts, {config.num_rollouts} rollouts of {config.batch_size}"
    )
    result = train_ppo(
        config,
        rows,
        model,
        tokenizer,
        reference=reference_for(job),
        reward_model=reward_model,
        reward_function=function,
        generator=generator_for(context, model, tokenizer),
        environment=environment_for(job),
        run=context.run,
        progress=_bar(context),
        watch=watch_for(job),
        world=context.world,
    )
    if result.stopped:
        context.say(f"stopped: {result.stopped}")
    _close(context, model, tokenizer, result, facts={"Prompts": len(rows)})


def _rejection(context: JobContext) -> None:
    """The model answers every prompt several times; the best answers by the reward are its demonstrations."""
    job, prompts, config = context.job, training_rows(context), context.job.config
    if context.world.size > 1:
        raise JobError("rejection sampling runs in one process; start it without torchrun")
    model, tokenizer = policy_for(context, prompts, num_frozen=len(job.reward_models))
    reward_model, function = rewards_for(job)
    readers = [Encoder.of(config, tokenizer)] + ([] if reward_model is None else [reward_model.encoder()])
    prompts = readable(prompts, readers)
    context.say(f"{config.num_candidates} answers to each of {len(prompts):,} prompts")
    asked = [p for p in prompts for _ in range(config.num_candidates)]
    candidates = sample_responses(model, tokenizer, asked, config.sampling, written=config)
    judges = [judge for judge in (reward_model, function) if judge is not None]
    scores = sum(score_responses(candidates, judge) for judge in judges).reshape(len(prompts), -1)
    rows = best_demonstrations(candidates, scores)
    context.say(f"SFT on the best answers to {len(rows):,} of them")
    if not rows:
        raise JobError("no prompt has one answer that is better than its others: there is nothing to learn")
    looked_at = validation_rows(context, "demonstrations")
    result = train_sft(
        config, rows, model, tokenizer, context.run, validation=looked_at, progress=_bar(context)
    )
    gain = {"score_mean": float(scores.mean()), "score_best": float(scores.max(1).mean())}
    result = dataclasses.replace(result, metrics=result.metrics | gain)
    _close(context, model, tokenizer, result, facts={"Prompts": len(prompts), "Demonstrations": len(rows)})


def _reward(context: JobContext) -> None:
    """One reward model, or several that differ in their seed; judged on what was held out."""
    job = context.job
    rows = _judged_rows(context)
    members: list[tuple[Any, Any, TrainingResult]] = []
    for k in range(job.ensemble):
        config = dataclasses.replace(job.config, seed=job.config.seed + k)
        model, tokenizer = classifier_for(context, rows, seed=config.seed)
        context.say(
            f"reward model{_of(k, job.ensemble)} of {sum(p.numel() for p in model.parameters()):,} parameters on {len(rows):,} "
            "judgements"
        )
        run = context.run if job.ensemble == 1 else RunFolder.in_memory("reward")
        result = train_reward(
            config,
            rows,
            model,
            tokenizer,
            run,
            validation=validation_rows(context),
            progress=_bar(context),
            world=context.world,
        )
        members.append((_whole(context, model), tokenizer, result))
    if not context.world.is_first:
        return
    _close_reward(context, members, rows)


def _judged_rows(context: JobContext) -> list[JudgedRow]:
    job = context.job
    needed = not job.thumbs  # thumbs alone can train it, too
    rows: list[JudgedRow] = training_rows(context, needed=needed)
    if job.thumbs:
        rows += read_rows(context, "unpaired")
    if job.dimensions:
        rows += read_rows(context, "rated")
        named = {n for r in rows if isinstance(r, RatedCompletion) for n in r.ratings}
        missing = sorted(set(job.dimensions) - named)
        if missing:
            raise JobError(
                f"no rating of the snapshot is named {missing[0]!r}; there is {', '.join(sorted(named))}"
            )
    return rows


def _close_reward(
    context: JobContext, members: list[tuple[Any, Any, TrainingResult]], rows: Sequence[Any]
) -> None:
    run = context.run
    validation = [r for r in read_rows(context, "comparisons", "validation") if not r.tie]
    names = [f"member-{k}" for k in range(len(members))]
    for (model, tokenizer, result), name in zip(members, names, strict=True):
        reward = RewardModel(model, tokenizer)
        margins = reward_margins(reward, validation) if validation else np.zeros(0)
        reward.calibrate(fit_temperature(margins, np.array([r.weight for r in validation])))
        folder = run.checkpoint / name if len(members) > 1 else run.checkpoint
        save_model(model, tokenizer, folder, dtype=context.job.save_dtype)
        if len(members) > 1:
            for row in result.history:
                run.log(int(row["step"]), **{f"{name}/{k}": v for k, v in row.items() if k != "step"})
    if len(members) > 1:
        write_ensemble(run.checkpoint, names)
    result = members[0][2]
    evaluation = _judge_held_out(context, "reward model", run.checkpoint)
    facts = {"Comparisons": sum(isinstance(r, Comparison) for r in rows)}
    facts |= {"Single thumbs": sum(isinstance(r, Unpaired) for r in rows), "Members": len(members)}
    _finish(context, members[0][0], result, evaluation=evaluation, facts=facts)


def _reward_linear(context: JobContext) -> None:
    job, run = context.job, context.run
    rows: list[Comparison] = training_rows(context)
    context.say(f"linear reward model on {len(rows):,} comparisons")
    model = train_reward_linear(job.config, rows)
    model.save(run.checkpoint)
    evaluation = _judge_held_out(context, "linear reward model", run.checkpoint)
    if job.cross_validate:
        every = read_rows(context, "comparisons", None)
        context.say(f"cross-validating over {len({r.group for r in every}):,} prompt groups")
        found = cross_validate(every, job.config)
        evaluation["cross_validation"] = found.report
        found.save(run.path / "cross_validation.csv", every)
    metrics = {"num_rows": float(len(rows)), "num_features": float(len(model.weights))}
    run.log(0, **metrics)
    facts = {"Strongest features": ", ".join(f"{n!r} {w:+.2f}" for n, w in model.strongest(12))}
    result = TrainingResult(metrics, run.history)
    _finish(context, None, result, evaluation=evaluation, facts=facts, num_parameters=len(model.weights))


METHODS: dict[str, Callable[[JobContext], None]] = {
    "sft": _from_rows,
    "reward": _reward,
    "reward_linear": _reward_linear,
    "dpo": _from_rows,
    "kto": _from_rows,
    "ppo": _ppo,
    "rloo": _ppo,
    "grpo": _ppo,
    "rejection": _rejection,
}


def _bar(context: JobContext) -> str | None:
    return context.job.method if context.world.is_first else None


def _of(k: int, total: int) -> str:
    return "" if total == 1 else f" {k + 1} of {total}"


# ------------------------------------------------------------------------------------------------- writing down


def _judge_held_out(context: JobContext, name: str, path: Path) -> dict[str, Any]:
    """Held-out accuracy of the reward model in a folder, beside its baselines; empty where nothing is held out."""
    rows: list[Comparison] = held_out(context, "comparisons")
    judge = load_judge(path, device=context.job.device)
    return comparison_report(context, rows, {name: margins_of(judge, rows)})


def _whole(context: JobContext, model: Any) -> Any:
    """The model itself, or over several processes its weights gathered into one."""
    return model if context.world.size == 1 else unsharded(model)


def _close(
    context: JobContext,
    model: Any,
    tokenizer: Any,
    result: TrainingResult,
    *,
    facts: dict[str, Any],
    judge: HeldOutJudge | None = None,
) -> None:
    """Write the checkpoint, its card and report, and close the run."""
    model = _whole(context, model)
    if not context.world.is_first:
        return
    start = context.job.model
    base = "" if start is None else adapter_base(start) if is_adapter(start) else start.resolve()
    save_model(
        model,
        tokenizer,
        context.run.checkpoint,
        adapters=context.job.save_adapters,
        base=base,
        dtype=context.job.save_dtype,
    )
    metrics, evaluation = ({}, {}) if judge is None else judge(model)
    result = dataclasses.replace(result, metrics=result.metrics | metrics)
    _finish(context, model, result, facts=facts, evaluation=evaluation)


def _finish(
    context: JobContext,
    model: Any,
    result: TrainingResult,
    *,
    facts: dict[str, Any],
    evaluation: dict[str, Any] | None = None,
    num_parameters: int | None = None,
) -> None:
    job, run = context.job, context.run
    status = "finished" if result.stopped is None else "stopped"
    record = run.finish(metrics=result.metrics, evaluation=evaluation, status=status, error=result.stopped)
    if job.from_scratch is not None:
        facts = {"Made from nothing": "random weights and a tokenizer trained on the same rows", **facts}
    count = sum(p.numel() for p in model.parameters()) if num_parameters is None else num_parameters
    card = model_card(record, num_parameters=count, facts=facts, metrics=result.metrics)
    (run.checkpoint / "README.md").write_text(card, encoding="utf-8")
    write_report(run)
