"""Two answers with an expert's thumbs and preference, as in Tülu 1's human evaluation (Wang and others 2023).

Each line is a showing of its own: its two answers are two calls, so that an expert who saw the same answer twice keeps both words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from heedloop.attributes import METADATA_PREFIX
from heedloop.schema import THUMB, Author, Call, Feedback, Message, Ranking
from heedloop_cli.importers.record import (
    BadLine,
    Line,
    Source,
    Wrong,
    clipped,
    content_id,
    ids_of,
    messages_of,
    target_of,
    text_of,
    time_of,
)

__all__ = ["reader"]

SERVICE = "tulu1_human_eval"
JUDGED = datetime(2023, 5, 1, tzinfo=timezone.utc)
"""For lines without a time."""

_PREFERENCES: dict[str, tuple[tuple[int, int], float | None]] = {
    "a-is-better": ((1, 2), 1.0),
    "a-is-slightly-better": ((1, 2), 0.5),
    "tie": ((1, 1), None),
    "b-is-slightly-better": ((2, 1), 0.5),
    "b-is-better": ((2, 1), 1.0),
}


def reader(source: Source) -> _Reader:
    """A reader of such lines."""
    return _Reader(source.default_time or JUDGED)


class _Reader:
    def __init__(self, time: datetime) -> None:
        self._time = time

    def finish(self) -> Iterator[Line | BadLine]:
        return iter(())

    def take(self, number: int, row: Mapping[str, Any]) -> Iterator[Line | BadLine]:
        prompt = messages_of(row.get("prompt"), "prompt")
        time = time_of(row["t"], "t") if row.get("t") else self._time
        key = content_id(
            row.get("id", number),
            row.get("annotator"),
            prompt,
            row.get("completion_a"),
            row.get("completion_b"),
        )
        calls = tuple(self._call(row, side, prompt, key, time) for side in ("a", "b"))
        yield Line(number, calls, tuple(_judgements(row, calls, key, time)))

    def _call(
        self, row: Mapping[str, Any], side: str, prompt: tuple[Message, ...], key: str, time: datetime
    ) -> Call:
        trace_id, span_id = ids_of(SERVICE, key, side)
        model = row.get(f"model_{side}")
        labels = clipped({"instance": row.get("instance"), "row": row.get("id")})
        return Call(
            trace_id=trace_id,
            span_id=span_id,
            start_time=time,
            name="answer",
            service=SERVICE,
            model_answered=str(model) if model else None,
            input_messages=prompt,
            output_messages=(Message("assistant", text_of(row, f"completion_{side}", empty=True)),),
            attributes={METADATA_PREFIX + k: v for k, v in labels.items()},
        )


def _judgements(
    row: Mapping[str, Any], calls: tuple[Call, ...], key: str, time: datetime
) -> Iterator[Feedback]:
    who = row.get("annotator")
    author = Author("annotator", str(who) if who else None)
    labels = clipped({"instance": row.get("instance"), "row": row.get("id")})
    for side, call in zip("ab", calls, strict=True):
        thumb = row.get(f"thumb_{side}")
        if thumb is None:
            continue
        if not isinstance(thumb, bool):
            raise Wrong(f"thumb_{side}", f"must be true or false, not {thumb!r:.60}")
        yield Feedback(
            "rating",
            target_of(call),
            value=float(thumb),
            scale=THUMB,
            author=author,
            created_at=time,
            id=content_id(SERVICE, key, "thumb", side)[:32],
            solicited=True,
            metadata=labels,
        )
    preference = text_of(row, "preference")
    if preference not in _PREFERENCES:
        raise Wrong("preference", f"{preference!r} is not one of {', '.join(_PREFERENCES)}")
    ranks, strength = _PREFERENCES[preference]
    yield Feedback(
        "comparison",
        target_of(calls[0]),
        ranking=Ranking(
            (target_of(calls[0]), target_of(calls[1])), ranks, shown_order=(0, 1), strength=strength
        ),
        author=author,
        created_at=time,
        id=content_id(SERVICE, key, "preference")[:32],
        solicited=True,
        metadata=labels,
    )
