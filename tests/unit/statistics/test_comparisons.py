"""Pairwise strengths, strata, multiplicity, sequential tests, versions: identities and edges."""

import math
from datetime import date, datetime, timedelta, timezone

import numpy as np
import pytest
from scipy.stats import nchypergeom_fisher
from statistics_cases import labels_of

from heedloop_server.statistics.clusters import carry_names, cluster_texts
from heedloop_server.statistics.consensus import (
    dawid_skene,
    majority_vote,
    weighted_vote,
)
from heedloop_server.statistics.counts import Answers, Group, Ratings
from heedloop_server.statistics.multiplicity import e_benjamini_hochberg
from heedloop_server.statistics.pairwise import (
    Duel,
    bradley_terry,
    first_shown_wins,
    league,
    length_effect,
)
from heedloop_server.statistics.releases import compare_release
from heedloop_server.statistics.selection import nonresponse_bounds
from heedloop_server.statistics.sequential import Block, compare_blocks
from heedloop_server.statistics.similar import most_similar, telling_words
from heedloop_server.statistics.stratified import cochran_mantel_haenszel, stratified_comparison
from heedloop_server.statistics.versions import compare_versions

# --------------------------------------------------------------------------------------------------- strengths


def test_strengths_do_not_exist_where_nothing_connects():
    assert bradley_terry([[0, 5], [0, 0]]) is None
    assert bradley_terry([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]) is None
    assert bradley_terry([[0]]) is None


def test_an_unbeaten_contender_leaves_a_league_without_strengths_but_with_rates():
    table = league([Duel("a", "b", 1)] * 5 + [Duel("b", "c", 1), Duel("c", "b", 1)])
    assert not table.connected
    assert table.components == (("a", "b", "c"),)
    assert all(s.log_strength is None for s in table.standings)
    assert table.standings[0].name == "a"
    assert league([]).standings == ()


def test_strengths_need_decided_judgements():
    table = league([Duel("a", "b", 0.5)] * 3)
    assert [s.log_strength for s in table.standings] == [None, None]
    assert [s.win_rate.n for s in table.standings] == [3, 3]


def test_one_rater_alone_has_an_interval_of_their_judgements():
    """Resampled as a whole, one rater's judgements would have a width of 0."""
    table = league([Duel("a", "b", float(i % 3 > 0), rater="ana") for i in range(30)])
    strength = table.standings[0].log_strength
    assert strength.n == 30
    assert strength.low < strength.estimate - 0.2 < strength.estimate + 0.2 < strength.high


def test_intervals_by_rater_are_wider_where_a_rater_judges_much():
    """Fifty raters with tastes of their own, forty judgements each: judgements of one rater are not independent."""
    rng, duels = np.random.default_rng(1), []
    for rater in range(30):
        taste = rng.random()
        duels += [Duel("a", "b", float(rng.random() < taste), rater=rater) for _ in range(30)]
    alone = [Duel(d.a, d.b, d.result) for d in duels]
    width = [
        s.log_strength.high - s.log_strength.low
        for s in (league(duels).standings[0], league(alone).standings[0])
    ]
    assert width[0] > 2 * width[1]


def test_the_length_effect_is_told_from_strength():
    """B only wins because its answers are longer: raw strengths say B, at equal length A is better."""
    rng, duels = np.random.default_rng(4), []
    for i in range(3000):
        longer = rng.normal(-1.0, 1.0)  # length of A less that of B
        wins = rng.random() < 1 / (1 + np.exp(-(0.5 + 1.2 * longer)))
        duels.append(Duel("a", "b", float(wins), rater=i % 60, length_difference=longer))
    assert league(duels).standings[0].name == "b"
    found = length_effect(duels)
    assert found.log_strength["a"] - found.log_strength["b"] == pytest.approx(0.5, abs=0.15)
    planted = np.exp(1.2 * found.unit)
    assert found.odds.low < planted < found.odds.high
    assert length_effect([Duel("a", "b", 1.0, length_difference=0.0)]) is None
    assert length_effect([Duel("a", "b", 1.0)]) is None


def test_who_is_shown_first_is_counted_over_decided_judgements():
    duels = [(Duel("a", "b", 1.0), True), (Duel("a", "b", 0.0), False), (Duel("a", "b", 0.5), True)]
    found = first_shown_wins(duels)
    assert (found.estimate, found.n) == (1.0, 2)
    assert first_shown_wins([]) is None


RELEASED = datetime(2026, 11, 8, 9, 30, tzinfo=timezone.utc)
MOMENTS = [  # of a release: through the day, on a month's last hour, on a leap day, over the new year
    *(RELEASED.replace(hour=h, minute=m) for h in range(0, 24, 4) for m in (0, 59)),
    datetime(2026, 11, 30, 23, 59, tzinfo=timezone.utc),
    datetime(2028, 2, 29, 12, tzinfo=timezone.utc),
    datetime(2027, 1, 1, tzinfo=timezone.utc),
]


def _release_grid(*, old_stays, released=RELEASED):
    """Everything became worse by ten points with the release, which is thirty worse than what it replaced."""
    grid = {}
    for hour in range(14 * 24):
        when = released.replace(minute=0, hour=0) + timedelta(hours=hour - 7 * 24)
        after = when >= released.replace(minute=0)
        if old_stays or not after:
            grid[when, "old"] = _group(20, 14 if not after else 12)
        if after:
            grid[when, "new"] = _group(20, 8)
    return grid


def test_a_release_is_compared_with_what_ran_beside_it():
    found = compare_release(_release_grid(old_stays=True), "new", RELEASED, days=7)
    assert found.test.design == "same_days"
    assert found.change.estimate == pytest.approx(-0.2, abs=0.01)
    assert found.drift.estimate == pytest.approx(-0.1)
    assert found.decided == "worse"
    assert compare_release({}, "new", RELEASED, days=7).decided is None


def test_a_release_that_replaced_all_is_compared_with_the_days_before_it():
    found = compare_release(_release_grid(old_stays=False), "new", RELEASED, days=7)
    assert found.test.design == "before_and_after"
    assert found.change.estimate == pytest.approx(-0.3)
    assert found.drift is None
    assert found.decided == "worse"


@pytest.mark.parametrize("released", MOMENTS, ids=lambda at: f"{at:%Y-%m-%dT%H:%M}")
def test_a_release_is_judged_alike_at_any_hour_and_date(released):
    hour = released.replace(minute=0)
    for stays, change in ((True, -0.2), (False, -0.3)):
        grid = _release_grid(old_stays=stays, released=released)
        found = compare_release(grid, "new", released, days=7)
        assert (found.decided, round(found.change.estimate, 1)) == ("worse", change)
        assert found.before.answers.num == 20 * sum(hour - timedelta(days=7) <= at < hour for at, _ in grid)
        assert found.after.answers.num == 20 * sum(at >= hour and name == "new" for at, name in grid)


def test_what_came_after_a_release_is_no_part_of_its_comparison():
    grid = _release_grid(old_stays=True)
    later = {(at, "newer"): _group(200, 200) for at, _ in grid if at > RELEASED + timedelta(days=1)}
    one, other = (compare_release(g, "new", RELEASED, days=7) for g in (grid, grid | later))
    assert one == other


def _group(num, num_up):
    return Group(Answers(num, num, num), Ratings(num, num_up, num, num, num_up, num_up))


def test_texts_like_a_text():
    texts = ["How do I reset my password?", "Where is my parcel?", "Password reset does not work", ""]
    found = most_similar("I want to reset the password", texts)
    assert [i for i, _ in found] == [2, 0] or [i for i, _ in found] == [0, 2]
    assert all(0 < c <= 1 for _, c in found)
    assert most_similar("the of and", texts) == []
    assert most_similar("password", []) == []
    sample = ["What is the price of my order?", "Where is my parcel?", "What is the address of the shop?"]
    told = telling_words("What is the PASSWORD of my e-mail account?", sample)
    assert told[:3] == ["password", "account", "mail"]
    assert set(told[-5:]) == {"the", "what", "is", "of", "my"}


def test_filler_words_are_known_by_how_common_they_are_in_any_language():
    sample = [
        "Wo ist die Lampe?",
        "Wie ist die Lieferung?",
        "Wo ist das Paket und die Rechnung?",
        "Ist die Farbe echt?",
    ]
    told = telling_words("Wo ist die Rückerstattung?", sample)
    assert told[0] == "rückerstattung"
    assert set(told[-2:]) == {"ist", "die"}
    found = most_similar(
        "退款什么时候到", ["你好,请问", "我的退款还没到", "送货"], background=["你好,请问颜色", "请问尺寸"]
    )
    assert found[0][0] == 1


def test_wrong_duels_are_named():
    with pytest.raises(ValueError, match=r"0\.5"):
        Duel("a", "b", 0.3)
    with pytest.raises(ValueError, match="itself"):
        Duel("a", "a", 1)
    with pytest.raises(ValueError, match="square"):
        bradley_terry([[1, 2, 3]])


# ------------------------------------------------------------------------------------------------- multiplicity


def test_e_values_of_many_versions():
    assert e_benjamini_hochberg([100, 1, 45, None, 0.2]) == [True, False, True, False, False]
    assert e_benjamini_hochberg([]) == []
    assert e_benjamini_hochberg([19, 1]) == [False, False]


# -------------------------------------------------------------------------------------------------- comparisons


def test_one_stratum_is_the_plain_comparison():
    found = stratified_comparison({"all": [[30, 20], [20, 30]]})
    assert found.odds_ratio.estimate == pytest.approx(30 * 30 / (20 * 20))
    assert found.difference.estimate == pytest.approx(found.crude.estimate)
    assert found.reversal is False


def test_empty_and_one_sided_strata_say_nothing():
    assert stratified_comparison({}).crude is None
    found = stratified_comparison({"x": [[5, 5], [0, 0]]})
    assert found.difference is None
    assert found.odds_ratio is None
    assert found.p_value is None
    assert cochran_mantel_haenszel([[[0, 0], [0, 0]]]) is None


def test_no_ratings_no_evidence():
    empty = compare_blocks([])
    assert (empty.e_value, empty.decided, empty.num_needed) == (1.0, None, None)
    one_sided = compare_blocks([Block(30, 40, 0, 0)])
    assert one_sided.e_value == pytest.approx(1)
    with pytest.raises(ValueError, match="thumbs up"):
        Block(5, 4, 0, 0)


def test_a_block_is_fishers_noncentral_hypergeometric_law():
    """Against scipy's, mixed over a finer grid."""
    blocks, odds = [Block(12, 30, 20, 28), Block(3, 4, 1, 9)], np.linspace(-2, 2, 401)
    log_e = np.zeros(odds.size)
    for b in blocks:
        total, up = b.num_a + b.num_b, b.up_a + b.up_b
        at = [nchypergeom_fisher(total, b.num_a, up, math.exp(x)).logpmf(b.up_a) for x in (0.0, *odds)]
        log_e += np.array(at[1:]) - at[0]
    prior = np.exp(-0.5 * (odds / 0.4) ** 2)
    assert compare_blocks(blocks).e_value == pytest.approx(
        (prior * np.exp(log_e)).sum() / prior.sum(), rel=1e-3
    )


def test_a_million_ratings_a_day_tell_a_small_difference_apart():
    """51.0% against 50.5%: nine standard errors, of odds 2% apart, which a coarse grid of odds has no place for."""
    found = compare_blocks([Block(510_000, 1_000_000, 505_000, 1_000_000)] * 2)
    assert found.decided == "a"
    assert compare_blocks([Block(5 * 10**8, 10**9, 5 * 10**8, 10**9)]).e_value < 0.1


def test_swapping_sides_swaps_the_decision():
    blocks = [Block(35, 40, 20, 40)] * 3
    turned = [Block(b.up_b, b.num_b, b.up_a, b.num_a) for b in blocks]
    one, other = compare_blocks(blocks), compare_blocks(turned)
    assert (one.decided, other.decided) == ("a", "b")
    assert one.e_value == pytest.approx(other.e_value)


def test_versions_choose_their_design_by_when_they_ran():
    day = date(2026, 11, 1)
    days = [day + timedelta(days=i) for i in range(10)]
    both = dict.fromkeys(days, (7, 10))
    assert compare_versions(both, both).design == "same_days"
    assert (
        compare_versions(dict.fromkeys(days[:5], (7, 10)), dict.fromkeys(days[5:], (7, 10))).design
        == "before_and_after"
    )
    assert compare_versions({}, both).design == "none"
    assert compare_versions({}, {}).difference is None


def test_bounds_hold_whatever_the_silent_think():
    assert nonresponse_bounds(3, 4, 10) == (0.3, 0.9)
    assert nonresponse_bounds(4, 4, 4) == (1.0, 1.0)
    assert nonresponse_bounds(0, 0, 0) is None
    with pytest.raises(ValueError, match="within"):
        nonresponse_bounds(5, 4, 10)


# ---------------------------------------------------------------------------------------------------- consensus


def test_a_tie_has_no_label_and_the_last_word_of_an_annotator_counts():
    tied = majority_vote([("a", 1, "x"), ("b", 1, "y")])[1]
    assert (tied.label, tied.confidence, tied.num) == (None, 0.5, 2)
    changed = majority_vote([("a", 1, "x"), ("b", 1, "y"), ("b", 1, "x")])[1]
    assert (changed.label, changed.num) == ("x", 2)
    assert weighted_vote([("a", 1, "x"), ("b", 1, "y")], {"a": 2.0})[1].label == "x"
    assert majority_vote([]) == {}
    assert dawid_skene([]) is None


def test_the_order_of_judgements_changes_nothing():
    rng = np.random.default_rng(2)
    said = [(w, u, int(rng.integers(2))) for w in range(6) for u in range(20)]
    one, other = dawid_skene(said), dawid_skene(said[::-1])
    assert labels_of(one.consensus) == labels_of(other.consensus)
    assert one.posterior[3].sum() == pytest.approx(1)
    gains = np.diff(one.log_likelihood)
    assert (gains > -1e-3).all()


def test_one_annotator_alone_is_believed_and_not_called_careless():
    model = dawid_skene([("w", u, u % 2) for u in range(30)])
    assert labels_of(model.consensus) == {u: u % 2 for u in range(30)}
    assert not model.annotators["w"].careless


# ----------------------------------------------------------------------------------------------------- clusters

COMPLAINTS = {
    "refund": "The refund never arrived on my card after the return",
    "shipping": "The parcel tracking number does not work and shipping is late",
    "login": "I cannot log in, the password reset mail is missing",
}


def _complaints(rng, num):
    said, kinds = [], []
    for _ in range(num):
        kind = rng.choice(list(COMPLAINTS))
        words = COMPLAINTS[kind].split()
        said.append(" ".join(rng.permutation(words)[: len(words) - 2]))
        kinds.append(kind)
    return said, kinds


def test_clusters_are_the_planted_complaints_with_telling_words():
    texts, kinds = _complaints(np.random.default_rng(0), 120)
    clusters = cluster_texts(texts)
    assert sorted(i for c in clusters for i in c.members) == list(range(120))
    assert len(clusters) == 3
    for cluster in clusters:
        inside = [kinds[i] for i in cluster.members]
        assert max(inside.count(k) for k in COMPLAINTS) / len(inside) > 0.95
        assert cluster.examples[0] == cluster.members[0]
        assert cluster.words


def test_cluster_names_last_over_runs():
    before = cluster_texts(_complaints(np.random.default_rng(1), 90)[0])
    now = cluster_texts(_complaints(np.random.default_rng(2), 150)[0])
    names = carry_names(now, before)
    assert sorted(names.values()) == sorted(c.name for c in before)


def test_too_few_or_wordless_texts_have_no_clusters():
    assert cluster_texts([]) == []
    assert cluster_texts(["bad"] * 9) == []
    assert cluster_texts(["!!!", "👎"] * 10) == []
    assert cluster_texts(["\x00‮ <script>"] * 3 + [""] * 20) == []
