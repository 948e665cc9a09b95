"""Advantages, whitening, losses: against numbers worked out by hand and against slow float64 loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heedloop_trainer.ppo.losses import (
    KLController,
    apply_whitening,
    generalised_advantages,
    kl_k3,
    length_mask,
    policy_loss,
    rloo_advantages,
    selective_log_probs,
    token_rewards,
    value_loss,
    whitening_moments,
)


def slow_advantages(rewards, values, length, final, discount, decay):
    """The definition, O(T^2) in float64: sum over l of (gamma lambda)^l delta(t + l)."""
    r, v = rewards.double().tolist(), values.double().tolist()
    following = [*v[1:length], float(final)]
    delta = [r[t] + discount * following[t] - v[t] for t in range(length)]
    return [sum((discount * decay) ** (k - t) * delta[k] for k in range(t, length)) for t in range(length)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    discount=st.sampled_from([1.0, 0.97]),
    decay=st.sampled_from([0.0, 0.95, 1.0]),
)
def test_advantages_equal_the_definition(seed, lengths, discount, decay):
    """Ends in the middle, cut-off responses with a bootstrap value, and single tokens alike."""
    g = torch.Generator().manual_seed(seed)
    shape = (len(lengths), 9)
    rewards, values = torch.randn(shape, generator=g), torch.randn(shape, generator=g)
    final = torch.randn(len(lengths), generator=g) * (torch.rand(len(lengths), generator=g) > 0.5)
    out = generalised_advantages(
        rewards, values, torch.tensor(lengths), final_values=final, discount=discount, trace_decay=decay
    )
    for row, length in enumerate(lengths):
        slow = slow_advantages(rewards[row], values[row], length, final[row], discount, decay)
        assert torch.allclose(out.advantages[row, :length].double(), torch.tensor(slow).double(), atol=1e-5)
        expected = out.advantages[row, :length] + values[row, :length]
        assert torch.equal(out.returns[row, :length], expected)
        assert not out.advantages[row, length:].any()
        assert not out.returns[row, length:].any()


def test_a_cut_response_is_not_terminal():
    """The same numbers, once ended and once cut: the critic's value of the last state is what differs."""
    rewards, values = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.5]])
    args = {"discount": 1.0, "trace_decay": 1.0}
    ended = generalised_advantages(
        rewards, values, torch.tensor([2]), final_values=torch.tensor([0.0]), **args
    )
    cut = generalised_advantages(rewards, values, torch.tensor([2]), final_values=torch.tensor([2.0]), **args)
    assert ended.returns.tolist() == [[1.0, 1.0]]
    assert cut.returns.tolist() == [[3.0, 3.0]]


def test_the_score_lands_on_the_last_real_token():
    rewards = token_rewards(
        torch.tensor([2.0, 3.0]),
        torch.tensor([[0.1, 0.2, 0.0], [0.1, 0.1, 0.1]]),
        torch.tensor([2, 3]),
        kl_coefficient=0.5,
    )
    expected = torch.tensor([[-0.05, 1.9, 0.0], [-0.05, -0.05, 2.95]])
    assert torch.allclose(rewards, expected)


def whitened(values, mask, floor):
    return apply_whitening(values, mask, whitening_moments(values, mask), floor=floor)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-5, 5), scale=st.floats(0.2, 50))
def test_whitening_equals_a_float64_loop(seed, shift, scale):
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(4, 6, generator=g) * scale + shift
    mask = length_mask(torch.tensor([6, 3, 1, 4]), 6)
    chosen = [float(values[i, j]) for i in range(4) for j in range(6) if mask[i, j]]
    mean = math.fsum(chosen) / len(chosen)
    deviation = math.sqrt(math.fsum((c - mean) ** 2 for c in chosen) / len(chosen))
    got = whitened(values, mask, floor=1e-6)
    expected = torch.tensor([(c - mean) / deviation for c in chosen])
    assert torch.allclose(got[mask], expected.float(), atol=1e-4)
    assert not got[~mask].any()


def test_whitening_does_not_magnify_noise():
    """Nearly equal advantages stay small: this is what keeps a solved task solved."""
    values = torch.tensor([[1e-4, -1e-4, 2e-4, -2e-4]])
    got = whitened(values, torch.ones_like(values, dtype=torch.bool), floor=0.1)
    assert got.abs().max() < 3e-3


def test_whitening_ignores_what_lies_outside_the_mask():
    mask = torch.tensor([[True, True, False]])
    a = whitened(torch.tensor([[1.0, 3.0, 0.0]]), mask, floor=0.1)
    b = whitened(torch.tensor([[1.0, 3.0, 1e6]]), mask, floor=0.1)
    assert torch.equal(a, b)
    assert a.tolist() == [[-1.0, 1.0, 0.0]]


def test_leave_one_out_by_hand():
    got = rloo_advantages(torch.tensor([1.0, 2.0, 6.0, 0.0, 0.0, 3.0]), 3)
    assert got.tolist() == [-3.0, -1.5, 4.5, -1.5, -1.5, 3.0]


def test_leave_one_out_without_the_responses_that_do_not_count():
    valid = torch.tensor([True, True, False, True, False, False])
    got = rloo_advantages(torch.tensor([1.0, 2.0, 9.0, 4.0, 5.0, 6.0]), 3, valid)
    assert got.tolist() == [-1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_leave_one_out_refuses_groups_of_one():
    with pytest.raises(ValueError, match="groups of 1"):
        rloo_advantages(torch.ones(4), 1)


def test_log_probs_use_the_temperature_and_float32():
    logits = torch.tensor([[2.0, 0.0, -1.0]], dtype=torch.bfloat16)
    out = selective_log_probs(logits, torch.tensor([0]), temperature=0.5, with_entropy=True)
    probs = [math.exp(2 * x) for x in (2.0, 0.0, -1.0)]
    p = [x / sum(probs) for x in probs]
    assert out.log_probs.dtype == torch.float32
    assert out.log_probs[0].item() == pytest.approx(math.log(p[0]), abs=1e-6)
    assert out.entropy[0].item() == pytest.approx(-sum(x * math.log(x) for x in p), abs=1e-6)
    plain = selective_log_probs(logits, torch.tensor([0]), temperature=0.5)
    assert plain.log_probs[0].item() == pytest.approx(out.log_probs[0].item(), abs=1e-6)


def test_kl_estimators_average_to_the_kl():
    """Under samples from p, k3 has the mean KL(p || q), and it is never negative."""
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    true = float((p * (p / q).log()).sum())
    k3 = kl_k3(p.log(), q.log())
    assert float((p * k3).sum()) == pytest.approx(true, abs=1e-6)
    assert (k3 >= 0).all()


def test_clipped_policy_loss_by_hand():
    """Ratios 1.5 and 0.5 with advantages of either sign: the clip binds only where it makes the objective smaller."""
    old = torch.zeros(4)
    new = torch.tensor([1.5, 1.5, 0.5, 0.5]).log()
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0])
    out = policy_loss(new, old, advantages, clip_range=0.2)
    assert out.loss_sum.item() == pytest.approx(-1.2 + 1.5 - 0.5 + 0.8, abs=1e-6)
    assert out.clipped_sum.item() == 2.0
    assert out.ratio_sum.item() == pytest.approx(4.0, abs=1e-6)


def test_value_loss_by_hand():
    values, old, returns = torch.tensor([1.0, 0.1]), torch.zeros(2), torch.tensor([2.0, 0.0])
    assert value_loss(values, old, returns, clip_range=None).item() == pytest.approx(0.5 * (1.0 + 0.01))
    # 1.0 is clipped to 0.2, whose error is the larger one
    assert value_loss(values, old, returns, clip_range=0.2).item() == pytest.approx(0.5 * (3.24 + 0.01))


def test_kl_controller_steers_towards_its_target():
    high, low, fixed = KLController(0.1, 6.0), KLController(0.1, 6.0), KLController(0.1)
    for controller, kl in ((high, 12.0), (low, 1.0), (fixed, 12.0)):
        controller.update(kl, 1000)
    assert high.coefficient == pytest.approx(0.1 * (1 + 0.2 * 0.1))
    assert low.coefficient == pytest.approx(0.1 * (1 - 0.2 * 0.1))
    assert fixed.coefficient == 0.1
