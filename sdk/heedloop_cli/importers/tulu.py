"""Two answers with an expert's thumbs and preference, as in Tülu 1's human evaluation (Wang and others 2023).

Each line is a showing of its own: its two answers are two calls, so that an expert who saw the same answer twice keeps both words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import THUMB, Author, Call, Feedback, Ranking
from heedloop_cli.importers.record import (
    JudgementReader,
    Line,
    Wrong,
    clipped,
    content_id,
    messages_of,
    target_of,
    text_of,
    time_of,
)

_PREFERENCES: dict[str, tuple[tuple[int, int], float | None]] = {
    "a-is-better": ((1, 2), 1.0),
    "a-is-slightly-better": ((1, 2), 0.5),
    "tie": ((1, 1), None),
    "b-is-slightly-better": ((2, 1), 0.5),
    "b-is-better": ((2, 1), 1.0),
}


class Tulu(JudgementReader):
    """Two answers with the models that gave them, two thumbs and a preference."""

    service = "tulu1_human_eval"

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        return {"completion_a", "completion_b", "preference"} <= row.keys()

    def take(self, number: int, row: Mapping[str, Any]) -> Iterator[Line]:
        prompt = messages_of(row.get("prompt"), "prompt")
        time = time_of(row["t"], "t") if row.get("t") else self.source.time
        texts = (row.get("completion_a"), row.get("completion_b"))
        key = content_id(row.get("id", number), row.get("annotator"), prompt, *texts)
        labels = clipped({"instance": row.get("instance"), "row": row.get("id")})
        labels |= self.source.assumed(row.get("t"))

        def call(side: str) -> Call:
            text, model = text_of(row, f"completion_{side}", empty=True), row.get(f"model_{side}")
            named = str(model) if model else None
            return self.call((key, side), time, prompt, text, labels, model_answered=named)

        calls = (call("a"), call("b"))
        author = Author("annotator", str(row["annotator"]) if row.get("annotator") else None)
        shared = {"author": author, "created_at": time, "solicited": True, "metadata": labels}
        yield Line(number, calls, tuple(self._judgements(row, calls, key, shared)))

    def _judgements(
        self, row: Mapping[str, Any], calls: tuple[Call, ...], key: str, shared: Mapping[str, Any]
    ) -> Iterator[Feedback]:
        targets = tuple(map(target_of, calls))
        for side, target in zip("ab", targets, strict=True):
            thumb = row.get(f"thumb_{side}")
            if thumb is None:
                continue
            if not isinstance(thumb, bool):
                raise Wrong(f"thumb_{side}", f"must be true or false, not {thumb!r:.60}")
            fields = {"value": float(thumb), "scale": THUMB, **shared}
            yield self.feedback((key, "thumb", side), "rating", target, **fields)
        preference = text_of(row, "preference")
        if preference not in _PREFERENCES:
            raise Wrong("preference", f"{preference!r} is not one of {', '.join(_PREFERENCES)}")
        ranks, strength = _PREFERENCES[preference]
        ranking = Ranking(targets, ranks, shown_order=(0, 1), strength=strength)
        yield self.feedback((key, "preference"), "comparison", targets[0], ranking=ranking, **shared)
