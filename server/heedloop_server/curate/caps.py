"""Caps: no author may have more than a stated share of a form's weight."""

from __future__ import annotations

from collections.abc import Sequence

SLACK = 1.5
"""With few authors the cap is at least this many equal shares: two annotators are not made equal by force."""


def capped_scales(
    weights: Sequence[float], authors: Sequence[str | None], max_share: float
) -> dict[str, float]:
    """Factor, 0 to 1, by which to multiply the weights of each author who has too large a share.

    Args:
        authors: whose row each weight is; None has no name, and counts for no author.
        max_share: of the total after scaling; raised to 1.5 / (number of authors) where authors are few.

    Returns:
        the authors who have to be scaled only; after it the largest share is the cap.
    """
    totals: dict[str, float] = {}
    unnamed = 0.0
    for weight, author in zip(weights, authors, strict=True):
        if author is None:
            unnamed += weight
        else:
            totals[author] = totals.get(author, 0.0) + weight
    num_authors = len(totals) + sum(a is None for a in authors)
    if not totals:
        return {}
    cap = max(max_share, SLACK / num_authors)
    ranked = sorted(totals, key=lambda a: (-totals[a], a))
    rest = unnamed + sum(totals.values())
    # With the k largest at the limit x each, x = cap (rest + k x): the smallest k whose limit holds for the next one.
    for k, author in enumerate(ranked):
        if cap * k >= 1:
            break
        limit = cap * rest / (1 - cap * k)
        if totals[author] <= limit * (1 + 1e-12):
            return {a: limit / totals[a] for a in ranked[:k]}
        rest -= totals[author]
    return {}
