"""An answer that people liked or corrected, as an example for the next one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ExampleReason = Literal["liked", "corrected"]


@dataclass(frozen=True, slots=True)
class AnswerExample:
    """A question like the one that was asked, and what is known to be a good answer to it.

    Attributes:
        answer: the answer that was liked, or the correction of the one that was not.
        score: similarity of the two questions, 0 to 1.
        trace_id, span_id: the call that it is from.
        feedback_ids: the judgements that it rests on.
    """

    question: str
    answer: str
    why: ExampleReason
    score: float
    trace_id: str
    span_id: str
    feedback_ids: tuple[str, ...] = ()
