"""Optimiser steps: schedule, clipping, and gradients summed over micro-batches.

One minibatch is one optimiser step, whatever micro-batches and ranks it is split into: the losses are sums, and their one
denominator is the whole minibatch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from heedloop_trainer.nn.distributed import World, sharded_like, whole
from heedloop_trainer.nn.sequences import micro_batches

NUM_NAMED_ROWS = 8


class DivergenceError(ValueError):
    """A loss or a gradient is not finite: the run has ended, and the weights are not to be kept."""


def check_finite(values: Mapping[str, float], step: int, rows: Sequence[Any]) -> None:
    """Raise a `DivergenceError` that names the step and its rows, where one of the values is not finite.

    Args:
        values: what is checked, by the noun it is called by.
        rows: the rows of the step, named by the feedback they come from, or their traces.
    """
    bad = next((f"the {name} is {value}" for name, value in values.items() if not math.isfinite(value)), None)
    if bad is None:
        return
    names = [next(iter((*getattr(r, "feedback_ids", ()), *r.trace_ids)), "a row without ids") for r in rows]
    more = f" and {len(names) - NUM_NAMED_ROWS} more" if len(names) > NUM_NAMED_ROWS else ""
    raise DivergenceError(
        f"training diverged at step {step}: {bad}. Its rows: {', '.join(names[:NUM_NAMED_ROWS])}{more}. Lower the learning rate, or "
        "leave out rows that are out of the ordinary; the last resume point is from before"
    )


@dataclass(frozen=True, slots=True)
class OptimiserConfig:
    """AdamW with warm-up.

    Attributes:
        learning_rate: the highest rate.
        warmup_share: share of all steps over which the rate rises linearly from 0.
        schedule: what follows: the rate stays, or falls to a tenth along a line or a cosine.
        eps: 1e-5, not torch's 1e-8: early updates are otherwise far larger than intended (arXiv 2403.17031).
        max_grad_norm: gradients are scaled down to this norm.
    """

    learning_rate: float = 1e-5
    warmup_share: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-5
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, not {self.learning_rate}")

    def factor(self, step: int, total: int) -> float:
        """Share of the highest rate at `step` (from 0) of `total`."""
        warmup = int(self.warmup_share * total)
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, total - warmup)
        if self.schedule == "linear":
            return 1.0 - 0.9 * done
        if self.schedule == "cosine":
            return 0.1 + 0.45 * (1 + math.cos(math.pi * done))
        return 1.0


class Optimiser:
    """Clips, steps and counts.

    Args:
        own_rates: highest learning rates of single parameters by name, where they are not the configuration's.

    Attributes:
        num_steps: optimiser steps taken so far.
    """

    def __init__(
        self,
        model: nn.Module,
        config: OptimiserConfig,
        total_steps: int,
        own_rates: Mapping[str, float] | None = None,
    ) -> None:
        self.config, self.total_steps, self.num_steps = config, total_steps, 0
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self.parameters = [p for _, p in named]
        if not self.parameters:
            raise ValueError("the model has no trainable parameters")
        sharded = any(hasattr(p, "full_tensor") for p in self.parameters)
        own_rates = own_rates or {}
        own = [(n, p) for n, p in named if n in own_rates]
        groups: list[dict[str, Any]] = [
            {"params": [p for n, p in named if n not in own_rates], "peak": config.learning_rate}
        ]
        groups += [{"params": [p], "peak": own_rates[n]} for n, p in own]
        self.adam = torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=not sharded,
        )

    def step(self) -> float:
        """One update from the gradients that are there; answers their norm before clipping, and takes no step where it is
        not finite."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        if not math.isfinite(norm):
            self.discard()
            return norm
        factor = self.config.factor(self.num_steps, self.total_steps)
        for group in self.adam.param_groups:
            group["lr"] = group["peak"] * factor
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self.num_steps += 1
        return norm

    def discard(self) -> None:
        """Forget the gradients of a minibatch that is not to be stepped on."""
        self.adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """Tensors and numbers to resume from, gathered from all ranks."""
        return {"adam": whole(self.adam.state_dict()), "num_steps": self.num_steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved `state`."""
        adam = state["adam"]
        order = [p for group in self.adam.param_groups for p in group["params"]]
        moments = {
            int(i): {n: sharded_like(v, order[int(i)]) for n, v in entry.items()}
            for i, entry in adam["state"].items()
        }
        self.adam.load_state_dict({"state": moments, "param_groups": adam["param_groups"]})
        self.num_steps = int(state["num_steps"])


def seeded_permutation(count: int, *key: int) -> list[int]:
    """A permutation of 0..count-1 decided by the key alone, so that a resumed run sees the same order."""
    return (
        np.random.Generator(np.random.Philox(np.random.SeedSequence(list(key)))).permutation(count).tolist()
    )


def minibatches(count: int, size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """The rows of each optimiser step of one epoch; the last one may be smaller."""
    order = seeded_permutation(count, seed, epoch)
    return [order[i : i + size] for i in range(0, count, size)]


Sums = dict[str, torch.Tensor]


def backward_sums(
    rows: Sequence[int],
    lengths: Sequence[int],
    loss_sums: Callable[[list[int]], tuple[torch.Tensor, Sums]],
    *,
    denominator: float,
    max_tokens: int,
    world: World = World(),  # noqa: B008  (frozen)
) -> dict[str, float]:
    """Back-propagate sum(loss) / denominator over `rows` in micro-batches within a token budget; under `no_grad` only sum.

    Args:
        rows: this rank's rows of the minibatch.
        lengths: whole length of every row, indexed by row.
        loss_sums: rows -> (the sum of their losses, named sums for the logs).
        denominator: the whole minibatch's, over all ranks.

    Returns:
        the named sums over the minibatch and all ranks (maxima, where a name ends in `_max`), and `loss`, already divided.
    """
    totals: Sums = {}
    for group, weight in shared_groups(rows, lengths, max_tokens=max_tokens, world=world):
        loss, sums = loss_sums(group)
        if torch.is_grad_enabled():
            # FSDP2 averages gradients over the ranks; the denominator already counts them all.
            (loss * (weight * world.size / denominator)).backward()
        for name, value in {"loss": loss / denominator, **sums}.items():
            value = value.detach() * weight
            join = torch.maximum if name.endswith("_max") else torch.add
            totals[name] = join(totals[name], value) if name in totals else value
    return _summed(totals, world)


def shared_groups(
    rows: Sequence[int], lengths: Sequence[int], *, max_tokens: int, world: World
) -> Iterator[tuple[list[int], float]]:
    """Micro-batches of `rows`, as many on every rank, each with its weight.

    Sharded parameters are gathered by all ranks together, so a rank that has run out (or had no row of this minibatch)
    joins in with a row of its own and weight 0.
    """
    groups = [[rows[i] for i in g] for g in micro_batches([lengths[r] for r in rows], max_tokens)]
    for k in range(world.largest(len(groups))):
        yield (groups[k], 1.0) if k < len(groups) else ([rows[0] if rows else 0], 0.0)


def _summed(totals: Sums, world: World) -> dict[str, float]:
    if not totals:
        return {}
    stacked = torch.stack([v.double().reshape(()) for v in totals.values()])
    sums, maxima = world.add(stacked.clone()).tolist(), world.maximum(stacked).tolist()
    return {name: maxima[i] if name.endswith("_max") else sums[i] for i, name in enumerate(totals)}


def num_steps(num_rows: int, batch_size: int, epochs: int) -> int:
    """Optimiser steps of a whole run over rows."""
    return math.ceil(num_rows / batch_size) * epochs
