"""What another tool needs to know of a queue before its file comes: a labelling config, or Argilla's settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal
from xml.etree import ElementTree

from heedloop_server.review.formats import argilla, label_studio
from heedloop_server.review.formats.record import control_name
from heedloop_server.review.questions import Question, applicable_questions


def settings_file(
    tool: Literal["label_studio", "argilla"], questions: Sequence[Question], num_answers: int, guideline: str
) -> str:
    """Label Studio's labelling config (XML), or what `argilla.Settings.from_json` reads.

    Args:
        num_answers: answers of the queue's largest item.
    """
    if tool == "label_studio":
        return labelling_config(questions, num_answers)
    return json.dumps(argilla_settings(questions, num_answers, guideline), ensure_ascii=False, indent=1)


def _questions_for_export(questions: Sequence[Question], most_answers: int) -> list[Question]:
    """Those that are asked about some item of the queue, which may have fewer answers than its largest one."""
    return [q for q in questions if any(applicable_questions([q], num) for num in range(1, most_answers + 1))]


# ----------------------------------------------------------------------------------------------------- Label Studio


def labelling_config(questions: Sequence[Question], num_answers: int) -> str:
    """Object tags `prompt` and `answer_N`, and a control for every question and answer that it is asked about."""
    view = ElementTree.Element("View")
    _tag(view, "Text", name="prompt", value="$prompt")
    for i in range(num_answers):
        _tag(view, "Header", value=f"Answer {i + 1}" if num_answers > 1 else "Answer")
        _tag(view, "Text", name=f"answer_{i + 1}", value=f"$answer_{i + 1}")
    for question in _questions_for_export(questions, num_answers):
        for i in range(num_answers if question.listed(num_answers) else 1):
            title = question.title or question.name
            _tag(view, "Header", value=title if i == 0 and num_answers == 1 else f"{title} ({i + 1})")
            _control(view, question, i)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode")


def _tag(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, attributes)


def _control(view: ElementTree.Element, question: Question, index: int) -> None:
    name, to = control_name(question, index), f"answer_{index + 1}"
    match question.kind:
        case "thumb":
            _choices(view, name, to, (label_studio.UP, label_studio.DOWN), "single")
        case "category":
            _choices(view, name, to, question.choices, "single")
        case "choices" | "flags":
            _choices(view, name, to, question.choices, "multiple")
        case "ranges":
            labels = _tag(view, "Labels", name=name, toName=to)
            for choice in question.choices:
                _tag(labels, "Label", value=choice)
        case "number":
            _tag(view, "Number", name=name, toName=to, min=str(question.min), max=str(question.max))
        case "scale":
            _scale(view, question, name, to)
        case "comparison":
            _tag(view, "Pairwise", name=name, toName="answer_1,answer_2")
            _choices(view, f"{name}-tie", to, (label_studio.TIE,), "multiple")
        case "ranking":
            _tag(view, "List", name=f"{name}-list", value="$answers", title=question.title or name)
            _tag(view, "Ranker", name=name, toName=f"{name}-list")
        case _:
            _tag(view, "TextArea", name=name, toName=to, maxSubmissions="1", editable="true")


def _choices(view: ElementTree.Element, name: str, to: str, values: Sequence[str], choice: str) -> None:
    choices = _tag(view, "Choices", name=name, toName=to, choice=choice)
    for value in values:
        _tag(choices, "Choice", value=value)


def _scale(view: ElementTree.Element, question: Question, name: str, to: str) -> None:
    if label_studio.is_stars(question):
        _tag(view, "Rating", name=name, toName=to, maxRating=str(question.max))
    else:
        _tag(view, "Number", name=name, toName=to, min=str(question.min), max=str(question.max), step="1")


# ---------------------------------------------------------------------------------------------------------- Argilla


def argilla_settings(questions: Sequence[Question], num_answers: int, guideline: str) -> dict[str, Any]:
    """What `Settings.serialize` of argilla 2.8 writes: fields, questions, and metadata that may be anything."""
    fields = [_field("prompt", "Prompt", required=True)]
    fields += [_field(f"answer_{i + 1}", f"Answer {i + 1}", required=i == 0) for i in range(num_answers)]
    return {
        "guidelines": guideline or None,
        "fields": fields,
        "questions": [
            _question(q, i, num_answers)
            for q in _questions_for_export(questions, num_answers)
            for i in range(num_answers if q.listed(num_answers) else 1)
        ],
        "vectors": [],
        "metadata": [],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }


def _field(name: str, title: str, *, required: bool) -> dict[str, Any]:
    settings = {"type": "text", "use_markdown": False}
    return {"name": name, "title": title, "required": required, "settings": settings}


def _question(question: Question, index: int, num_answers: int) -> dict[str, Any]:
    title = question.title or question.name
    return {
        "name": control_name(question, index),
        "title": f"{title} ({index + 1})" if question.listed(num_answers) else title,
        "description": question.help or None,
        # finding nothing is an answer that Argilla cannot say of a required question
        "required": question.required and question.kind not in ("flags", "ranges", "correction"),
        "settings": _settings(question, index, num_answers),
    }


def _settings(question: Question, index: int, num_answers: int) -> dict[str, Any]:
    answers = [f"answer_{i + 1}" for i in range(num_answers)]
    match question.kind:
        case "thumb":
            return _labels("label_selection", (argilla.UP, argilla.DOWN))
        case "category":
            return _labels("label_selection", question.choices)
        case "choices" | "flags":
            return _labels("multi_label_selection", question.choices) | {"options_order": "natural"}
        case "ranges":
            more = {"field": f"answer_{index + 1}", "allow_overlapping": True}
            return _labels("span", question.choices) | more
        case "scale" if argilla.is_rating(question):
            values = range(question.min, question.max + 1)
            return {"type": "rating", "options": [{"value": v} for v in values]}
        case "scale":
            return _labels("label_selection", [str(v) for v in range(question.min, question.max + 1)])
        case "comparison":
            return _labels("label_selection", ("answer_1", "answer_2", argilla.TIE))
        case "ranking":
            return {"type": "ranking", "options": [{"value": a, "text": a} for a in answers]}
        case _:
            return {"type": "text", "use_markdown": False}


def _labels(kind: str, values: Sequence[str]) -> dict[str, Any]:
    return {"type": kind, "options": [{"value": v, "text": v} for v in values], "visible_options": None}
