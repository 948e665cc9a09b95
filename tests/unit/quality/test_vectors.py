"""Every worked example with a known answer, read from the shared file: statistic name -> our function.

An example whose expected value is a text that begins with "undefined" or "no data" must come back as None. A statistic
without a reader fails: nothing passes by not being looked at. Where data is not at hand, the example is skipped by name.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from heedloop_server.quality import (
    agreement,
    drift,
    multiplicity,
    pairwise,
    selection,
    sequential,
    stratified,
)
from heedloop_server.quality.consensus import consensus_labels, dawid_skene
from heedloop_server.quality.intervals import binomial_interval, exact_coverage, newcombe
from heedloop_server.quality.patterns import Cell, overrepresented

pytestmark = pytest.mark.shared


class NotAtHand(Exception):
    """The example needs data that is not in the shared folder."""


def _vectors():
    path = Path(os.environ.get("HEEDLOOP_SHARED", "/nonexistent"), "stats", "vectors.json")
    return json.loads(path.read_text())["vectors"] if path.is_file() else []


# ------------------------------------------------------------------------------------------------- the readers


def _fleiss(given):
    counts = given["counts_items_x_categories"]
    kappa = agreement.fleiss_kappa(counts)
    return {
        "kappa": kappa,
        "fleiss": kappa,
        "randolph": agreement.randolph_kappa(counts),
        "gwet_ac1": agreement.gwet_ac1(counts),
        "P_i": agreement.agreement_per_unit(counts),
        "p_o": agreement.percent_agreement(counts),
    }


def _cohen(given):
    table = given["table_raterA_x_raterB"]
    return {
        "kappa": agreement.cohen_kappa(table),
        "linear": agreement.cohen_kappa(table, weights="linear"),
        "quadratic": agreement.cohen_kappa(table, weights="quadratic"),
        "gwet_ac1": agreement.gwet_ac1(agreement.counts_of_table(table)),
        "p_o": agreement.percent_agreement_table(table),
    }


def _alpha(given):
    metrics = ("nominal", "ordinal", "interval", "ratio")
    found = {m: agreement.krippendorff_alpha(given["coders_x_units"], metric=m) for m in metrics}
    return found | {"any": None if all(v is None for v in found.values()) else found}


def _dawid_skene(given):
    triples = [tuple(t) for t in given["worker_task_label"]]
    model = dawid_skene(triples, n_iter=given.get("n_iter", 100))
    return {"labels": None if model is None else consensus_labels(model.consensus)}


def _binomial(given):
    found = {}
    for method in ("wilson", "clopper_pearson", "jeffreys", "agresti_coull"):
        interval = binomial_interval(given["successes"], given["n"], method=method)
        found[method + "95"] = None if interval is None else [interval.low, interval.high]
    return found | {"any": found["wilson95"]}


def _newcombe(given):
    interval = newcombe(given["x1"], given["n1"], given["x2"], given["n2"])
    return {
        "ci95": None if interval is None else [interval.low, interval.high],
        "difference": None if interval is None else interval.estimate,
        "any": interval,
    }


def _coverage(given):
    methods = ("wald", "wilson", "jeffreys", "clopper_pearson", "agresti_coull")
    return {m: exact_coverage(given["n"], given["p"], method=m) for m in methods}


def _bh(given):
    adjusted = multiplicity.benjamini_hochberg(given["p"])
    level = given.get("q", 0.05)
    return {
        "adjusted_bh": adjusted,
        "rejected_bh": multiplicity.num_rejected(adjusted, level=level),
        "rejected_bonferroni": multiplicity.num_rejected(multiplicity.bonferroni(given["p"]), level=level),
        "adjusted_holm": multiplicity.holm(given["p"]),
    }


def _stratified(given):
    strata = next(v for k, v in given.items() if k.startswith("strata"))
    found = stratified.stratified_comparison(strata)
    up, num = (
        np.array(list(strata.values())).sum(axis=0)[:, 0],
        np.array(list(strata.values())).sum(axis=(0, 2)),
    )
    return {
        "crude": {
            name: [int(up[i]), int(num[i]), up[i] / num[i]] for i, name in enumerate(("open", "percutaneous"))
        },
        "by_stratum": {s.name: [s.a.estimate, s.b.estimate] for s in found.strata},
        "mantel_haenszel_odds_ratio_open_vs_perc": found.odds_ratio.estimate if found.odds_ratio else None,
        "mantel_haenszel_odds_ratio": found.odds_ratio.estimate if found.odds_ratio else None,
        "reversal": found.reversal,
    }


def _bradley_terry(given):
    found = pairwise.bradley_terry(given["wins_row_beats_col"], reference=len(given["items"]) - 1)
    return {f"log_ability_ref_{given['items'][-1]}": found, "log_ability": found}


def _elo(given):
    return {"after_A_then_B": pairwise.elo(given["games"], k=given["k"], start=given["start"]), "note": None}


def _peeking(given):
    return {
        "type_I": [sequential.repeated_testing_error(n, level=given["nominal_alpha"]) for n in given["looks"]]
    }


def _e_value(given):
    return {"e": [sequential.e_value_half(*pair) for pair in given["pairs_[wins,losses]"]]}


def _cusum(given):
    found = drift.tabular_cusum(given["x"], target=given["target"], k=given["k"], h=given["h"])
    first = None if found.alarm_index is None else found.alarm_index + 1
    return {"S_hi": found.high, "S_lo": found.low, "first_alarm_index_1based": first}


def _selection(given):
    """The simulation that the example describes: 120,000 answers; ups rated with 5.5%, downs with 11%; the mean of 20."""
    runs = [_one_selection(np.random.default_rng(seed)) for seed in range(20)]
    return {k: np.mean([r[k] for r in runs], axis=0) for k in runs[0]}


def _one_selection(rng):
    up = rng.random(120_000) < 0.7719
    propensity = np.where(up, 0.055, 0.11)
    rated = rng.random(up.size) < propensity
    plain = selection.rater_bias(int(up[rated].sum()), int(rated.sum()), up.size, [], [])
    weighted = selection.inverse_propensity_rate(up[rated].astype(float), propensity[rated])
    return {
        "true_up_rate": float(up.mean()),
        "rate_among_rated": plain.self_selected.estimate,
        "coverage": float(rated.mean()),
        "manski_bounds": list(plain.bounds),
        "ipw_with_known_propensity": weighted.estimate,
    }


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
    assert sequential.e_value_half(60, 40) == pytest.approx(np.exp(betaln(61, 41)) * 2.0**100)
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
    "cohen_kappa": _cohen,
    "krippendorff_alpha": _alpha,
    "dawid_skene_em": _dawid_skene,
    "bradley_terry_benchmark": _not_at_hand,
    "binomial_interval": _binomial,
    "difference_of_proportions_newcombe_hybrid_score": _newcombe,
    "exact_coverage_of_95pct_interval": _coverage,
    "benjamini_hochberg": _bh,
    "stratified_comparison": _stratified,
    "bradley_terry_mle": _bradley_terry,
    "elo": _elo,
    "repeated_testing_type_I_error": _peeking,
    "e_value_H0_p_half": _e_value,
    "tabular_cusum": _cusum,
    "non-response bias": _selection,
    "subgroup lift + BH-FDR": _shuffled_patterns,
    "always-valid binomial test": _e_process,
}


# ---------------------------------------------------------------------------------------------- the comparison

# counts of runs, not rates: the example's tolerance is meant per run
SCALE = {"runs_with_any_discovery": 200, "median_stop_p=.6": 210}
TEXTS = ("undefined", "no data")


def _agrees(found, expected, tolerance, where):
    if isinstance(expected, str) and expected.startswith(TEXTS):
        assert found is None, f"{where}: {found!r} should be undefined"
    elif isinstance(expected, str):
        assert found in (None, expected), where
    elif isinstance(expected, dict):
        for key, value in expected.items():
            _agrees(found[key], value, tolerance * SCALE.get(key, 1), f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, value in enumerate(expected):
            _agrees(found[i], value, tolerance, f"{where}[{i}]")
    else:
        assert found == pytest.approx(expected, abs=tolerance + 1e-12), where


def test_the_file_is_there():
    assert len(_vectors()) >= 39


@pytest.mark.parametrize("vector", [pytest.param(v, id=v["id"]) for v in _vectors()])
def test_worked_example(vector):
    assert vector["statistic"] in READERS, f"no reader for {vector['statistic']}"
    try:
        found = READERS[vector["statistic"]](vector["input"])
    except NotAtHand as why:
        pytest.skip(str(why))
    _agrees(found, vector["expected"], vector["abs_tol"], vector["id"])
