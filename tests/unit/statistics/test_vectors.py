"""Every worked example with a known answer, read from the shared file: statistic name -> our function.

An example whose expected value is a text that begins with "undefined" or "no data" must come back as None. A statistic
without a reader fails: nothing passes by not being looked at. Where data is not at hand, the example is skipped by name.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import false_discovery_control
from statistics_cases import (
    alpha,
    categories_of,
    coefficient,
    cohen_kappa,
    counts_of,
    exact_coverage,
    labels_of,
)

from heedloop_server.statistics import agreement, pairwise, stratified
from heedloop_server.statistics.consensus import dawid_skene, majority_vote
from heedloop_server.statistics.intervals import newcombe, wilson
from heedloop_server.statistics.patterns import Cell, overrepresented


class NotAtHand(Exception):
    """The example needs data that is not in the shared folder."""


def _vectors():
    path = Path(os.environ.get("HEEDLOOP_SHARED", "/nonexistent"), "stats", "vectors.json")
    return json.loads(path.read_text())["vectors"] if path.is_file() else []


# ------------------------------------------------------------------------------------------------- the readers
#
# The file names inputs as their sources do, and others of the kind are kept: an input is read by what its name begins with
# or by any of the names that say the same, and what an example leaves out has its usual value.


def _input(given, *names, default=None):
    """The input of the first of these names, or one that begins with it; the default, or KeyError where there is none."""
    lowered = {key.lower(): value for key, value in given.items()}
    for name in names:
        if name in lowered:
            return lowered[name]
    for name in names:
        for key, value in lowered.items():
            if key.startswith(name):
                return value
    if default is None:
        raise KeyError(f"none of {names} is in {sorted(given)}")
    return default


def _level(given):
    return _input(given, "level", "confidence", default=0.95)


def _ends(interval):
    return None if interval is None else [interval.low, interval.high]


def _estimate(interval):
    return None if interval is None else interval.estimate


def _fleiss(given):
    if any(k.lower().startswith("counts") or "items_x_categories" in k for k in given):
        counts = _input(given, "counts", "items_x_categories", "table")
    else:
        counts = counts_of(_input(given, "coders_x_units", "raters_x_items", "ratings"))
    kappa, percent = coefficient("fleiss", counts), coefficient("percent", counts)
    ac1 = coefficient("gwet_ac1", counts)
    return {
        **dict.fromkeys(("kappa", "fleiss", "fleiss_kappa", "any"), kappa),
        **dict.fromkeys(("gwet_ac1", "ac1"), ac1),
        **dict.fromkeys(("p_o", "percent"), percent),
        "P_i": agreement.agreement_per_unit(counts),
    }


def _cohen(given):
    if any("table" in k.lower() or "confusion" in k.lower() for k in given):
        table = np.array(_input(given, "table", "confusion"))
    else:
        a, b = (
            _input(given, "a", "ratera", "rater_a", "rater1"),
            _input(given, "b", "raterb", "rater_b", "rater2"),
        )
        table = agreement.confusion_table(a, b, given.get("categories", categories_of([a, b])))
    kappa, one = cohen_kappa(table), np.eye(len(table))
    pairs = [(i, j) for (i, j), n in np.ndenumerate(table) for _ in range(int(n))]
    counts = np.array([one[i] + one[j] for i, j in pairs]).reshape(-1, len(table))
    percent, ac1 = coefficient("percent", counts), coefficient("gwet_ac1", counts)
    return {
        **dict.fromkeys(("kappa", "cohen", "unweighted", "any"), kappa),
        **dict.fromkeys(("gwet_ac1", "ac1"), ac1),
        **dict.fromkeys(("p_o", "percent"), percent),
    }


def _alpha(given):
    ratings = _input(given, "coders_x_units", "raters_x_units", "raters_x_items", "ratings", "data")
    found = {}
    for metric in ("nominal", "ordinal", "interval"):
        try:
            found[metric] = alpha(ratings, metric, given.get("categories"))
        except ValueError:  # labels that are no numbers have no interval
            assert metric == "interval"
    usual = found[given.get("metric", given.get("level_of_measurement", "nominal"))]
    undefined = all(v is None for v in found.values())
    return found | {"alpha": usual, "any": None if undefined else found}


def _dawid_skene(given):
    triples = [tuple(t) for t in _input(given, "worker_task_label", "judgements", "votes", "triples")]
    repeats = len({(t[0], t[1]) for t in triples}) < len(triples)
    smoothing = given.get("smoothing", 1e-9 if repeats else 0.01)
    model = dawid_skene(triples, n_iter=given.get("n_iter", 100), repeats=repeats, smoothing=smoothing)
    if model is None:
        return dict.fromkeys(("labels", "any"))
    share = dict(zip(model.labels, model.prior.tolist(), strict=True))
    return {
        "labels": labels_of(model.consensus),
        "majority": labels_of(majority_vote(triples)),
        "posterior": {
            u: dict(zip(model.labels, p.tolist(), strict=True)) for u, p in model.posterior.items()
        },
        "probabilities": {
            u: dict(zip(model.labels, p.tolist(), strict=True)) for u, p in model.posterior.items()
        },
        "prior": share,
        "class_prevalence": share,
        "error_rates": {w: q.confusion for w, q in model.annotators.items()},
        "confusion": {w: q.confusion for w, q in model.annotators.items()},
        "accuracy": {w: q.accuracy.estimate for w, q in model.annotators.items()},
    }


def _binomial(given):
    successes, n = _input(given, "successes", "x", "k", "up"), _input(given, "n", "trials", "num")
    found = {f"wilson{100 * v:g}": _ends(wilson(successes, n, level=v)) for v in (0.9, 0.95, 0.99)}
    ends = _ends(wilson(successes, n, level=_level(given)))
    rate = None if n == 0 else successes / n
    return found | {"wilson": ends, "any": ends, "estimate": rate, "rate": rate, "p": rate}


def _newcombe(given):
    pairs = [_input(given, *names) for names in (("x1",), ("n1",), ("x2",), ("n2",))]
    found = {"ci" + f"{100 * v:g}": _ends(newcombe(*pairs, level=v)) for v in (0.9, 0.95, 0.99)}
    interval = newcombe(*pairs, level=_level(given))
    return found | {
        "ci": _ends(interval),
        "difference": _estimate(interval),
        "estimate": _estimate(interval),
        "any": interval,
    }


def _coverage(given):
    return {"wilson": exact_coverage(given["n"], given["p"])}


def _bh(given):
    adjusted = false_discovery_control(_input(given, "p"))  # what `patterns` calls
    level = _input(given, "q", "alpha", "level", default=0.05)
    rejected = int((adjusted <= level * (1 + 1e-12)).sum())
    return {
        "adjusted_bh": list(adjusted),
        "adjusted": list(adjusted),
        "q": list(adjusted),
        **dict.fromkeys(("rejected_bh", "rejected"), rejected),
    }


def _stratified(given):
    name, strata = next((k, v) for k, v in given.items() if k.startswith("strata"))
    found = stratified.stratified_comparison(strata)
    tables = np.array(list(strata.values()))
    up, num = tables.sum(axis=0)[:, 0], tables.sum(axis=(0, 2))
    sides = (
        [part.split()[0] for part in name.rpartition("(")[2].rstrip(")").split(",")]
        if "rows" in name
        else "ab"
    )
    crude = {
        side: [int(up[i]), int(num[i]), up[i] / num[i] if num[i] else None] for i, side in enumerate(sides)
    }
    ratio, common = _estimate(found.odds_ratio), _estimate(found.difference)
    return Named(
        {
            "crude": crude,
            "crude_difference": _estimate(found.crude),
            "by_stratum": {s.value: [_estimate(s.a), _estimate(s.b)] for s in found.strata},
            "mantel_haenszel_odds_ratio_ci95": _ends(found.odds_ratio),
            "mantel_haenszel_odds_ratio": ratio,
            "mantel_haenszel_difference_ci95": _ends(found.difference),
            "mantel_haenszel_difference": common,
            "mantel_haenszel_risk_difference": common,
            "cmh_p": found.p_value,
            "p_value": found.p_value,
            "odds_ratio": ratio,
            "reversal": found.reversal,
            "any": found.difference,
        }
    )


class Named(dict):
    """A dictionary that also knows a name with something said behind it, such as `…_open_vs_perc`."""

    def __missing__(self, name):
        known = [k for k in self if name.startswith(k)]
        if not known:
            raise KeyError(name)
        return self[max(known, key=len)]


def _bradley_terry(given):
    wins = np.array(_input(given, "wins"), float)
    items = given.get("items", list(range(len(wins))))
    logs, found = pairwise.bradley_terry(wins), {}
    for i, item in enumerate(items):
        found[f"log_ability_ref_{item}"] = None if logs is None else logs - logs[i]
    share = None if logs is None else np.exp(logs) / np.exp(logs).sum()
    asked = found.get(f"log_ability_ref_{given.get('reference', items[-1])}")
    return found | {"log_ability": asked, "centred": logs, "strength_shares": share, "any": logs}


def _shuffled_patterns(given):
    """143 groups of five attributes, outcome shuffled 200 times: how many runs discover anything."""
    rng = np.random.default_rng(3)
    sizes, n = (6, 3, 2, 4, 3), 8000
    values = np.stack([rng.integers(k, size=n) for k in sizes], axis=1)
    code = np.ravel_multi_index(values.T, sizes)
    rated = np.bincount(code, minlength=int(np.prod(sizes)))
    places = np.array(np.unravel_index(np.arange(rated.size), sizes)).T
    attributes = [frozenset((f"f{i}", str(v)) for i, v in enumerate(row)) for row in places]
    bad, runs = np.zeros(n), 0
    bad[: int(0.37 * n)] = 1
    for _ in range(200):
        counts = np.bincount(code, weights=rng.permutation(bad), minlength=rated.size)
        cells = [Cell(a, int(m), int(b)) for a, m, b in zip(attributes, rated, counts, strict=True) if m]
        report = overrepresented(cells)
        assert report.num_tested == 143
        runs += bool(report.patterns or report.explained)
    return {"runs_with_any_discovery": runs, "of": 200, "limit": runs / 200 if runs / 200 > 0.05 else 0.05}


def _e_process(given):
    """4,000 runs of 1,000 paired comparisons, looked at after every one (the z-test from the 20th on)."""
    rng, steps = np.random.default_rng(11), np.arange(1, 1001)
    from scipy.special import betaln

    def run(p, runs=4000):
        wins = (rng.random((runs, 1000)) < p).cumsum(axis=1)
        log_e = betaln(wins + 1, steps - wins + 1) + steps * np.log(2)
        return wins, log_e >= np.log(20)

    null_wins, null = run(0.5)
    z = (null_wins - steps / 2) / np.sqrt(steps / 4)
    weak, strong = run(0.55), run(0.6)
    z_fixed = (weak[0][:, -1] - 500) / np.sqrt(250)
    stops = np.where(strong[1].any(axis=1), strong[1].argmax(axis=1) + 1, np.inf)
    return {
        "type_I_p=.5": null.any(axis=1).mean(),
        "naive_z_peeking_type_I": (np.abs(z[:, 19:]) > 1.96).any(axis=1).mean(),
        "power_p=.55_evalue": weak[1].any(axis=1).mean(),
        "power_p=.55_fixed_n": (np.abs(z_fixed) > 1.96).mean(),
        "power_p=.6_evalue": strong[1].any(axis=1).mean(),
        "median_stop_p=.6": np.median(stops),
    }


def _not_at_hand(given):
    raise NotAtHand(f"{given['dataset']} is not in the shared folder")


READERS = {
    "fleiss_kappa": _fleiss,
    "fleiss_kappa/randolph_free_marginal": _fleiss,
    "gwet_ac1": lambda given: _cohen(given) if any("table" in k for k in given) else _fleiss(given),
    "percent_agreement": _fleiss,
    "cohen_kappa": _cohen,
    "krippendorff_alpha": _alpha,
    "dawid_skene_em": _dawid_skene,
    "dawid_skene": _dawid_skene,
    "majority_vote": _dawid_skene,
    "bradley_terry": _bradley_terry,
    "mantel_haenszel": _stratified,
    "bradley_terry_benchmark": _not_at_hand,
    "binomial_interval": _binomial,
    "difference_of_proportions_newcombe_hybrid_score": _newcombe,
    "exact_coverage_of_95pct_interval": _coverage,
    "benjamini_hochberg": _bh,
    "stratified_comparison": _stratified,
    "bradley_terry_mle": _bradley_terry,
    "subgroup lift + BH-FDR": _shuffled_patterns,
    "always-valid binomial test": _e_process,
}


UNUSED = {
    "holm", "bonferroni", "cusum", "tabular_cusum", "elo", "repeated_testing_type_I_error", "e_value_H0_p_half",
    "non-response bias", "randolph_free_marginal", "weighted_kappa", "cohen_weighted_kappa", "davidson", "bradley_terry_with_ties",
}  # fmt: skip
"""Statistics that nothing in the product needs: we have no function for them."""
UNUSED_VALUES = {
    "rejected_bonferroni", "rejected_holm", "adjusted_holm", "adjusted_bonferroni", "randolph", "ratio", "wald", "jeffreys",
    "jeffreys95", "clopper_pearson", "clopper_pearson95", "agresti_coull", "agresti_coull95",
}  # fmt: skip
"""The same, of examples that have other values as well."""

# ---------------------------------------------------------------------------------------------- the comparison

# counts of runs, not rates: the example's tolerance is meant per run
SCALE = {"runs_with_any_discovery": 200, "median_stop_p=.6": 210}
TEXTS = ("undefined", "no data")


def _agrees(found, expected, tolerance, where):
    if expected is None or (isinstance(expected, str) and expected.startswith(TEXTS)):
        assert found is None, f"{where}: {found!r} should be undefined"
    elif isinstance(expected, str):
        assert found in (None, expected), where
    elif isinstance(expected, dict):
        for key, value in expected.items():
            _agrees(_entry(found, key, where), value, tolerance * SCALE.get(key, 1), f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, value in enumerate(expected):
            _agrees(found[i], value, tolerance, f"{where}[{i}]")
    else:
        assert found == pytest.approx(expected, abs=tolerance + 1e-12), where


def _entry(found, key, where):
    """An entry by its key; JSON has only texts as keys, and the statistic may have numbers."""
    if found is None:
        return None
    by_text = {str(k): v for k, v in found.items()}
    try:
        return found[key] if key in found else by_text[key] if key in by_text else found[key]
    except KeyError:
        raise AssertionError(f"{where}: nothing is read for {key!r}, only {sorted(by_text)}") from None


def test_variants_of_the_file_are_read():
    """Names, levels and parts that the kept examples may have."""
    kinds = {
        "binomial_interval": ({"x": 0, "n": 20, "level": 0.9}, {"wilson90": [0, 0.1192], "estimate": 0.0}),
        "difference_of_proportions_newcombe_hybrid_score": ({"x1": 0, "n1": 0, "x2": 1, "n2": 2}, {"ci95": "undefined"}),
        "cohen_kappa": ({"raterA": ["y", "n", "y"], "raterB": ["y", "n", "n"]}, {"kappa": 0.4, "p_o": 0.6667}),
        "krippendorff_alpha": ({"raters_x_units": [["a", "b", None], ["a", "b", "b"]]}, {"nominal": 1.0}),
        "gwet_ac1": ({"counts": [[2, 0], [0, 2]]}, {"gwet_ac1": 1.0}),
        "dawid_skene": ({"judgements": [["a", 1, "x"], ["b", 1, "x"]]}, {"labels": {"1": "x"}, "prior": {"x": 1.0}}),
        "bradley_terry_mle": ({"wins": [[0, 5], [0, 0]]}, {"log_ability": "undefined: never beaten"}),
        "stratified_comparison": (
            {"strata[success,fail] rows=(men, women)": {"A": [[5, 5], [5, 5]]}},
            {"crude": {"men": [5, 10, 0.5]}, "mantel_haenszel_odds_ratio_men_vs_women": 1.0, "reversal": False},
        ),
    }  # fmt: skip
    for statistic, (given, expected) in kinds.items():
        _agrees(READERS[statistic](given), expected, 1e-4, statistic)
    with pytest.raises(AssertionError, match="nothing is read"):
        _agrees({"a": 1}, {"b": 1}, 0, "unknown")


@pytest.mark.shared
def test_the_file_is_there():
    assert len(_vectors()) >= 39


@pytest.mark.shared
@pytest.mark.parametrize("vector", [pytest.param(v, id=v["id"]) for v in _vectors()])
def test_worked_example(vector):
    if vector["statistic"] in UNUSED:
        pytest.skip("the product has no use for it")
    assert vector["statistic"] in READERS, f"no reader for {vector['statistic']}"
    try:
        found = READERS[vector["statistic"]](vector["input"])
    except NotAtHand as why:
        pytest.skip(str(why))
    expected = vector["expected"]
    if isinstance(expected, dict):
        expected = {k: v for k, v in expected.items() if k not in UNUSED_VALUES}
    _agrees(found, expected, vector["abs_tol"], vector["id"])
