"""Named ratings over REST: means and shares with their intervals, over time and by any field; flags and marks by length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from heedloop.schema import format_time
from heedloop_server.answers.named_ratings import Marks, NamedRatings
from heedloop_server.errors import NotFound
from heedloop_server.http.auth import scoped
from heedloop_server.http.openapi import responds
from heedloop_server.routes.quality import Chosen
from heedloop_server.statistics.counts import as_json
from heedloop_server.statistics.intervals import wilson
from heedloop_server.statistics.means import mean_of_counts
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.quality import named_ratings as store
from heedloop_server.store.quality.counts import Bucket
from heedloop_server.store.quality.named_ratings import NamedRating, RatedGroup

__all__ = ["router"]

router = APIRouter()

Reader = Annotated[ProjectStore, Depends(scoped("read"))]
MAX_COUNTED = 30
"""Ratings whose values are counted in one request; of others only the numbers of ratings and answers are told."""


@router.get("/v1/quality/ratings")
@responds(NamedRatings)
def named_ratings(
    project: Reader, view: Chosen, by: str | None = None, interval: Bucket | None = None
) -> dict[str, Any]:
    """Every named rating, or the one that `rating_name` names: whole, by a field, and over time."""
    found = store.list_named_ratings(project, view.filters)
    if view.rating is not None:
        found = [r for r in found if r.name == view.rating.rating_name]
        if not found:
            raise NotFound(f"nothing was rated under {view.rating.rating_name!r:.80} in this view")
    ratings = [_rating_json(project, view, r, by, interval) for r in found[:MAX_COUNTED]]
    return {"ratings": ratings, "by": by, "interval": interval}


def _rating_json(
    project: ProjectStore, view: Chosen, rating: NamedRating, by: str | None, interval: Bucket | None
) -> dict[str, Any]:
    filters = view.filters
    whole = store.rated_groups(project, filters, rating, None).get("", RatedGroup({}, {}))
    out = _head(rating) | _counts_json(rating, whole)
    if by is not None:
        groups = store.rated_groups(project, filters, rating, by)
        out["groups"] = [{"value": value, **_counts_json(rating, g)} for value, g in groups.items()]
    if interval is not None:
        points = store.rated_over_time(project, filters, rating, interval)
        out["points"] = [{"time": format_time(at), **_counts_json(rating, g)} for at, g in points.items()]
    return out


def _head(rating: NamedRating) -> dict[str, Any]:
    is_category = bool(rating.categories)
    return {
        "name": rating.name,
        "kind": "category" if is_category else "thumb" if rating.is_thumb else "scale",
        "min": None if is_category else rating.low,
        "max": None if is_category else rating.high,
        "categories": list(rating.categories),
        "author_kinds": list(rating.author_kinds),
    }


def _counts_json(rating: NamedRating, group: RatedGroup) -> dict[str, Any]:
    total = sum(group.categories.values())
    mean = mean_of_counts(group.numbers, scale=(rating.low, rating.high)) if group.numbers else None
    return {
        "num_answers": total + sum(group.numbers.values()),
        "num_ratings": group.num_ratings,
        "mean": as_json(mean),
        "shares": {c: as_json(wilson(n, total)) for c, n in _ordered(rating, group.categories).items()},
    }


def _ordered(rating: NamedRating, categories: Mapping[str, int]) -> dict[str, int]:
    """Every category of the scale in its order, then those of older scales."""
    named = {c: categories.get(c, 0) for c in rating.categories} if categories else {}
    return named | {c: n for c, n in categories.items() if c not in named}


@router.get("/v1/quality/marks")
@responds(Marks)
def marks(project: Reader, view: Chosen, by: str | None = None) -> dict[str, Any]:
    """Flags and marked ranges on answers that were judged, by a field such as a document's type, and per 1,000 characters."""
    rows = store.count_marks(project, view.filters, by)
    return {"by": by, "groups": [_marked_json(r) for r in rows]}


def _marked_json(row: Mapping[str, Any]) -> dict[str, Any]:
    num_answers, num_chars = int(row["num_answers"]), int(row["num_chars"])
    having = dict(row["num_having"])
    found = sorted(dict(row["num_marks"]).items(), key=lambda m: (-m[1], m[0]))
    return {
        "value": row["place"],
        "num_answers": num_answers,
        "num_chars": num_chars,
        "marks": [
            {
                "name": name,
                "category": category,
                "num": int(num),
                "share": as_json(wilson(int(having[name, category]), num_answers)),
                "per_answer": num / num_answers,
                "per_1000_chars": 1000 * num / num_chars if num_chars else None,
            }
            for (name, category), num in found
        ],
    }
