"""Answers about the ledger and the server itself."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

__all__ = ["Condition", "Delivered", "Health", "Ledger"]


class Tally(TypedDict):
    """received = stored + rejected + duplicate + pending."""

    received: int
    stored: int
    rejected: int
    duplicate: int
    pending: int
    rejected_reasons: dict[str, int]


class Ledger(Tally):
    """The tally of spans; below `feedback` that of feedback; below `sdk` what SDKs say of their deliveries."""

    feedback: Tally
    sdk: dict[str, Any]
    lag_s: float
    last_received_at: str | None


class Delivered(TypedDict):
    """The counts are kept."""


class Health(TypedDict, total=False):
    """Alive, or ready; else why not."""

    status: Literal["ok", "unavailable"]
    reason: str


class TableSize(TypedDict):
    """One table of the store."""

    table: str
    rows: int
    bytes: int
    parts: int


class Condition(TypedDict):
    """How the server is; `problems` are sentences, one for each thing that needs a person."""

    version: str
    engine: str
    tables: list[TableSize]
    backlog_bytes: int
    lag_s: float
    problems: list[str]
