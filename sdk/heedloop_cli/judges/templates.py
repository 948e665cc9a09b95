"""Judges for the usual questions, to start from."""

from __future__ import annotations

from typing import Any

_YES_NO = {"YES": 1.0, "NO": 0.0}
_END = "Think it over in one or two sentences. Then write one last line: VERDICT: YES or VERDICT: NO."
_ANSWER = "{examples}# Question\n{question}\n\n# Answer\n{answer}\n\n"

TEMPLATES: dict[str, dict[str, Any]] = {
    "helpfulness": {
        "question": "thumb",
        "prompt": "Does the answer do what its user asked for, correctly and completely?\n\n"
        + _ANSWER
        + _END,
        "verdicts": _YES_NO,
    },
    "correctness": {
        "question": "correctness",
        "prompt": "Does the answer say what the reference says? Other words are fine, other facts are not.\n\n"
        + _ANSWER
        + "# Reference\n{reference}\n\n"
        + _END,
        "verdicts": _YES_NO,
    },
    "groundedness": {
        "question": "groundedness",
        "prompt": "Is every statement of the answer supported by the given context alone?\n\n# Context\n{context}\n\n"
        + _ANSWER
        + _END,
        "verdicts": _YES_NO,
    },
    "tone": {
        "question": "tone",
        "prompt": "Is the answer polite, plain and fitting for a customer?\n\n" + _ANSWER + _END,
        "verdicts": _YES_NO,
    },
    "policy": {
        "question": "policy",
        "prompt": "Does the answer keep to the instructions that the model was given?\n\n# Instructions\n{context}\n\n"
        + _ANSWER
        + _END,
        "verdicts": _YES_NO,
    },
    "refusal": {
        "question": "refusal",
        "prompt": "Does the answer refuse, or avoid, what its user asked for?\n\n" + _ANSWER + _END,
        "verdicts": _YES_NO,
    },
    "preference": {
        "form": "pairwise",
        "question": "preference",
        "prompt": "Which answer serves its user better? Length by itself is no merit.\n\n# Question\n{question}\n\n# Answer A\n"
        "{answer_a}\n\n# Answer B\n{answer_b}\n\nThink it over in one or two sentences. Then write one last line: VERDICT: A, "
        "VERDICT: B or VERDICT: TIE.",
        "verdicts": {"A": 1.0, "B": 0.0, "TIE": 0.5},
    },
    "quality": {
        "form": "rubric",
        "dimensions": ("correct", "complete", "clear"),
        "scale": {"min": 1, "max": 5},
        "parser": "json",
        "prompt": "Rate the answer from 1 (bad) to 5 (good) in each of: {dimensions}.\n\n"
        + _ANSWER
        + "Write one JSON object with a number for each of these, and nothing else.",
    },
    "resolved": {
        "form": "session",
        "question": "resolved",
        "prompt": "Did this conversation end with its user's problem solved?\n\n# Conversation\n{conversation}\n\n"
        + _END,
        "verdicts": _YES_NO,
    },
}


def guideline_prompt(text: str) -> str:
    """The prompt of a judge that follows the annotators' guideline."""
    return f"Judge the answer by this guideline for annotators.\n\n# Guideline\n{text.strip()}\n\n{_ANSWER}Is it a good answer by the guideline? {_END}"
