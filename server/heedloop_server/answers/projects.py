"""Answers about keys, projects, erasures and the ledger."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from heedloop_server.answers.feedback import NamedSnapshot
from heedloop_server.answers.records import RunSummary

__all__ = [
    "AuditPage",
    "Delivered",
    "ErasureCheck",
    "ErasureReceipt",
    "Health",
    "Key",
    "KeyList",
    "Ledger",
    "Me",
    "NewKeyAnswer",
    "NewProjectAnswer",
    "Project",
    "ProjectList",
    "RevokedKey",
]


class Me(TypedDict):
    """Whose key this is."""

    project: str
    scopes: list[str]
    role: str | None
    author_id: str | None
    key_id: str
    name: str
    same_project: NotRequired[bool]


class Key(TypedDict):
    """A key without its secret."""

    key_id: str
    name: str
    scopes: list[str]
    role: str | None
    author_id: str | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class KeyList(TypedDict):
    """The project's keys, newest first."""

    keys: list[Key]


class NewKeyAnswer(TypedDict):
    """A new key; `key` is its text, in this answer and nowhere else."""

    key: str
    key_id: str
    name: str
    scopes: list[str]
    role: str | None
    author_id: str | None
    created_at: str
    expires_at: str | None


class AuditEntry(TypedDict):
    """One change: when, what (`create_key`, `erase_user_id` …), of what, and the key that did it, with its name and person."""

    at: str
    action: str
    subject: str
    details: dict[str, Any]
    key_id: str
    key_name: str
    author_id: str | None


class AuditPage(TypedDict):
    """What was changed, newest first."""

    entries: list[AuditEntry]
    next_cursor: str | None


class RevokedKey(TypedDict):
    """A key that is revoked from now on."""

    key_id: str
    revoked: Literal[True]


class ProjectChoices(TypedDict):
    """What a project chose itself; null follows the server."""

    retention_days: int | None


class NewProjectAnswer(TypedDict):
    """A new project with its first key, shown this once."""

    project: str
    key: str
    key_id: str


class ProjectList(TypedDict):
    """The names of all projects."""

    projects: list[str]


class Project(TypedDict):
    """The project and what holds for it. `retention_days`: days after which calls that nobody judged are dropped, 0 for never;
    `chosen` holds what the project chose itself, all else follows the server."""

    project: str
    created_at: str | None
    retention_days: int
    chosen: ProjectChoices


class ErasureReceipt(TypedDict):
    """What an erasure took out, what it left (nothing), and who used it. `rows` and `left` are by table."""

    erasure_id: str
    by: Literal["user_id", "session_id", "trace_id"]
    at: str
    num_traces: int
    num_feedback: int
    rows: dict[str, int]
    left: dict[str, int]
    num_files: int
    snapshots: list[NamedSnapshot]
    runs: list[RunSummary]


class ErasureCheck(TypedDict):
    """What is left of an erasure now: rows by table, and replaced parts that the disk still holds; `done` where there is nothing."""

    erasure_id: str
    at: str
    left: dict[str, int]
    old_parts: int
    done: bool


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
