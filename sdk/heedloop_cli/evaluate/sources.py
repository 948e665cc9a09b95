"""What is answered: the held-out prompts of a snapshot, a case set of the server, or a JSON Lines file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from heedloop.client import Client
from heedloop.schema import (
    Call,
    Case,
    Demonstration,
    Message,
    PromptRow,
    Split,
    canonical_json,
    to_json,
)
from heedloop.testing_cases import read_cases


@dataclass(frozen=True, slots=True)
class Source:
    """Cases with a name that says where they are from."""

    name: str
    cases: list[Case]


def snapshot_source(client: Client, beginning: str, split: Split = "test") -> Source:
    """The prompts of one split of a snapshot, found by its name or the beginning of its id; corrections are references."""
    found = [s for s in client.snapshots() if s.id.startswith(beginning) or s.name == beginning]
    if not found:
        raise ValueError(f"there is no snapshot {beginning!r}; `heedloop dataset list` lists them")
    snapshot = found[0]
    rows: Iterator[Demonstration] = client.snapshot_rows(snapshot.id, "demonstrations", split)
    corrected = {_key(r.prompt): r for r in rows if r.source == "correction"}
    prompts: Iterator[PromptRow] = client.snapshot_rows(snapshot.id, "prompts", split)
    cases = [_case(p, corrected.get(_key(p.prompt))) for p in prompts]
    if not cases:
        raise ValueError(f"the snapshot {snapshot.name} has no prompts in its split {split}")
    return Source(f"snapshot {snapshot.id}", cases)


def _key(prompt: tuple[Message, ...]) -> str:
    text = canonical_json([to_json(m) for m in prompt])
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def _case(row: PromptRow, corrected: Demonstration | None) -> Case:
    return Case(
        id=_key(row.prompt),
        prompt=row.prompt,
        tools=row.tools,
        reference=corrected.completion if corrected else "",
        reference_tool_calls=tuple(t for m in corrected.completion_messages for t in m.tool_calls)
        if corrected
        else (),
        group=row.group,
        trace_id=row.trace_ids[0] if row.trace_ids else "",
    )


def case_set_source(client: Client, named: str) -> Source:
    """A case set of the server, `NAME` or `NAME@VERSION`."""
    name, _, version = named.partition("@")
    found = [s for s in client.case_sets() if s.name == name and version in ("", str(s.version))]
    if not found:
        raise ValueError(f"there is no case set {named!r}; `heedloop cases list` lists them")
    return Source(f"cases {name}@{found[0].version}", list(client.iter_cases(name, version=found[0].version)))


def file_source(path: Path) -> Source:
    """A JSON Lines file of cases, or of prompts of one's own."""
    cases = [replace(c, id=_key(c.prompt) if c.id.startswith("line") else c.id) for c in read_cases(path)]
    if not cases:
        raise ValueError(f"{path} holds no prompt")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return Source(f"file {path.name} {digest}", list({c.id: c for c in cases}.values()))


def stored_answer(client: Client, case: Case) -> Call | None:
    """The production answer to a case's prompt; None where there is none any more."""
    if not case.trace_id:
        return None
    spans = [c for c in client.trace(case.trace_id).spans if c.output_messages]
    if case.span_id:
        return next((c for c in spans if c.span_id == case.span_id), None)
    same = [c for c in spans if c.input_messages and c.input_messages[-1] == case.prompt[-1]]
    return next((c for c in [*same, *spans] if c.is_answer), same[0] if same else None)
