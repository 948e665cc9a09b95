"""The server itself: its ledger, its health, and the one form of every error."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Records by what became of them: received = stored + rejected + duplicate + pending."""

    received: int
    stored: int
    rejected: int
    duplicate: int
    pending: int
    rejected_reasons: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger(Tally):
    """The tally of spans.

    Attributes:
        feedback: the tally of feedback.
        sdk: what SDKs report of their deliveries: `waiting` and `dropped`, by reason.
        lag_s: seconds for which the oldest pending record waits.
        last_received_at: when the newest record came in.
    """

    feedback: Tally
    sdk: dict[str, Any]
    lag_s: float
    last_received_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The counts are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Alive, or ready; else why not."""

    status: Literal["ok", "unavailable"]
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSize:
    """One table of the store; `bytes` are those on disk."""

    table: str
    rows: int
    bytes: int
    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How the server is.

    Attributes:
        engine: the version of ClickHouse.
        backlog_bytes: bytes of the request log that are not in the store yet.
        lag_s: seconds for which the oldest of them waits.
        problems: a sentence for each thing that needs a person.
    """

    version: str
    engine: str
    tables: list[TableSize]
    backlog_bytes: int
    lag_s: float
    problems: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup of an embedded store.

    Attributes:
        name: its folder in `backups/` of the data folder.
        started_at, num_files, bytes: None for one that an earlier process made.
        error: why it failed.
    """

    name: str
    state: Literal["running", "done", "failed"]
    started_at: datetime | None = None
    num_files: int | None = None
    bytes: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backups:
    """The backups of a server, the newest first."""

    backups: list[Backup]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """What was wrong, the value, and what to do; `field` is the dotted path of a wrong field."""

    code: str
    message: str
    field: str | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """Every error's form."""

    error: ErrorBody
