"""Head sampling with a stated probability, and the tail buffer that brings back what turns out to matter."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any

from opentelemetry.trace import TraceFlags, TraceState

_RANDOM_BITS = 56
_RANDOM_MASK = 2**_RANDOM_BITS - 1
_MAX_KEPT = 65_536
_SAMPLED = TraceFlags(1)
_UNSAMPLED = TraceFlags(0)


class Sampler:
    """Chooses traces by the low 56 bits of their id (W3C trace context, level 2), so that every service agrees.

    `trace_state` says with which probability, to the services behind this one; None where everything is chosen.
    """

    __slots__ = ("_threshold", "rate", "trace_state")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._threshold = min(round((1 - rate) * 2**_RANDOM_BITS), _RANDOM_MASK)
        threshold = f"{self._threshold:014x}".rstrip("0")
        self.trace_state = TraceState([("ot", f"th:{threshold}")]) if threshold else None

    def chooses(self, trace_id: int) -> bool:
        """True for a share `rate` of all trace ids."""
        return trace_id & _RANDOM_MASK >= self._threshold

    def decide(self, trace_id: int) -> tuple[TraceFlags, TraceState | None]:
        """The flags and the `tracestate` of a trace that begins here."""
        return (_SAMPLED, self.trace_state) if self.chooses(trace_id) else (_UNSAMPLED, None)


class TailBuffer:
    """Spans of traces that sampling left out, for as long as memory and age allow.

    `keep` gives a trace's spans back and remembers the trace, so that those which end later come back as well.
    """

    def __init__(self, max_bytes: int, max_age_s: float) -> None:
        self._max_chars = max_bytes
        self._max_age_s = max_age_s
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._lock = threading.Lock()
        self._traces: OrderedDict[int, tuple[float, list[tuple[Any, int]]]] = OrderedDict()
        self._kept: OrderedDict[int, str] = OrderedDict()
        self._num_chars = 0
        self.num_expired = 0

    def add(self, trace_id: int, span: Any, num_chars: int) -> list[tuple[Any, int]]:
        """Take an unsampled span; gives it straight back where its trace is kept."""
        cost = num_chars + _SPAN_COST
        with self._lock:
            if trace_id in self._kept:
                return [(span, num_chars)]
            buffered = self._traces.get(trace_id)
            if buffered is None:
                self._traces[trace_id] = (time.monotonic(), [(span, num_chars)])
            else:
                buffered[1].append((span, num_chars))
            self._num_chars += cost
            while self._num_chars > self._max_chars and self._traces:
                self._drop_oldest()
        return []

    def keep(self, trace_id: int, reason: str) -> list[tuple[Any, int]]:
        """The trace's spans, which are now the caller's."""
        with self._lock:
            self._kept.setdefault(trace_id, reason)
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
            buffered = self._traces.pop(trace_id, None)
            if buffered is None:
                return []
            self._num_chars -= sum(n + _SPAN_COST for _span, n in buffered[1])
            return buffered[1]

    def reason(self, trace_id: int) -> str:
        """Why the trace was kept."""
        return self._kept.get(trace_id, "kept")

    def expire(self) -> None:
        """Drop what is too old."""
        limit = time.monotonic() - self._max_age_s
        with self._lock:
            while self._traces and next(iter(self._traces.values()))[0] < limit:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        _trace_id, (_when, spans) = self._traces.popitem(last=False)
        self._num_chars -= sum(n + _SPAN_COST for _span, n in spans)
        self.num_expired += len(spans)


_SPAN_COST = 1_500
"""About how many bytes a span takes in addition to its text."""
