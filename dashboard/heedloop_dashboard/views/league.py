"""Who wins when two answers stand side by side: strengths from pairwise comparisons, with what could mislead in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from heedloop.responses import Interval, LeagueTable, Standing
from heedloop_dashboard import components, filters, panels, words
from heedloop_dashboard.charts import plots
from heedloop_dashboard.charts.parts import Dot
from heedloop_dashboard.fetch import Answer
from heedloop_dashboard.navigation import Open

FIELDS = ("model", "prompt_version", "prompt_name", "service")


def show(answer: Answer[LeagueTable], field: str, title: str) -> None:
    """Draw the panel from an answer of `/v1/quality/league`; nothing where nobody compared anything."""
    if answer.error is None and not answer.value.num_judgements:
        return
    st.subheader("Side by side", anchor=False)
    if panels.failed(answer):
        return
    found = answer.value
    _sentence(found)
    left, right = st.columns([1, 1.25], gap="small")
    with left:
        panels.chart(
            "league",
            f"Wins by {title.lower()}",
            "Share of comparisons won, ties as half, with 95% intervals; the dashed line is a draw",
            answer,
            lambda v: plots.dots(
                _groups(v.standings), panels.colours(), what=title, measure="Won", few=False, rule=0.5
            ),
            height=240,
            select="group",
            on_select=lambda row: filters.open_group(field, row["value"], has="comparison"),
        )
    with right, panels.panel("standings", stretch=True):
        panels.header(
            "Strength", "Bradley–Terry with ties, in log odds around 0; intervals by bootstrap over raters"
        )
        _standings(found, field, title)
    _facts(found)
    _pairs(found)


def _sentence(found: LeagueTable) -> None:
    components.finding("league_said", lead="", text=found.sentence, tone="")
    if not found.connected:
        groups = "; ".join(", ".join(part[:6]) for part in found.components)
        components.finding(
            "unconnected",
            lead="Not all of them can be ranked together",
            text=f": no chain of comparisons joins these groups: {groups}. Strengths are comparable only within a group.",
            tone="bad",
        )


def _groups(standings: Sequence[Standing]) -> list[Dot]:
    return [Dot(s.value, s.win_rate, s.num_judgements, s.num_judgements) for s in standings]


def _standings(found: LeagueTable, field: str, title: str) -> None:
    heads = components.columns([title], ["Strength", "Equal length", "Won, tied, lost"])
    rows = []
    for s in found.standings:
        target = filters.group_link(field, s.value, has="comparison")
        opens = {} if target is None else {title: target.to_json(), "Won, tied, lost": target.to_json()}
        equal = s.at_equal_length
        cells = [
            s.value or "(none)",
            _log_odds(s.strength),
            words.NONE if equal is None else f"{equal:+.2f}",
            f"{s.num_wins:,}, {s.num_ties:,}, {s.num_losses:,}",
        ]
        rows.append({"cells": cells, "opens": opens})
    components.table("standing_rows", heads, rows, caption="Strengths, best first", link=-1, tall=True)


def _log_odds(value: Interval | None) -> str:
    return words.NONE if value is None else f"{value.estimate:+.2f} ({value.low:+.2f} to {value.high:+.2f})"


def _facts(found: LeagueTable) -> None:
    """What could stand behind a win besides being better, beside the raw win rates."""
    odds = found.length_odds
    effect = words.NONE if odds is None else f"odds × {odds.estimate:.2f} per sd"
    longer, first = (words.percent(words.estimate(r)) for r in (found.longer_wins, found.first_shown_wins))
    components.cards(
        "league_facts",
        [
            components.Card(
                "judgements", "Comparisons", words.count(found.num_judgements),
                f"by {words.plural(found.num_raters, 'rater')}, {words.count(found.num_ties)} ties",
                open=Open("traces", filters.link_params(has="comparison")),
            ),
            components.Card(
                "longer", "The longer one won", longer, f"length effect: {effect}",
                "How often the longer answer won. Far from 50%, the raw win rate is partly length; 'at equal length' takes it out.",
            ),
            components.Card(
                "first", "The first one shown won", first, words.spread(found.first_shown_wins),
                "Far from 50%, raters prefer a side of the screen.",
            ),
            components.Card(
                "bad", "None acceptable", words.count(found.num_all_bad),
                f"{words.count(found.num_unknown)} left out: of one value, or of an unknown call",
            ),
        ],
    )  # fmt: skip


def _pairs(found: LeagueTable) -> None:
    pairs = found.pairs
    if len(pairs) < 2:
        return
    with panels.panel("pairs"):
        panels.header("Pair by pair", "Share that the first of the two won, ties as half")
        heads = components.columns(["First", "Second"], ["First won", "Won, tied, lost"])
        rows = [
            {
                "cells": [
                    p.a or "(none)",
                    p.b or "(none)",
                    words.interval(p.win_rate),
                    f"{p.wins_a:,}, {p.ties:,}, {p.wins_b:,}",
                ]
            }
            for p in pairs
        ]
        components.table("pair_rows", heads, rows, caption="Pair by pair", link=-1, tall=True)


def export_rows(answer: Answer[LeagueTable], field: str) -> list[dict[str, Any]]:
    """The standings as rows of a file."""
    if answer.error is not None:
        return []
    return [
        {
            "panel": "league", "field": field, "value": s.value, "num_rated": s.num_judgements,
            "rate": words.estimate(s.win_rate), "rate_low": s.win_rate and s.win_rate.low,
            "rate_high": s.win_rate and s.win_rate.high, "strength": words.estimate(s.strength),
            "at_equal_length": s.at_equal_length,
        }
        for s in answer.value.standings
    ]  # fmt: skip
