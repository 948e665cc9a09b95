"""Many versions at once: each against one, over all of them together; and each release before and after."""

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
    """Every value of a field against the one with the most ratings."""
    if answer.error is None and len(answer.value.get("versions") or []) < 2:
        return
    with panels.panel("versions"):
        panels.header(
            f"Each {title.lower()} against one",
            "Decided over all of them together (false discoveries under 5%), and may be looked at every day",
        )
        if answer.error is not None:
            panels.problem(answer.error)
            return
        found: Mapping[str, Any] = answer.value
        heads = [
            {"key": "value", "label": title, "kind": ""},
            {"key": "rate", "label": "Rate", "kind": "number"},
            {"key": "difference", "label": "Difference", "kind": "number"},
            {"key": "decided", "label": "Decided", "kind": "state"},
            {"key": "needed", "label": "Still needed", "kind": "number"},
        ]
        base: Mapping[str, Any] = found["baseline"]
        st.text(str(found.get("sentence") or ""))
        rows = [_version_row(field, base, baseline=True)]
        rows += [_version_row(field, v) for v in found["versions"]]
        components.table(
            "version_rows", heads, rows, caption=f"Each {title.lower()} against one", link=-1, tall=True
        )


def _version_row(field: str, group: Mapping[str, Any], *, baseline: bool = False) -> dict[str, Any]:
    target = filters.group_link(field, group.get("value"), rating="any")
    opens = {} if target is None else {"value": target.to_json(), "rate": target.to_json()}
    if baseline:
        cells = [group.get("value") or "(none)", words.interval(group.get("rate")), "the one", None, None]
    else:
        cells = [
            group.get("value") or "(none)",
            words.interval(group.get("rate")),
            words.change(group.get("difference")),
            _DECIDED.get(str(group.get("decided")), "Not yet"),
            _needed(group),
        ]
    return {"cells": cells, "opens": opens}


def _needed(group: Mapping[str, Any]) -> str | None:
    if group.get("decided"):
        return None
    needed = group.get("num_needed")
    return "out of reach" if needed is None else words.plural(round(needed), "rating")


def show_releases(answer: Answer) -> None:
    """What came up in the period, each before and after, with what changed without it."""
    if answer.error is None and not (answer.value.get("releases") or []):
        return
    with panels.panel("releases"):
        panels.header(
            "Before and after each release",
            "All answers of the days before, the release's own answers after, and what the others did meanwhile",
        )
        if answer.error is not None:
            panels.problem(answer.error)
            return
        days: int = answer.value.get("days") or 7
        heads = [
            {"key": "time", "label": "Since", "kind": ""},
            {"key": "value", "label": "Release", "kind": ""},
            {"key": "before", "label": "Before", "kind": "number"},
            {"key": "after", "label": "After", "kind": "number"},
            {"key": "change", "label": "Change", "kind": "number"},
            {"key": "drift", "label": "Others", "kind": "number"},
            {"key": "decided", "label": "Decided", "kind": "state"},
            {"key": "needed", "label": "Needed", "kind": "number"},
            {"key": "run", "label": "Trained by", "kind": "mono"},
        ]
        rows = [_release_row(r, days) for r in answer.value["releases"]]
        components.table("release_rows", heads, rows, caption="Releases, newest first", link=-1, tall=True)


def _release_row(release: Mapping[str, Any], days: int) -> dict[str, Any]:
    at = parse_time(release["time"])
    before = {"since": format_time(at - timedelta(days=days)), "until": format_time(at), "rating": "any"}
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
        words.short(_rate(release, "before")),
        words.short(_rate(release, "after")),
        words.change(release.get("change")),
        words.points((release.get("drift") or {}).get("estimate")),
        _DECIDED.get(str(release.get("decided")), "Not yet"),
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
