"""Losses over judgements, against probabilities worked out by hand."""

import math

import pytest
import torch

from heedloop_trainer.methods.losses import bradley_terry, davidson, dpo, kto, pointwise_logistic, rao_kupper


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def t(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_bradley_terry_by_hand():
    assert bradley_terry(t(2.0), t(0.5)).item() == pytest.approx(-math.log(sigmoid(1.5)))
    assert bradley_terry(t(2.0), t(0.5), margin=1.0).item() == pytest.approx(-math.log(sigmoid(0.5)))
    smooth = bradley_terry(t(2.0), t(0.5), label_smoothing=0.1).item()
    assert smooth == pytest.approx(-0.9 * math.log(sigmoid(1.5)) - 0.1 * math.log(sigmoid(-1.5)))


@pytest.mark.parametrize("likelihood", [davidson, rao_kupper])
@pytest.mark.parametrize("gap", [-3.0, 0.0, 0.7, 20.0])
@pytest.mark.parametrize("parameter", [-2.0, 0.0, 1.0])
def test_win_tie_and_loss_are_all_there_is(likelihood, gap, parameter):
    """The three probabilities sum to one, and swapping the two answers swaps win and loss."""
    p = torch.tensor(parameter, dtype=torch.float64)
    win = likelihood(t(gap), torch.tensor([False]), p)
    tie = likelihood(t(gap), torch.tensor([True]), p)
    loss = likelihood(t(-gap), torch.tensor([False]), p)
    assert float((-win).exp() + (-tie).exp() + (-loss).exp()) == pytest.approx(1.0, abs=1e-9)
    assert tie.item() == pytest.approx(likelihood(t(-gap), torch.tensor([True]), p).item())


def test_tie_models_without_ties_are_bradley_terry():
    never = torch.tensor(-40.0, dtype=torch.float64)
    plain = bradley_terry(t(1.3), t(0.0)).item()
    assert davidson(t(1.3), torch.tensor([False]), never).item() == pytest.approx(plain)
    assert rao_kupper(t(1.3), torch.tensor([False]), never).item() == pytest.approx(plain)


def test_dpo_by_hand():
    got = dpo(t(-5.0 - -6.0), t(-7.0 - -6.5), beta=0.1)
    assert got.item() == pytest.approx(-math.log(sigmoid(0.1 * (1.0 - (-0.5)))))


def test_kto_by_hand():
    kl = torch.tensor(0.5, dtype=torch.float64)
    got = kto(
        t(2.0, 2.0), torch.tensor([True, False]), kl, beta=0.1, desirable_weight=2.0, undesirable_weight=3.0
    )
    assert got[0].item() == pytest.approx(2 * (1 - sigmoid(0.1 * 1.5)))
    assert got[1].item() == pytest.approx(3 * (1 - sigmoid(-0.1 * 1.5)))


def test_pointwise_logistic_by_hand():
    got = pointwise_logistic(t(1.0, 1.0), torch.tensor([True, False]), torch.tensor(0.5, dtype=torch.float64))
    assert got.tolist() == pytest.approx([-math.log(sigmoid(1.5)), -math.log(sigmoid(-1.5))])
