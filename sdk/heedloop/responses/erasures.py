"""Responses about erasures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from heedloop.responses.datasets import NamedSnapshot
from heedloop.responses.runs import RunSummary

ErasedBy = Literal["user_id", "session_id", "trace_id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReceipt:
    """What an erasure means and who used it. `rows` and `left` are by table.

    No read sees it any more. Where it is not `done`, `left` is still removed from the tables; `GET /v1/erasures/{id}` says how far.
    """

    erasure_id: str
    by: ErasedBy
    at: datetime
    num_traces: int
    num_feedback: int
    rows: Mapping[str, int]
    left: Mapping[str, int]
    done: bool
    num_files: int
    snapshots: list[NamedSnapshot]
    runs: list[RunSummary]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureCheck:
    """What is left of an erasure now: rows by table, and replaced parts that the disk still holds; `done` where there is nothing."""

    erasure_id: str
    at: datetime
    left: Mapping[str, int]
    old_parts: int
    done: bool
