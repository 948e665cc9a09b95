"""The evaluation job: reward models against held-out judgements, a new policy against its parent on held-out prompts."""

from __future__ import annotations

import dataclasses
import gc
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedloop.schema import Comparison, PromptRow
from heedloop_trainer.evaluation.evaluate import (
    best_of,
    compare_policies,
    response_table,
    sample_responses,
    score_responses,
)
from heedloop_trainer.evaluation.gate import decide
from heedloop_trainer.evaluation.human_judgements import human_win_rate, put_to_review
from heedloop_trainer.evaluation.judges import Judge, load_judge, margins_of
from heedloop_trainer.evaluation.slices import read_attributes
from heedloop_trainer.jobs.held_out import comparison_report
from heedloop_trainer.jobs.job import JobContext, JobError, held_out, run_id_of
from heedloop_trainer.nn.checkpoints import load_policy, load_tokenizer, prompts_as_trained
from heedloop_trainer.nn.encoder import Encoder, readable
from heedloop_trainer.nn.models import RewardModel
from heedloop_trainer.ppo.rollout import Response
from heedloop_trainer.runs.folder import file_hashes
from heedloop_trainer.runs.report_page import write_report

MAX_WIN_RATE_PROMPTS = 200
"""Held-out prompts that both models answer at most, evenly spread over those that there are."""
NUM_SAMPLE_PAIRS = 12


def evaluate(context: JobContext) -> None:
    """Everything that the job's arguments allow; written to evaluation.json, the run's record and its report."""
    job, run = context.job, context.run
    if not context.world.is_first:
        return
    context.say(f"evaluating on the held-out rows of snapshot {job.snapshot_id}")
    evaluation: dict[str, Any] = {}
    judges = [*job.reward_models, *([job.held_out_reward] if job.held_out_reward else [])]
    if judges:
        evaluation |= _judge_report(context, judges)
    if job.model is not None and job.reference is not None and judges:
        evaluation |= _policies_report(context, judges[-1])
    if not evaluation:
        raise JobError(
            "give --reward-model to judge it, or --model, --reference (the parent) and --held-out-reward"
        )
    (run.path / "evaluation.json").write_text(json.dumps(evaluation, indent=2) + "\n", encoding="utf-8")
    run.finish(evaluation=evaluation)
    write_report(run)


def _judge_report(context: JobContext, judges: Sequence[Path]) -> dict[str, Any]:
    rows: list[Comparison] = held_out(context, "comparisons")
    margins = {str(p): margins_of(load_judge(p, device=context.job.device), rows) for p in judges}
    return comparison_report(context, rows, margins)


def _policies_report(context: JobContext, judge_path: Path) -> dict[str, Any]:
    job = context.job
    prompts: list[PromptRow] = held_out(context, "prompts")
    prompts = prompts[:: max(1, math.ceil(len(prompts) / MAX_WIN_RATE_PROMPTS))]  # old and new ones alike
    if not prompts:
        raise JobError(f"snapshot {job.snapshot_id} holds out no prompts to compare the models on")
    if job.model is None or job.reference is None:
        raise JobError("a win rate needs --model (the new one) and --reference (its parent)")
    judge = load_judge(judge_path, device=job.device)
    readers = [
        Encoder.of(prompts_as_trained(path), load_tokenizer(path)) for path in (job.model, job.reference)
    ]
    prompts = readable(prompts, readers + ([judge.encoder()] if isinstance(judge, RewardModel) else []))
    new, parent = (_answers(context, path, prompts) for path in (job.model, job.reference))
    attributes = read_attributes(context.client, {t for p in prompts for t in p.trace_ids})
    found = compare_policies(new, parent, judge, attributes=attributes)
    win_rate = {
        **dataclasses.asdict(found),
        "num_prompts": len(prompts),
        "new": response_table(new),
        "parent": response_table(parent),
        "judge": str(judge_path),
        "judge_is_the_reward": _was_its_reward(job.model, judge_path),
        "model": str(job.model),
        "model_files": file_hashes(sorted(job.model.glob("*.safetensors"))),
    }
    evaluation: dict[str, Any] = {
        "win_rate": win_rate,
        "samples": _sample_pairs(new, parent, judge),
    }
    if job.best_of > 1:
        evaluation["best_of"] = _best_of_report(context, judge, prompts, parent)
    if job.review_queue is not None:
        evaluation["review"] = put_to_review(context.client, job.review_queue, new, parent, context.run.id)
        evaluation["people"] = human_win_rate(context.client, evaluation["review"]["pairs"])
    gate = decide({**win_rate, "people": evaluation.get("people")})
    return {**evaluation, "gate": dataclasses.asdict(gate)}


def _was_its_reward(model: Path, judge: Path) -> bool:
    """True where the new model was trained against this very judge."""
    manifest = model.resolve().parent / "run.json"
    if not manifest.exists():
        return False
    rewards = json.loads(manifest.read_text(encoding="utf-8")).get("config", {}).get("reward_models", [])
    return bool({run_id_of(judge), str(judge)} & set(rewards))


def _answers(context: JobContext, path: Path, prompts: Sequence[PromptRow]) -> list[Response]:
    model = load_policy(path, device=context.job.device)
    written = prompts_as_trained(path)
    responses = sample_responses(model, load_tokenizer(path), prompts, context.job.sampling, written=written)
    del model
    gc.collect()
    return responses


def _best_of_report(
    context: JobContext, judge: Judge, prompts: Sequence[PromptRow], parent: Sequence[Response]
) -> dict[str, Any]:
    """The best of n of the parent, by the judge that picks it: what a reward model gives without any training."""
    job = context.job
    if job.reference is None:
        return {}
    model = load_policy(job.reference, device=job.device)
    tokenizer = load_tokenizer(job.reference)
    # Other draws than the ones it is compared with.
    sampling = dataclasses.replace(job.sampling, seed=job.sampling.seed + 1)
    written = prompts_as_trained(job.reference)
    picked = best_of(model, tokenizer, prompts, judge, sampling, num_candidates=job.best_of, written=written)
    found = compare_policies(picked, parent, judge)
    n = job.best_of
    return {"n": n, "kl_bound": math.log(n) - (n - 1) / n, **dataclasses.asdict(found)}


def _sample_pairs(new: Sequence[Response], parent: Sequence[Response], judge: Judge) -> list[dict[str, Any]]:
    """Pairs of answers for people to read: evenly spread from the greatest gain to the greatest loss."""
    gaps = score_responses(new, judge) - score_responses(parent, judge)
    order = gaps.argsort()[::-1]
    count = min(NUM_SAMPLE_PAIRS, len(order))
    places = [order[round(k * (len(order) - 1) / max(1, count - 1))] for k in range(count)]
    return [
        {
            "prompt": "\n".join(m.text for m in new[i].prompt.prompt),
            "new": new[i].text,
            "parent": parent[i].text,
            "gain": float(gaps[i]),
        }
        for i in dict.fromkeys(int(p) for p in places)
    ]
