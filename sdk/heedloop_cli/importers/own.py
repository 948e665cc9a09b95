"""heedloop's own interchange format: what `heedloop export calls` and `heedloop export feedback` write (docs/interchange.schema.json).

Ids, authors and times are kept as they are, so that a project can move to another server and nothing of it changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import Call, Feedback, from_json
from heedloop_cli.importers.system import Record, System


class Heedloop(System):
    """A call or a feedback; fields that an export adds to either are passed over."""

    name = "heedloop"

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        is_call = {"trace_id", "span_id", "start_time", "is_answer"} <= row.keys()
        return is_call or {"kind", "target", "author", "created_at", "id"} <= row.keys()

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        record: type[Any] = Feedback if "target" in row else Call
        yield from_json(record, row, strict=False)
