"""Where the time went: wall-clock and processor seconds by stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lap:
    """One stage: wall-clock seconds, and processor seconds of this process and of its children."""

    name: str
    wall_s: float
    cpu_s: float


class Stopwatch:
    """Measures stages one after the other.

    Args:
        children_cpu_s: processor seconds that sub-processes have used so far.
    """

    def __init__(self, children_cpu_s: Callable[[], float] = lambda: 0.0) -> None:
        self.laps: list[Lap] = []
        self._children_cpu_s = children_cpu_s

    @contextmanager
    def lap(self, name: str) -> Generator[None]:
        """Measure the block as a stage of this name."""
        wall, cpu = time.perf_counter(), self._cpu()
        yield
        self.laps.append(Lap(name, time.perf_counter() - wall, self._cpu() - cpu))

    def _cpu(self) -> float:
        return time.process_time() + self._children_cpu_s()
