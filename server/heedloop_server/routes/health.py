"""The health of an app: errors, latency, tokens and cost of a view's answers and calls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from heedloop import responses
from heedloop.schema import utc_now
from heedloop_server.http.services import ReadProject
from heedloop_server.http.shared_responses import SharedRouter
from heedloop_server.routes.quality import BUCKET_LENGTH, Chosen, bucket_starts
from heedloop_server.statistics.intervals import wilson
from heedloop_server.store.admin.alerts import alarm_periods
from heedloop_server.store.admin.project_settings import project_prices
from heedloop_server.store.quality import counts
from heedloop_server.store.quality.counts import Bucket
from heedloop_server.store.quality.health import measure_health

router = SharedRouter()

C = TypeVar("C", bound=responses.HealthCounts)


@router.get("/v1/quality/health")
def health(
    project: ReadProject, view: Chosen, interval: Bucket = "day", by: str | None = None
) -> responses.AppHealth:
    """Errors, latency, time to first token, calls, tokens and cost: whole, over time, and by a field."""
    starts = bucket_starts(view.filters, interval)
    measured = measure_health(project, view.filters, interval, by, project_prices(project))
    now, length = utc_now(), BUCKET_LENGTH[interval]
    return responses.AppHealth(
        total=_counts(responses.HealthCounts, measured.total),
        points=[
            _counts(responses.HealthPoint, measured.over_time.get(at, {}), time=at, running=at + length > now)
            for at in starts
        ],
        by=by,
        groups=[_counts(responses.HealthGroup, row, value=value) for value, row in measured.groups.items()],
        releases=[
            responses.Release(time=at, field=field, value=value)
            for at, field, value in counts.releases(project, view)
        ],
        alarms=alarm_periods(project, *view.filters.period()),
    )


def _counts(record: type[C], row: Mapping[str, Any], **more: Any) -> C:
    num, errors = int(row.get("recorded", 0)), int(row.get("recorded_errors", 0))
    p50, p95 = _quantiles(row, "latency")
    first_p50, first_p95 = _quantiles(row, "first_token")
    whole = ("num_answers", "num_errors", "num_calls", "input_tokens", "output_tokens", "num_unpriced")
    return record(
        error_share=wilson(errors, num),
        p50_ms=p50,
        p95_ms=p95,
        first_token_p50_ms=first_p50,
        first_token_p95_ms=first_p95,
        cost=float(row.get("cost", 0.0)),
        **{n: round(row.get(n, 0)) for n in whole},
        **more,
    )


def _quantiles(row: Mapping[str, Any], name: str) -> tuple[float | None, ...]:
    """Quantiles in milliseconds; of nothing the engine says NaN."""
    return tuple(None if math.isnan(q) else float(q) for q in row.get(name, (math.nan, math.nan)))
