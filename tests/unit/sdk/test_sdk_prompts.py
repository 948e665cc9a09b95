"""`heedloop.prompt` from a document of another shape: a damaged copy on disk, another server."""

from __future__ import annotations

from typing import Any

import pytest

import heedloop
from heedloop import _prompts, testing
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
