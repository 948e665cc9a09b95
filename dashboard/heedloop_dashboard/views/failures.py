"""What goes wrong: groups of alike complaints, flags, groups over-represented among bad answers, and the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client, NotFound
from heedloop.responses.calls import CallsPage
from heedloop_dashboard import components, export, filters, panels
from heedloop_dashboard.charts import plots
from heedloop_dashboard.fetch import Answer, ask, read_page
from heedloop_dashboard.navigation import Open, go
from heedloop_dashboard.views import calls_table, clusters

__all__ = ["open_pattern", "show"]

COLUMNS = ("time", "question", "answer", "flags", "version", "model")


def show() -> None:
    """Draw the page."""
    title = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
    with title:
        st.subheader("Failures", anchor=False, width="stretch")
        filters.period_and_model()
    chosen = filters.filters()
    answers = read_page(
        clusters=ask(Client.quality_clusters, of=clusters.chosen_texts() or "answers", **chosen),
        reasons=ask(Client.quality_reasons, **chosen),
        patterns=ask(Client.quality, "overrepresented", **chosen),
        flagged=ask(Client.calls, limit=10, **{**chosen, "has": "flag"}),
        corrected=ask(Client.calls, limit=10, **{**chosen, "has": "correction"}),
        errors=ask(Client.calls, limit=10, **{**chosen, "status": "error"}),
    )
    with title:
        export.button("failures", lambda: _export_rows(answers))
    filters.chips("failures")
    clusters.show(answers["clusters"])
    left, right = st.columns(2, gap="small")
    with left:
        _reasons(answers["reasons"])
    with right:
        _patterns(answers["patterns"])
    _calls(
        "flagged", "Flagged answers", "Answers that someone marked as wrong", answers["flagged"], has="flag"
    )
    _calls(
        "corrected",
        "Corrected answers",
        "Answers for which someone wrote a better one",
        answers["corrected"],
        has="correction",
    )
    _calls("errors", "Failed calls", "Calls that ended in an error", answers["errors"], status="error")


def _reasons(answer: Answer) -> None:
    panels.chart(
        "reasons",
        "Flags",
        "Flagged answers by category; select a bar to see them",
        answer,
        lambda v: plots.bars(
            v["flags"], panels.colours(), label="category", value="count", title="Category", unit="flags"
        ),
        height=220,
        select="bar",
        on_select=lambda row: go(Open("traces", filters.link_params(flag=row["label"]))),
        empty_text="No flagged answers in this period.",
    )


def _patterns(answer: Answer) -> None:
    caption = (
        "How many times more common among thumbs-down than among all rated answers; associated, not the cause"
    )
    if isinstance(answer.error, NotFound):
        answer = Answer(value={"patterns": []})
    panels.chart(
        "patterns",
        "Over-represented in thumbs-down",
        caption,
        answer,
        lambda v: plots.bars(
            v.get("patterns") or [],
            panels.colours(),
            label="label",
            value="lift",
            title="Group",
            unit="times",
        ),
        height=220,
        select="bar",
        on_select=lambda row: open_pattern(answer.value, row),
        empty_text="No group is over-represented (false-discovery rate 5%).",
    )


def open_pattern(found: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """Show the thumbs-down of one over-represented group."""
    patterns: Sequence[Mapping[str, Any]] = found.get("patterns") or []
    pattern = next((p for p in patterns if p.get("label") == row["label"]), {})
    where: Mapping[str, Any] = pattern.get("filters") or {}
    go(Open("traces", filters.link_params(**{"rating": "down", **where})))


def _calls(key: str, title: str, caption: str, answer: Answer, **narrower: str) -> None:
    with panels.panel(key):
        with st.container(horizontal=True, vertical_alignment="top"):
            with st.container(gap=None):
                panels.header(title, caption)
            components.links(
                f"{key}_all",
                [("Show all \u2192", Open("traces", filters.link_params(**narrower)))],
                label=title,
            )
        if answer.error is not None:
            panels.problem(answer.error)
        elif not answer.value.calls:
            panels.empty("None in this period.")
        else:
            calls_table.show(
                key,
                answer.value.calls,
                columns=COLUMNS,
                params=filters.link_params(**narrower),
                tall=True,
                caption=f"{title}, newest first",
            )


def _export_rows(answers: Mapping[str, Answer]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    if answers["clusters"].error is None:
        rows += [
            {"list": "clusters", "value": c["name"], "count": c["num_answers"], "words": " ".join(c["words"])}
            for c in answers["clusters"].value["clusters"]
        ]
    if answers["reasons"].error is None:
        rows += [
            {"list": "flags", "value": f["category"], "count": f["count"]}
            for f in answers["reasons"].value["flags"]
        ]
    for name in ("flagged", "corrected", "errors"):
        if answers[name].error is None:
            page: CallsPage = answers[name].value
            for c in page.calls:
                rows.append(
                    {
                        "list": name,
                        "value": c.output_preview,
                        "trace_id": c.trace_id,
                        "flags": " ".join(c.flags),
                    }
                )
    return rows
