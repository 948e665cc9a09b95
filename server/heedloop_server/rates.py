"""How often one key may ask: a token bucket per key, in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from heedloop_server.errors import TooMany

__all__ = ["RateLimit"]

_MAX_BUCKETS = 100_000


class RateLimit:
    """Lets each name pass `per_minute` times a minute, with bursts of a tenth of that (at least 10); 0 lets all pass."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._burst = max(10.0, per_minute / 10)
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def check(self, name: str) -> None:
        """Take one; raises `TooMany` with the seconds to wait where none is left."""
        if not self._rate:
            return
        now = self._clock()
        with self._lock:
            if len(self._buckets) > _MAX_BUCKETS:
                self._buckets.clear()
            left, at = self._buckets.get(name, (self._burst, now))
            left = min(self._burst, left + (now - at) * self._rate)
            if left < 1:
                wait = (1 - left) / self._rate
                raise TooMany(
                    f"more than {self._rate * 60:.0f} requests a minute; wait {wait:.1f} s",
                    retry_after_s=wait,
                )
            self._buckets[name] = (left - 1, now)
