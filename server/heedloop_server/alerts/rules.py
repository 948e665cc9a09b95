"""What an alert watches: a rule as it is sent, checked and stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from heedloop.schema import SchemaError
from heedloop_server.filters import CallFilters

Name = Annotated[str, Field(min_length=1, max_length=200)]
Share = Annotated[float, Field(gt=0, lt=1)]
MAX_URL = 2_048


class Rule(BaseModel):
    """One rule. Its fields are those of `Rule` in `/openapi.json`; whatever is wrong is refused when it is made, not when it is due."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    metric: Literal["rate", "coverage", "errors", "share"] = "rate"
    filters: dict[str, Any] = {}
    of: dict[str, Any] = {}
    bad: Literal["lower", "higher"] | None = None
    kind: Literal["drift", "threshold"] = "drift"
    threshold: Share | None = None
    window_hours: Annotated[int, Field(ge=1, le=168, strict=True)] = 24
    baseline: Share | None = None
    baseline_days: Annotated[int, Field(ge=1, le=180, strict=True)] = 28
    odds_ratio: Annotated[float, Field(gt=1.01, le=100)] = 1.5
    min_count: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] = 30
    webhook_url: Annotated[str, Field(max_length=MAX_URL)] | None = None
    remind_hours: Annotated[int, Field(ge=0, le=720, strict=True)] = 0
    enabled: Annotated[bool, Field(strict=True)] = True

    @field_validator("filters", "of")
    @classmethod
    def _are_filters(cls, payload: dict[str, Any]) -> dict[str, Any]:
        chosen = CallFilters.parse(payload)
        if chosen.since is not None or chosen.until is not None:
            raise ValueError("an alert has a window; leave since and until out")
        return payload

    @field_validator("webhook_url")
    @classmethod
    def _is_an_address(cls, payload: str | None) -> str | None:
        if payload is None:
            return None
        parts = urlsplit(payload)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http or https address")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must not hold a user or password; the secret signs what is sent")
        if any(ord(c) <= 32 or ord(c) == 127 for c in payload):
            raise ValueError("must not hold spaces or control characters")
        _ = parts.port  # raises ValueError where it is no port
        return payload

    @model_validator(mode="after")
    def _fits(self) -> Rule:
        if self.kind == "threshold" and self.threshold is None:
            raise ValueError("a rule of the kind threshold needs a threshold")
        if (self.metric == "share") != bool(self.of):
            raise ValueError("of says which calls the metric share counts; other metrics have none")
        clash = sorted(n for n in self.of if n in self.filters and n not in ("tag",))
        if clash:
            raise ValueError(f"{clash[0]} is in filters and in of; one of them is enough")
        return self

    @property
    def worse(self) -> Literal["lower", "higher"]:
        """Which way is bad."""
        return self.bad or ("lower" if self.metric in ("rate", "coverage") else "higher")

    @property
    def calls(self) -> CallFilters:
        """The calls that are looked at, without a period."""
        return CallFilters.parse(self.filters)

    @property
    def counted(self) -> CallFilters:
        """The calls among them that the metric `share` counts."""
        tags = [*self.calls.tag, *CallFilters.parse(self.of).tag]
        both = {**self.filters, **self.of}
        return CallFilters.parse({**both, "tag": tags} if tags else both)

    def measures_as(self, other: Rule) -> bool:
        """True where both say the same of the same number, so that a state may go on."""
        apart = ("name", "webhook_url", "remind_hours", "enabled")
        return self.model_dump(exclude=set(apart)) == other.model_dump(exclude=set(apart))


def parse_rule(payload: object) -> Rule:
    """The rule of a JSON body.

    Raises:
        SchemaError: names the field that is wrong.
    """
    if not isinstance(payload, dict):
        raise SchemaError("rule", "must be an object")
    try:
        return Rule.model_validate(cast(dict[str, Any], payload))
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(p) for p in first["loc"]) or "rule"
        raise SchemaError(where, str(first["msg"]).removeprefix("Value error, ")) from None
