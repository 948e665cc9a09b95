"""Responses about keys, projects and the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Me:
    """Whose key this is; `same_project` where another key was asked about."""

    project: str
    scopes: list[str]
    role: str | None
    author_id: str | None
    key_id: str
    name: str
    same_project: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key without its secret."""

    key_id: str
    name: str
    scopes: list[str]
    role: str | None
    author_id: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyList:
    """The project's keys, newest first."""

    keys: list[Key]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedKey:
    """A new key; `key` is its text, in this response and nowhere else."""

    key: str
    key_id: str
    name: str
    scopes: list[str]
    role: str | None
    author_id: str | None
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInLink:
    """A token with which one person makes their own key, once, until `expires_at`; in this response and nowhere else."""

    token: str
    key_id: str
    author_id: str
    role: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedKey:
    """A key that is revoked from now on."""

    key_id: str
    revoked: Literal[True]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change: when, what (`create_key`, `erase_user_id` …), of what, and the key that did it, with its name and person."""

    at: datetime
    action: str
    subject: str
    details: Mapping[str, Any]
    key_id: str
    key_name: str
    author_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """What was changed, newest first; `next_cursor` is null at the end."""

    entries: list[AuditEntry]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedProject:
    """A new project with its first key, shown this once."""

    project: str
    key: str
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectList:
    """The names of all projects."""

    projects: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectChoices:
    """What a project chose itself; null follows the server."""

    retention_days: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackWebhook:
    """The address that is told of new feedback, of imported feedback too where `imports` is true; what waits for it, what it did
    not take within 2.6 hours, and the last error of these."""

    url: str
    imports: bool
    num_waiting: int = 0
    num_failed: int = 0
    last_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The project and what holds for it. `retention_days`: days after which calls that nobody judged are dropped, 0 for never;
    `chosen` holds what the project chose itself, all else follows the server.
    `prices`: model -> US dollars per million tokens (`input`, `output`, `cached_input`), for calls that bring no cost.
    `views`: name -> a page of the dashboard with its filters, such as `traces?rating=down`.
    `webhook_secret` signs what the webhook is sent: in the response to the change that named its address, and nowhere else."""

    project: str
    created_at: datetime | None
    retention_days: int
    chosen: ProjectChoices
    prices: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    views: dict[str, str] = field(default_factory=dict[str, str])
    feedback_webhook: FeedbackWebhook | None = None
    webhook_secret: str | None = None
