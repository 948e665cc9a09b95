"""Optimiser steps by hand: eps, clipping, schedules."""

import pytest
import torch
from torch import nn

from heedloop_trainer.nn.optimiser import Optimiser, OptimiserConfig, minibatches, num_steps


def moved(config: OptimiserConfig, gradient: list[float]) -> list[float]:
    """How far one step moves parameters that start at zero."""
    model = nn.Linear(len(gradient), 1, bias=False)
    nn.init.zeros_(model.weight)
    optimiser = Optimiser(model, config, 10)
    model.weight.grad = torch.tensor([gradient])
    optimiser.step()
    return model.weight[0].tolist()


def test_eps_keeps_early_updates_small():
    """The first step of Adam is lr x g / (|g| + eps): a gradient of 1e-6 moves an eleventh at eps 1e-5, nearly all at 1e-8."""
    assert moved(OptimiserConfig(0.1), [1e-6]) == pytest.approx([-0.1 / 11], rel=1e-4)
    assert moved(OptimiserConfig(0.1, eps=1e-8), [1e-6]) == pytest.approx([-0.099], rel=1e-2)


def test_gradients_are_clipped_to_their_norm():
    """(30, 40) has norm 50 and becomes (0.6, 0.8); an eps of 1 lets the size be seen through Adam."""
    expected = [-0.1 * g / (g + 1) for g in (0.6, 0.8)]
    assert moved(OptimiserConfig(0.1, eps=1.0), [30.0, 40.0]) == pytest.approx(expected, rel=1e-4)


def test_the_rate_rises_and_falls_as_configured():
    warm = OptimiserConfig(1.0, warmup_share=0.5, schedule="linear")
    assert [warm.factor(k, 4) for k in range(4)] == pytest.approx([0.5, 1.0, 1.0, 0.55])
    assert OptimiserConfig(1.0, schedule="cosine").factor(9, 9) == pytest.approx(0.1)
    assert OptimiserConfig(1.0).factor(7, 9) == 1.0


def test_every_row_is_in_one_minibatch_of_an_epoch():
    parts = minibatches(10, 4, seed=3, epoch=1)
    assert sorted(i for p in parts for i in p) == list(range(10))
    assert [len(p) for p in parts] == [4, 4, 2]
    assert parts != minibatches(10, 4, seed=3, epoch=2)
    assert num_steps(10, 4, 3) == 9
