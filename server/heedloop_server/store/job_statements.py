"""What a job is told between its statements: a job that is to end does so before its next read, unless it has begun to write.

So it ends with nothing made, or goes on to its end; nothing is left half there. Work outside jobs is not concerned.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

StatementKind = Literal["read", "command", "insert"]
_CHECK: ContextVar[Callable[[StatementKind], None] | None] = ContextVar("job_check", default=None)
_REPORT: ContextVar[Callable[[int, int, str], None] | None] = ContextVar("job_report", default=None)


class JobEnded(Exception):
    """Raised in a job that is to end, before it has written anything."""


@contextmanager
def watched(
    check: Callable[[StatementKind], None], report: Callable[[int, int, str], None]
) -> Generator[None]:
    """Within, each statement of this thread is announced to `check`, which may raise, and `report_progress` reaches `report`."""
    tokens = _CHECK.set(check), _REPORT.set(report)
    try:
        yield
    finally:
        _CHECK.reset(tokens[0])
        _REPORT.reset(tokens[1])


def before_statement(kind: StatementKind) -> None:
    """Announce a statement; raises what ends the job that this thread runs."""
    if (check := _CHECK.get()) is not None:
        check(kind)


def report_progress(done: int, total: int, unit: str) -> None:
    """Tell how far the job is that this thread runs; nothing where it runs none."""
    if (report := _REPORT.get()) is not None:
        report(done, total, unit)
