"""Many versions at once: each against the baseline; and each release against what was there before it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import streamlit as st

from heedloop.responses import Group, ReleaseEffect, Releases, Version, Versions
from heedloop.schema import format_time
from heedloop_dashboard import components, filters, panels, words
from heedloop_dashboard.fetch import Answer
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.state import merged, narrower

_DECIDED = {"better": "Better", "worse": "Worse"}


def show_versions(answer: Answer[Versions], field: str, title: str) -> None:
    """Every value of a field against the baseline: the one with the most ratings."""
    if answer.error is None and len(answer.value.versions) < 2:
        return
    with panels.panel("versions"):
        panels.header(
            f"Every {title.lower()} vs. the baseline",
            "Decided over all of them together: under 5% of the decisions are wrong, however often you look",
        )
        if panels.failed(answer):
            return
        found = answer.value
        heads = [
            {"key": "value", "label": title, "kind": ""},
            {"key": "rate", "label": "Rate", "kind": "number"},
            {"key": "difference", "label": "Difference", "kind": "number"},
            {"key": "decided", "label": "Verdict", "kind": "state"},
            {"key": "needed", "label": "Ratings needed", "kind": "number"},
        ]
        st.text(found.sentence)
        rows = (
            [] if found.baseline is None else [_row(field, found.baseline, _baseline_cells(found.baseline))]
        )
        rows += [_row(field, v, _version_cells(v)) for v in found.versions]
        components.table(
            "version_rows", heads, rows, caption=f"Every {title.lower()} vs. the baseline", link=-1, tall=True
        )


def _row(field: str, group: Group, cells: list[str | None]) -> dict[str, Any]:
    target = filters.group_link(field, group.value, rating="any")
    opens = {} if target is None else {"value": target.to_json(), "rate": target.to_json()}
    return {"cells": cells, "opens": opens}


def _baseline_cells(group: Group) -> list[str | None]:
    return [group.value or "(none)", words.interval(group.rate), "baseline", None, None]


def _version_cells(version: Version) -> list[str | None]:
    # the rate is over the very ratings that the difference comes from
    rate = (version.compared and version.compared.a) or version.rate
    return [
        version.value or "(none)",
        words.interval(rate),
        words.change(version.difference),
        _verdict(version),
        _needed(version),
    ]


def _verdict(group: Version | ReleaseEffect) -> str:
    confounding = group.confounding
    if confounding:
        field = confounding.field.removeprefix("metadata.").replace("_", " ")
        word = "Reversed" if confounding.kind == "reversed" else "Explained"
        return f"{word} by {field}"
    if isinstance(group, Version) and group.decided is None and group.decided_alone:
        return f"{_DECIDED[group.decided_alone]} as a pair only"
    return _DECIDED[group.decided] if group.decided else "Not enough evidence yet"


def _needed(group: Version | ReleaseEffect) -> str | None:
    needed = group.num_needed
    return None if group.decided or not needed else words.count(needed)


def show_releases(answer: Answer[Releases]) -> None:
    """What came up in the period, each before and after, with what changed without it."""
    if answer.error is None and not answer.value.releases:
        return
    with panels.panel("releases"):
        days = 7 if answer.error is not None else answer.value.days
        panels.header(
            "Each release vs. what ran before it",
            f"Looks at {days} days on either side of the release, not at the whole period: what ran on the same days, or the days "
            "before where it replaced everything. “Others”: how the rest changed meanwhile",
        )
        if panels.failed(answer):
            return
        heads = [
            {"key": "time", "label": "Since", "kind": ""},
            {"key": "value", "label": "Name", "kind": ""},
            {"key": "before", "label": "Compared with", "kind": "number"},
            {"key": "after", "label": "Release", "kind": "number"},
            {"key": "change", "label": "Difference", "kind": "number"},
            {"key": "drift", "label": "Others", "kind": "number"},
            {"key": "decided", "label": "Verdict", "kind": "state"},
            {"key": "needed", "label": "Ratings needed", "kind": "number"},
            {"key": "run", "label": "Trained by", "kind": "mono"},
        ]
        rows = [_release_row(r, days) for r in answer.value.releases]
        components.table("release_rows", heads, rows, caption="Releases, newest first", link=-1, tall=True)


def _release_row(release: ReleaseEffect, days: int) -> dict[str, Any]:
    at, run, compared = release.time, release.run, release.compared
    beside = release.design == "same_days"
    until = at + timedelta(days=days) if beside else at
    before = {
        "since": format_time(at - timedelta(days=0 if beside else days)),
        "until": format_time(until),
        "rating": "any",
    }
    after = {"since": format_time(at), "until": format_time(at + timedelta(days=days)), "rating": "any"}
    own = narrower(release.field, release.value) or {}
    opens: dict[str, Any] = {
        "before": Open("traces", _times(before)).to_json(),
        "after": Open("traces", _times({**after, **own})).to_json(),
    }
    opens["value"] = opens["after"]
    if run:
        opens["run"] = Open("runs", {"run_id": run.id}).to_json()
    cells = [
        words.clock(release.time),
        release.value,
        words.short((compared and compared.b) or release.before.rate),
        words.short((compared and compared.a) or release.after.rate),
        words.change(release.change),
        words.points(words.estimate(release.drift)),
        _verdict(release),
        _needed(release),
        run.id if run else None,
    ]
    return {"cells": cells, "opens": opens}


def _times(more: Mapping[str, Any]) -> dict[str, Any]:
    """The view with other times: the period's name would say something else."""
    return merged(filters.link_params(period=None), more)
