"""What an alert watches: a rule as it is sent, checked and stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from heedloop.responses import AlertMetric, WebhookFormat
from heedloop.schema import SchemaError
from heedloop_server.alerts.webhooks import check_webhook_url
from heedloop_server.filters import CallFilters

AMOUNTS = ("calls", "tokens", "cost")
"""Metrics that are sums over the window: provider calls, tokens, US dollars."""
WAITING = ("latency", "first_token")
"""Metrics whose threshold is in milliseconds: the 95th percentile lies above it where over 5% of answers took longer."""
SLOW_SHARE = 0.05

Name = Annotated[str, Field(min_length=1, max_length=200)]
Share = Annotated[float, Field(gt=0, lt=1)]
MAX_URL = 2_048


class Rule(BaseModel):
    """One rule. Its fields are those of `Rule` in `/openapi.json`; whatever is wrong is refused when it is made, not when it is due."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    metric: AlertMetric = "rate"
    filters: dict[str, Any] = {}
    of: dict[str, Any] = {}
    judge: Annotated[str, Field(max_length=256)] = ""
    bad: Literal["lower", "higher"] | None = None
    kind: Literal["drift", "threshold"] = "drift"
    threshold: Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False)] | None = None
    window_hours: Annotated[int, Field(ge=1, le=168, strict=True)] = 24
    baseline: Share | None = None
    baseline_days: Annotated[int, Field(ge=1, le=180, strict=True)] = 28
    odds_ratio: Annotated[float, Field(gt=1.01, le=100)] = 1.5
    min_count: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] = 30
    webhook_url: Annotated[str, Field(max_length=MAX_URL)] | None = None
    webhook_format: WebhookFormat = "generic"
    remind_hours: Annotated[int, Field(ge=0, le=720, strict=True)] = 0
    enabled: Annotated[bool, Field(strict=True)] = True

    @field_validator("filters", "of")
    @classmethod
    def _are_filters(cls, payload: dict[str, Any]) -> dict[str, Any]:
        chosen = CallFilters.parse(payload)
        if chosen.since is not None or chosen.until is not None:
            raise ValueError("an alert has a window; leave since and until out")
        return payload

    @field_validator("threshold")
    @classmethod
    def _is_a_share(cls, payload: float | None, info: ValidationInfo) -> float | None:
        metric = info.data.get("metric")
        if payload is not None and payload >= 1 and metric not in AMOUNTS + WAITING:
            raise ValueError(f"of {metric} is a share below 1, such as 0.8, not {payload:g}")
        return payload

    @field_validator("webhook_url")
    @classmethod
    def _is_an_address(cls, payload: str | None) -> str | None:
        if payload is None:
            return None
        check_webhook_url(payload)
        return payload

    @model_validator(mode="after")
    def _fits(self) -> Rule:
        if self.kind == "threshold" and self.threshold is None:
            raise ValueError("a rule of the kind threshold needs a threshold")
        if self.metric in AMOUNTS + WAITING and self.kind == "drift":
            raise ValueError(f"{self.metric} is watched by a threshold; a drift is that of a share")
        if (self.metric == "share") != bool(self.of):
            raise ValueError("of says which calls the metric share counts; other metrics have none")
        if (self.metric == "judge_agreement") != bool(self.judge):
            raise ValueError("judge says whose agreement with annotators is watched; other metrics have none")
        clash = sorted(n for n in self.of if n in self.filters and n not in ("tag",))
        if clash:
            raise ValueError(f"{clash[0]} is in filters and in of; one of them is enough")
        return self

    @property
    def worse(self) -> Literal["lower", "higher"]:
        """Which way is bad."""
        return self.bad or ("lower" if self.metric in ("rate", "coverage", "judge_agreement") else "higher")

    @property
    def limit(self) -> float:
        """What the measured number of a threshold rule is held against: of waiting times the share that may be slower."""
        return SLOW_SHARE if self.metric in WAITING else self.threshold or 0.0

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
        apart = ("name", "webhook_url", "webhook_format", "remind_hours", "enabled")
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
