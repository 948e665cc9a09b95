"""What snapshots and runs are asked for, and the answers about them."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict

from heedloop_server.answers.records import RunRecord, SnapshotRecord

__all__ = ["HistoryRows", "NewHistory", "NewSnapshot", "RunChanges", "RunList", "SnapshotList", "StoredRows"]


class NewSnapshot(TypedDict):
    """A dataset to freeze; `filters` as of `GET /v1/calls`, `rules` as in docs/datasets.md."""

    name: str
    filters: NotRequired[dict[str, Any] | None]
    rules: NotRequired[dict[str, Any] | None]
    as_of: NotRequired[str | None]


class SnapshotList(TypedDict):
    """All snapshots, newest first."""

    snapshots: list[SnapshotRecord]


class RunList(TypedDict):
    """All runs, newest first."""

    runs: list[RunRecord]


class RunChanges(TypedDict, total=False):
    """What may change of a run; metrics are merged by name."""

    status: str | None
    metrics: dict[str, float | None]
    evaluation: dict[str, Any] | None
    finished_at: str | None
    checkpoint: str | None
    model_name: str | None
    error: str | None


class NewHistory(TypedDict):
    """Live metrics: each row has `step` and numbers."""

    rows: list[dict[str, float | None]]


class StoredRows(TypedDict):
    """How many rows were kept."""

    stored: int


class HistoryRows(TypedDict):
    """The metrics by step."""

    rows: list[dict[str, float | None]]
