"""Who wins when two answers stand side by side: strengths from pairwise comparisons, with what could mislead in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from heedloop_dashboard import components, filters, panels, words
from heedloop_dashboard.charts import plots
from heedloop_dashboard.fetch import Answer
from heedloop_dashboard.navigation import go

__all__ = ["FIELDS", "export_rows", "show"]

FIELDS = ("model", "prompt_version", "prompt_name", "service")


def show(answer: Answer, field: str, title: str) -> None:
    """Draw the panel from an answer of `/v1/quality/league`; nothing where nobody compared anything."""
    if answer.error is None and not answer.value.get("num_judgements"):
        return
    st.subheader("Side by side", anchor=False)
    if answer.error is not None:
        panels.problem(answer.error)
        return
    found: Mapping[str, Any] = answer.value
    _sentence(found)
    left, right = st.columns([1, 1.25], gap="small")
    with left:
        panels.chart(
            "league",
            f"Wins by {title.lower()}",
            "Share of comparisons won, ties as half, with 95% intervals; the dashed line is a draw",
            answer,
            lambda v: plots.dots(
                _groups(v["standings"]), panels.colours(), what=title, measure="Won", few=False, rule=0.5
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


def _sentence(found: Mapping[str, Any]) -> None:
    components.finding("league_said", lead="", text=str(found.get("sentence") or ""), tone="")
    if not found.get("connected", True):
        groups = "; ".join(", ".join(str(v) for v in part[:6]) for part in found.get("components") or [])
        components.finding(
            "unconnected",
            lead="Not all of them can be ranked together",
            text=f": no chain of comparisons joins these groups: {groups}. Strengths are told only inside a group.",
            tone="bad",
        )


def _groups(standings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "value": s["value"],
            "rate": s.get("win_rate"),
            "num_rated": s["num_judgements"],
            "num_answers": s["num_judgements"],
        }
        for s in standings
    ]


def _open(field: str, value: Any) -> None:
    target = filters.group_link(field, value, has="comparison")
    if target is not None:
        go(target)


def _standings(found: Mapping[str, Any], field: str, title: str) -> None:
    heads = [
        {"key": "value", "label": title, "kind": ""},
        {"key": "strength", "label": "Strength", "kind": "number"},
        {"key": "equal", "label": "Equal length", "kind": "number"},
        {"key": "wtl", "label": "Won, tied, lost", "kind": "number"},
    ]
    rows = []
    for s in found["standings"]:
        target = filters.group_link(field, s["value"], has="comparison")
        opens = {} if target is None else {"value": target.to_json(), "wtl": target.to_json()}
        equal = s.get("at_equal_length")
        cells = [
            s["value"] or "(none)",
            _log_odds(s.get("strength")),
            words.NONE if equal is None else f"{equal:+.2f}",
            f"{s['num_wins']:,}, {s['num_ties']:,}, {s['num_losses']:,}",
        ]
        rows.append({"cells": cells, "opens": opens})
    components.table("standing_rows", heads, rows, caption="Strengths, best first", link=-1, tall=True)


def _log_odds(value: Mapping[str, Any] | None) -> str:
    return (
        words.NONE
        if value is None
        else f"{value['estimate']:+.2f} ({value['low']:+.2f} to {value['high']:+.2f})"
    )


def _facts(found: Mapping[str, Any]) -> None:
    """What could stand behind a win besides being better, beside the raw win rates."""
    odds = found.get("length_odds")
    components.cards(
        "league_facts",
        [
            {
                "key": "judgements", "label": "Comparisons", "value": words.count(found.get("num_judgements")), "tone": "",
                "note": f"by {words.plural(found.get('num_raters') or 0, 'rater')}, {words.count(found.get('num_ties'))} ties",
                "open": filters.answers(has="comparison"),
            },
            {
                "key": "longer", "label": "The longer one won", "value": _share(found.get("longer_wins")), "tone": "",
                "note": "length effect: " + (words.NONE if odds is None else f"odds × {odds['estimate']:.2f} per sd"),
                "help": "How often the longer answer won. Far from 50%, the raw win rate is partly length; 'at equal length' takes it out.",
            },
            {
                "key": "first", "label": "The first one shown won", "value": _share(found.get("first_shown_wins")), "tone": "",
                "note": _range(found.get("first_shown_wins")),
                "help": "Far from 50%, raters prefer a side of the screen.",
            },
            {
                "key": "bad", "label": "None acceptable", "value": words.count(found.get("num_all_bad")), "tone": "",
                "note": f"{words.count(found.get('num_unknown'))} left out: of one value, or of an unknown call",
            },
        ],
    )  # fmt: skip


def _share(interval: Mapping[str, Any] | None) -> str:
    return words.percent(None if interval is None else interval["estimate"])


def _range(interval: Mapping[str, Any] | None) -> str:
    return "" if interval is None else f"95%: {100 * interval['low']:.1f} to {100 * interval['high']:.1f}"


def _pairs(found: Mapping[str, Any]) -> None:
    pairs: Sequence[Mapping[str, Any]] = found.get("pairs") or []
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
                    p["a"] or "(none)",
                    p["b"] or "(none)",
                    words.interval(p.get("win_rate")),
                    f"{p['wins_a']:,}, {p['ties']:,}, {p['wins_b']:,}",
                ]
            }
            for p in pairs
        ]
        components.table("pair_rows", heads, rows, caption="Pair by pair", link=-1, tall=True)


def export_rows(answer: Answer, field: str) -> list[dict[str, Any]]:
    """The standings as rows of a file."""
    if answer.error is not None:
        return []
    return [
        {
            "panel": "league", "field": field, "value": s["value"], "num_rated": s["num_judgements"],
            "rate": (s.get("win_rate") or {}).get("estimate"), "rate_low": (s.get("win_rate") or {}).get("low"),
            "rate_high": (s.get("win_rate") or {}).get("high"), "strength": (s.get("strength") or {}).get("estimate"),
            "at_equal_length": s.get("at_equal_length"),
        }
        for s in answer.value.get("standings") or []
    ]  # fmt: skip
