"""Named ratings over REST: means and shares with their intervals, over time and by any field; flags and marks by length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from heedloop import responses
from heedloop_server.errors import NotFound
from heedloop_server.http.services import ReadProject
from heedloop_server.http.shared_responses import SharedRouter
from heedloop_server.routes.quality import Chosen
from heedloop_server.statistics.intervals import wilson
from heedloop_server.statistics.means import mean_of_counts
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.quality import named_ratings as store
from heedloop_server.store.quality.counts import Bucket
from heedloop_server.store.quality.named_ratings import NamedRating, RatedGroup

router = SharedRouter()

C = TypeVar("C", bound=responses.RatedCounts)
MAX_COUNTED = 30
"""Ratings whose values are counted in one request; of others only the numbers of ratings and answers are told."""


@router.get("/v1/quality/ratings")
def named_ratings(
    project: ReadProject, view: Chosen, by: str | None = None, interval: Bucket | None = None
) -> responses.NamedRatings:
    """Every named rating, or the one that `rating_name` names: whole, by a field, and over time."""
    found = store.list_named_ratings(project, view.filters)
    if view.rating is not None:
        found = [r for r in found if r.name == view.rating.rating_name]
        if not found:
            raise NotFound(f"nothing was rated under {view.rating.rating_name!r:.80} in this view")
    ratings = [_rating(project, view, r, by, interval) for r in found[:MAX_COUNTED]]
    return responses.NamedRatings(ratings=ratings, by=by, interval=interval)


def _rating(
    project: ProjectStore, view: Chosen, rating: NamedRating, by: str | None, interval: Bucket | None
) -> responses.NamedRating:
    whole = store.rated_groups(project, view.filters, rating, None).get("", RatedGroup({}, {}))
    groups = None if by is None else store.rated_groups(project, view.filters, rating, by)
    points = None if interval is None else store.rated_over_time(project, view.filters, rating, interval)
    is_category = bool(rating.categories)
    return _counted(
        responses.NamedRating,
        rating,
        whole,
        name=rating.name,
        kind="category" if is_category else "thumb" if rating.is_thumb else "scale",
        min=None if is_category else rating.low,
        max=None if is_category else rating.high,
        categories=list(rating.categories),
        author_kinds=list(rating.author_kinds),
        groups=None
        if groups is None
        else [_counted(responses.RatedGroup, rating, g, value=value) for value, g in groups.items()],
        points=None
        if points is None
        else [_counted(responses.RatedPoint, rating, g, time=at) for at, g in points.items()],
    )


def _counted(record: type[C], rating: NamedRating, group: RatedGroup, **more: Any) -> C:
    total = sum(group.categories.values())
    return record(
        num_answers=total + sum(group.numbers.values()),
        num_ratings=group.num_ratings,
        mean=mean_of_counts(group.numbers, scale=(rating.low, rating.high)) if group.numbers else None,
        shares={c: wilson(n, total) for c, n in _ordered(rating, group.categories).items()},
        **more,
    )


def _ordered(rating: NamedRating, categories: Mapping[str, int]) -> dict[str, int]:
    """Every category of the scale in its order, then those of older scales."""
    named = {c: categories.get(c, 0) for c in rating.categories} if categories else {}
    return named | {c: n for c, n in categories.items() if c not in named}


@router.get("/v1/quality/marks")
def marks(project: ReadProject, view: Chosen, by: str | None = None) -> responses.Marks:
    """Flags and marked ranges on answers that were judged, by a field such as a document's type, and per 1,000 characters."""
    rows = store.count_marks(project, view.filters, by)
    return responses.Marks(by=by, groups=[_marked(r) for r in rows])


def _marked(row: Mapping[str, Any]) -> responses.MarkedGroup:
    num_answers, num_chars = int(row["num_answers"]), int(row["num_chars"])
    having = dict(row["num_having"])
    found = sorted(dict(row["num_marks"]).items(), key=lambda m: (-m[1], m[0]))
    return responses.MarkedGroup(
        value=row["place"],
        num_answers=num_answers,
        num_chars=num_chars,
        marks=[
            responses.Mark(
                name=name,
                category=category,
                num=int(num),
                share=wilson(int(having[name, category]), num_answers),
                per_answer=num / num_answers,
                per_1000_chars=1000 * num / num_chars if num_chars else None,
            )
            for (name, category), num in found
        ],
    )
