"""Training and evaluation runs: from which snapshot, with which settings, and how their metrics move, live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.schema import Run
from heedloop_dashboard import components, panels, words
from heedloop_dashboard.charts import plots
from heedloop_dashboard.fetch import ask, read
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views import trace
from heedloop_dashboard.views.datasets import flatten

__all__ = ["show"]

LIVE_S = 2.0
FIRST = (
    "objective/scores",
    "objective/kl",
    "objective/rlhf_reward",
    "loss",
    "train/loss",
    "eval/loss",
    "accuracy",
    "eval/accuracy",
    "policy/clipfrac",
)
MAX_CURVES = 12


def show() -> None:
    """Draw one run where the URL names it, else the list."""
    run_id = (st.query_params.get("run_id") or "").strip()
    if run_id:
        _one(run_id)
        return
    st.subheader("Runs", anchor=False)
    answer = read(all=ask(Client.runs))["all"]
    with panels.panel("runs"):
        panels.header(
            "Runs, newest first", "What was trained on what; select a row for its curves and its evaluation"
        )
        if answer.error is not None:
            panels.problem(answer.error)
        elif not answer.value:
            panels.empty("No run yet. Train one with: heedloop train")
        else:
            _list(answer.value)


def _list(runs: Sequence[Run]) -> None:
    heads = [
        {"key": "started", "label": "Started", "kind": ""},
        {"key": "method", "label": "Method", "kind": ""},
        {"key": "status", "label": "Status", "kind": ""},
        {"key": "model", "label": "Serves as", "kind": ""},
        {"key": "id", "label": "Run id", "kind": "mono"},
        {"key": "snapshot", "label": "Snapshot", "kind": "mono"},
        {"key": "parent", "label": "Started from", "kind": "mono"},
    ]
    rows = []
    for r in runs:
        opens = (
            {"snapshot": Open("datasets", {"snapshot_id": r.snapshot_id}).to_json()} if r.snapshot_id else {}
        )
        cells = [
            words.clock(r.started_at),
            r.method,
            r.status,
            r.model_name,
            r.id,
            r.snapshot_id,
            r.parent,
        ]
        rows.append(
            {
                "key": r.id,
                "cells": cells,
                "opens": opens,
                "open": Open("runs", {"run_id": r.id}).to_json(),
            }
        )
    components.table("run_rows", heads, rows, caption="Runs, newest first", link=4)


# ---------------------------------------------------------------------------------------------------------- one


def _one(run_id: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Run", anchor=False, width="stretch")
        components.links("up", [("All runs", Open("runs"))], label="Runs")
    answer = read(run=ask(Client.run, run_id))["run"]
    if answer.error is not None:
        panels.problem(answer.error)
        return
    run: Run = answer.value
    _chain(run)
    if run.error:
        components.finding("run_error", lead="The run failed. ", text=run.error[:4000], tone="bad")
    st.fragment(_curves, run_every=LIVE_S if run.status == "running" else None)(run_id)
    left, right = st.columns(2, gap="small")
    with left, panels.panel("evaluation", stretch=True):
        panels.header("Results", "Final metrics and the evaluation on held-out prompts")
        _pairs(
            "evaluation_rows",
            {**run.metrics, **run.evaluation},
            "The run has no results yet.",
        )
    with right, panels.panel("config", stretch=True):
        panels.header("Settings", "Everything that it takes to run it again")
        extra = {name: getattr(run, name) for name in ("seed", "code_version", "checkpoint")}
        _pairs("config_rows", {**run.config, **extra}, "No settings were recorded.")


def _chain(run: Run) -> None:
    about = " · ".join(p for p in (run.method, run.name, run.status) if p)
    snapshot = [trace.snapshot_entry(run.snapshot_id)] if run.snapshot_id else []
    parent = (
        [{"id": run.parent, "about": "", "open": Open("runs", {"run_id": run.parent}).to_json()}]
        if run.parent
        else []
    )
    model = run.model_name
    serves = (
        [{"id": model, "about": "its production answers", "open": Open("", {"model": model}).to_json()}]
        if model
        else []
    )
    with panels.panel("chain"):
        panels.header(
            "From feedback to a model",
            f"Started {words.clock(run.started_at)}, ended {words.clock(run.finished_at)} (UTC)",
        )
        components.lineage(
            "chain",
            [
                {"kind": "Snapshot", "entries": snapshot, "none": "none"},
                {"kind": "Started from", "entries": parent, "none": "from scratch"},
                {"kind": "Run", "here": True, "entries": [{"id": run.id, "about": about}]},
                {"kind": "Serves as", "entries": serves, "none": "not served"},
            ],
        )


def _curves(run_id: str) -> None:
    answer = read(history=ask(Client.run_history, run_id))["history"]
    with panels.panel("curves"):
        panels.header("Curves", "Metrics by step, as the trainer posts them")
        if answer.error is not None:
            panels.problem(answer.error)
            return
        rows: Sequence[Mapping[str, Any]] = answer.value
        names = metric_names(rows)
        if not names:
            panels.empty("No metrics were posted yet.")
            return
        for start in range(0, len(names), 3):
            for column, name in zip(st.columns(3, gap="small"), names[start : start + 3], strict=False):
                with column:
                    _curve(name, rows)


def _curve(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    drawn = plots.curves(rows, name, panels.colours())
    st.text(name)
    st.vega_lite_chart(
        None, {**drawn.spec, "height": 150}, key=f"curve_{name}", theme=None, alt=drawn.alt, width="stretch"
    )


def metric_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The numeric metrics of a history, those that decide first; at most twelve."""
    seen = dict.fromkeys(
        k for row in rows for k, v in row.items() if k != "step" and isinstance(v, (int, float))
    )
    first = [n for n in FIRST if n in seen]
    return (first + sorted(n for n in seen if n not in first))[:MAX_CURVES]


def _pairs(key: str, value: Mapping[str, Any], empty_text: str) -> None:
    rows = [{"cells": [name, text]} for name, text in flatten(value)]
    if not rows:
        panels.empty(empty_text)
        return
    heads = [
        {"key": "name", "label": "Name", "kind": "mono"},
        {"key": "value", "label": "Value", "kind": "wide"},
    ]
    components.table(
        key,
        heads,
        rows,
        caption="Results" if key.startswith("evaluation") else "Settings",
        link=-1,
        tall=True,
    )
