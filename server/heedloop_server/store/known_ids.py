"""The names of everything said and erased, as digests: what `ingest.seen.digest` makes of the same parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from heedloop_server.store.connection import Store

_NAMES = (
    r"SELECT MD5(concat('id\0', project_id, '\0', client_id)) AS name FROM feedback_history",
    r"SELECT MD5(concat('feedback\0', toString(feedback_id))) AS name FROM feedback",
    r"SELECT MD5(concat('erased\0', project_id, '\0', lower(hex(trace_id)))) AS name FROM erased_traces",
)


def seen_names(store: Store) -> Iterator[bytes]:
    """Digests of 16 bytes one behind the other: of every sender's id, every feedback, and every erased trace."""
    for sql in _NAMES:
        for piece in store.arrow(sql).column("name").chunks:
            yield _bytes(piece)


def _bytes(piece: Any) -> bytes:
    """The values of an Arrow array of fixed-size binary."""
    width = piece.type.byte_width
    return piece.buffers()[1].to_pybytes()[piece.offset * width : (piece.offset + len(piece)) * width]
