"""From ended spans to bytes at the server, in slices so small that the host does not feel them.

A thread that holds the interpreter for milliseconds is what makes other SDKs' p99 what it is; this one encodes for a
fraction of a millisecond and then sleeps long enough for the host to take the interpreter back.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from opentelemetry import context as context_api

from heedloop import _otlp
from heedloop._guard import report, start_thread, warn
from heedloop._outbox import Outbox
from heedloop._transport import Transport

MAX_QUEUED_SPANS = 32_768
MAX_QUEUED_CHARS = 64 * 1024 * 1024
_MAX_BATCH_SPANS = 512
_MAX_BATCH_BYTES = 2 * 1024 * 1024
_LINGER_S = 0.1
_SLICE_S = 0.000_3
_BUSY_SLICE_S = 0.002
_PAUSE_S = 0.000_6
_BACKOFF_S = (0.5, 60.0)

TRACES_PATH = "/v1/traces"
PROTOBUF = "application/x-protobuf"


class EncodedSpan(NamedTuple):
    """One span as bytes, with what its message must be grouped under."""

    body: bytes
    resource: Mapping[str, Any]
    scope: tuple[str, str]


class Batch:
    """Spans on their way: encoded, at most 512 and about 2 MiB."""

    def __init__(self) -> None:
        self.spans: list[EncodedSpan] = []
        self.num_bytes = 0

    def add(self, span: EncodedSpan) -> None:
        """Take one more."""
        self.spans.append(span)
        self.num_bytes += len(span.body)

    @property
    def full(self) -> bool:
        """True when it should be sent before more is added."""
        return len(self.spans) >= _MAX_BATCH_SPANS or self.num_bytes >= _MAX_BATCH_BYTES

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches of half as many spans each."""
        middle = len(self.spans) // 2
        first, second = Batch(), Batch()
        for index, span in enumerate(self.spans):
            (first if index < middle else second).add(span)
        return first, second

    def request(self) -> bytes:
        """The ExportTraceServiceRequest."""
        groups: dict[tuple[int, tuple[str, str]], list[bytes]] = {}
        resources: dict[int, Mapping[str, Any]] = {}
        for span in self.spans:
            resources[id(span.resource)] = span.resource
            groups.setdefault((id(span.resource), span.scope), []).append(span.body)
        return _otlp.encode_request(
            (resources[key], name, version, bodies) for (key, (name, version)), bodies in groups.items()
        )


class SpanQueue:
    """The bounded queue of ended spans and the thread that empties it.

    `push` is what a host's thread pays for: one append under a lock. Everything that leaves the queue is sent, kept in
    the outbox, or counted as dropped with a reason; `counts` holds the numbers.
    """

    def __init__(
        self, encode: Callable[[Any], EncodedSpan | None], transport: Transport, outbox: Outbox
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.last_error: str | None = None
        self._encode = encode
        self._transport = transport
        self._outbox = outbox
        self._attempt = 0
        self._retry_at = 0.0
        self.reset()

    def reset(self) -> None:
        """Start empty; also what a forked child does, because the queued spans are its parent's to send."""
        self._queue: deque[tuple[Any, int]] = deque()
        self._lock = threading.Lock()
        self._num_chars = 0
        self._num_pushed = 0
        self._num_settled = 0
        self._settled = threading.Condition()
        self._wake = threading.Event()
        self._asleep = True
        self._hurry = False
        self._closed = False
        self._in_flight: Batch | None = None
        self._encoding = threading.Lock()
        self._thread: threading.Thread | None = None
        self.counts.clear()

    @property
    def num_waiting(self) -> int:
        """Spans that are queued or on their way."""
        return self._num_pushed - self._num_settled

    def push(self, span: Any, num_chars: int) -> None:
        """Take an ended span; `num_chars` is about how much text it holds."""
        with self._lock:
            if (
                len(self._queue) >= MAX_QUEUED_SPANS
                or self._num_chars + num_chars > MAX_QUEUED_CHARS
                or self._closed
            ):
                self.counts["dropped.queue_full" if not self._closed else "dropped.shut_down"] += 1
                full = True
            else:
                self._queue.append((span, num_chars))
                self._num_chars += num_chars
                self._num_pushed += 1
                full = False
        if full:
            warn("queue", "spans come faster than they can be sent; some were dropped and counted")
        elif self._asleep:
            self._asleep = False
            self._start()
            self._wake.set()

    def flush(self, deadline: float) -> bool:
        """Wait until everything pushed before now is settled, at most until `deadline` (monotonic seconds)."""
        target = self._num_pushed
        self._hurry = True
        if self._num_settled < target:
            self._start()
            self._wake.set()
        with self._settled:
            while self._num_settled < target:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._settled.wait(left)
        self._hurry = False
        return self._num_settled >= target

    def close(self, deadline: float) -> None:
        """Send what can be sent, then move the rest to the outbox; done by `deadline` whatever the server does.

        Half of the time that is left is for sending. A server that has just failed or keeps us waiting gets none.
        """
        left = max(deadline - time.monotonic(), 0.0)
        if self._thread is not None:
            self.flush(time.monotonic() + left / 2)
        with self._lock:
            self._closed = True
        self._rescue(deadline)
        self._wake.set()

    @property
    def is_backing_off(self) -> bool:
        """True while the server is left in peace after a failure."""
        return time.monotonic() < self._retry_at

    def healthy(self) -> None:
        """The server was seen to answer: try it again at once."""
        self._attempt = 0
        self._retry_at = 0.0

    # -------------------------------------------------------------------------------------- the exporter's thread

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = start_thread(self._run, "heedloop-spans")

    def _run(self) -> None:
        # Our own requests must not become spans of the app's HTTP instrumentation.
        context_api.attach(context_api.set_value(context_api._SUPPRESS_INSTRUMENTATION_KEY, True))
        wake = self._wake
        while not self._closed:
            wake.wait()
            wake.clear()
            if not self._hurry:
                wake.wait(_LINGER_S)
            try:
                while self._queue and not self._closed:
                    self._ship(self._collect())
            except Exception as error:  # noqa: BLE001  a thread of ours; without this it would end unseen
                report(error, "exporting spans")
            self._asleep = True
            if self._queue:  # pushed between the last look and falling asleep
                wake.set()
        self._transport.close()

    def _collect(self) -> Batch:
        batch = Batch()
        self._in_flight = batch
        slice_ends = time.perf_counter() + _SLICE_S
        while self._queue and not batch.full:
            with self._encoding:
                if self._closed:
                    break
                self._encode_next(batch)
            if time.perf_counter() > slice_ends:
                if not self._hurry:
                    time.sleep(_PAUSE_S)
                busy = len(self._queue) > MAX_QUEUED_SPANS // 2
                slice_ends = time.perf_counter() + (_BUSY_SLICE_S if busy else _SLICE_S)
        return batch

    def _encode_next(self, batch: Batch) -> None:
        with self._lock:
            if not self._queue:
                return
            span, num_chars = self._queue.popleft()
            self._num_chars -= num_chars
        try:
            encoded = self._encode(span)
        except Exception as error:  # noqa: BLE001  one bad span must not take others with it
            report(error, "encoding a span")
            encoded = None
        if encoded is None:
            self._count_outcome(1, "dropped.unencodable")
        else:
            batch.add(encoded)

    def _ship(self, batch: Batch) -> None:
        if not batch.spans or self._in_flight is not batch:
            return
        if time.monotonic() < self._retry_at:
            self._keep(batch)
            return
        response = self._transport.post(TRACES_PATH, batch.request(), content_type=PROTOBUF)
        if self._in_flight is not batch:  # rescued into the outbox by `close` while we waited for the server
            return
        self._in_flight = None
        if response.verdict == "accepted":
            self.healthy()
            self._count_outcome(len(batch.spans), "sent")
        elif response.verdict == "too_large" and len(batch.spans) > 1:
            for half in batch.halves():
                self._in_flight = half
                self._ship(half)
        elif response.verdict in ("refused", "too_large"):
            self.last_error = response.reason
            warn("refused", f"the server refused {len(batch.spans)} spans: {response.reason}")
            self._count_outcome(len(batch.spans), f"dropped.{response.verdict}")
        else:
            self.last_error = response.reason
            self._back_off(response.retry_after_s)
            self._keep(batch)

    def _keep(self, batch: Batch) -> None:
        self._in_flight = None
        if self._outbox.put_spans(batch.request(), len(batch.spans)):
            self._count_outcome(len(batch.spans), "kept")
        else:
            self._count_outcome(len(batch.spans), "dropped.outbox_full")

    def _back_off(self, retry_after_s: float | None) -> None:
        first, longest = _BACKOFF_S
        self._attempt += 1
        wait_s = retry_after_s if retry_after_s is not None else min(first * 2**self._attempt, longest)
        self._retry_at = time.monotonic() + wait_s

    def _count_outcome(self, num_spans: int, outcome: str) -> None:
        with self._settled:
            self.counts[outcome] += num_spans
            self._num_settled += num_spans
            self._settled.notify_all()

    def _rescue(self, deadline: float) -> None:
        with self._encoding:  # the exporter's thread adds nothing more to its batch from here on
            batch = self._in_flight or Batch()
            self._in_flight = None
        while True:
            while self._queue and not batch.full and time.monotonic() < deadline:
                self._encode_next(batch)
            if not batch.spans:
                break
            self._keep(batch)
            batch = Batch()
        with self._lock:
            left = len(self._queue)
            self._queue.clear()
        if left:
            warn("exit", f"{left} spans could not be kept in the time that exit may take")
            self._count_outcome(left, "dropped.exit")
