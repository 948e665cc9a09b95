"""What `heedloop.assign` costs the caller's thread, next to hashing the unit alone: `python benchmarks/assign.py`.

The median of rounds, in microseconds of wall-clock time a call; `outside` a decorated call in a thread of its own, `inside` one,
`in a block` of `heedloop.context()`, and for a unit that is not in the experiment.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b

import heedloop
from heedloop import testing
from heedloop._assignment import PLANS

PLAN = {
    "name": "prompt",
    "round": 1,
    "salt": "a1b2c3d4",
    "ends": [2**30, 2**31, 3 * 2**30],
    "segments": [0, 1, 0],
    "probabilities": [0.5, 0.5, 1.0],
    "arms": ["old", "new"],
    "parameters": [{"prompt": "Answer."}, {"prompt": "Answer kindly.", "temperature": 0.2}],
    "serving": 0,
}


def median_us(work: Callable[[str], object], units: Sequence[str], rounds: int) -> float:
    """Microseconds a call, the median of the rounds."""
    times: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        for unit in units:
            work(unit)
        times.append((time.perf_counter() - start) / len(units) * 1e6)
    return statistics.median(times)


def assign(unit: str) -> object:
    return heedloop.assign("prompt", unit=unit, default={"prompt": "Mine."})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    units = [f"user-{i}" for i in range(args.units)]
    with testing.recording() as seen:
        seen.transport.documents[PLANS] = {"plans": [PLAN]}
        seen.runtime.settings.wait(PLANS, 10)
        inside: list[float] = []

        @heedloop.trace
        def answer(question: str) -> str:
            inside.append(median_us(assign, units, args.rounds))
            return question

        results = {"hashing alone": median_us(lambda u: blake2b(u.encode()).digest(), units, args.rounds)}
        results["outside"] = median_us(assign, units, args.rounds)
        answer("q")
        results["inside a call"] = inside[0]
        with heedloop.context(user_id="u"):
            results["in a block"] = median_us(assign, units, args.rounds)
            results["the same unit again"] = median_us(lambda _: assign("user-1"), units, args.rounds)
    for name, took in results.items():
        print(f"{name:22} {took:6.2f} us")


if __name__ == "__main__":
    main()
