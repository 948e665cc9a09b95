"""Judges: whatever gives answers a number. A neural reward model, a linear one, or an ensemble that knows when it does not know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heedloop.schema import Comparison
from heedloop_trainer.evaluation.evaluate import reward_margins
from heedloop_trainer.methods.reward_ensemble import RewardEnsemble
from heedloop_trainer.methods.reward_linear import LinearReward
from heedloop_trainer.nn.checkpoints import load_reward_model
from heedloop_trainer.nn.models import RewardModel

ENSEMBLE_FILE = "ensemble.json"


Judge = RewardModel | LinearReward


def write_ensemble(folder: Path, members: Sequence[str]) -> None:
    """Say which folders inside `folder` are the members of an ensemble."""
    (folder / ENSEMBLE_FILE).write_text(json.dumps({"members": list(members)}) + "\n", encoding="utf-8")


def load_judge(path: Path, *, device: str = "cpu") -> Judge:
    """The reward model in a folder: linear, an ensemble, or a single one."""
    if (path / "linear.json").exists():
        return LinearReward.load(path)
    if (path / ENSEMBLE_FILE).exists():
        names = json.loads((path / ENSEMBLE_FILE).read_text(encoding="utf-8"))["members"]
        return RewardEnsemble([load_reward_model(path / name, device=device) for name in names])
    return load_reward_model(path, device=device)


def margins_of(judge: Judge, rows: Sequence[Comparison]) -> np.ndarray:
    """Log-odds that `chosen` wins, [len(rows)]."""
    if isinstance(judge, LinearReward):
        return judge.margins(rows)
    if isinstance(judge, RewardEnsemble):
        return np.mean([reward_margins(member, rows) for member in judge.each_member()], 0)
    return reward_margins(judge, rows)
