"""Ratings under any name (scales, categories, thumbs): their means or shares, whole and by what answers are cut by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedloop.client import Client
from heedloop.responses import NamedRating, NamedRatings, RatedCounts, Trend
from heedloop_dashboard import components, filters, panels, words
from heedloop_dashboard.charts import timelines
from heedloop_dashboard.fetch import Answer, Ask, ask
from heedloop_dashboard.navigation import Open

MAX_GROUPS = 8
"""Values of the field that are shown for each rating, those with the most ratings."""


def request(chosen: Mapping[str, Any], field: str, bucket: str) -> Ask[NamedRatings]:
    """What the panel is drawn from."""
    asked = {k: v for k, v in chosen.items() if not k.startswith("rating")}
    return ask(Client.named_ratings, by=field, interval=bucket, **asked)


def show(answer: Answer[NamedRatings], field: str, trend: Trend, bucket: str) -> None:
    """Draw the panel on the time axis of `trend`; nothing where only the app's own thumb was given."""
    if panels.failed(answer):
        return
    ratings = [r for r in answer.value.ratings if (r.name, r.kind) != ("thumb", "thumb")]
    if not ratings:
        return
    with panels.panel("named_ratings"):
        lines = timelines.named_ratings(ratings, trend, bucket=bucket, open=_low)
        as_table = panels.title_row(
            "named_rating_lines",
            "Ratings by name",
            f"By users, annotators and models, whole and by {field.removeprefix('metadata.')}; 95% intervals. Select one for its low answers",
            with_switch=lines is not None,
        )
        heads = [
            {"key": "name", "label": "Rating", "kind": ""},
            {"key": "value", "label": "Mean or share", "kind": "number"},
            {"key": "num", "label": "Answers", "kind": "number"},
            {"key": "who", "label": "By", "kind": ""},
        ]
        if lines is not None:
            panels.timeline("named_rating_lines", "Ratings by name", lines, as_table=as_table)
        rows = [row for r in ratings for row in _rows(r)]
        components.table("named_rating_rows", heads, rows, caption="Ratings by name", tall=True)


def _rows(rating: NamedRating) -> list[dict[str, Any]]:
    by = ", ".join(k.replace("_", " ") for k in rating.author_kinds)
    if rating.kind == "category":
        return [
            _row(
                f"{rating.name}: {category}",
                words.interval(share),
                share.n,
                by,
                _narrower(rating, category),
            )
            for category, share in rating.shares.items()
            if share is not None
        ]
    low = _narrower(rating)
    rows = [_row(rating.name, _value(rating, rating), rating.num_answers, by, low)]
    groups = rating.groups or []
    shown = [g for g in groups if g.mean is not None][:MAX_GROUPS] if len(groups) > 1 else []
    return rows + [
        _row(f"\u2003{g.value or '(none)'}", _value(rating, g), g.num_answers, "", low) for g in shown
    ]


def _narrower(rating: NamedRating, category: str | None = None) -> dict[str, str]:
    """The filters for a rating's low answers, or for those with a category."""
    low = {"rating": "down"} if category is None else {"rating_value": category}
    return {"rating_name": rating.name, **low}


def _low(rating: NamedRating, category: str | None) -> Open:
    return Open("traces", filters.link_params(**_narrower(rating, category)))


def _row(name: str, value: str, num: int, by: str, low: Mapping[str, str]) -> dict[str, Any]:
    return {"cells": [name, value, words.count(num), by], "open": filters.answers(**low)}


def _value(rating: NamedRating, counts: RatedCounts) -> str:
    mean = counts.mean
    if mean is None:
        return words.NONE
    if rating.kind == "thumb":
        return words.interval(mean)
    return f"{mean.estimate:.2f} ({mean.low:.2f} to {mean.high:.2f}) of {rating.min:g} to {rating.max:g}"
