"""Responses about training and evaluation runs; one run alone is `heedloop.schema.Run`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from heedloop.schema import Run, RunMethod, RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What lists of the runs that used something show of each."""

    id: str
    method: RunMethod
    name: str
    status: RunStatus
    snapshot_id: str | None = None
    parent: str | None = None
    model_name: str
    started_at: datetime
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunList:
    """All runs, newest first."""

    runs: list[Run]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRows:
    """How many values were stored."""

    stored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRows:
    """The metrics by step; null where a number was not finite."""

    rows: list[dict[str, int | float | None]]
