"""The one form of every error."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

__all__ = ["Error"]


class ErrorBody(TypedDict):
    """What was wrong, the value, and what to do."""

    code: str
    message: str
    field: NotRequired[str | None]


class Error(TypedDict):
    """Every error's form."""

    error: ErrorBody
