"""Responses about imports; an import is written by `heedloop import` and is sent in this form too."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

ImportStatus = Literal["running", "finished", "undone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import with its balance: `num_read` = `num_stored` + `num_known` + the sum of `left_out`.

    Attributes:
        id: 16 hex digits; what its calls and feedback have in `metadata.import`.
        source: the formats that were read, such as `langfuse`.
        names: the files' names, or the address that was read.
        num_replaced: of the stored judgements, those in the place of an earlier one of the same author.
        left_out: reason -> judgements that are not stored.
    """

    id: str
    source: str
    names: list[str]
    status: ImportStatus
    started_at: datetime
    finished_at: datetime | None = None
    num_rows: int = 0
    num_unreadable: int = 0
    num_read: int = 0
    num_stored: int = 0
    num_replaced: int = 0
    num_known: int = 0
    num_calls: int = 0
    num_known_calls: int = 0
    left_out: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportList:
    """All imports, newest first."""

    imports: list[Import]


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoneImport:
    """What undoing an import took out, and how many earlier judgements count again."""

    id: str
    num_calls: int
    num_feedback: int
    num_restored: int
