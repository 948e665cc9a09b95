"""Losses over judgements: reward models, DPO, KTO. Pure functions of scores; every one returns a value per row."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def bradley_terry(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    *,
    margin: torch.Tensor | float = 0.0,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """-log sigmoid(chosen - rejected - margin) per row, [B] (Bradley and Terry 1952; margins as in arXiv 2307.09288, eq. 2).

    Args:
        label_smoothing: the share of judgements expected to be the wrong way round, 0 up to 0.5.
    """
    gap = chosen - rejected
    right = -F.logsigmoid(gap - margin)
    if not label_smoothing:
        return right
    return (1 - label_smoothing) * right - label_smoothing * F.logsigmoid(-gap - margin)


def davidson(gap: torch.Tensor, tie: torch.Tensor, log_nu: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of Davidson's tie model (1970) per row, [B].

    P(first) : P(tie) : P(second) = e^(gap/2) : nu : e^(-gap/2), where gap = score of first minus score of second.

    Args:
        tie: bool [B]; where False, the first one won.
        log_nu: 0-dim; nu = 0 never ties and leaves Bradley-Terry.
    """
    outcomes = torch.stack([gap / 2, log_nu.expand_as(gap), -gap / 2])
    return outcomes.logsumexp(0) - torch.where(tie, outcomes[1], outcomes[0])


def rao_kupper(gap: torch.Tensor, tie: torch.Tensor, log_threshold: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of Rao and Kupper's tie model (1967) per row, [B].

    P(first) = sigmoid(gap - eta), P(second) = sigmoid(-gap - eta), P(tie) the rest, with eta = exp(log_threshold) > 0.
    """
    eta = log_threshold.exp()
    win = F.logsigmoid(gap - eta)
    # P(tie) = (e^(2 eta) - 1) sigmoid(gap - eta) sigmoid(-gap - eta), exact also where it is tiny
    even = torch.log(torch.expm1(2 * eta)) + win + F.logsigmoid(-gap - eta)
    return -torch.where(tie, even, win)


def pointwise_logistic(score: torch.Tensor, label: torch.Tensor, intercept: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(+-(score + intercept)) per row, [B]: thumbs alone, with an intercept for how readily thumbs go up."""
    return F.binary_cross_entropy_with_logits(score + intercept, label.to(score.dtype), reduction="none")


def dpo(
    chosen: torch.Tensor, rejected: torch.Tensor, *, beta: float, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Direct preference optimisation per row, [B] (arXiv 2305.18290, eq. 7).

    Args:
        chosen, rejected: log policy - log reference of whole responses.
    """
    return bradley_terry(beta * chosen, beta * rejected, label_smoothing=label_smoothing)


def kto(
    log_ratio: torch.Tensor,
    label: torch.Tensor,
    kl: torch.Tensor,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> torch.Tensor:
    """Kahneman-Tversky optimisation per row, [B] (arXiv 2402.01306, eq. 8).

    Args:
        log_ratio: log policy - log reference of the whole response.
        label: bool, True where the response was liked.
        kl: 0-dim, the batch's estimate of KL(policy || reference) from mismatched pairs, 0 or more, without gradient.
    """
    liked = desirable_weight * (1 - torch.sigmoid(beta * (log_ratio - kl)))
    disliked = undesirable_weight * (1 - torch.sigmoid(beta * (kl - log_ratio)))
    return torch.where(label, liked, disliked)
