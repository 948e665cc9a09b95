"""Many versions at once: each against the baseline; and each release against what was there before it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import streamlit as st

from heedloop.schema import format_time, parse_time
from heedloop_dashboard import components, filters, panels, words
from heedloop_dashboard.fetch import Answer
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.state import merged, narrower

__all__ = ["show_releases", "show_versions"]

_DECIDED = {"better": "Better", "worse": "Worse"}


def show_versions(answer: Answer, field: str, title: str) -> None:
    """Every value of a field against the baseline: the one with the most ratings."""
    if answer.error is None and len(answer.value.get("versions") or []) < 2:
        return
    with panels.panel("versions"):
        panels.header(
            f"Every {title.lower()} vs. the baseline",
            "Decided over all of them together: under 5% of the decisions are wrong, however often you look",
        )
        if answer.error is not None:
            panels.problem(answer.error)
            return
        found: Mapping[str, Any] = answer.value
        heads = [
            {"key": "value", "label": title, "kind": ""},
            {"key": "rate", "label": "Rate", "kind": "number"},
            {"key": "difference", "label": "Difference", "kind": "number"},
            {"key": "decided", "label": "Verdict", "kind": "state"},
            {"key": "needed", "label": "Ratings needed", "kind": "number"},
        ]
        base: Mapping[str, Any] = found["baseline"]
        st.text(str(found.get("sentence") or ""))
        rows = [_version_row(field, base, baseline=True)]
        rows += [_version_row(field, v) for v in found["versions"]]
        components.table(
            "version_rows", heads, rows, caption=f"Every {title.lower()} vs. the baseline", link=-1, tall=True
        )


def _version_row(field: str, group: Mapping[str, Any], *, baseline: bool = False) -> dict[str, Any]:
    target = filters.group_link(field, group.get("value"), rating="any")
    opens = {} if target is None else {"value": target.to_json(), "rate": target.to_json()}
    if baseline:
        cells = [group.get("value") or "(none)", words.interval(group.get("rate")), "baseline", None, None]
    else:
        cells = [
            group.get("value") or "(none)",
            words.interval(_compared(group, "a") or group.get("rate")),
            words.change(group.get("difference")),
            _verdict(group),
            _needed(group),
        ]
    return {"cells": cells, "opens": opens}


def _compared(group: Mapping[str, Any], side: str) -> Mapping[str, Any] | None:
    """A side's rate over the very ratings that the difference comes from."""
    return (group.get("compared") or {}).get(side)


def _verdict(group: Mapping[str, Any]) -> str:
    confounding = group.get("confounding")
    if confounding:
        field = str(confounding["field"]).removeprefix("metadata.").replace("_", " ")
        word = "Reversed" if confounding["kind"] == "reversed" else "Explained"
        return f"{word} by {field}"
    if group.get("decided") is None and group.get("decided_alone"):
        return f"{_DECIDED[group['decided_alone']]} as a pair only"
    return _DECIDED.get(str(group.get("decided")), "Not enough evidence yet")


def _needed(group: Mapping[str, Any]) -> str | None:
    needed = group.get("num_needed")
    return None if group.get("decided") or not needed else words.count(needed)


def show_releases(answer: Answer) -> None:
    """What came up in the period, each before and after, with what changed without it."""
    if answer.error is None and not (answer.value.get("releases") or []):
        return
    with panels.panel("releases"):
        days: int = 7 if answer.error is not None else answer.value.get("days") or 7
        panels.header(
            "Each release vs. what was there before it",
            f"Looks at {days} days on either side of the release, not at the whole period: what ran on the same days, or the days "
            "before where it replaced everything. “Others”: how the rest changed meanwhile",
        )
        if answer.error is not None:
            panels.problem(answer.error)
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
        rows = [_release_row(r, days) for r in answer.value["releases"]]
        components.table("release_rows", heads, rows, caption="Releases, newest first", link=-1, tall=True)


def _release_row(release: Mapping[str, Any], days: int) -> dict[str, Any]:
    at = parse_time(release["time"])
    beside = release.get("design") == "same_days"
    until = at + timedelta(days=days) if beside else at
    before = {
        "since": format_time(at - timedelta(days=0 if beside else days)),
        "until": format_time(until),
        "rating": "any",
    }
    after = {"since": format_time(at), "until": format_time(at + timedelta(days=days)), "rating": "any"}
    own = narrower(release["field"], release["value"]) or {}
    run: Mapping[str, Any] | None = release.get("run")
    opens: dict[str, Any] = {
        "before": Open("traces", _times(before)).to_json(),
        "after": Open("traces", _times({**after, **own})).to_json(),
    }
    opens["value"] = opens["after"]
    if run:
        opens["run"] = Open("runs", {"run_id": run["id"]}).to_json()
    cells = [
        words.clock(release["time"]),
        str(release["value"]),
        words.short(_compared(release, "b") or _rate(release, "before")),
        words.short(_compared(release, "a") or _rate(release, "after")),
        words.change(release.get("change")),
        words.points((release.get("drift") or {}).get("estimate")),
        _verdict(release),
        _needed(release),
        run["id"] if run else None,
    ]
    return {"cells": cells, "opens": opens}


def _times(more: Mapping[str, Any]) -> dict[str, Any]:
    """The view with other times: the period's name would say something else."""
    return merged(filters.link_params(period=None), more)


def _rate(release: Mapping[str, Any], side: str) -> Mapping[str, Any] | None:
    group: Mapping[str, Any] = release.get(side) or {}
    return group.get("rate")
