"""A real `heedloop serve` that starts in half the time: forked from a process that has imported everything and opened nothing.

What a kill test repeats is opening the store and reading the log, not importing Python modules.
"""

import multiprocessing
import os
import re
import sys
from pathlib import Path

from server_process import ServerProcess, wait_for


class ForkedServer(ServerProcess):
    """As `ServerProcess`; `kill` is kill -9 of the whole server, `stop` is SIGTERM."""

    def __init__(self, folder: Path, *flags: str, env: dict[str, str] | None = None) -> None:
        super().__init__(folder, *flags, env=env)
        self._forks = multiprocessing.get_context("forkserver")
        self._forks.set_forkserver_preload(["forked_imports"])
        self._num_starts = 0

    def start(self) -> "ForkedServer":
        said = self.begin()
        self.port = wait_for(lambda: self._port(said), what="the server to say its port", timeout_s=120)
        wait_for(self._ready, what="the server to be ready", timeout_s=60)
        return self

    def begin(self) -> Path:
        """Start it without waiting for it; returns the file of its output."""
        self._num_starts += 1
        said = self.folder / f"stdout-{self._num_starts}"
        arguments = ["serve", "--data", str(self.folder / "data"), "--port", str(self.port)]
        arguments += ["--key-file", str(self.folder / "key"), *self.flags]
        changed = {k: v for k, v in self.env.items() if os.environ.get(k) != v}
        self.process = self._forks.Process(
            target=serve, args=(arguments, changed, said, self.folder / "stderr"), daemon=True
        )
        self.process.start()
        return said

    def _port(self, said: Path) -> int:
        assert self.process.is_alive(), (self.folder / "stderr").read_text()
        match = re.search(r"serves on http://[^:]+:(\d+)", said.read_text()) if said.exists() else None
        return int(match[1]) if match else 0

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def stop(self) -> int:
        self.process.terminate()
        self.process.join(60)
        return self.process.exitcode


def serve(arguments: list[str], env: dict[str, str], stdout: Path, stderr: Path) -> None:
    """`heedloop` with these arguments, in a process that is only just forked."""
    from heedloop_cli.main import main

    os.environ.update(env)
    for number, path in ((1, stdout), (2, stderr)):
        fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.dup2(fd, number)
        os.close(fd)
    sys.exit(main(arguments))
