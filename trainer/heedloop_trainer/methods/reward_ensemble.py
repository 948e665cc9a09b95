"""Several reward models that know, by their spread, when they do not know."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from heedloop_trainer.nn.models import RewardModel
from heedloop_trainer.nn.sequences import TokenSequence


class RewardEnsemble(RewardModel):
    """Several reward models of one tokenizer: their mean is the reward, their spread says how sure it is.

    Members that differ only in seed agree where there were judgements and part where there were none (arXiv 2310.02743), so a
    policy that leaves the region in which rewards were learned shows in the spread.
    """

    def __init__(self, members: Sequence[RewardModel]) -> None:
        if len(members) < 2:
            raise ValueError(f"an ensemble needs two reward models or more, not {len(members)}")
        super().__init__(members[0].model, members[0].tokenizer, bfloat16=members[0].bfloat16)
        self.members = torch.nn.ModuleList(members)

    def each_member(self) -> list[RewardModel]:
        """The reward models it is made of."""
        return [m for m in self.members if isinstance(m, RewardModel)]

    @property
    def gain(self) -> float:
        return 1.0

    @property
    def bias(self) -> float:
        return 0.0

    @torch.no_grad()
    def each(self, sequences: Sequence[TokenSequence], *, max_tokens: int = 16_384) -> torch.Tensor:
        """Every member's normalised rewards, float32 [num_members, len(sequences)] on the CPU."""
        return torch.stack([m.score(sequences, max_tokens=max_tokens) for m in self.each_member()])

    @torch.no_grad()
    def outputs(self, sequences: Sequence[TokenSequence], *, max_tokens: int = 16_384) -> torch.Tensor:
        """The mean of the members' normalised rewards, float32 [len(sequences), 1] on the CPU."""
        return self.each(sequences, max_tokens=max_tokens).mean(0)[:, None]
