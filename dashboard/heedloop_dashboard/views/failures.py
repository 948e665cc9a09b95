"""What goes wrong: groups of alike complaints, flags, groups over-represented among bad answers, and the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from heedloop.client import Client, NotFound
from heedloop.responses import Flags, Overrepresented
from heedloop.responses.calls import CallsPage
from heedloop_dashboard import components, export, filters, panels
from heedloop_dashboard.charts import plots
from heedloop_dashboard.fetch import Answer, ask, read_page
from heedloop_dashboard.navigation import Open, go
from heedloop_dashboard.theme import Palette
from heedloop_dashboard.views import calls_table, clusters

_NO_PATTERNS = Overrepresented(
    patterns=[], explained=[], num_tested=0, num_rated=0, num_down=0, q=0.05, min_ratings=plots.FEW
)
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
        patterns=ask(Client.quality_overrepresented, **chosen),
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


def _reasons(answer: Answer[Flags]) -> None:
    panels.chart(
        "reasons",
        "Flags",
        "Flagged answers by category; select a bar to see them",
        answer,
        lambda v: flag_bars(v, panels.colours()),
        height=220,
        select="bar",
        on_select=lambda row: go(Open("traces", filters.link_params(flag=row["label"]))),
        empty_text="No flagged answers in this period.",
    )


def _patterns(answer: Answer[Overrepresented]) -> None:
    caption = (
        "How many times more common among thumbs-down than among all rated answers; associated, not the cause"
    )
    if isinstance(answer.error, NotFound):
        answer = Answer(_NO_PATTERNS)
    panels.chart(
        "patterns",
        "Over-represented in thumbs-down",
        caption,
        answer,
        lambda v: pattern_bars(v, panels.colours()),
        height=220,
        select="bar",
        on_select=lambda row: open_pattern(answer.value, row),
        empty_text="No group is over-represented (false-discovery rate 5%).",
    )


def flag_bars(found: Flags, colours: Palette) -> plots.Chart:
    """Flagged answers by category."""
    lengths = [(f.category, f.count) for f in found.flags]
    return plots.bars(lengths, colours, title="Category", unit="flags")


def pattern_bars(found: Overrepresented, colours: Palette) -> plots.Chart:
    """How over-represented each group is among thumbs-down."""
    return plots.bars(
        [(p.label, p.lift) for p in found.patterns], colours, title="Group", unit="times", start=1.0
    )


def open_pattern(found: Overrepresented, row: Mapping[str, Any]) -> None:
    """Show the thumbs-down of one over-represented group."""
    where = next((p.filters for p in found.patterns if p.label == row["label"]), {})
    go(Open("traces", filters.link_params(**{"rating": "down", **where})))


def _calls(key: str, title: str, caption: str, answer: Answer[Any], **narrower: str) -> None:
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


def _export_rows(answers: Mapping[str, Answer[Any]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    if answers["clusters"].error is None:
        rows += [
            {"list": "clusters", "value": c.name, "count": c.num_answers, "words": " ".join(c.words)}
            for c in answers["clusters"].value.clusters
        ]
    if answers["reasons"].error is None:
        rows += [
            {"list": "flags", "value": f.category, "count": f.count} for f in answers["reasons"].value.flags
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
