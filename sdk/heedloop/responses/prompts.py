"""Prompts: their versions, labels, and what an app is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from heedloop.schema import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptVersion:
    """A stored version: its words, who stored it and why, and the labels that it has now."""

    prompt: Prompt
    variables: list[str]
    labels: list[str]
    note: str
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLabel:
    """A label's version; 0 and an earlier one where it was taken off. Who set it and when."""

    label: str
    version: int
    set_by: str
    set_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptHistory:
    """One prompt: its versions and the labels that it has, both newest first."""

    name: str
    versions: list[PromptVersion]
    labels: list[PromptLabel]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSummary:
    """A prompt in the list: its newest version, and label -> version."""

    name: str
    newest: int
    labels: Mapping[str, int]
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptList:
    """All prompts, by name."""

    prompts: list[PromptSummary]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPrompt:
    """A version that has a label, and the newest of each prompt."""

    prompt: Prompt
    labels: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPrompts:
    """What apps are served: every labelled version and every newest one, which has the label `latest`."""

    prompts: list[ServedPrompt]
