"""Simpson's paradox, looked for before a comparison is called decided."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heedloop.responses import Confounding, Interval
from heedloop_server.statistics.stratified import (
    Table,
    mantel_haenszel_difference,
    surely_on_side,
)

Tables = Mapping[str, Table]
"""Stratum -> [[thumbs up, thumbs down] of A, of B]; strata share no rating."""

OUTCOME_FIELDS = frozenset({"status", "answer_chars"})
"""What a version itself brings about: that it explains a difference does not make the difference less its own."""
_LEAST_SHARE = 0.5
_MOST_LEFT = 0.5


def confounded_by(
    difference: Interval, tables: Mapping[str, Tables], *, decided: bool, level: float = 0.95
) -> Confounding | None:
    """The field that most contradicts a difference, each field held still by itself; None where none does.

    A field counts where values that both sides have hold at least half of the ratings. Of a difference that is not
    decided, `reversed` allows for the number of fields looked at (Bonferroni); of one that is, chance alone turns none
    round. `explained` is asked only of a decided difference.

    Source: Simpson 1951, JRSS-B 13:238-241; Bickel, Hammel & O'Connell 1975, Science 187:398-404.
    """
    each = level if decided else 1 - (1 - level) / max(1, len(tables))
    result = [_of_field(difference, field, strata, each, decided) for field, strata in tables.items()]
    # the further the difference within the values lies on the other side of the difference over all, the earlier
    side = 1 if difference.estimate > 0 else -1
    ranked = sorted(
        (f for f in result if f), key=lambda f: (f.kind != "reversed", f.difference.estimate * side)
    )
    return ranked[0] if ranked else None


def _of_field(
    difference: Interval, field: str, strata: Tables, level: float, decided: bool
) -> Confounding | None:
    tables = np.array([np.asarray(t, float) for t in strata.values()]).reshape(-1, 2, 2)
    both = tables[(tables.sum(axis=2) > 0).all(axis=1)]
    common = mantel_haenszel_difference(both, level=level)
    if common is None or both.sum() < _LEAST_SHARE * tables.sum():
        return None
    if common.estimate * difference.estimate < 0 and surely_on_side(common, both, level=level):
        return Confounding(field, "reversed", common)
    left = common.estimate / difference.estimate if difference.estimate else 1.0
    if decided and field not in OUTCOME_FIELDS and left < _MOST_LEFT:
        return Confounding(field, "explained", common)
    return None


def tag_tables(sets: Mapping[tuple[str, ...], Table]) -> dict[str, dict[str, Table]]:
    """The tables to look at from those of sets of tags: by whole sets, and by each tag with and without it.

    Answers with two tags are in one set only, so that the strata share no rating.
    """
    result: dict[str, dict[str, Table]] = {"tag": {" + ".join(tags): table for tags, table in sets.items()}}
    for tag in sorted({t for tags in sets for t in tags}):
        sides = {True: np.zeros((2, 2), int), False: np.zeros((2, 2), int)}
        for tags, table in sets.items():
            sides[tag in tags] += np.asarray(table, int)
        result[f"tag {tag}"] = {("with" if has else "without"): t.tolist() for has, t in sides.items()}
    return result
