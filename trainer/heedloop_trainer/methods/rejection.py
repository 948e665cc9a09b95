"""Rejection sampling: the best of several answers of the model itself, by a reward, become demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from heedloop.schema import Demonstration
from heedloop_trainer.generation.cached import SamplingConfig
from heedloop_trainer.methods.sft import SFTConfig
from heedloop_trainer.ppo.rollout import Response


@dataclass(frozen=True, slots=True)
class RejectionConfig(SFTConfig):
    """Settings of rejection sampling (RAFT, arXiv 2304.06767): those of SFT, and how answers are sampled.

    Attributes:
        num_candidates: answers sampled per prompt.
        sampling: length and temperature of the answers.
    """

    num_candidates: int = 8
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        if self.num_candidates < 2:
            raise ValueError(f"num_candidates must be 2 or more, not {self.num_candidates}")


def best_demonstrations(candidates: Sequence[Response], scores: np.ndarray) -> list[Demonstration]:
    """The highest answer of each prompt as a demonstration.

    Prompts without a choice are left out: those whose answers all score the same, and those of which none came to its end.

    Args:
        candidates: answers, those to one prompt next to one another.
        scores: of the candidates, [number of prompts, answers of a prompt].
    """
    ended = np.array([c.ended for c in candidates]).reshape(scores.shape)
    best = np.where(ended, scores, -np.inf).argmax(1)
    rows: list[Demonstration] = []
    for i, k in enumerate(best):
        answer = candidates[i * scores.shape[1] + int(k)]
        if answer.ended and np.ptp(scores[i]) > 0:
            prompt = answer.prompt
            rows.append(
                Demonstration(
                    prompt.prompt,
                    answer.text,
                    tools=prompt.tools,
                    trace_ids=prompt.trace_ids,
                    group=prompt.group,
                )
            )
    return rows
