"""The statistics as tests ask for them: one value of a coefficient, raw ratings instead of counts, a share of gold labels."""

import numpy as np
from scipy.stats import binom

from heedloop_server.statistics.agreement import agreement_interval, mean_kappas
from heedloop_server.statistics.counts import Ratings
from heedloop_server.statistics.intervals import wilson, wilson_bounds


def coefficient(name, counts, **kinds):
    """The estimate of `agreement_interval`; None where it is undefined."""
    found = agreement_interval(name, counts, num_samples=200, **kinds)
    return None if found is None else found.estimate


def categories_of(ratings):
    """The labels that occur, numbers (also written as text) by value, others by text."""
    known = {label for row in ratings for label in row if label is not None and label == label}
    try:
        return sorted(known, key=float)
    except (TypeError, ValueError):
        return sorted(known, key=str)


def counts_of(ratings, categories=None):
    """(units, categories) counts from annotators x units of labels, None where one did not judge a unit."""
    known = categories_of(ratings) if categories is None else list(categories)
    counts = np.zeros((len(ratings[0]) if ratings else 0, len(known)))
    for row in ratings:
        for unit, label in enumerate(row):
            if label is not None and label == label:
                counts[unit, known.index(label)] += 1
    return counts


def alpha(ratings, metric="nominal", categories=None):
    """Krippendorff's alpha of annotators x units."""
    known = categories_of(ratings) if categories is None else categories
    return coefficient("alpha", counts_of(ratings, known), categories=known, metric=metric)


def cohen_kappa(table):
    """Cohen's kappa of two raters, from their (k, k) table; None where it is undefined."""
    counts = np.asarray(table, float)
    kappa = float(mean_kappas(counts[None, None], 1 - np.eye(len(counts)))[0])
    return kappa if np.isfinite(kappa) else None


def weighted_rate(outcomes, probabilities, *, design=None):
    """The rate of 0/1 outcomes drawn with these probabilities, summed as the store sums them.

    `design` is the (smallest, largest) probability that the sampling gives at all.
    """
    y, pi = np.asarray(outcomes, float), np.asarray(probabilities, float)
    w = 1 / pi
    sums = [float(v.sum()) for v in (w, w * w, w * y, w * w * y)]
    ratings = Ratings(y.size, int(y.sum()), *sums)
    return ratings.rate_by_design(None if design is None else (1 / design[1], 1 / design[0]))


def share_of_gold(consensus, gold):
    """The share of units with a gold label whose consensus is that label; a tie is wrong."""
    known = [u for u in gold if u in consensus]
    return wilson(sum(consensus[u].label == gold[u] for u in known), len(known))


def exact_coverage(n, p):
    """The probability that Wilson's interval of Binomial(n, p) holds p. Source: Brown, Cai & DasGupta 2001, equation 2."""
    x = np.arange(n + 1)
    low, high = wilson_bounds(x, np.full(n + 1, n))
    return float(binom.pmf(x, n, p)[(low <= p) & (p <= high)].sum())


def labels_of(consensus):
    """Unit -> label, None where tied."""
    return {unit: found.label for unit, found in consensus.items()}
