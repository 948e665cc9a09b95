"""Experiments: who gets which variant, what came of it so far, and what shall happen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import ArmResult, Experiment, ExperimentResults, MetricResult, PromptSummary
from heedloop.schema import Arm, ExperimentMetric, ExperimentSpec, Guardrail, SchemaError
from heedloop_dashboard import components, panels, words
from heedloop_dashboard.charts import plots
from heedloop_dashboard.fetch import Answer, ask, current, read, write
from heedloop_dashboard.navigation import Open, go

METRICS = {"Thumbs up": "thumb", "Errors": "error", "Latency": "latency", "Cost": "cost"}
TONES = {"running": "", "decided": "good", "paused": "bad", "draft": ""}


def show() -> None:
    """Draw one experiment where the URL names it, else the list."""
    name = (st.query_params.get("experiment") or "").strip()
    if name:
        _one(name)
        return
    st.subheader("Experiments", anchor=False)
    answer = read(all=ask(Client.experiments))["all"]
    with panels.panel("experiments"):
        panels.header(
            "Experiments, newest first",
            "Variants that users get at the same time; select one for its arms and what they showed",
        )
        if answer.error is not None:
            panels.problem(answer.error)
        elif not answer.value:
            panels.empty("No experiment yet. Define one below, or with: heedloop experiment define")
        else:
            _list(answer.value)
    if _can_change():
        _new()


def _can_change() -> bool:
    return any(current().can(scope) for scope in ("train", "admin"))


def _list(experiments: Sequence[Experiment]) -> None:
    found = read(**{e.name: ask(Client.experiment_results, e.name) for e in experiments})
    heads = [
        {"key": "name", "label": "Experiment", "kind": "mono"},
        {"key": "state", "label": "State", "kind": ""},
        {"key": "arms", "label": "Arms", "kind": ""},
        {"key": "share", "label": "Units in it", "kind": "number"},
        {"key": "shows", "label": "What it shows", "kind": "wide"},
    ]
    rows: list[dict[str, Any]] = []
    for e in experiments:
        result: Answer[ExperimentResults] = found[e.name]
        cells = [
            e.name,
            e.state,
            ", ".join(a.name for a in e.spec.arms),
            words.percent(e.steps[-1].share, digits=0) if e.steps else words.NONE,
            result.value.sentence if result.error is None else words.NONE,
        ]
        rows.append(
            {"key": e.name, "cells": cells, "open": Open("experiments", {"experiment": e.name}).to_json()}
        )
    components.table("experiment_rows", heads, rows, caption="Experiments, newest first")


def _versions() -> list[str]:
    """What an arm can name of the registry: the labels of each prompt and its newest version."""
    found: Answer[list[PromptSummary]] = read(prompts=ask(Client.prompts))["prompts"]
    if found.error is not None:
        return []
    return [f"{p.name}@{chosen}" for p in found.value for chosen in (*sorted(p.labels), p.newest)]


def _prompt(place: Any, label: str, versions: Sequence[str]) -> dict[str, Any]:
    """What an arm serves: a version of the registry where one is chosen, else the text that is written."""
    text = place.text_area(label, height=110)
    chosen = (
        place.selectbox(
            f"{label}, of the registry", ["", *versions], format_func=lambda v: v or "the text above"
        )
        if versions
        else ""
    )
    return {"prompt": chosen} if chosen else {"parameters": {"prompt": text}}


def _new() -> None:
    versions = _versions()
    with panels.panel("new_experiment"), st.form("new_experiment", border=False):
        panels.header(
            "New experiment",
            "A draft of two prompts; more arms, models and settings: heedloop experiment define",
        )
        left, right = st.columns(2)
        name = left.text_input("Name, as the app calls it", max_chars=64, placeholder="support-prompt")
        metric = right.selectbox("What decides", list(METRICS))
        control = _prompt(left, "Prompt that is served now", versions)
        candidate = _prompt(right, "Candidate", versions)
        error = left.number_input("Errors may rise by at most, in points", 0.0, 50.0, 1.0, step=0.5)
        slower = right.number_input("Latency may rise by at most, in %", 0.0, 500.0, 20.0, step=5.0)
        promote = left.selectbox("Serve a winner to everybody", ["when someone says so", "by itself"])
        hours = right.number_input("Hours between the steps 5%, 25% and 100% of users", 1, 8760, 24)
        if not st.form_submit_button("Save the draft", type="primary"):
            return
    try:
        spec = ExperimentSpec(
            name.strip(),
            (Arm("control", **control), Arm("candidate", **candidate)),
            ExperimentMetric(METRICS[str(metric)]),  # pyright: ignore[reportArgumentType]
            guardrails=(
                Guardrail(ExperimentMetric("error"), error / 100),
                Guardrail(ExperimentMetric("latency"), slower / 100),
            ),
            ramp=(0.05, 0.25, 1.0),
            ramp_hours=float(hours),
            promote="rule" if promote == "by itself" else "hand",
        )
    except SchemaError as err:
        st.text(str(err))
        return
    made = write(Client.define_experiment, spec)
    if made.error is not None:
        panels.problem(made.error)
    else:
        go(Open("experiments", {"experiment": made.value.experiment.name}))


# ---------------------------------------------------------------------------------------------------------- one


def _one(name: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Experiment", anchor=False, width="stretch")
        components.links("up", [("All experiments", Open("experiments"))], label="Experiments")
    answer = read(found=ask(Client.experiment_results, name))["found"]
    if answer.error is not None:
        panels.problem(answer.error)
        return
    found: ExperimentResults = answer.value
    lead = f"{found.experiment.name}, {found.experiment.state}"
    tone = "bad" if found.sample_ratio.alarm else TONES[found.experiment.state]
    components.finding("experiment_state", lead=lead, text=f": {found.sentence}", tone=tone)
    _figures(found)
    if _can_change() and found.experiment.state != "decided":
        _actions(found.experiment)
    panels.chart(
        "experiment_looks",
        "Difference to the control over time",
        "The interval holds at all looks at once; a decision is where it leaves 0",
        answer,
        lambda f: plots.differences(
            _look_rows(f), panels.colours(), is_ratio=f.experiment.spec.metric.is_amount
        ),
        empty_text="Nothing yet: each arm needs some units before it is compared.",
    )
    _metrics(found)
    left, right = st.columns(2, gap="small")
    with left, panels.panel("experiment_units", stretch=True):
        panels.header("Units", "Those that were seen must have the arms' probabilities")
        _units(found)
    with right, panels.panel("experiment_steps", stretch=True):
        panels.header("Ramp", "Units keep their arms; each step adds new ones")
        _steps(found.experiment)
    _arms(found.experiment)


def _figures(found: ExperimentResults) -> None:
    e, result = found.experiment, found.metrics[0]
    best = max(result.arms[1:], key=lambda a: a.e_value or 0.0)
    share = words.percent(e.steps[-1].share, digits=0) if e.steps else words.NONE
    units = sum(a.num_units for a in found.sample_ratio.arms)
    needed = words.NONE if result.units_needed is None else words.count(result.units_needed)
    evidence = words.evidence(best.e_value)
    others = len(result.arms) - 1
    components.cards(
        "experiment_figures",
        [
            components.Card(
                "share", "In the experiment", share, f"of all {e.spec.unit}s", "The others get the control and are not counted.",
            ),
            components.Card(
                "units", "Units seen", words.count(units), f"{needed} tell {_points(result.metric, e.spec.effect)} apart",
                "With so many a difference worth finding is found with 80% at one look.",
            ),
            components.Card(
                "change", "Difference", _estimate(result.metric, best), f"{best.arm} against {e.spec.control}",
                "Of the arm with the most evidence.",
            ),
            components.Card("evidence", "Evidence", evidence, f"decided at {20 * others}", words.E_VALUE),
        ],
    )  # fmt: skip


def _points(metric: ExperimentMetric, effect: float) -> str:
    return f"{effect:.0%}" if metric.is_amount else f"{100 * effect:g} points"


def _change(metric: ExperimentMetric, value: float) -> str:
    return metric.change_words(value) if metric.is_amount else words.points(value)


def _estimate(metric: ExperimentMetric, arm: ArmResult) -> str:
    return words.NONE if arm.difference is None else _change(metric, arm.difference.estimate)


def _mean(metric: ExperimentMetric, value: float | None) -> str:
    if value is None:
        return words.NONE
    if metric.kind == "latency":
        return words.duration(value)
    return words.dollars(value) if metric.kind == "cost" else words.percent(value)


def _look_rows(found: ExperimentResults) -> list[dict[str, Any]]:
    """What the chart draws: a row per look and arm that was compared; a ratio as its part of the control."""
    shown = found.experiment.spec.metric.change
    return [
        {
            "at": look.at,
            "arm": arm.arm,
            "difference": shown(arm.difference.estimate),
            "low": shown(arm.difference.low),
            "high": shown(arm.difference.high),
            "e_value": arm.e_value,
        }
        for look in found.looks
        for arm in look.arms
        if arm.difference is not None
    ]


def _metrics(found: ExperimentResults) -> None:
    heads = [
        {"key": "metric", "label": "Metric", "kind": ""},
        {"key": "arm", "label": "Arm", "kind": ""},
        {"key": "units", "label": "Units", "kind": "number"},
        {"key": "mean", "label": "Mean", "kind": "number"},
        {"key": "change", "label": "Difference", "kind": "number"},
        {"key": "interval", "label": "At all looks", "kind": "number"},
        {"key": "says", "label": "What it says", "kind": ""},
    ]
    rows = [{"cells": _metric_cells(result, arm)} for result in found.metrics for arm in result.arms]
    with panels.panel("experiment_metrics"):
        panels.header("Arms", "The first metric decides; the others are guardrails that must not get worse")
        components.table("experiment_metric_rows", heads, rows, caption="Arms by metric", link=-1)


def _metric_cells(result: MetricResult, arm: ArmResult) -> list[str]:
    metric, d = result.metric, arm.difference
    interval = words.NONE if d is None else f"{_change(metric, d.low)} to {_change(metric, d.high)}"
    name = f"{metric.kind} {metric.name}".strip()
    return [
        name if result.margin is None else f"{name}, at most {_points(metric, result.margin)} worse",
        arm.arm,
        words.count(arm.num_units),
        _mean(metric, arm.mean),
        _estimate(metric, arm),
        interval,
        _says(result, arm),
    ]


def _says(result: MetricResult, arm: ArmResult) -> str:
    if arm.arm in result.breached_by:
        return "breached"
    if arm.difference is None:
        return words.NONE
    if result.margin is not None:
        return "holds so far"
    return ("better" if arm.is_better else "worse") if arm.decided else "not decided"


def _units(found: ExperimentResults) -> None:
    rows = [
        (a.arm, f"{words.count(a.num_units)} of {words.count(a.expected)} expected")
        for a in found.sample_ratio.arms
    ]
    rows += [
        ("Evidence of a fault", f"{words.evidence(found.sample_ratio.e_value)}; an alarm at 100"),
        ("In more than one arm", words.count(found.sample_ratio.num_mixed)),
    ]
    _pairs("experiment_unit_rows", rows, "Units")


def _steps(e: Experiment) -> None:
    names = [a.name for a in e.spec.arms]
    rows = [
        (
            f"{words.percent(s.share, digits=0)} since {words.clock(s.at)}",
            ", ".join(
                f"{n} {words.percent(p, digits=0)}" for n, p in zip(names, s.probabilities, strict=True)
            ),
        )
        for s in e.steps
    ]
    left = [s for s in e.spec.ramp if not e.steps or s > e.steps[-1].share]
    how = "by hand" if e.spec.ramp_hours is None else f"every {e.spec.ramp_hours:g} hours"
    if left and e.state != "decided":
        rows.append(("Next", f"{', '.join(words.percent(s, digits=0) for s in left)}, {how}"))
    _pairs("experiment_step_rows", rows, "Ramp")


def _pairs(key: str, rows: Sequence[tuple[str, str]], caption: str) -> None:
    heads = [{"key": "name", "label": "Name", "kind": ""}, {"key": "value", "label": "Value", "kind": "wide"}]
    cells = [{"cells": list(row)} for row in rows]
    components.table(key, heads, cells, caption=caption, link=-1, plain=True)


def _arms(e: Experiment) -> None:
    with panels.panel("experiment_arms"):
        panels.header("What each arm serves", f"{e.serving} is served to everybody outside of the experiment")
        for place, arm in enumerate(e.spec.arms):
            st.html(f'<h3 class="hl-title">{arm.name}</h3>')  # a checked name: a to z, digits, _ and -
            if arm.parameters or not arm.prompt:
                st.code(
                    json.dumps(dict(arm.parameters), indent=2, ensure_ascii=False),
                    language="json",
                    wrap_lines=True,
                )
            links: list[tuple[str, Open]] = []
            if arm.prompt:
                links.append(
                    (f"The prompt {arm.prompt}", Open("prompts", {"name": arm.prompt.partition("@")[0]}))
                )
            if arm.run:
                links.append((f"The run {arm.run} that trained it", Open("runs", {"run_id": arm.run})))
            if links:
                components.links(f"arm_links_{place}", links, label=f"Lineage of {arm.name}", left=True)


def _actions(e: Experiment) -> None:
    with panels.panel("experiment_actions"):
        panels.header("What shall happen", "Everything is in the audit log; a decision cannot be taken back")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            if e.state in ("draft", "paused"):
                _button(e, "Start" if e.state == "draft" else "Go on", {"action": "start"}, primary=True)
            if e.state == "running":
                if any(s > e.steps[-1].share for s in e.spec.ramp):
                    _button(e, "Next step of the ramp", {"action": "ramp"}, primary=True)
                _button(e, "Pause", {"action": "pause"})
            if e.state == "draft":
                return
            _button(e, f"Roll back to {e.spec.control}", {"action": "roll_back"})
            for arm in e.spec.arms[1:]:
                _button(e, f"Serve {arm.name} to everybody", {"action": "promote", "arm": arm.name})


def _button(e: Experiment, label: str, body: Mapping[str, str], *, primary: bool = False) -> None:
    key = f"experiment_{body['action']}_{body.get('arm', '')}"
    if not st.button(label, key=key, type="primary" if primary else "secondary"):
        return
    done = write(Client.change_experiment, e.name, **body)
    if done.error is not None:
        panels.problem(done.error)
    else:
        st.rerun()
