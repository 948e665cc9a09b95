"""Answers as examples for the next one."""

from __future__ import annotations

from dataclasses import dataclass

from heedloop.schema import AnswerExample


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerExamples:
    """Liked and corrected answers to questions like one, the most alike first, and among how many they were found."""

    examples: list[AnswerExample]
    num_candidates: int
