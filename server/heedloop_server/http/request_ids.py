"""The id of a request: the sender's own where it sent one, else ours; errors, log lines and the answer repeat it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from contextvars import ContextVar

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that this task or thread works for; empty where it works for none."""

_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,128}")
"""What may stand in a header and in a log line as it is."""


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The `X-Request-Id` that was sent, or 32 random hex digits where there is none or it is not well-formed."""
    for name, value in headers:
        if name == b"x-request-id" and _WELL_FORMED.fullmatch(value):
            return value.decode()
    return secrets.token_hex(16)
