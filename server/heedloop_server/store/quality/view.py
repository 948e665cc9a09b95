"""What a question of the quality pages looks at, and the fields that it groups by."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from heedloop.schema import AuthorKind
from heedloop_server.errors import Invalid
from heedloop_server.filters import CallFilters
from heedloop_server.store.filters import LANGUAGE, LANGUAGE_KEYS
from heedloop_server.store.quality.hourly import Fingerprints

GROUP_FIELDS = ("model", "prompt_name", "prompt_version", "service", "environment", "user_id", "status", "tag",
                "answer_chars", "language", "user")  # fmt: skip
Bucket = Literal["hour", "day", "week"]
BUCKET_START: dict[Bucket, str] = {
    "hour": "toStartOfHour(at, 'UTC')",
    "day": "toStartOfDay(at, 'UTC')",
    "week": "toDateTime(toStartOfWeek(at, 1, 'UTC'), 'UTC')",
}
"""The start of the bucket that `at` is in, in UTC; weeks begin on Monday."""
_METADATA_KEY = re.compile(r"metadata\.(.{1,128})", re.DOTALL)

_NAMED = ("rating_name", "rating_below", "rating_above", "rating_value")


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at: the calls that `filters` take, as authors of one kind rated them.

    With `rating` the ratings of that name count instead of thumbs: those that its own filters call low (`rating_below`,
    not `rating_above`, `rating_value`; else the lower half of the scale) as thumbs down, by any author unless `filters` name one.

    `memo` holds the fingerprints of the periods read before, for as long as one request lasts; views made by `over` share it.
    """

    filters: CallFilters
    author_kind: AuthorKind = "end_user"
    memo: dict[tuple[datetime, datetime], Fingerprints] = field(
        default_factory=dict[tuple[datetime, datetime], Fingerprints], compare=False, repr=False
    )

    rating: CallFilters | None = None

    @classmethod
    def of(cls, filters: CallFilters) -> View:
        """The view that a request's filters ask for: a named rating in them says what counts as the rating."""
        author_kind = filters.author_kind or "end_user"
        if filters.rating_name is None:
            return cls(filters, author_kind)
        # with `rating` they also choose the answers
        kept = filters if filters.rating is not None else filters.model_copy(update=dict.fromkeys(_NAMED))
        return cls(kept, author_kind, rating=filters)

    def over(self, since: datetime, until: datetime) -> View:
        """The same view of another period."""
        moved = self.filters.model_copy(update={"since": since, "until": until})
        return View(moved, self.author_kind, self.memo, self.rating)


@dataclass(frozen=True, slots=True)
class Expression:
    """A field to group by, over the columns of a source.

    Attributes:
        sql: the value, as text; may unfold an array, so that a row counts for each of its values.
        columns: what it needs of a source.
        keys: the metadata keys it needs.
        array: the array that `sql` unfolds, where it does.
    """

    sql: str
    columns: frozenset[str]
    keys: frozenset[str] = frozenset()
    array: str = ""

    @property
    def values(self) -> str:
        """An array of the row's values."""
        return self.array or f"[{self.sql}]"


def expression(name: str, params: dict[str, Any], bound: str) -> Expression:
    """The SQL of a field to group by; raises `Invalid` for an unknown one.

    Args:
        bound: name of the parameter that holds a metadata key; filled in `params`.
    """
    if name == "tag":
        return Expression(
            "toString(arrayJoin(tags))", frozenset({"tags"}), array="arrayMap(t -> toString(t), tags)"
        )
    if name == "language":
        return Expression(LANGUAGE, frozenset({"metadata"}), frozenset(LANGUAGE_KEYS))
    if name in GROUP_FIELDS:
        return Expression(f"toString({name})", frozenset({name}))
    match = _METADATA_KEY.fullmatch(name)
    if match is None:
        known = ", ".join(GROUP_FIELDS)
        raise Invalid(f"{name[:80]!r} is no field to group by; use {known} or metadata.KEY", field="field")
    params[bound] = match[1]
    return Expression(f"metadata[{{{bound}:String}}]", frozenset({"metadata"}), frozenset({match[1]}))
