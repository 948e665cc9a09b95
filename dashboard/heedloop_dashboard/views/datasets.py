"""Dataset snapshots: what was frozen, from what, and which runs used it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses.datasets import ReportedSnapshot
from heedloop.schema import Run, Snapshot
from heedloop_dashboard import components, lists, panels, words
from heedloop_dashboard.fetch import ask, current, read
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views import snapshot_form, trace


def show() -> None:
    """Draw one snapshot where the URL names it, else the list."""
    snapshot_id = (st.query_params.get("snapshot_id") or "").strip()
    if snapshot_id:
        _one(snapshot_id)
        return
    if "new" in st.query_params:
        snapshot_form.show()
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Datasets", anchor=False, width="stretch")
        if current().can("train"):
            components.links(
                "new", [("New dataset", Open("datasets", {"new": "1"}))], label="Datasets", framed=True
            )
    lists.panel(
        "snapshots",
        "Snapshots, newest first",
        "Frozen queries. The same query over the same feedback gives the same snapshot",
        read(all=ask(Client.snapshots))["all"],
        COLUMNS,
        empty_text="No snapshots yet. Create one with: heedloop dataset create NAME",
        open=lambda s: Open("datasets", {"snapshot_id": s.id}),
        row_key=lambda s: s.id,
        link=1,
    )


def _rows_text(snapshot: Snapshot) -> str:
    totals = {form: sum(splits.values()) for form, splits in snapshot.num_rows.items()}
    return ", ".join(f"{total:,} {form}" for form, total in totals.items() if total)


COLUMNS: Sequence[lists.Column[Snapshot]] = (
    lists.Column("Taken", lambda s: words.clock(s.created_at)),
    lists.Column("Name", lambda s: s.name),
    lists.Column("Snapshot id", lambda s: s.id, "mono"),
    lists.Column("Feedback", lambda s: words.count(s.num_feedback), "number"),
    lists.Column("Rows", _rows_text, "wide"),
)


# ---------------------------------------------------------------------------------------------------------- one


def _one(snapshot_id: str) -> None:
    panels.title("Dataset", ("All snapshots", Open("datasets")))
    answers = read(one=ask(Client.snapshot, snapshot_id), runs=ask(Client.runs))
    if panels.failed(answers["one"]):
        return
    snapshot: ReportedSnapshot = answers["one"].value
    known: Sequence[Run] = answers["runs"].value or ()
    runs = [r for r in known if r.snapshot_id == snapshot.id]
    with panels.panel("chain"):
        panels.header("Where it is used", "Runs trained on this snapshot")
        about = f"{words.count(snapshot.num_feedback)} judgements, as of {words.clock(snapshot.as_of)}"
        steps = [
            {
                "kind": "Snapshot",
                "here": True,
                "entries": [{"id": snapshot.id, "about": f"{snapshot.name}: {about}"}],
            },
            {"kind": "Run", "entries": [trace.run_entry(r) for r in runs], "none": "no run used it yet"},
        ]
        components.lineage("chain", steps)
    left, right = st.columns(2, gap="small")
    with left, panels.panel("rows", stretch=True):
        panels.header("Rows", "By form and split; no prompt group is in two splits")
        _row_counts(snapshot.num_rows)
    with right, panels.panel("report", stretch=True):
        panels.header("Report", "Contributors, lengths and baselines, as counted when it was frozen")
        tree("report_json", snapshot.report, "Report of the snapshot")
    with panels.panel("query"):
        panels.header("Query", "Filters and rules; they decide the rows")
        query = {**snapshot.query, "feedback_hash": snapshot.feedback_hash}
        tree("query_json", query, "Query of the snapshot")


def _row_counts(forms: Mapping[str, Mapping[str, int]]) -> None:
    splits = list(dict.fromkeys(s for counts in forms.values() for s in counts))
    if not splits:
        panels.empty("This snapshot holds no rows.")
        return
    heads = components.columns(["Form"], [s.capitalize() for s in splits])
    rows = [
        {"cells": [form, *(words.count(counts.get(s, 0)) for s in splits)]} for form, counts in forms.items()
    ]
    components.table("row_counts", heads, rows, caption="Rows by form and split", link=-1)


def tree(key: str, value: Any, caption: str, *, empty_text: str = "Nothing was recorded.") -> None:
    """Nested values as rows of dotted names."""
    rows = [{"cells": [name, text]} for name, text in flatten(value)]
    if not rows:
        panels.empty(empty_text)
        return
    heads = [
        {"key": "name", "label": "Name", "kind": "mono"},
        {"key": "value", "label": "Value", "kind": "wide"},
    ]
    components.table(key, heads, rows, caption=caption, link=-1, tall=True)


def flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (dotted name, text) pairs; lists stand on one line."""
    if isinstance(value, Mapping):
        pairs: list[tuple[str, str]] = []
        for name, inner in value.items():
            pairs += flatten(inner, f"{prefix}.{name}" if prefix else str(name))
        return pairs
    if value is None:
        return []
    if isinstance(value, float):
        return [(prefix, f"{value:,.5g}")]
    if isinstance(value, (list, tuple)):
        return [(prefix, ", ".join(str(v) for v in value[:50]))]
    return [(prefix, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))]
