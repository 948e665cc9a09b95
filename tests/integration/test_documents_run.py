"""The commands of the tutorials and of docs/api.md run as they are written, in order, against a real server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from forked_server import ForkedServer

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(?:sh|python title=\"([\w.]+)\")\n(.*?)^```", re.S | re.M)
"""Commands, and files that commands use. Blocks marked `console` start servers and stay unread."""

SEQUENCES = {
    "api": ["api.md"],
    "experiment": ["tutorials/better-prompt.md"],
    "tutorials": ["tutorials/first-thumb.md", "tutorials/first-queue.md", "tutorials/first-model.md"],
}


@pytest.mark.parametrize("pages", SEQUENCES.values(), ids=SEQUENCES)
def test_the_commands_of_a_page_succeed(pages: list[str], tmp_path: Path) -> None:
    script = ["set -eu"]
    for page in pages:
        for name, text in BLOCK.findall((DOCS / page).read_text("utf-8")):
            if name:
                (tmp_path / name).write_text(text)
            else:
                script.append(text)
    assert len(script) > 3
    (tmp_path / "server").mkdir()
    server = ForkedServer(tmp_path / "server").start()
    try:
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "HEEDLOOP_URL": server.url,
                "HEEDLOOP_API_KEY": server.key,
                "HEEDLOOP_OUTBOX": str(tmp_path / "outbox"),
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
    finally:
        server.stop()
    assert done.returncode == 0, done.stdout + done.stderr
