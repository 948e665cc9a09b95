"""Prompts: their versions, which never change, and the labels that name one of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from dataclasses import replace

from heedloop.responses.prompts import PromptHistory, PromptLabel, PromptSummary, PromptVersion
from heedloop.schema import Prompt, from_json, to_json, utc_now
from heedloop_server.store.connection import ProjectStore

LATEST = "latest"
"""The label that the newest version of each prompt has by itself."""
_EARLIER_STAYS = 2**64 - 1


def store_version(project: ProjectStore, prompt: Prompt, *, note: str, created_by: str) -> Prompt:
    """Store the words as the next version; the version that has the same words already, where there is one.

    Two who store at once get two versions: on one server they take turns; of two servers' rows the first keeps its number.
    """
    with _STORING:
        while (found := _version_of(project, prompt)) is None:
            _insert(project, prompt, note, created_by)
        return found


_STORING = threading.Lock()


def _version_of(project: ProjectStore, prompt: Prompt) -> Prompt | None:
    return next(
        (
            v.prompt
            for v in versions(project, prompt.name)
            if replace(v.prompt, version=0) == replace(prompt, version=0)
        ),
        None,
    )


def _insert(project: ProjectStore, prompt: Prompt, note: str, created_by: str) -> None:
    newest = max((v.prompt.version for v in versions(project, prompt.name)), default=0)
    made = replace(prompt, version=newest + 1)
    row = {
        "name": made.name,
        "number": made.version,
        "record": json.dumps(to_json(made), ensure_ascii=False),
        "note": note,
        "created_by": created_by,
        "created_at": utc_now(),
        "version": _EARLIER_STAYS - time.time_ns(),
    }
    project.insert("prompts", [row], **project.lasting)


def versions(project: ProjectStore, name: str = "") -> list[PromptVersion]:
    """The versions of one prompt, or of all by name, newest first."""
    rows = project.rows(
        """
        SELECT
            name,
            number,
            record,
            note,
            created_by,
            created_at
        FROM prompts FINAL
        WHERE project_id = {project:String} AND {name:String} IN ('', name)
        ORDER BY name, number DESC
        """,
        {"name": name},
        **project.fresh,
    )
    named: dict[tuple[str, int], list[str]] = {}
    for of_name, label in _labels(project, name):
        named.setdefault((of_name, label.version), []).append(label.label)
    prompts = [from_json(Prompt, json.loads(r["record"])) for r in rows]
    return [
        PromptVersion(
            prompt=p,
            variables=list(p.variables),
            labels=named.get((p.name, p.version), []),
            note=r["note"],
            created_by=r["created_by"],
            created_at=r["created_at"],
        )
        for p, r in zip(prompts, rows, strict=True)
    ]


def named_prompts(project: ProjectStore, references: Iterable[str]) -> dict[str, Prompt]:
    """The versions that `NAME@VERSION` or `NAME@LABEL` mean now, by these; those that mean none are left out."""
    found: dict[str, Prompt] = {}
    for reference in sorted(set(references)):
        name, _, chosen = reference.partition("@")
        for one in versions(project, name) if name else ():  # the newest first
            if chosen in (str(one.prompt.version), LATEST, *one.labels):
                found[reference] = one.prompt
                break
    return found


def history(project: ProjectStore, name: str) -> PromptHistory:
    """One prompt; without versions where there is none of that name."""
    labels = [label for _, label in _labels(project, name)]
    return PromptHistory(name=name, versions=versions(project, name), labels=labels)


def summaries(project: ProjectStore) -> list[PromptSummary]:
    """All prompts, by name."""
    return [_summary(list(of_name)) for of_name in _by_name(versions(project))]


def _by_name(found: Iterable[PromptVersion]) -> Iterable[list[PromptVersion]]:
    groups: dict[str, list[PromptVersion]] = {}
    for one in found:
        groups.setdefault(one.prompt.name, []).append(one)
    return groups.values()


def _summary(found: list[PromptVersion]) -> PromptSummary:
    newest = found[0]
    return PromptSummary(
        name=newest.prompt.name,
        newest=newest.prompt.version,
        labels={label: v.prompt.version for v in found for label in v.labels},
        created_by=newest.created_by,
        created_at=newest.created_at,
    )


def set_label(project: ProjectStore, name: str, label: str, number: int, set_by: str) -> None:
    """Let a label name a version; 0 takes it off."""
    row = {"name": name, "label": label, "number": number, "set_by": set_by}
    row |= {"set_at": utc_now(), "version": time.time_ns()}
    project.insert("prompt_labels", [row], **project.lasting)


def _labels(project: ProjectStore, name: str) -> list[tuple[str, PromptLabel]]:
    rows = project.rows(
        """
        SELECT
            name,
            label,
            number,
            set_by,
            set_at
        FROM prompt_labels FINAL
        WHERE project_id = {project:String} AND {name:String} IN ('', name) AND number > 0
        ORDER BY set_at DESC
        """,
        {"name": name},
        **project.fresh,
    )
    return [
        (
            r["name"],
            PromptLabel(label=r["label"], version=r["number"], set_by=r["set_by"], set_at=r["set_at"]),
        )
        for r in rows
    ]
