"""The filter language of calls and quality: which query parameters there are and what they may hold. SQL is in `store.filters`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Literal, cast

from fastapi import Query
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from heedloop.schema import AuthorKind, SchemaError, utc_now

METADATA_PREFIX = "metadata."

_FIRST = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SKEW = timedelta(days=400)
"""Clocks that run ahead: the store takes times up to a year after their arrival."""
DEFAULT_PERIOD = timedelta(days=30)

FIRST, LAST = datetime(1970, 1, 1, tzinfo=timezone.utc), datetime(2262, 1, 1, tzinfo=timezone.utc)
"""What the store's times can hold; nothing is older or newer."""


_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def _rfc3339(value: Any) -> Any:
    """Times are written out: a number of seconds, which pydantic would take, is more often a mistake than a time."""
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE.match(value)):
        return value
    raise ValueError(f"{value!r:.80} is not an RFC 3339 time such as 2026-11-21T09:30:00Z")


def _storable(at: datetime) -> datetime:
    """The time in UTC; one that no record can have is moved to the first or last that one can."""
    if at.year <= FIRST.year:  # before any arithmetic: year 1 with an offset has no time in UTC
        return FIRST
    return LAST if at.year >= LAST.year else at.astimezone(timezone.utc)


Time = Annotated[AwareDatetime, BeforeValidator(_rfc3339), AfterValidator(_storable)]
Text = Annotated[str, Field(max_length=1024)]
Key = Annotated[str, Field(min_length=1, max_length=128)]
TraceId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
AnswerChars = Literal["none", "up to 200", "201 to 1,000", "over 1,000"]


class CallFilters(BaseModel):
    """Which calls; everything is optional and joined by "and". Times are aware; the default is the last 30 days."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    since: Time | None = None
    until: Time | None = None
    model: Text | None = None
    prompt_name: Text | None = None
    prompt_version: Text | None = None
    service: Text | None = None
    environment: Text | None = None
    user_id: Text | None = None
    session_id: Text | None = None
    tag: Annotated[tuple[Text, ...], Field(max_length=10)] = ()
    trace: Annotated[tuple[TraceId, ...], Field(max_length=200)] = ()
    metadata: Annotated[dict[Key, Text], Field(max_length=10)] = {}
    rating: Literal["up", "down", "none", "any"] | None = None
    rating_name: Key | None = None
    rating_below: Number | None = None
    rating_above: Number | None = None
    rating_value: Text | None = None
    author_kind: AuthorKind | None = None
    flag: Text | None = None
    has: Literal["correction", "comment", "flag", "comparison"] | None = None
    status: Literal["ok", "error"] | None = None
    text: Text | None = None
    model_requested: Text | None = None
    provider: Text | None = None
    language: Text | None = None
    answer_chars: AnswerChars | None = None
    user: Literal["new", "returning"] | None = None
    cluster: Text | None = None
    min_duration_ms: Number | None = None
    max_duration_ms: Number | None = None
    min_cost: Number | None = None
    max_cost: Number | None = None
    answers_only: bool = True

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, given: Any) -> Any:
        """One tag or trace id may stand alone, and `metadata.KEY` beside the other names: as it is written in a link."""
        if not isinstance(given, dict):
            return given
        named = cast(dict[str, Any], given)
        keys = [k for k in named if k.startswith(METADATA_PREFIX)]
        out = {k: v for k, v in named.items() if k not in keys}
        for name in ("tag", "trace"):
            if isinstance(out.get(name), str):
                out[name] = (out[name],)
            if out.get(name, ()) is None:
                del out[name]
        if keys:
            more = {k.removeprefix(METADATA_PREFIX): _last(named[k]) for k in keys}
            out["metadata"] = {**(out.get("metadata") or {}), **more}
        return out

    @model_validator(mode="after")
    def _named(self) -> CallFilters:
        for name in ("rating_below", "rating_above", "rating_value"):
            if getattr(self, name) is not None and self.rating_name is None:
                raise ValueError(f"{name} needs rating_name: which rating?")
        return self

    def parameters(self) -> dict[str, Any]:
        """The filters as query parameters, without the period: what a link needs to show the same calls."""
        given = self.model_dump(
            exclude_defaults=True, exclude={"since", "until", "metadata", "tag", "trace"}, mode="json"
        )
        known = {k: v for k, v in given.items() if k in CallFilters.model_fields}
        repeated = {n: list(v) for n, v in (("tag", self.tag), ("trace", self.trace)) if v}
        return known | repeated | {METADATA_PREFIX + k: v for k, v in self.metadata.items()}

    def period(self) -> tuple[datetime, datetime]:
        """From (inclusive) and to (exclusive), both aware UTC."""
        until = (self.until or utc_now()).astimezone(timezone.utc)
        since = (self.since or until - DEFAULT_PERIOD).astimezone(timezone.utc)
        return since, until

    def of_all_times(self) -> CallFilters:
        """The same filters, of all times unless they name a period."""
        since, until = self.since or _FIRST, self.until or utc_now() + _SKEW
        return self.model_copy(update={"since": since, "until": until})

    @classmethod
    def parse(cls, given: dict[str, Any]) -> CallFilters:
        """Filters from a JSON object, such as a snapshot's; unknown names are refused by pydantic's `ValidationError`."""
        strict = type("StrictFilters", (cls,), {"model_config": ConfigDict(extra="forbid", frozen=True)})
        checked = strict.model_validate(given)
        # of this class itself: another process cannot find one that was made here
        return cls(**checked.model_dump(exclude_unset=True))


def read_filters(value: object) -> CallFilters:
    """Filters from the field `filters` of a body; None is all calls. Raises `SchemaError`."""
    if value is None:
        return CallFilters()
    if not isinstance(value, dict):
        raise SchemaError("filters", f"must be an object, not {value!r:.80}")
    try:
        return CallFilters.parse(cast(dict[str, Any], value))
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(["filters", *(str(p) for p in first["loc"])])
        raise SchemaError(where, f"{first['msg']}, not {first['input']!r:.80}") from None


def _last(value: Any) -> Any:
    return cast(list[Any], value)[-1] if isinstance(value, list) and value else value


Filters = Annotated[CallFilters, Query()]
"""A route's filters: `def route(filters: Filters)`."""
