"""What is logged of a rollout and of the updates it led to. Everything is masked: padding counts for nothing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from heedloop_trainer.ppo.advantages import Targets
from heedloop_trainer.ppo.losses import kl_k3, masked_mean
from heedloop_trainer.ppo.rollout import Rollout


def describe_updates(
    done: list[dict[str, float]], *, num_steps: int, stopped_early: bool
) -> dict[str, float]:
    """Means over the optimiser steps of one rollout."""
    if not done:
        return {"policy/num_updates": 0.0, "policy/stopped_early": 0.0}

    def mean(name: str) -> float:
        found = [e[name] for e in done if name in e]
        return sum(found) / len(found) if found else 0.0

    metrics = {
        "policy/first_ratio": done[0]["ratio"],
        "policy/ratio": mean("ratio"),
        "policy/ratio_max": max(e["ratio_max"] for e in done),
        "policy/clip_share": mean("clipped"),
        "policy/kl": done[-1]["kl"],
        "policy/loss": mean("policy_loss"),
        "policy/grad_norm": mean("grad_norm"),
        "policy/num_updates": float(sum("grad_norm" in e for e in done)),
        "policy/stopped_early": float(stopped_early),
        "policy/num_steps": float(num_steps),
    }
    metrics |= {f"value/{n}": mean(f"value_{n}") for n in ("loss", "grad_norm") if f"value_{n}" in done[0]}
    return metrics


def describe_rollout(rollout: Rollout, targets: Targets, kl_coefficient: float) -> dict[str, float]:
    """Masked diagnostics of one rollout, by the field's usual names."""
    mask = rollout.mask
    kl = rollout.kl.sum(1)
    lengths = rollout.lengths.float()
    k3 = kl_k3(rollout.old_log_probs, rollout.reference_log_probs)
    metrics = {
        "objective/score": float(rollout.scores.mean()),
        "objective/raw_score": float(rollout.raw_scores.mean()),
        "objective/score_std": float(rollout.scores.std(unbiased=False)),
        "objective/kl": float(kl.mean()),
        "objective/kl_per_token": float(masked_mean(rollout.kl, mask)),
        "objective/kl_k3_per_token": float(masked_mean(k3, mask)),
        "objective/kl_coefficient": kl_coefficient,
        "objective/rlhf_reward": float(targets.rewards.sum(1).mean()),
        "policy/entropy": float(masked_mean(rollout.entropy, mask)),
        "response/length": float(lengths.mean()),
        "response/ended_share": float(rollout.ended.float().mean()),
        "response/distinct_2": distinct_bigrams([r.token_ids for r in rollout.responses]),
        "response/score_length_correlation": _correlation(rollout.scores, lengths),
        "response/tokens": float(lengths.sum()),
        "sampler/drift": rollout.drift,
        "advantage/spread": targets.spread,
    }
    if rollout.turn_rewards is not None and bool(rollout.turn_rewards.any()):
        metrics["objective/environment"] = float(rollout.turn_rewards.sum(1).mean())
    if bool(rollout.disagreement.any()):
        metrics["objective/disagreement"] = float(rollout.disagreement.mean())
    if bool(rollout.values.any()):
        returns, values = targets.returns[targets.valid], rollout.values[targets.valid]
        left = (returns - values).var(unbiased=False) / returns.var(unbiased=False).clamp(min=1e-8)
        metrics["value/explained_variance"] = float(1 - left)
    return metrics


def distinct_bigrams(responses: Sequence[Sequence[int]]) -> float:
    """Share of token pairs that are different from all others; falls when answers become all alike."""
    pairs = [p for ids in responses for p in itertools.pairwise(ids)]
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def _correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = a.norm() * b.norm()
    return float((a * b).sum() / scale) if scale > 1e-8 else 0.0


def final_metrics(history: list[dict[str, float]]) -> dict[str, float]:
    """Means over the last tenth of the rollouts."""
    tail = history[-max(1, len(history) // 10) :]
    names = ("objective/score", "objective/kl", "response/length", "response/ended_share", "policy/entropy")
    return {n: sum(r[n] for r in tail) / len(tail) for n in names} if tail else {}
