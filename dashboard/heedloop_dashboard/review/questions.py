"""Questions of a queue as the fields of a form, and back: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

KINDS = {
    "thumb": "Thumb: good or bad",
    "scale": "Scale with described steps",
    "number": "Number",
    "category": "One category of several",
    "choices": "Several categories",
    "flags": "Flags: what is wrong",
    "ranges": "Marks in the text",
    "text": "Free text",
    "correction": "Correction: a better answer",
    "comparison": "Comparison of two answers",
    "ranking": "Ranking of several answers",
}
_CHOICES = {"category": "categories", "choices": "categories", "flags": "categories", "ranges": "labels"}


def to_fields(question: Mapping[str, Any]) -> dict[str, Any]:
    """A Question as a form shows it: choices and anchors as lines of text."""
    return {
        "name": question.get("name", ""),
        "kind": question.get("kind", "thumb"),
        "title": question.get("title", ""),
        "help": question.get("help", ""),
        "required": question.get("required", True),
        "choices": "\n".join(question.get("categories") or question.get("labels") or []),
        "severity": question.get("severity", False),
        "severity_required": question.get("severity_required", False),
        "per_answer": question.get("per_answer", True),
        "when": when_text(question.get("when")),
        "strength": question.get("strength", False),
        "min": question.get("min", 1),
        "max": question.get("max", 5),
        "anchors": anchor_lines(question.get("anchors") or []),
        "ordered": question.get("ordered", False),
        "distance": question.get("distance", "ordinal"),
        "verdict": _verdict_text(question),
    }


def when_text(when: Mapping[str, Any] | None) -> str:
    """A condition as `thumb = 0, 1`; empty without one."""
    return f"{when['question']} = {', '.join(str(v) for v in when['is'])}" if when else ""


def parse_when(text: str) -> dict[str, Any] | None:
    """The inverse of `when_text`; `good` and `bad` are the two thumbs.

    Raises:
        ValueError: there is no question's name before the `=`, or no answer behind it.
    """
    if not text.strip():
        return None
    name, _, rest = text.partition("=")
    values = lines(rest.replace(",", "\n"))
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name.strip()) or not values:
        raise ValueError(f"{text[:60]!r}: enter the condition as name = answer, answer")
    thumbs = {"good": 1, "bad": 0}
    parsed = [thumbs.get(v.lower(), int(v) if re.fullmatch(r"-?\d+", v) else v) for v in values]
    return {"question": name.strip(), "is": parsed}


def _verdict_text(question: Mapping[str, Any]) -> str:
    """A path as it is, a pattern between slashes."""
    pattern = question.get("verdict_pattern")
    return f"/{pattern}/" if pattern else str(question.get("verdict_path") or "")


def from_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The Question that a form's fields say.

    Raises:
        ValueError: a field does not say what it should, in words.
    """
    kind, title = fields["kind"], fields["title"].strip()
    name = fields["name"].strip() or _name_of(title)
    if not name:
        raise ValueError("Every question needs a title.")
    question: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "title": title or name,
        "required": fields["required"],
    }
    if fields["help"].strip():
        question["help"] = fields["help"].strip()
    if kind in _CHOICES:
        question[_CHOICES[kind]] = lines(fields["choices"])
        if not question[_CHOICES[kind]]:
            raise ValueError(f"{title or name}: enter the options, one per line.")
    if kind == "category":
        question["ordered"] = fields["ordered"]
    if kind in ("thumb", "scale", "category") and (verdict := fields["verdict"].strip()):
        is_pattern = len(verdict) > 2 and verdict[0] == verdict[-1] == "/"
        question |= {"verdict_pattern": verdict[1:-1]} if is_pattern else {"verdict_path": verdict}
    if when := parse_when(fields["when"]):
        question["when"] = when
    if not fields["per_answer"]:
        question["per_answer"] = False
    if kind in ("flags", "ranges"):
        question["severity"] = fields["severity"]
        question["severity_required"] = fields["severity"] and fields["severity_required"]
    if kind == "number":
        question |= {"min": int(fields["min"]), "max": int(fields["max"])}
    if kind == "comparison":
        question["strength"] = fields["strength"]
    if kind == "scale":
        question |= {
            "min": int(fields["min"]),
            "max": int(fields["max"]),
            "anchors": parse_anchors(fields["anchors"]),
            "distance": fields["distance"],
        }
    return question  # fmt: skip


def _name_of(title: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:64]
    return words if not words or words[0].isalpha() else f"q_{words}"[:64]


def lines(text: str) -> list[str]:
    """The lines that say something, each once."""
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def anchor_lines(anchors: Sequence[Mapping[str, Any]]) -> str:
    """Anchors as `1 = Wrong: would mislead`, one per line."""
    return "\n".join(
        f"{a['value']} = {a.get('label', '')}" + (f": {a['description']}" if a.get("description") else "")
        for a in anchors
    )


def parse_anchors(text: str) -> list[dict[str, Any]]:
    """The inverse of `anchor_lines`.

    Raises:
        ValueError: a line has no whole number before its `=`.
    """
    found: list[dict[str, Any]] = []
    for line in lines(text):
        value, sign, rest = line.partition("=")
        if not sign or not re.fullmatch(r"-?\d+", value.strip()):
            raise ValueError(f"{line[:60]!r}: enter a step as 1 = Label: description")
        label, _, description = rest.partition(":")
        found.append({"value": int(value), "label": label.strip(), "description": description.strip()})
    return found


def answer_text(kind: str, value: Any, *, several: bool = False) -> str:
    """What was answered to a question of this kind, in one line; an en dash where nothing was."""
    if value is None or value in ([], ()):
        return "none" if kind in ("flags", "ranges") and value is not None else "\u2013"
    if several and kind not in ("comparison", "ranking") and type(value) is list:
        return "; ".join(f"{chr(65 + i)}: {answer_text(kind, v)}" for i, v in enumerate(value))
    if kind == "thumb":
        return "Good" if value == 1 else "Bad"
    if kind == "choices":
        return ", ".join(value)
    if kind == "flags":
        return ", ".join(f"{f['category']}{_severity(f)}" for f in value)
    if kind == "ranges":
        return ", ".join(f"{r['label']} {r['start']} to {r['end']}{_severity(r)}" for r in value)
    if kind == "comparison":
        return _comparison(value)
    if kind == "ranking":
        ranks = ", ".join(f"{chr(65 + i)} {rank}" for i, rank in enumerate(value["ranks"]))
        return ranks + (", all bad" if value.get("all_bad") else "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _severity(entry: Mapping[str, Any]) -> str:
    return f" ({entry['severity']})" if entry.get("severity") else ""


def _comparison(value: Mapping[str, Any]) -> str:
    preferred = value.get("preferred")
    said = "tie" if preferred is None else f"{chr(65 + preferred)} is better"
    said += " (slightly)" if value.get("strength") == 0.5 else ""
    return said + (", all bad" if value.get("all_bad") else "")
