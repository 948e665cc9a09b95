"""Training and evaluation runs: from which snapshot, with which settings, and how their metrics move, live."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import ReleaseEffect
from heedloop.schema import Run, format_time
from heedloop_dashboard import components, lists, panels, words
from heedloop_dashboard.charts import plots
from heedloop_dashboard.fetch import Answer, Ask, ask, ask_seldom, read
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views import trace
from heedloop_dashboard.views.datasets import tree

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
    answers = read(all=ask(Client.runs), **_ask_live())
    answer = answers["all"]
    with panels.panel("runs"):
        panels.header(
            "Runs, newest first",
            "What was trained, and whether users prefer its answers to what ran with or before it",
        )
        if answer.error is not None:
            panels.problem(answer.error)
        elif not answer.value:
            panels.empty("No run yet. Train one with: heedloop train")
        else:
            _list(answer.value, _live(answers))


_LIVE_DAYS = 90
_SHARE_DAYS = 7


@dataclass(frozen=True, slots=True)
class Live:
    """A served model: its release, and its share of the answers of the last seven days."""

    release: ReleaseEffect | None
    share: float | None


def _ask_live() -> dict[str, Ask[Any]]:
    now = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
    since, week = (format_time(now - timedelta(days=d)) for d in (_LIVE_DAYS, _SHARE_DAYS))
    return {
        "releases": ask_seldom(Client.quality_releases, field="model", since=since),
        "traffic": ask_seldom(Client.quality_by, "model", since=week),
    }


def _live(answers: Mapping[str, Answer[Any]]) -> dict[str, Live]:
    """Model -> how it does, of those that answered lately."""
    releases = {} if answers["releases"].error else {r.value: r for r in answers["releases"].value.releases}
    groups = [] if answers["traffic"].error else answers["traffic"].value
    total = sum(g.num_answers for g in groups)
    shares = {g.value: g.num_answers / total for g in groups if total}
    return {m: Live(releases.get(m), shares.get(m)) for m in {*releases, *shares}}


def _effect(live: Live | None) -> list[str | None]:
    """Live since, share of traffic, and thumbs-up before and after with the change's interval."""
    if live is None:
        return [None, None, None, None]
    found = live.release
    share = words.percent(live.share, digits=0) if live.share else None
    if found is None:
        return ["earlier" if share else None, share, None, None]
    rates = [words.percent(words.estimate(c.rate), digits=0) for c in (found.before, found.after)]
    return [words.clock(found.time), share, " \u2192 ".join(rates), words.change(found.change)]


def _kl(run: Run) -> str | None:
    value = next(
        (run.metrics[n] for n in ("objective/kl", "eval/objective/kl", "kl") if n in run.metrics), None
    )
    return None if value is None else f"{value:.2f}"


def _list(runs: Sequence[Run], live: Mapping[str, Live]) -> None:
    def effect(place: int) -> Callable[[Run], str | None]:
        return lambda r: _effect(live.get(r.model_name))[place]

    columns: list[lists.Column[Run]] = [
        lists.Column("Run", lambda r: r.name or r.id),
        lists.Column("Method", lambda r: r.method),
        lists.Column("Status", lambda r: r.status),
        lists.Column("Serves as", lambda r: r.model_name, open=_open_model),
        lists.Column("Live since", effect(0)),
        lists.Column("Traffic, 7 d", effect(1), "number"),
        lists.Column("Thumbs-up before \u2192 after", effect(2)),
        lists.Column("Change (95%)", effect(3)),
        lists.Column("KL", _kl, "number"),
        lists.Column("Started", lambda r: words.clock(r.started_at)),
        lists.Column("Snapshot", lambda r: (r.snapshot_id or "")[:8], "mono", _open_snapshot),
    ]
    lists.show(
        "run_rows",
        runs,
        columns,
        caption="Runs, newest first",
        open=lambda r: Open("runs", {"run_id": r.id}),
        row_key=lambda r: r.id,
    )


def _open_model(run: Run) -> Open | None:
    return Open("compare", {"field": "model", "a": run.model_name}) if run.model_name else None


def _open_snapshot(run: Run) -> Open | None:
    return Open("datasets", {"snapshot_id": run.snapshot_id}) if run.snapshot_id else None


# ---------------------------------------------------------------------------------------------------------- one


def _one(run_id: str) -> None:
    panels.title("Run", ("All runs", Open("runs")))
    answer = read(run=ask(Client.run, run_id))["run"]
    if panels.failed(answer):
        return
    run: Run = answer.value
    _chain(run)
    _verdict(run)
    if run.error:
        components.finding("run_error", lead="The run failed. ", text=run.error[:4000], tone="bad")
    st.fragment(_curves, run_every=LIVE_S if run.status == "running" else None)(run_id)
    left, right = st.columns(2, gap="small")
    with left, panels.panel("evaluation", stretch=True):
        panels.header("Results", "Final metrics and the evaluation on held-out prompts")
        tree(
            "evaluation_rows",
            {**run.metrics, **run.evaluation},
            "Results",
            empty_text="The run has no results yet.",
        )
    with right, panels.panel("config", stretch=True):
        panels.header("Settings", "Everything needed to run it again")
        extra = {name: getattr(run, name) for name in ("seed", "code_version", "checkpoint")}
        tree("config_rows", {**run.config, **extra}, "Settings", empty_text="No settings were recorded.")


def _verdict(run: Run) -> None:
    """Whether users like it better, in the server's words."""
    live = _live(read(**_ask_live())).get(run.model_name) if run.model_name else None
    if live is None or live.release is None:
        return
    found = live.release
    tone = {"better": "good", "worse": "bad"}.get(found.decided or "", "")
    components.finding(
        "effect",
        lead=f"Live since {words.clock(found.time)} UTC, {words.percent(live.share, digits=0)} of the last week's answers",
        text=f". {found.sentence}",
        tone=tone,
        action="Show its answers",
        open=Open("traces", {"model": run.model_name}),
    )


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
        if panels.failed(answer):
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
