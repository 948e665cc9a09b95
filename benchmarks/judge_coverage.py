"""How often the combined interval holds the truth: a grid of judges, rates and labels, and real judgements.

    python benchmarks/judge_coverage.py [--rounds 1000] [--shared FOLDER] [--plot docs/judges-coverage.svg]

Prints, per judge, the smallest coverage of four intervals over the grid: the judge's own (Wilson's over all its scores), the
prediction-powered normal interval (PPI++), Wilson's of the labels alone, and ours; and what a label is worth with the judge.
`--plot` draws the coverage at every point. With `--shared` also "the longer answer wins" as a judge of real comparisons.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heedloop_server.statistics.intervals import wilson
from heedloop_server.statistics.prediction_powered import CombinedRate, combined_rate

Array = NDArray[np.float64]
NUMS = (20, 50, 100, 200, 500)
RATES = (0.5, 0.7, 0.8, 0.9, 0.95)
METHODS = ("judge alone", "PPI++ normal", "labels alone", "combined")


def _flipped(y: Array, right: Array | float, rng: np.random.Generator) -> Array:
    return np.where(rng.random(len(y)) < right, y, 1 - y)


JUDGES: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "perfect": lambda y, rng: y,
    "good": lambda y, rng: _flipped(y, 0.9, rng),
    "weak": lambda y, rng: _flipped(y, 0.65, rng),
    "constant": lambda y, rng: np.ones(len(y)),
    "adversarial": lambda y, rng: _flipped(y, 0.1, rng),
    "drifting": lambda y, rng: _flipped(y, np.linspace(0.95, 0.55, len(y)), rng),
    "by length": lambda y, rng: (rng.exponential(1, len(y)) + y / 2 > 1.2).astype(float),
    "score": lambda y, rng: np.clip(y * 0.4 + 0.3 + rng.normal(0, 0.2, len(y)), 0, 1),
}


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the grid: coverage by method, the mean worth of a label, and the narrowest share of the labels' width."""

    judge: str
    rate: float
    num: int
    coverage: dict[str, float]
    worth: float
    width: float


def grid(rounds: int, size: int = 2000) -> Iterator[Point]:
    """Every judge at every rate and number of labels, `rounds` times over `size` answers."""
    for judge in JUDGES:
        for rate in RATES:
            for num in NUMS:
                rng = np.random.default_rng(hash_of(judge, rate, num))
                yield _point(judge, rate, num, rounds, size, rng)


def hash_of(judge: str, rate: float, num: int) -> int:
    """A seed of its own for every point."""
    return int.from_bytes(f"{judge}{rate}{num}".encode(), "little") % 2**32


def _point(judge: str, rate: float, num: int, rounds: int, size: int, rng: np.random.Generator) -> Point:
    hits, worth, widths = dict.fromkeys(METHODS, 0), 0.0, 0.0
    for _ in range(rounds):
        y = (rng.random(size) < rate).astype(float)
        f = JUDGES[judge](y, rng)
        order = rng.permutation(size)
        seen, rest = order[:num], order[num:]
        found = combined_rate(y[seen], f[seen], f[rest])
        assert found is not None
        ends = intervals(found, y[seen], f)
        for method, (low, high) in ends.items():
            hits[method] += low <= rate <= high
        worth += found.effective_n / num / rounds
        low, high = ends["labels alone"]
        widths += (found.interval.high - found.interval.low) / (high - low) / rounds
    return Point(judge, rate, num, {m: h / rounds for m, h in hits.items()}, worth, widths)


def intervals(found: CombinedRate, labels: Array, scores: Array) -> dict[str, tuple[float, float]]:
    """The four intervals' ends by method."""
    alone, judged = wilson(labels.sum(), len(labels)), wilson(scores.sum(), len(scores))
    assert alone is not None and judged is not None
    half = 1.959964 * found.se
    return {
        "judge alone": (judged.low, judged.high),
        "PPI++ normal": (found.raw - half, found.raw + half),
        "labels alone": (alone.low, alone.high),
        "combined": (found.interval.low, found.interval.high),
    }


# ------------------------------------------------------------------------------------------------- real judgements


def longer_wins(shared: Path) -> dict[str, tuple[Array, Array]]:
    """Per set: people's preference for the first answer (a tie is a half), and whether it is the longer one."""
    texts = {a["arg"]: len(a["text"]) for a in _rows(shared, "ukpconvarg1_args")}
    golds = {"a1": 1.0, "a2": 0.0, "equal": 0.5}
    ukp = [
        (golds[p["gold"]], texts[p["a1"]], texts[p["a2"]])
        for p in _rows(shared, "ukpconvarg1_pairs")
        if p["gold"]
    ]
    tulu = [
        (float(p["preference"][0] == "a"), len(p["completion_a"]), len(p["completion_b"]))
        for p in _rows(shared, "tulu1_human_eval")
        if p["preference"] != "tie"
    ]
    return {"UKP": _sides(ukp), "Tülu": _sides(tulu)}


def _rows(shared: Path, name: str) -> list[dict]:
    with gzip.open(shared / "data" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _sides(rows: Sequence[tuple[float, int, int]]) -> tuple[Array, Array]:
    y, a, b = (np.array(column, float) for column in zip(*rows, strict=True))
    return y, (np.sign(a - b) + 1) / 2


def worth_of(y: Array, f: Array, num: int, rounds: int, seed: int = 0) -> tuple[float, float, float]:
    """What a label is worth with all other answers judged without end, and with those at hand; and the coverage of the mean."""
    rng, worth, hits, truth = np.random.default_rng(seed), 0.0, 0, float(y.mean())
    for _ in range(rounds):
        order = rng.permutation(len(y))
        found = combined_rate(y[order[:num]], f[order[:num]], f[order[num:]])
        assert found is not None
        worth += found.effective_n / num / rounds
        hits += found.interval.low <= truth <= found.interval.high
    return 1 / (1 - float(np.corrcoef(y, f)[0, 1]) ** 2), worth, hits / rounds


# ------------------------------------------------------------------------------------------------------------ report


def plot(points: Sequence[Point], path: Path) -> None:
    """Coverage of every point by method, a column per judge, as SVG."""
    colours = dict(zip(METHODS, ("#b45309", "#7c3aed", "#64748b", "#0f766e"), strict=True))
    width, height, left, top = 880, 330, 46, 30
    judges, column = list(JUDGES), (880 - 60) / len(JUDGES)

    def y_of(share: float) -> float:
        return top + (1 - share) * (height - top - 40)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 0.95):
        colour = "#111827" if share == 0.95 else "#d1d5db"
        parts.append(
            f'<line x1="{left}" x2="{width - 8}" y1="{y_of(share):.1f}" y2="{y_of(share):.1f}" stroke="{colour}"/>'
            f'<text x="4" y="{y_of(share) + 4:.1f}">{share:.0%}</text>'
        )
    for n, (method, colour) in enumerate(colours.items()):
        parts.append(
            f'<circle cx="{left + 8 + n * 150}" cy="14" r="4" fill="{colour}"/><text x="{left + 18 + n * 150}" y="18">{method}</text>'
        )
    for at, judge in enumerate(judges):
        x = left + at * column
        parts.append(f'<text x="{x + 20:.0f}" y="{height - 12}">{judge}</text>')
        for n, point in enumerate(p for p in points if p.judge == judge):
            for m, method in enumerate(METHODS):
                cx = x + 14 + m * (column - 20) / 4 + n * 0.6
                parts.append(
                    f'<circle cx="{cx:.1f}" cy="{y_of(point.coverage[method]):.1f}" r="2" fill="{colours[method]}" fill-opacity=".6"/>'
                )
    path.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")


def main() -> None:
    """Run the grid, print the tables, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    points = list(grid(args.rounds))
    heads = " | ".join(METHODS)
    print(f"| judge | {heads} | a label is worth | width against labels alone |")
    print("|---|" + "---|" * (len(METHODS) + 2))
    for judge in JUDGES:
        of = [p for p in points if p.judge == judge]
        least = " | ".join(f"{min(p.coverage[m] for p in of):.1%}" for m in METHODS)
        worth = f"{min(p.worth for p in of):.2f} to {max(p.worth for p in of):.2f}"
        print(
            f"| {judge} | {least} | {worth} | {min(p.width for p in of):.2f} to {max(p.width for p in of):.2f} |"
        )
    allowance = 3 * math.sqrt(0.93 * 0.07 / args.rounds)
    print(
        f"\nsmallest combined coverage: {min(p.coverage['combined'] for p in points):.3f} (three standard errors: {allowance:.3f})"
    )
    if args.plot:
        plot(points, args.plot)
    if args.shared:
        for name, (y, f) in longer_wins(args.shared).items():
            limit, worth, covered = worth_of(y, f, 100, args.rounds)
            print(
                f"{name}: {len(y):,} pairs; worth {limit:.2f} in the limit, {worth:.2f} at 100 labels; coverage {covered:.1%}"
            )


if __name__ == "__main__":
    main()
