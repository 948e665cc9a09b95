"""Examples worked out in print, of functions that the shared file of worked examples does not reach; each with its source."""

import numpy as np
import pytest
from statistics_cases import alpha, coefficient, cohen_kappa, counts_of

from heedloop_server.statistics.consensus import dawid_skene
from heedloop_server.statistics.patterns import over_representation_p
from heedloop_server.statistics.stratified import stratified_comparison

# Krippendorff 2011, section C: four observers, twelve units, some not judged.
FOUR_OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


@pytest.mark.parametrize(
    ("metric", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_with_missing_judgements(metric, expected):
    """Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, sections C and D."""
    assert alpha(FOUR_OBSERVERS, metric=metric) == pytest.approx(expected, abs=0.0005)
    as_text = [[None if v is None else str(v) for v in row] for row in FOUR_OBSERVERS]
    assert alpha(as_text, metric=metric) == pytest.approx(expected, abs=0.0005)


def test_coefficients_with_missing_judgements():
    """Gwet 2014, Handbook of Inter-Rater Reliability, 4th ed.; the values of R's irrCAC for its data cac.raw4raters."""
    counts = counts_of(FOUR_OBSERVERS)
    assert coefficient("percent", counts) == pytest.approx(0.81818, abs=1e-5)
    assert coefficient("gwet_ac1", counts) == pytest.approx(0.77544, abs=1e-5)
    assert coefficient("fleiss", counts) == pytest.approx(0.76117, abs=1e-5)


def test_the_units_of_a_scale_do_not_change_alpha():
    small = [[v and v * 1e-8 for v in row] for row in FOUR_OBSERVERS]
    assert alpha(small, metric="interval") == pytest.approx(0.849, abs=0.0005)


# (patient: depression, personality disorder, schizophrenia, neurosis, other) by six psychiatrists
PSYCHIATRISTS = """
00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006
"""


def test_psychiatric_diagnoses():
    """Fleiss 1971, Psychol. Bull. 76:378-382, table 1: 0.430."""
    counts = [[int(c) for c in row] for row in PSYCHIATRISTS.split()]
    assert coefficient("fleiss", counts) == pytest.approx(0.430, abs=0.0005)


def test_kappa():
    """SAS, PROC FREQ: simple kappa, as statsmodels' tests of cohens_kappa print it."""
    assert cohen_kappa([[0, 4, 1], [0, 8, 0], [0, 1, 5]]) == pytest.approx(0.4842, abs=5e-5)


ANAESTHETISTS = """
111,1,1,1,1 333,4,3,3,4 112,2,1,2,2 222,3,1,2,1 222,3,2,2,2 222,3,3,2,2 122,2,1,1,1 333,3,4,3,3 222,2,2,2,3
232,2,2,2,3 444,4,4,4,4 222,3,3,4,3 111,1,1,1,1 222,3,2,1,2 121,1,1,1,1 111,2,1,1,1 111,1,1,1,1 111,1,1,1,1
222,2,2,2,1 222,1,3,2,2 222,2,2,2,2 222,2,2,2,1 222,3,2,2,2 221,2,2,2,2 111,1,1,1,1 111,1,1,1,1 232,2,2,2,2
111,1,1,1,1 111,1,1,1,1 112,1,1,2,1 111,1,1,1,1 333,3,2,3,3 111,1,1,1,1 222,2,2,2,2 222,3,2,3,2 433,4,3,4,3
221,2,2,3,2 232,3,2,3,3 333,3,4,3,2 111,1,1,1,1 111,1,1,1,1 121,2,1,1,1 232,2,2,2,2 121,1,1,1,1 222,2,2,2,2
"""


def test_anaesthetists():
    """Dawid & Skene 1979, Appl. Statist. 28:20-28, tables 1 to 4: the first observer judged every patient three times."""
    said = [
        (observer, patient, label)
        for patient, row in enumerate(ANAESTHETISTS.split(), start=1)
        for observer, labels in enumerate(row.split(","), start=1)
        for label in labels
    ]
    model = dawid_skene(said, repeats=True, smoothing=1e-9, tolerance=1e-12)
    assert model.prior == pytest.approx([0.40, 0.42, 0.11, 0.07], abs=0.005)
    first = [[0.89, 0.11, 0, 0], [0.07, 0.88, 0.05, 0], [0, 0.34, 0.66, 0], [0, 0, 0.56, 0.44]]
    assert model.annotators[1].confusion == pytest.approx(np.array(first), abs=0.005)
    # an implementation of the paper that keeps only the newest judgement has 0.42, 0.12 and a first observer of 0.90
    newest = dawid_skene(said)
    assert newest.prior[2] == pytest.approx(0.122, abs=0.001)


def test_berkeley_admissions():
    """Bickel, Hammel & O'Connell 1975, Science 187:398-404; the values of R's mantelhaen.test(UCBAdmissions)."""
    admitted_men, rejected_men = [512, 353, 120, 138, 53, 22], [313, 207, 205, 279, 138, 351]
    admitted_women, rejected_women = [89, 17, 202, 131, 94, 24], [19, 8, 391, 244, 299, 317]
    rows = zip("ABCDEF", admitted_men, rejected_men, admitted_women, rejected_women, strict=True)
    found = stratified_comparison({name: [[a, b], [c, d]] for name, a, b, c, d in rows})
    assert found.odds_ratio.estimate == pytest.approx(0.9046968, abs=1e-6)
    assert (found.odds_ratio.low, found.odds_ratio.high) == pytest.approx((0.7719074, 1.0603298), abs=1e-6)
    # 1.5246 on one degree of freedom without continuity correction (1.4269 with it)
    assert found.p_value == pytest.approx(0.2169, abs=1e-4)
    assert found.crude.estimate == pytest.approx(0.1417, abs=1e-4)
    assert found.reversal


def test_tea():
    """Fisher 1935, The Design of Experiments: of 4 cups with milk first, 3 named right: 17 of 70."""
    assert over_representation_p([3], [4], 4, 8)[0] == pytest.approx(17 / 70)
