"""Responses about dataset snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heedloop.responses.runs import RunSummary
from heedloop.schema import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSnapshot:
    """A snapshot's id and name."""

    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedSnapshot(Snapshot):
    """A snapshot with its report, how many of its rows were erased since, and, of one alone, the runs that used it."""

    report: Mapping[str, Any]
    num_erased: int
    runs: list[RunSummary] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotList:
    """All snapshots, newest first."""

    snapshots: list[Snapshot]
