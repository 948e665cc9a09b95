"""A progress line on a terminal; a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from heedloop.responses import Job

BAR = 24


class Progress:
    """Shows `num / total`, the rate and the time left, on standard error.

    Args:
        what: the verb, such as `importing`.
        total: how many there will be, 0 where unknown.
        unit: what is counted, in the plural.
    """

    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._live = sys.stderr.isatty()
        self._started = self._shown = time.monotonic()

    def show_of(self, num: int, total: int) -> None:
        """As `show`, where the total comes to be known on the way."""
        self._total = total
        self.show(num)

    def show(self, num: int) -> None:
        """Say that `num` are done; shows nothing more often than is useful."""
        if not self._is_due():
            return
        rate = num / max(self._shown - self._started, 1e-9)
        text = f"{self._what} {num:,}"
        if self._total:
            done = min(1.0, num / self._total)
            left = (self._total - num) / rate if rate else 0.0
            bar = "█" * int(BAR * done) + "░" * (BAR - int(BAR * done))
            text = f"{self._what} {bar} {num:,} / {self._total:,} {self._unit} · {rate:,.0f}/s · {left:,.0f} s left"
        self._print(text)

    def show_job(self, job: Job) -> None:
        """Say how far a job of the server is, or for how long it runs where nothing is counted; its end clears the line."""
        if job.is_over:
            self.__exit__(None, None, None)
        elif job.total and job.done:
            self._unit = job.unit
            self.show_of(job.done, job.total)
        elif self._is_due():
            self._print(f"{self._what} ({job.state}) {self._shown - self._started:,.0f} s · Ctrl-C cancels")

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now - self._shown < (0.1 if self._live else 10.0):
            return False
        self._shown = now
        return True

    def _print(self, text: str) -> None:
        print(
            f"\r\x1b[K{text}" if self._live else text,
            end="" if self._live else "\n",
            file=sys.stderr,
            flush=True,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class JobProgress:
    """Shows how far the jobs are that a client waits for, one after the other."""

    def __init__(self) -> None:
        self._job_id = ""
        self._line = Progress("", 0, "")

    def show(self, job: Job) -> None:
        """Say how far a job is."""
        if job.id != self._job_id:
            self._job_id, self._line = job.id, Progress(job.kind.replace("_", " "), job.total, job.unit)
        self._line.show_job(job)
