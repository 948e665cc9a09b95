"""Prompts: versions, what each changed, how each is rated, and which one the labels name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import streamlit as st

from heedloop.changes import compare
from heedloop.client import Client
from heedloop.responses import Group, PromptHistory, PromptSummary, PromptVersion
from heedloop_dashboard import components, panels, words
from heedloop_dashboard.fetch import Answer, ask, current, read, write
from heedloop_dashboard.navigation import Open

LABEL = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


def show() -> None:
    """Draw one prompt where the URL names it, else the list."""
    name = (st.query_params.get("name") or "").strip()
    if name:
        _one(name)
        return
    st.subheader("Prompts", anchor=False)
    answer = read(all=ask(Client.prompts))["all"]
    with panels.panel("prompts"):
        panels.header("Prompts", "Texts that apps are served by their labels; select one for its versions")
        if answer.error is not None:
            panels.problem(answer.error)
        elif not answer.value:
            panels.empty("No prompt yet. Store one with: heedloop prompt push NAME FILE")
        else:
            _list(answer.value)


def _list(prompts: Sequence[PromptSummary]) -> None:
    heads = [
        {"key": "name", "label": "Prompt", "kind": ""},
        {"key": "newest", "label": "Versions", "kind": "number"},
        {"key": "labels", "label": "Labels", "kind": ""},
        {"key": "at", "label": "Newest version", "kind": ""},
        {"key": "by", "label": "Stored by", "kind": ""},
    ]
    rows = [
        {
            "key": p.name,
            "cells": [p.name, words.count(p.newest), _labels(p), words.clock(p.created_at), p.created_by],
            "open": Open("prompts", {"name": p.name}).to_json(),
        }
        for p in prompts
    ]
    components.table("prompt_rows", heads, rows, caption="Prompts by name")


def _labels(prompt: PromptSummary) -> str:
    named = (f"{label} {version}" for label, version in sorted(prompt.labels.items()))
    return ", ".join(named) or words.NONE


def _one(name: str) -> None:
    panels.title(name, ("All prompts", Open("prompts")))
    answers = read(
        prompt=ask(Client.prompt, name),
        rates=ask(Client.quality_by, "prompt_version", prompt_name=name),
    )
    found: Answer[PromptHistory] = answers["prompt"]
    if found.error is not None:
        panels.problem(found.error)
        return
    rates: Answer[list[Group]] = answers["rates"]
    rated = {} if rates.error is not None else {g.value: g for g in rates.value}
    with panels.panel("prompt_versions"):
        panels.header("Versions, newest first", "Ratings of the last 30 days' calls that name the version")
        _versions(found.value.versions, rated)
    with panels.panel("prompt_changes"):
        _changes(found.value.versions)
    if any(current().can(scope) for scope in ("train", "admin")):
        _move(found.value)


def _versions(versions: Sequence[PromptVersion], rated: dict[str, Group]) -> None:
    heads = [
        {"key": "version", "label": "Version", "kind": "number"},
        {"key": "labels", "label": "Labels", "kind": ""},
        {"key": "rate", "label": "Thumbs up", "kind": "number"},
        {"key": "answers", "label": "Answers", "kind": "number"},
        {"key": "at", "label": "Stored", "kind": ""},
        {"key": "by", "label": "By", "kind": ""},
        {"key": "note", "label": "Note", "kind": "wide"},
    ]
    rows: list[dict[str, Any]] = []
    for v in versions:
        group = rated.get(str(v.prompt.version))
        cells = [
            str(v.prompt.version),
            ", ".join(v.labels) or words.NONE,
            words.short(group.rate) if group else words.NONE,
            words.count(group.num_answers) if group else words.NONE,
            words.clock(v.created_at),
            v.created_by,
            v.note,
        ]
        rows.append({"key": str(v.prompt.version), "cells": cells})
    components.table("prompt_version_rows", heads, rows, caption="Versions, newest first", link=-1)


def _changes(versions: Sequence[PromptVersion]) -> None:
    by_number = {v.prompt.version: v.prompt for v in versions}
    panels.header("What a version changed", "Word by word, against the version before it or any other")
    left, right = st.columns(2)
    after = left.selectbox("Version", list(by_number), key="prompt_after")
    others = [0, *(n for n in by_number if n != after)]
    at = others.index(after - 1) if after - 1 in others else 0
    before = right.selectbox(
        "Against", others, index=at, format_func=lambda n: str(n) if n else "nothing", key=f"prompt_before_{after}"
    )  # fmt: skip
    pieces = compare(by_number[before].plain if before else by_number[after].plain, by_number[after].plain)
    components.diff("prompt_diff", pieces, label=f"Version {after}")
    holes = by_number[after].variables
    st.caption(f"Variables: {', '.join(holes)}" if holes else "No variables")
    if by_number[after].settings:
        st.text("Settings: " + ", ".join(f"{k} {v}" for k, v in by_number[after].settings.items()))


def _move(prompt: PromptHistory) -> None:
    with panels.panel("prompt_label"), st.form("prompt_label", border=False):
        panels.header("Move a label", "Apps that use the label are served the version within seconds")
        left, right = st.columns(2)
        label = left.text_input("Label", value="production", max_chars=64).strip()
        version = right.selectbox("Version", [v.prompt.version for v in prompt.versions])
        if not st.form_submit_button("Move it", type="primary"):
            return
    if not LABEL.fullmatch(label):
        st.text("A label is a to z, then a to z, 0 to 9 and _ . -")
        return
    moved = write(Client.label_prompt, prompt.name, label, version)
    if moved.error is not None:
        panels.problem(moved.error)
    else:
        st.rerun()
