"""Documents of the server that an app reads without waiting: from memory, from disk, and over forks."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from heedloop import testing
from heedloop._remote_settings import RemoteSettings
from heedloop._transport import Response

PATH = "/v1/prompts/served"


def settings(folder: Path | None, document: object = None) -> tuple[RemoteSettings, testing.MemoryTransport]:
    transport = testing.MemoryTransport()
    transport.documents[PATH] = document
    return RemoteSettings(transport, folder, testing.TEST_KEY, refresh_s=3600), transport


def test_a_document_outlives_the_server(tmp_path: Path) -> None:
    first, transport = settings(tmp_path, {"prompts": [1]})
    assert first.wait(PATH, 10) == first.document(PATH) == {"prompts": [1]}
    transport.documents[PATH] = {"prompts": [2]}
    first.refresh()
    assert first.wait(PATH, 10) == {"prompts": [2]}
    first.close()
    (copy,) = tmp_path.iterdir()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600

    away, transport = settings(tmp_path)
    transport.responses = [Response("later", reason="nobody there")] * 3
    transport.get = lambda path: transport.responses[0]  # type: ignore[method-assign]
    assert away.document(PATH) == {"prompts": [2]}, "the copy, before any fetch"
    assert away.wait(PATH, 10) == {"prompts": [2]}
    away.close()


def test_a_damaged_copy_is_none(tmp_path: Path) -> None:
    first, _ = settings(tmp_path, {"prompts": [1]})
    first.wait(PATH, 10)
    first.close()
    (copy,) = tmp_path.iterdir()
    copy.write_text('{"document')
    away, _ = settings(tmp_path, {"prompts": [3]})
    away.close()
    assert away.document(PATH) is None


def test_a_fork_fetches_by_itself() -> None:
    """The child has no thread of its parent's; what it knew stays."""
    parent, transport = settings(None, {"prompts": [1]})
    parent.wait(PATH, 10)
    pid = os.fork()
    if pid == 0:
        parent.reset()
        transport.documents[PATH] = {"prompts": [2]}
        kept = parent.document(PATH) == {"prompts": [1]} or parent.document(PATH) == {"prompts": [2]}
        os._exit(0 if kept and parent.wait(PATH, 10) == {"prompts": [2]} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert parent.document(PATH) == {"prompts": [1]}
    parent.close()
