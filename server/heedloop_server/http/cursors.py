"""Page cursors: a position in an ordered list as opaque text."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime

from heedloop.schema import SchemaError, format_time, parse_time


def write_cursor(at: datetime, *ids: str) -> str:
    """The cursor of the row at this time with these ids."""
    text = json.dumps([format_time(at), *ids], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, num_ids: int) -> tuple[datetime, list[str]]:
    """What `write_cursor` wrote; raises `SchemaError` where it is something else."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        at, *ids = json.loads(raw)
        if len(ids) != num_ids or not all(isinstance(i, str) for i in ids):
            raise ValueError
        return parse_time(at), ids
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise SchemaError(
            "cursor", f"{cursor[:80]!r} is no cursor; take next_cursor of the page before"
        ) from None
