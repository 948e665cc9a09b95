"""The calls that reviewers were shown last, kept in memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable

from heedloop.schema import Call

_CACHED_CHARS = 32_000_000
_CACHED_S = 300.0


class Contents:
    """The calls read last, up to a number of characters, for a few minutes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: OrderedDict[tuple[str, str], tuple[float, int, list[Call]]] = OrderedDict()
        self._chars = 0

    def get(self, key: tuple[str, str]) -> list[Call] | None:
        with self._lock:
            hit = self._calls.get(key)
            if hit is None:
                return None
            if time.monotonic() - hit[0] > _CACHED_S:
                self._chars -= self._calls.pop(key)[1]
                return None
            return hit[2]

    def holds(self, keys: Iterable[tuple[str, str]]) -> bool:
        """True where all of them are in memory."""
        return all(self.get(k) is not None for k in keys)

    def put(self, key: tuple[str, str], calls: list[Call]) -> None:
        chars = sum(len(m.text) for c in calls for m in (*c.input_messages, *c.output_messages))
        chars += 1_000 + sum(len(v) for c in calls for v in c.attributes.values())
        with self._lock:
            if key in self._calls:
                self._chars -= self._calls.pop(key)[1]
            self._calls[key] = (time.monotonic(), chars, calls)
            self._chars += chars
            while self._chars > _CACHED_CHARS and len(self._calls) > 1:
                self._chars -= self._calls.popitem(last=False)[1][1]

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()
            self._chars = 0
