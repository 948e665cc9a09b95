"""`heedloop.prompt`: a prompt of the registry, served from memory or disk, whatever the server does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedloop import attributes as names
from heedloop._current import current_call
from heedloop._guard import guarded
from heedloop._runtime import state
from heedloop.schema import SchemaError, from_json
from heedloop.schema._prompt import Prompt

PATH = "/v1/prompts/served"
FIRST_FETCH_S = 2.0

_Known = Mapping[tuple[str, str], Prompt]
_parsed: tuple[Any, _Known] = (None, {})


def prompt(name: str, *, label: str = "production", fallback: str | Prompt | None = None) -> Prompt:
    """The version of a prompt that a label names now: `heedloop.prompt("support").as_messages(question=question)`.

    It comes from memory, which is fresh within seconds, or from the copy on disk where the server was away since the start; nothing
    is fetched on the caller's thread. Only where neither has it, and there is no `fallback`, a call waits for the process's first
    fetch, up to two seconds. Inside of a decorated call its name and version are set on the call, a fallback's version as `fallback`.

    Args:
        label: `production`, `candidate`, or one of your own; `latest` is the newest version.
        fallback: what to answer with where no such version is known.

    Raises:
        LookupError: no such version is known and there is no fallback: an app cannot answer without its prompt.
    """
    found = _known(False).get((name, label))
    if found is None and fallback is None:
        found = _known(True).get((name, label))  # the copy on disk may be older than the prompt
    if found is None:
        if fallback is None:
            raise LookupError(
                f"prompt: no version of {name!r} with the label {label!r} is known; label one with `heedloop prompt label`, "
                "let the key have the scope ingest or read, or give a fallback"
            )
        found = fallback if isinstance(fallback, Prompt) else Prompt(name, fallback)
    note_prompt(found)
    return found


@guarded("reading prompts", {})
def _known(fetched: bool) -> _Known:
    """What is known now, or with `fetched` once the server was asked in this process."""
    global _parsed
    runtime = state.runtime
    if runtime is None:
        return {}
    settings = runtime.settings
    document = settings.wait(PATH, FIRST_FETCH_S) if fetched else settings.document(PATH)
    before, known = _parsed
    if before is not document:
        known = _read(document)
        _parsed = (document, known)
    return known


def _read(document: Any) -> _Known:
    """The prompts by name and label; what a newer server wrote that this version cannot read is left out."""
    known: dict[tuple[str, str], Prompt] = {}
    sent: Any = document.get("prompts") if isinstance(document, dict) else None
    for served in sent if isinstance(sent, list) else ():
        try:
            one = from_json(Prompt, served["prompt"], strict=False)
            known |= {(one.name, str(label)): one for label in served["labels"]}
        except (SchemaError, KeyError, TypeError, AttributeError):
            continue
    return known


@guarded("noting a prompt", None)
def note_prompt(used: Prompt) -> None:
    """Write a prompt's name and version on the call that is going on, where there is one."""
    call = current_call()
    if call is not None:
        call.set_attribute(names.PROMPT_NAME, used.name)
        call.set_attribute(names.PROMPT_VERSION, str(used.version or "fallback"))
