"""Delivers the outbox: feedback in order until acknowledged, then the span batches that wait behind it.

Of the processes that share an outbox one delivers at a time, the one that holds a lock on a file next to it; the system
frees the lock when that process ends, however it ends. So the order is kept and nothing is sent twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from opentelemetry import context as context_api

from heedloop._guard import report, start_thread, warn
from heedloop._outbox import Outbox, try_lock
from heedloop._store import Row
from heedloop._transport import Response, Transport

FEEDBACK_PATH = "/v1/feedback"
DELIVERY_PATH = "/v1/delivery"
JSON = "application/json"
_MAX_ROWS = 200
_MAX_BODY_BYTES = 1024 * 1024
_IDLE_S = 1.0
_COUNTS_EVERY_S = 10.0
_LOOK_EVERY_S = 60.0
_KEY_OF_FILE = re.compile(r"outbox-([0-9a-f]{12})\.sqlite3")
_FIRST_BACKOFF_S = 0.25
_LONGEST_BACKOFF_S = 60.0


class Courier:
    """The thread that empties the outbox."""

    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        *,
        on_response: Callable[[], None],
        on_tick: Callable[[], None],
        report_counts: Callable[[], dict[str, Any]],
    ) -> None:
        self.last_error: str | None = None
        self._outbox = outbox
        self._transport = transport
        self._on_response = on_response
        self._on_tick = on_tick
        self._report_counts = report_counts
        self._reported: dict[str, Any] = {}
        self._report_at = 0.0
        self._lock_file: int | None = None
        self.reset()

    def reset(self) -> None:
        """Stand ready without a thread; also what a forked child does. The parent's lock stays the parent's."""
        self._wake = threading.Event()
        self._progress = threading.Condition()
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.started = False
        self._closed = False
        self._retry_at = 0.0
        self._attempt = 0
        self._num_failures = 0
        self._impatient = False
        self._looked_at = -_LOOK_EVERY_S
        self._are_others_known = False
        self._num_reports = 0
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def wake(self) -> None:
        """There is something to deliver."""
        with self._start_lock:
            if self._closed:
                return
            if self._thread is None or not self._thread.is_alive():
                self._thread = start_thread(self._run, "heedloop-outbox")
                self.started = True
        self._wake.set()

    def flush(self, deadline: float, *, give_up_on_failure: bool = False) -> bool:
        """Wait until the feedback kept before now, and all waiting spans, are delivered; at most until `deadline`.

        With `give_up_on_failure` a single failed attempt ends the wait: what waits is on disk and can wait longer.
        """
        marker = self._outbox.marker()
        num_failures = self._num_failures
        self._impatient = True
        self._retry_at = 0.0
        self.wake()
        self._looked_at = -_LOOK_EVERY_S
        self._are_others_known = not self._outbox.others()
        while not self._are_others_known or self._outbox.num_waiting(marker=marker) != (0, 0):
            left = deadline - time.monotonic()
            if left <= 0 or (give_up_on_failure and self._num_failures > num_failures):
                return False
            with self._progress:
                # Another process may be the one that delivers, so look again now and then.
                self._progress.wait(min(left, 0.05))
        return True

    def report_counts(self, deadline: float) -> None:
        """Send the counts now where they changed; waits until that was tried, at most until `deadline`."""
        if self._report_counts() == self._reported:
            return
        num_reports = self._num_reports
        self._report_at = 0.0
        self._retry_at = 0.0
        self.wake()
        with self._progress:
            while self._num_reports == num_reports and (left := deadline - time.monotonic()) > 0:
                self._progress.wait(min(left, 0.05))

    def close(self, deadline: float) -> None:
        """Stop; a request that is under way is left to its time limit on its daemon thread."""
        with self._start_lock:
            self._closed = True
            thread = self._thread
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(deadline - time.monotonic(), 0.0))

    # ------------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        context_api.attach(context_api.set_value(context_api._SUPPRESS_INSTRUMENTATION_KEY, True))
        self._tidy()
        while not self._closed:
            try:
                self._on_tick()
                if time.monotonic() >= self._retry_at:
                    if self._is_deliverer():
                        self._look_for_others()
                        self._deliver()
                    else:
                        self._are_others_known = True  # the deliverer looks for them
                    self._report_now_and_then()
            except (sqlite3.Error, OSError) as error:
                report(error, "delivering the outbox")
            except Exception as error:  # noqa: BLE001  a thread of ours; without this it would end unseen
                report(error, "delivering the outbox")
            with self._progress:
                self._progress.notify_all()
            self._wake.wait(_IDLE_S if not self._impatient else 0.05)
            self._wake.clear()
        self._transport.close()
        self._release()

    def _tidy(self) -> None:
        try:
            self._outbox.forget_wanted()
        except sqlite3.Error as error:
            report(error, "tidying the outbox")

    def _deliver(self) -> None:
        while not self._closed and self._deliver_feedback():
            self._moved_on()
        while not self._closed and time.monotonic() >= self._retry_at and self._deliver_spans():
            self._moved_on()
        if time.monotonic() >= self._retry_at:
            self._impatient = False
            self._outbox.let_go()

    def _look_for_others(self) -> None:
        """Adopt the files of earlier keys of the same project; name those that are another's."""
        now = time.monotonic()
        if now < self._looked_at + _LOOK_EVERY_S:
            return
        self._looked_at = now
        for path in self._outbox.others():
            if self._outbox.is_same_key(path) or self._is_of_this_project(path):
                self._outbox.adopt(path)
        self._are_others_known = True

    def _is_of_this_project(self, path: Path) -> bool:
        key = _KEY_OF_FILE.fullmatch(path.name)
        num_records = _num_records(path)
        if not num_records:
            return False
        response = self._transport.get(f"/v1/me?of_key={key[1]}") if key is not None else Response("refused")
        body = cast(dict[str, Any], response.body) if isinstance(response.body, dict) else {}
        if response.verdict == "accepted" and body.get("same_project") is True:
            return True
        self._outbox.left_behind[str(path)] = num_records
        warn(
            f"outbox {path}",
            f"{num_records} records wait in {path} for another API key, which is not known to be of this project; "
            "see `heedloop outbox list`",
        )
        return False

    def _report_now_and_then(self) -> None:
        if time.monotonic() >= self._retry_at and time.monotonic() >= self._report_at:
            self._report_at = time.monotonic() + _COUNTS_EVERY_S
            self._deliver_counts()
            self._num_reports += 1

    def _moved_on(self) -> None:
        self._attempt = 0
        self._on_response()
        with self._progress:
            self._progress.notify_all()

    def _deliver_feedback(self) -> bool:
        """Send one batch; True where the server settled it, so that the next may follow."""
        rows = self._outbox.waiting_feedback(_MAX_ROWS, _MAX_BODY_BYTES)
        return bool(rows) and self._send_feedback(rows)

    def _send_feedback(self, rows: list[Row]) -> bool:
        body = b'{"feedback":[' + b",".join([r.body for r in rows]) + b"]}"
        response = self._transport.post(FEEDBACK_PATH, body, content_type=JSON)
        results = _results(response, len(rows))
        if results is not None:
            self._record_results(rows, results)
            return True
        if response.verdict == "later" or response.verdict == "accepted":
            self._back_off(response)
            return False
        if len(rows) > 1:  # one of them is at fault; find it without losing the others or their order
            middle = len(rows) // 2
            return self._send_feedback(rows[:middle]) and self._send_feedback(rows[middle:])
        warn("refused feedback", f"the server refused a feedback: {response.reason}")
        self.last_error = response.reason
        self._outbox.finish_feedback([], [(rows[0], response.reason)])
        return True

    def _record_results(self, rows: list[Row], results: list[dict[str, Any]]) -> None:
        accepted: list[Row] = []
        refused: list[tuple[Row, str]] = []
        for row, result in zip(rows, results, strict=True):
            if result.get("status") == "rejected":
                error = cast(dict[str, Any], result.get("error") or {})
                refused.append((row, f"{error.get('field', '')}: {error.get('message', 'rejected')}"))
            else:
                accepted.append(row)
        if refused:
            self.last_error = refused[-1][1]
            warn("refused feedback", f"the server refused {len(refused)} feedback: {refused[-1][1]}")
        self._outbox.finish_feedback(accepted, refused)

    def _deliver_spans(self) -> bool:
        row = self._outbox.waiting_spans()
        if row is None:
            return False
        response = self._transport.post("/v1/traces", row.body, content_type="application/x-protobuf")
        if response.verdict == "later":
            self._back_off(response)
            return False
        if response.verdict != "accepted":
            self.last_error = response.reason
            warn("refused", f"the server refused {row.num} spans: {response.reason}")
        self._outbox.finish_spans(
            row, "sent" if response.verdict == "accepted" else f"dropped.{response.verdict}"
        )
        return True

    def _deliver_counts(self) -> None:
        counts = self._report_counts()
        if counts and counts != self._reported:
            body = json.dumps(counts).encode()
            if self._transport.post(DELIVERY_PATH, body, content_type=JSON).verdict == "accepted":
                self._reported = counts

    def _back_off(self, response: Response) -> None:
        self.last_error = response.reason or f"HTTP {response.status}, and no results in the body"
        self._attempt += 1
        self._num_failures += 1
        self._retry_at = time.monotonic() + pause_s(self._attempt, response.retry_after_s)
        warn(
            f"delivery {response.status}",
            f"{_trouble(response.status)}; records wait in the outbox: {self.last_error}",
        )

    # --------------------------------------------------------------------------------------------- the lock

    @property
    def is_deliverer(self) -> bool:
        """True where this process is the one that delivers what is in the file."""
        return self._outbox.path is None or self._lock_file is not None

    def _is_deliverer(self) -> bool:
        path = self._outbox.path
        if path is None or self._lock_file is not None:
            return True
        self._lock_file = try_lock(path.with_name(path.name + ".lock"))
        return self._lock_file is not None

    def _release(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None


def pause_s(attempt: int, asked_s: float | None = None) -> float:
    """Seconds until the next attempt after `attempt` failures (from 1): what the server asked for, else twice as long each
    time up to a minute, less up to a half of it at random, so that many apps do not come back at once.
    """
    if asked_s is not None:
        return asked_s
    return min(_FIRST_BACKOFF_S * 2.0 ** min(attempt, 20), _LONGEST_BACKOFF_S) * random.uniform(0.5, 1.0)


def _num_records(path: Path) -> int:
    """How many records wait in another key's outbox file, which is only read."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)
        ) as db:
            feedback = db.execute("SELECT count(*) FROM feedback WHERE refused IS NULL").fetchone()[0]
            return feedback + db.execute("SELECT coalesce(sum(num_spans), 0) FROM spans").fetchone()[0]
    except sqlite3.Error:
        return 0


def _trouble(status: int) -> str:
    """What keeps the server from taking records, in words."""
    if status == 0:
        return "the server cannot be reached"
    if status == 401:
        return "the server does not know the API key, or it was revoked"
    if status == 403:
        return "the API key may not send this; it needs the scopes ingest and feedback"
    if status in (301, 302, 303, 307, 308):
        return "the server's address leads elsewhere; configure the address that it leads to"
    if status == 404:
        return "there is no heedloop server at this address"
    if status == 429:
        return "the server asks for fewer requests"
    if 200 <= status < 300:
        return "what answered is no heedloop server"
    return "the server cannot take records now"


def _results(response: Response, num_rows: int) -> list[dict[str, Any]] | None:
    """The server's result for each row; None where it gave none (or about another number of rows)."""
    body = response.body
    if not isinstance(body, dict) or response.verdict == "later":
        return None
    results = cast(dict[str, Any], body).get("results")
    if not isinstance(results, list) or len(cast(list[Any], results)) != num_rows:
        return None
    return cast(list[dict[str, Any]], results)
