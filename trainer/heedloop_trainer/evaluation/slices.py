"""Slices: the same measure by prompt, topic, language, flag, so that a gain in the mean hides no loss in a part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from heedloop.client import Client
from heedloop.responses import CallSummary
from heedloop.schema import format_time
from heedloop_trainer.evaluation.estimates import Estimate, cluster_bootstrap

MIN_SLICE = 20
"""Rows from which a slice is reported: fewer say nothing."""
MAX_SLICES = 40
MAX_CALLS = 100_000
"""Calls that are looked through for their attributes: a report must not read a whole year of traffic."""
MAX_LANGUAGES = 20
FIRST = "1970-01-01T00:00:00Z"

Attributes = dict[str, frozenset[str]]
"""Trace id -> the slices that its call is in, such as `tag=billing`."""


def read_attributes(client: Client, trace_ids: Iterable[str]) -> Attributes:
    """The prompt, model, language, tags and flags of these traces' calls, from the project's newest 100,000 calls."""
    wanted = set(trace_ids)
    found: dict[str, frozenset[str]] = {}
    oldest = FIRST
    for call in islice(client.iter_calls(since=FIRST), MAX_CALLS if wanted else 0):
        if call.trace_id in wanted:
            oldest = format_time(call.start_time)  # they come newest first
            found[call.trace_id] = found.get(call.trace_id, frozenset()) | _slices_of(call)
        if len(found) == len(wanted):
            break
    for language in _languages(client, oldest) if found else ():
        # back to the oldest found alone: all languages together then have no more calls than were read above
        for call in islice(client.iter_calls(since=oldest, language=language), MAX_CALLS):
            if call.trace_id in found:
                found[call.trace_id] |= {f"language={language}"}
    return found


def _languages(client: Client, since: str) -> list[str]:
    """What apps said in the metadata key `language`, `lang` or `locale`, the most frequent first."""
    groups = client.quality_by("language", since=since)
    return [g.value for g in groups if g.value][:MAX_LANGUAGES]


def _slices_of(call: CallSummary) -> frozenset[str]:
    single = [("prompt", call.prompt_name), ("model", call.model)]
    several = [("tag", t) for t in call.tags] + [("flag", f) for f in call.flags]
    return frozenset(f"{name}={value}" for name, value in (*single, *several) if value)


def slice_estimates(
    rows: Sequence[Any], values: np.ndarray, clusters: Sequence[Any], attributes: Mapping[str, frozenset[str]]
) -> dict[str, Estimate]:
    """The mean of `values` with its interval in every slice of at least `MIN_SLICE` rows that does not hold all rows.

    Args:
        rows: with `trace_ids`; values, clusters: one per row.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        for name in frozenset().union(*(attributes.get(t, frozenset()) for t in row.trace_ids)):
            places[name].append(i)
    kept = sorted(
        ((name, where) for name, where in places.items() if MIN_SLICE <= len(where) < len(rows)),
        key=lambda s: (-len(s[1]), s[0]),
    )
    return {
        name: cluster_bootstrap(values[where], [clusters[i] for i in where])
        for name, where in kept[:MAX_SLICES]
    }
