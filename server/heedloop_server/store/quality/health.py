"""The health of an app by its calls: errors, latency, time to first token, tokens and cost, whole, by time and by a field.

Answers are what users wait for: errors and times are theirs. Tokens and cost are of every provider call, those inside of
answers too. A call that brings no cost has that of the project's price table, where its model is in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal

from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import ProjectStore, Row
from heedloop_server.store.filters import conditions
from heedloop_server.store.quality.rows import BUCKET_START, SHORT, Bucket, call_column, expression

Price = Mapping[str, float]
"""US dollars per million tokens: `input`, `output`, and `cached_input` where it differs."""
Prices = Mapping[str, Price]
"""Model -> its price."""
Amount = Literal["calls", "tokens", "cost"]
Waiting = Literal["latency", "first_token"]
MAX_GROUPS = 20

_OF_CALLS = "operation != ''"
_MEASURES = f"""sumIf(w, is_answer) AS num_answers,
            sumIf(w, is_answer AND status = 'error') AS num_errors,
            countIf(is_answer) AS recorded,
            countIf(is_answer AND status = 'error') AS recorded_errors,
            sumIf(w, {_OF_CALLS}) AS num_calls,
            quantilesTDigestIf(0.5, 0.95)(duration_ns / 1e6, is_answer) AS latency,
            quantilesTDigestIf(0.5, 0.95)(first_token_ns / 1e6, is_answer AND first_token_ns > 0) AS first_token,
            sumIf(w * ifNull(prompt_tokens, 0), {_OF_CALLS}) AS input_tokens,
            sumIf(w * ifNull(completion_tokens, 0), {_OF_CALLS}) AS output_tokens,
            sumIf(w * ifNull(dollars, 0), {_OF_CALLS}) AS cost,
            sumIf(w, {_OF_CALLS} AND dollars IS NULL AND prompt_tokens IS NOT NULL) AS num_unpriced"""
"""Sums weigh a call by the inverse of the probability with which it was recorded."""


def priced(prices: Prices, params: dict[str, Any]) -> str:
    """The SQL of a call's cost over `spans`, in US dollars: as it came, else by the price table, else NULL; fills `params`."""
    models = sorted(prices)
    params["priced_models"] = models
    for name in ("input", "output", "cached_input"):
        params[f"price_{name}"] = [float(prices[m].get(name, prices[m]["input"])) for m in models]
    price = "transform(model, {{priced_models:Array(String)}}, {{price_{}:Array(Float64)}}, 0.)"
    cached = "ifNull(cache_read_input_tokens, 0)"
    counted = (
        f"(greatest(0, toInt64(ifNull(input_tokens, 0)) - {cached}) * {price.format('input')}"
        f" + {cached} * {price.format('cached_input')} + ifNull(output_tokens, 0) * {price.format('output')}) / 1e6"
    )
    is_known = "has({priced_models:Array(String)}, model) AND (input_tokens IS NOT NULL OR output_tokens IS NOT NULL)"
    return f"ifNull(cost, if({is_known}, {counted}, NULL))"


@dataclass(frozen=True, slots=True)
class Health:
    """Rows of `_MEASURES`: of the whole, by the start of each bucket, and by value of the field, most answers first."""

    total: Row
    over_time: dict[datetime, Row]
    groups: dict[str, Row]


def measure_health(
    project: ProjectStore, filters: CallFilters, bucket: Bucket, field: str | None, prices: Prices
) -> Health:
    """Everything of a period; without `field` no groups.

    Raises:
        Invalid: the field is none to group by.
    """
    params: dict[str, Any] = {}
    places = ["[('total', '')]", f"[('time', toString(toUnixTimestamp({BUCKET_START[bucket]})))]"]
    columns: list[str] = []
    if field is not None:
        value = expression(field, params, "key")
        columns = [call_column(c) for c in sorted(value.columns)]
        places.append(f"arrayMap(v -> ('group', v), {value.values})")
    calls, more = _calls(filters, prices, columns)
    # an array of places for each call: reading a period once costs more than counting it three times
    rows = project.rows(
        f"""
        SELECT
            arrayJoin(arrayConcat({", ".join(places)})) AS place,
            {_MEASURES}
        FROM (
            {calls}
        )
        GROUP BY place
        ORDER BY
            num_answers DESC,
            num_calls DESC,
            place
        """,  # noqa: S608
        {**more, **params},
        **SHORT,
    )
    of = {
        kind: {r["place"][1]: r for r in rows if r["place"][0] == kind} for kind in ("total", "time", "group")
    }
    return Health(
        of["total"].get("", {}),
        {datetime.fromtimestamp(int(at), tz=timezone.utc): r for at, r in of["time"].items()},
        dict(itertools.islice(of["group"].items(), MAX_GROUPS)),
    )


def _calls(filters: CallFilters, prices: Prices, columns: list[str]) -> tuple[str, dict[str, Any]]:
    """The answers and provider calls of a period; a filter for answers alone is left to the measures."""
    where, params = conditions(filters.model_copy(update={"answers_only": False}))
    read = [
        "start_time AS at", *columns, "status", "is_answer", "operation", "duration_ns", "first_token_ns",
        "input_tokens AS prompt_tokens", "output_tokens AS completion_tokens", "1 / sampling_probability AS w", f"{priced(prices, params)} AS dollars",
    ]  # fmt: skip
    wanted = ",\n".join(dict.fromkeys(read))
    sql = f"""
            SELECT
                {wanted}
            FROM spans FINAL
            WHERE {where}
              AND (is_answer OR operation != '')"""  # noqa: S608
    return sql, params


_OF_HOUR: dict[Amount | Waiting, tuple[str, str]] = {
    "calls": ("w", _OF_CALLS),
    "tokens": ("w * (ifNull(prompt_tokens, 0) + ifNull(completion_tokens, 0))", _OF_CALLS),
    "cost": ("w * ifNull(dollars, 0)", _OF_CALLS),
    "latency": ("duration_ns > {limit_ms:Float64} * 1e6", "is_answer"),
    "first_token": ("first_token_ns > {limit_ms:Float64} * 1e6", "is_answer AND first_token_ns > 0"),
}
"""What is summed, and of which calls."""


def measure_hours(
    project: ProjectStore,
    filters: CallFilters,
    metric: Amount | Waiting,
    prices: Prices,
    *,
    limit_ms: float = 0.0,
) -> dict[datetime, tuple[float, int]]:
    """Start of each hour -> (amount, calls), or (answers that waited longer than `limit_ms`, answers)."""
    amount, which = _OF_HOUR[metric]
    calls, params = _calls(filters, prices, [])
    rows = project.rows(
        f"""
        SELECT
            {BUCKET_START["hour"]} AS hour,
            sumIf({amount}, {which}) AS amount,
            countIf({which}) AS num
        FROM (
            {calls}
        )
        GROUP BY hour
        """,  # noqa: S608
        {**params, "limit_ms": limit_ms},
        **SHORT,
    )
    return {r["hour"]: (float(r["amount"]), int(r["num"])) for r in rows}
