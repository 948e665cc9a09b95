"""What the demo reads back from the server: rates, held-out questions that leaked, and one thumb's way."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from heedloop.client import Client
from heedloop.schema import PromptRow
from heedloop_trainer.demo.plan import MODEL_NAMES
from heedloop_trainer.demo.report import StageQuality, Thread
from heedloop_trainer.generation.cached import CachedGenerator, SamplingConfig
from heedloop_trainer.nn.checkpoints import load_policy, load_tokenizer
from heedloop_trainer.nn.encoder import Encoder
from heedloop_trainer.nn.models import Policy, stop_ids
from heedloop_trainer.nn.sequences import TokenSequence, collate


def read_quality(client: Client, *, tag: str, kl: Mapping[str, float]) -> list[StageQuality]:
    """How fresh users judged each stage's model; a model that nobody asked is left out."""
    found = {group.value: group for group in client.quality_by("model", tag=tag)}
    return [
        StageQuality(
            stage=stage,
            model=name,
            num_answers=found[name].num_answers,
            num_rated=found[name].num_rated,
            num_up=found[name].num_up,
            rate=found[name].rate,
            coverage=found[name].coverage,
            kl=kl.get(stage),
        )
        for stage, name in MODEL_NAMES.items()
        if name in found
    ]


def leaked(client: Client, snapshot_ids: Sequence[str], fresh_questions: set[str]) -> int:
    """How many prompts of these snapshots are questions that were kept for fresh users."""
    num = 0
    for snapshot_id in snapshot_ids:
        rows = client.snapshot_rows(snapshot_id, "prompts")
        num += sum(any(m.text in fresh_questions for m in row.prompt) for row in rows)
    return num


def follow_one_thumb(client: Client, snapshot_id: str) -> Thread | None:
    """The ids of a thumb behind a liked answer of a snapshot: its trace, and the snapshots and runs that used it."""
    for row in client.snapshot_rows(snapshot_id, "demonstrations", "train"):
        if row.source != "correction" and row.feedback_ids:
            found = client.feedback_one(row.feedback_ids[0])
            return Thread(
                feedback_id=row.feedback_ids[0],
                trace_id=found.feedback.target.trace_id or "",
                snapshots=[s.id for s in found.snapshots],
                runs=[(r.id, r.method, r.model_name) for r in found.runs],
            )
    return None


@torch.no_grad()
def response_kl(
    model: Path, reference: Path, prompts: Sequence[PromptRow], *, seed: int, num_prompts: int = 256
) -> float:
    """Monte Carlo estimate of KL(model || reference) in nats per answer, over answers that `model` samples.

    The mean of log p_model - log p_reference over whole answers at temperature 1 (k1, unbiased).
    """
    chosen = random.Random(seed).sample(list(prompts), min(num_prompts, len(prompts)))
    tokenizer, own, other = load_tokenizer(model), load_policy(model), load_policy(reference)
    encoder = Encoder(tokenizer)
    ids = encoder.prompts([row.prompt for row in chosen])
    sampling = SamplingConfig(max_new_tokens=96, batch_size=128, seed=seed)
    generations = CachedGenerator(own, stop_ids(own, tokenizer))(ids, sampling)
    batch = collate(
        [TokenSequence(p, g.response_ids, g.ended) for p, g in zip(ids, generations, strict=True)]
    )
    gaps = Policy(own)(batch).log_probs - Policy(other)(batch).log_probs
    return float(gaps.sum() / len(chosen))
