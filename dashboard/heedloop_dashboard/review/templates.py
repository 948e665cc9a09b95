"""Queues to begin with: questions and a guideline for the commonest kinds of review. Everything in them can be changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Question = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Template:
    """What a new queue begins with."""

    title: str
    questions: tuple[Question, ...]
    guideline: str = ""
    judgements_per_item: int = 1
    settings: dict[str, Any] = field(default_factory=dict[str, Any])


def _scale(name: str, title: str, *anchors: tuple[int, str, str]) -> Question:
    steps = [{"value": v, "label": label, "description": text} for v, label, text in anchors]
    return {"name": name, "kind": "scale", "title": title, "min": 1, "max": 5, "anchors": steps}


_BETTER = {"name": "better", "kind": "correction", "title": "Better answer", "required": False}
_NOTE = {"name": "note", "kind": "text", "title": "Note", "required": False}

TEMPLATES: dict[str, Template] = {
    "support": Template(
        "Support quality",
        (
            {"name": "thumb", "kind": "thumb", "title": "Your rating"},
            {
                "name": "problem",
                "kind": "flags",
                "title": "What is wrong",
                "categories": ["Wrong fact", "Ignored policy", "Incomplete", "Tone", "Too long", "Unsafe"],
                "severity": True,
                "required": False,
            },
            _scale(
                "helpfulness",
                "Helpfulness",
                (1, "No help", "The customer is where they were, or worse off."),
                (3, "Some help", "Leads on, but the customer must ask again."),
                (5, "Solved", "The customer can act at once and needs nothing more."),
            ),
            _scale(
                "accuracy",
                "Accuracy",
                (1, "Wrong", "Would mislead the customer."),
                (3, "Mixed", "Right in the main point."),
                (5, "Right", "Every statement holds."),
            ),
            _scale(
                "tone",
                "Tone",
                (1, "Off", "Curt, blaming or pushy."),
                (3, "Neutral", "Correct and impersonal."),
                (5, "Right", "Friendly, and takes the trouble seriously."),
            ),
            {"name": "places", "kind": "ranges", "title": "Wrong places", "labels": ["Wrong fact", "Ignored policy"]},
            _BETTER,
            _NOTE,
        ),
        "# Judge what the customer needs\n- Check dates, amounts and deadlines against the policy.\n"
        "- A friendly answer that is wrong is bad.\n- Mark the very words that are wrong, not the whole sentence.\n"
        "- Write the better answer as you would send it.",
        2,
    ),
    "legal": Template(
        "Legal accuracy",
        (
            _scale(
                "accuracy",
                "Accuracy",
                (1, "Wrong", "A client who relies on it may be harmed."),
                (3, "Partly", "Right in the main point; details are wrong or missing."),
                (5, "Right", "Every statement holds in the jurisdiction asked about."),
            ),
            {
                "name": "sections",
                "kind": "ranges",
                "title": "Sections that do not hold",
                "labels": ["Inaccurate", "Incomplete", "Misleading", "Unsupported"],
                "severity": True,
            },
            {
                "name": "advice",
                "kind": "category",
                "title": "Does it give legal advice",
                "categories": ["Advice without a caveat", "Advice with a caveat", "Information only"],
            },
            _BETTER,
            {"name": "authority", "kind": "text", "title": "Authority", "required": False,
             "help": "Statute or case that decides it."},
        ),
        "# Judge the law, not the style\n- Mark each section that does not hold, with how grave it is.\n"
        "- Incomplete: what is missing would change what the client does.\n- Misleading: true, but read wrongly by a layman.",
        2,
    ),
    "moderation": Template(
        "Moderation",
        (
            {
                "name": "verdict",
                "kind": "category",
                "title": "Verdict",
                "categories": ["Violates", "Borderline", "Fine"],
            },
            {
                "name": "policy",
                "kind": "flags",
                "title": "Which rule",
                "categories": ["Hate", "Harassment", "Self-harm", "Sexual", "Violence", "Illegal", "Privacy"],
                "severity": True,
                "required": False,
            },
            {"name": "words", "kind": "ranges", "title": "The words", "labels": ["Violation"]},
            _NOTE,
        ),
        "# Judge the text as it stands\n- Violates: a rule is broken by the text itself.\n"
        "- Borderline: it depends on something you cannot see.\n- Say which rule; several may apply.",
        3,
    ),
    "ranking": Template(
        "Ranking",
        (
            {"name": "preference", "kind": "ranking", "title": "Order them, the best first"},
            _scale(
                "accuracy", "Accuracy", (1, "Wrong", "Misleads."), (3, "Mixed", ""), (5, "Right", "Every statement holds.")
            ),
            _NOTE,
        ),
        "# Which answer would you rather have sent\n- Right before friendly, friendly before short.\n"
        "- Equal ranks are a tie; use them where you would flip a coin.\n- All are bad: none of them could be sent.",
        2,
    ),
    "comparison": Template(
        "Comparison of two",
        (
            {"name": "preference", "kind": "comparison", "title": "Which is better", "strength": True},
            _NOTE,
        ),
        "# Which answer would you rather have sent\n- Right before friendly, friendly before short.",
        2,
    ),
}  # fmt: skip
