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
from heedloop_dashboard.navigation import go

__all__ = ["FIELDS", "export_rows", "show"]

FIELDS = ("model", "prompt_version", "prompt_name", "service")


def show(answer: Answer[LeagueTable], field: str, title: str) -> None:
    """Draw the panel from an answer of `/v1/quality/league`; nothing where nobody compared anything."""
    if answer.error is None and not answer.value.num_judgements:
        return
    st.subheader("Side by side", anchor=False)
    if answer.error is not None:
        panels.problem(answer.error)
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
            on_select=lambda row: _open(field, row["value"]),
        )
    with right, panels.panel("standings", stretch=True):
        panels.header(
            "Strength", "Bradley–Terry with ties, in log odds around 0; intervals by drawing raters anew"
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
            text=f": no chain of comparisons joins these groups: {groups}. Strengths are told only inside a group.",
            tone="bad",
        )


def _groups(standings: Sequence[Standing]) -> list[Dot]:
    return [Dot(s.value, s.win_rate, s.num_judgements, s.num_judgements) for s in standings]


def _open(field: str, value: Any) -> None:
    target = filters.group_link(field, value, has="comparison")
    if target is not None:
        go(target)


def _standings(found: LeagueTable, field: str, title: str) -> None:
    heads = [
        {"key": "value", "label": title, "kind": ""},
        {"key": "strength", "label": "Strength", "kind": "number"},
        {"key": "equal", "label": "Equal length", "kind": "number"},
        {"key": "wtl", "label": "Won, tied, lost", "kind": "number"},
    ]
    rows = []
    for s in found.standings:
        target = filters.group_link(field, s.value, has="comparison")
        opens = {} if target is None else {"value": target.to_json(), "wtl": target.to_json()}
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
    components.cards(
        "league_facts",
        [
            {
                "key": "judgements", "label": "Comparisons", "value": words.count(found.num_judgements), "tone": "",
                "note": f"by {words.plural(found.num_raters, 'rater')}, {words.count(found.num_ties)} ties",
                "open": filters.answers(has="comparison"),
            },
            {
                "key": "longer", "label": "The longer one won", "value": words.percent(words.estimate(found.longer_wins)), "tone": "",
                "note": "length effect: " + (words.NONE if odds is None else f"odds × {odds.estimate:.2f} per sd"),
                "help": "How often the longer answer won. Far from 50%, the raw win rate is partly length; 'at equal length' takes it out.",
            },
            {
                "key": "first", "label": "The first one shown won", "value": words.percent(words.estimate(found.first_shown_wins)), "tone": "",
                "note": words.spread(found.first_shown_wins),
                "help": "Far from 50%, raters prefer a side of the screen.",
            },
            {
                "key": "bad", "label": "None acceptable", "value": words.count(found.num_all_bad), "tone": "",
                "note": f"{words.count(found.num_unknown)} left out: of one value, or of an unknown call",
            },
        ],
    )  # fmt: skip


def _pairs(found: LeagueTable) -> None:
    pairs = found.pairs
    if len(pairs) < 2:
        return
    with panels.panel("pairs"):
        panels.header("Pair by pair", "Share that the first of the two won, ties as half")
        heads = [
            {"key": "a", "label": "First", "kind": ""},
            {"key": "b", "label": "Second", "kind": ""},
            {"key": "rate", "label": "First won", "kind": "number"},
            {"key": "wtl", "label": "Won, tied, lost", "kind": "number"},
        ]
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
