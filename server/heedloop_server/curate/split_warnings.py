"""What is wrong with the splits of a snapshot: one group that is most of it, splits that are empty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from heedloop.schema import DatasetForm, Split
from heedloop_server.curate.drafts import Row
from heedloop_server.curate.rules import Rules

Json = dict[str, Any]

LARGEST_SHARE = 0.5


def split_warnings(rows: Mapping[DatasetForm, Sequence[Row]], rules: Rules) -> list[Json]:
    """Warnings as `{"kind", "form", "message", "refuses"}`; one that `refuses` is a reason not to train on the form."""
    result: list[Json] = []
    for form, of_form in rows.items():
        if of_form:
            result += _of_groups(form, of_form) + _of_splits(form, Counter(r.split for r in of_form), rules)
    return result


def _of_groups(form: DatasetForm, rows: Sequence[Row]) -> list[Json]:
    group, size = Counter(r.group for r in rows).most_common(1)[0]
    if size <= LARGEST_SHARE * len(rows):
        return []
    message = (
        f"group {group} holds {size:,} of {len(rows):,} {form}: what is learned from them cannot be tested on others; "
        "see what its prompts share (near_duplicate, group_by)"
    )
    return [_warning("largest_group", form, message, refuses=True)]


def _of_splits(form: DatasetForm, counts: Mapping[Split, int], rules: Rules) -> list[Json]:
    wanted: dict[Split, float] = {"validation": rules.validation_fraction, "test": rules.test_fraction}
    empty = [s for s, fraction in wanted.items() if fraction and not counts.get(s)]
    result: list[Json] = []
    if not counts.get("train"):
        result.append(
            _warning(
                "empty_split", form, f"no {form} are in train; there is nothing to train on", refuses=True
            )
        )
    if empty:
        nothing_held_out = not any(counts.get(s) for s in wanted)
        message = f"no {form} are in {' or '.join(empty)}; judge answers to more prompts, or choose a larger fraction or another seed"
        result.append(_warning("empty_split", form, message, refuses=nothing_held_out))
    return result


def _warning(kind: str, form: DatasetForm, message: str, *, refuses: bool) -> Json:
    return {"kind": kind, "form": form, "message": message, "refuses": refuses}
