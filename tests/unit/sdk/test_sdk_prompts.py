"""`heedloop.prompt` from a document of another shape: a damaged copy on disk, another server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import heedloop
from heedloop import _prompts, testing
from heedloop._configure import start
from heedloop._options import Options
from heedloop._outbox import Outbox
from heedloop.schema import Prompt, to_json

GOOD = {"prompt": to_json(Prompt("support", "Answer kindly.", version=2)), "labels": ["production"]}


def served(document: Any) -> str:
    """The text that an app gets which has a fallback."""
    with testing.recording() as seen:
        seen.transport.documents[_prompts.PATH] = document
        seen.runtime.settings.refresh()
        seen.runtime.settings.wait(_prompts.PATH, 10)
        return str(heedloop.prompt("support", fallback="Answer.").text)


@pytest.mark.parametrize(
    "broken",
    [
        "no prompt",
        None,
        {},
        {"prompt": 3, "labels": ["production"]},
        {"prompt": GOOD["prompt"], "labels": None},
    ],
    ids=str,
)
def test_a_prompt_that_cannot_be_read_harms_no_other(broken: Any) -> None:
    assert served({"prompts": [broken, GOOD]}) == "Answer kindly."


@pytest.mark.parametrize("document", [[], "text", {}, {"prompts": None}, {"prompts": 5}], ids=str)
def test_a_document_of_another_shape_is_nothing_known(document: Any) -> None:
    assert served(document) == "Answer."


@pytest.mark.parametrize("label", ["production", "candidate"])
def test_a_prompt_that_is_newer_than_the_copy_on_disk_is_there_at_the_start(
    tmp_path: Path, label: str
) -> None:
    """An app that ran before starts again with a prompt, or a label, that was stored meanwhile."""
    first = {**GOOD, "labels": ["other"]}
    for sent, wanted in (([first], "other"), ([first, {**GOOD, "labels": [label]}], label)):
        transport = testing.MemoryTransport()
        transport.documents[_prompts.PATH] = {"prompts": sent}
        outbox = Outbox(tmp_path / "outbox-000000000000.sqlite3")
        start(
            transport, outbox, Options(), resource={}, api_key=testing.TEST_KEY, sample_rate=1.0, capture=True
        )
        try:
            assert heedloop.prompt("support", label=wanted).version == 2
            with pytest.raises(LookupError, match="'nothing' is known"):
                heedloop.prompt("support", label="nothing")
        finally:
            heedloop.shutdown()
