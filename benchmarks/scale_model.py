"""Machines, disk and money for a number of spans a day, from the costs that BENCHMARKS.md measured.

    python benchmarks/scale_model.py [--spans 1e6 1e8 1e10] [--bytes 1000] [--days 30] [--replicas 2]

The costs are arguments, so that another machine's go in; prices are list prices of large clouds, rounded.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured, and what is paid.

    Attributes:
        span_us: processor time of a span from its arrival to merged parts, microseconds of one core.
        span_bytes: a stored span on disk, compressed, with its indices.
        peak: the busiest minute over the mean.
        busy: share of a core that is planned to be used.
        core_month, gb_month: dollars.
    """

    span_us: float
    span_bytes: float
    peak: float
    busy: float
    core_month: float
    gb_month: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a number of spans a day needs."""

    peak_per_s: float
    cores: int
    disk_gb: float
    dollars_month: float


def plan(spans_a_day: float, costs: Costs, *, days: float, replicas: int) -> Plan:
    """Cores of ingestion at the peak, on every replica; disk of all replicas; one core at least is left to reads."""
    peak = costs.peak * spans_a_day / DAY_S
    cores = replicas * math.ceil(1 + peak * costs.span_us / 1e6 / costs.busy)
    disk = spans_a_day * days * costs.span_bytes * replicas / 1e9
    return Plan(peak, cores, disk, cores * costs.core_month + disk * costs.gb_month)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spans", type=float, nargs="+", default=[1e6, 1e8, 1e10], help="spans a day")
    parser.add_argument("--span-us", type=float, default=90)
    parser.add_argument("--bytes", type=float, default=1000)
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--peak", type=float, default=3)
    parser.add_argument("--busy", type=float, default=0.5)
    parser.add_argument("--core-month", type=float, default=30)
    parser.add_argument("--gb-month", type=float, default=0.1)
    args = parser.parse_args()
    costs = Costs(args.span_us, args.bytes, args.peak, args.busy, args.core_month, args.gb_month)
    print("| spans a day | peak, spans/s | cores | disk | dollars a month |\n|---|---|---|---|---|")
    for spans in args.spans:
        found = plan(spans, costs, days=args.days, replicas=args.replicas)
        cells = (f"{spans:,.0f}", f"{found.peak_per_s:,.0f}", str(found.cores), f"{found.disk_gb:,.0f} GB")
        print(f"| {' | '.join(cells)} | {found.dollars_month:,.0f} |")


if __name__ == "__main__":
    main()
