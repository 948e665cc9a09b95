"""What is copied of a judged call onto its feedback for the quality pages, beside what `feedback` filters by itself.

The columns are those of migration 0020; `store.feedback` writes them, `store.quality` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedloop_server.store.connection import Row

COPIED_OF_CALL = """
    is_answer AS call_is_answer,
    status AS call_status,
    tags AS call_tags,
    metadata AS call_metadata,
    toUInt32(lengthUTF8(answer)) AS call_answer_chars,
    sampling_probability AS call_probability"""
"""The copied columns, as a part of a SELECT over `spans`."""

_UNKNOWN: dict[str, Any] = {
    "call_is_answer": True,
    "call_status": "",
    "call_tags": [],
    "call_metadata": {},
    "call_answer_chars": 0,
    "call_probability": 1.0,
}


def copied_columns(row: Row | Mapping[str, Any] | None) -> dict[str, Any]:
    """The copied columns of a row of `COPIED_OF_CALL`; what an unknown call has where there is none."""
    return {name: row[name] if row else unknown for name, unknown in _UNKNOWN.items()}
