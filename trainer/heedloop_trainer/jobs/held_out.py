"""Held-out rows: how reward models judge them, and how much better a policy knows them after its training than before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from heedloop.schema import Comparison, Demonstration
from heedloop_trainer.evaluation.evaluate import evaluate_comparisons
from heedloop_trainer.evaluation.slices import read_attributes
from heedloop_trainer.jobs.job import JobContext, held_out, read_rows
from heedloop_trainer.methods.preference import fixed_log_probs
from heedloop_trainer.nn.models import Policy, evaluating
from heedloop_trainer.nn.sequences import Encoder, TokenSequence

__all__ = ["HeldOutComparisons", "HeldOutDemonstrations", "comparison_report"]


def comparison_report(
    context: JobContext, rows: Sequence[Comparison], margins: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Accuracy on held-out comparisons beside the baselines, the ceiling and by slice; empty where none is decided.

    Args:
        margins: log-odds that `chosen` wins by a model's name, one per row.
    """
    if not any(not r.tie for r in rows):
        return {}
    report = context.client.snapshot(context.job.snapshot_id).report
    return evaluate_comparisons(
        rows,
        [r for r in read_rows(context, "comparisons", None) if r.split == "train"],
        models=margins,
        ceiling=(report.get("comparisons") or {}).get("agreement_ceiling"),
        attributes=read_attributes(context.client, {t for r in rows for t in r.trace_ids}),
    )


@dataclass(frozen=True, slots=True)
class HeldOutDemonstrations:
    """Held-out demonstrations, and their log-probabilities before training, [n]."""

    sequences: list[TokenSequence]
    weights: torch.Tensor
    before: torch.Tensor

    @classmethod
    def ask(cls, context: JobContext, model: Any, tokenizer: Any) -> HeldOutDemonstrations | None:
        """What the untrained model makes of them; None where nothing is held out."""
        rows: list[Demonstration] = held_out(context, "demonstrations")
        encoded = Encoder.of(context.job.config, tokenizer).rows(rows, needed=False)
        if not encoded.rows:
            return None
        pairs = zip(encoded.rows, encoded.sequences, strict=True)
        weights = torch.tensor([r.weight for r, of_row in pairs for _ in of_row])
        sequences = [s for of_row in encoded.sequences for s in of_row]
        return cls(sequences, weights, _log_probs(context, model, sequences))

    def metrics(self, context: JobContext, model: Any) -> dict[str, float]:
        """Loss per token in nats, weighted as in training, of the model as it was and as it is."""
        tokens = torch.tensor([float(s.num_trained) for s in self.sequences])
        total = float((self.weights * tokens).sum())
        after = _log_probs(context, model, self.sequences)
        losses = [-float((self.weights * found).sum()) / total for found in (self.before, after)]
        return {"held_out_loss_before": losses[0], "held_out_loss": losses[1]}


@dataclass(frozen=True, slots=True)
class HeldOutComparisons:
    """Held-out comparisons, and the reference's log-probabilities of their chosen and rejected answers, [2n]."""

    rows: list[Comparison]
    sequences: list[TokenSequence]
    before: torch.Tensor

    @classmethod
    def ask(cls, context: JobContext, reference: Any, tokenizer: Any) -> HeldOutComparisons | None:
        """What the reference makes of them; None where no decided comparison is held out."""
        rows: list[Comparison] = held_out(context, "comparisons")
        encoded = Encoder.of(context.job.config, tokenizer).rows(rows, needed=False)
        if not any(not r.tie for r in encoded.rows):
            return None
        sequences = [pair[side] for side in (0, 1) for pair in encoded.sequences]
        return cls(encoded.rows, sequences, _log_probs(context, reference, sequences))

    def report(self, context: JobContext, model: Any) -> dict[str, Any]:
        """Accuracy of the policy's implicit reward, beta log(policy / reference) (arXiv 2305.18290), beside the baselines."""
        moved = (_log_probs(context, model, self.sequences) - self.before).double().numpy()
        chosen, rejected = np.split(context.job.config.beta * moved, 2)
        return comparison_report(context, self.rows, {"policy (implicit reward)": chosen - rejected})


def _log_probs(context: JobContext, model: Any, sequences: Sequence[TokenSequence]) -> torch.Tensor:
    config = context.job.config
    policy = Policy(model, bfloat16=config.bfloat16)
    with evaluating(policy):
        return fixed_log_probs(policy, sequences, config.max_tokens)
