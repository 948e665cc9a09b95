"""The examples in docs/sdk.md and docs/recipes run as they are written, each file in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sdk_sink import Sink

import heedloop

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "sdk.md", *sorted((DOCS / "recipes").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.S | re.M)


@pytest.fixture
def sink():
    server = Sink()
    yield server
    server.stop()


@pytest.mark.parametrize("page", [p for p in PAGES if BLOCK.search(p.read_text())], ids=lambda p: p.stem)
def test_the_examples_run(page, sink, tmp_path):
    code = "\n\n".join(BLOCK.findall(page.read_text()))
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
        "HEEDLOOP_URL": sink.url,
        "HEEDLOOP_API_KEY": "hl_0123456789ab_" + "k" * 43,
        "HEEDLOOP_OUTBOX": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert page.stem == "testing" or sink.spans


def test_every_public_name_is_in_the_docs():
    text = "\n".join(p.read_text() for p in PAGES)
    missing = [n for n in heedloop.__all__ if not re.search(rf"\b{n}\b", text)]
    assert missing == []


def test_every_option_is_in_the_docs():
    text = (DOCS / "sdk.md").read_text()
    missing = [f for f in heedloop.Options.__dataclass_fields__ if f"`{f}`" not in text]
    assert missing == []
