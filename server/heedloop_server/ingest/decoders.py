"""Processes that decode requests beside the loader, so that two cores work on one log.

Each is a Python of its own that imports the decoding alone and is spoken to over a socket. It ends when the socket does, so that a
server that is killed leaves none behind. One that dies, or that is silent for two minutes, is replaced, and what it was given is given
to the next one once more; a second death is an error of those requests (`DecoderDied`).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import pickle
import queue
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from heedloop_server.ingest.decode import Decoded, decode, merge
from heedloop_server.ingest.record import LoggedRequest, pieces_of

log = logging.getLogger("heedloop.loader")

PART_BYTES = 1 << 20
"""Request bytes that one process is given at once: what is made of more leaves the caches, and decoding takes longer."""
_HERE_BYTES = 256 << 10
"""Request bytes up to which decoding here is quicker than asking, and does not hold up the server's other threads for long."""
_SILENT_S = 120.0
_MOST = 4
_START = "import sys; from heedloop_server.ingest.decoders import serve; serve(int(sys.argv[1]))"


class DecoderDied(Exception):
    """A process ended, or was silent, at the same requests twice."""


def num_decoders() -> int:
    """How many processes this machine has cores for beside the server's own; 0 on one core."""
    # not every system can say which cores a process may use
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST, cores - 1)


class Decoders:
    """A pool of such processes; each starts when it is first needed.

    Args:
        num: processes; 0 decodes everything here.
    """

    def __init__(self, num: int = 0) -> None:
        self._threads = ThreadPoolExecutor(num, thread_name_prefix="decoder") if num else None
        self._idle: queue.LifoQueue[_Process] = queue.LifoQueue()
        for _ in range(num):
            self._idle.put(_Process())

    def submit(self, requests: Sequence[LoggedRequest], *, apart: bool = False) -> Callable[[], Decoded]:
        """Begin to decode requests; the result is given by calling what this returns, which raises `DecoderDied`.

        Args:
            apart: True where they may end the process that decodes them.
        """
        small = not apart and sum(len(r.payload) for r in requests) <= _HERE_BYTES
        if self._threads is None or small:
            return lambda: decode(requests)
        futures = [self._threads.submit(self._ask, part) for _, part in pieces_of(requests, PART_BYTES)]
        return lambda: merge([f.result() for f in futures])

    def close(self) -> None:
        """End all processes."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().end()

    def _ask(self, requests: list[LoggedRequest]) -> Decoded:
        process = self._idle.get()
        try:
            with contextlib.suppress(DecoderDied):
                return process.ask(requests)
            return process.ask(requests)
        finally:
            self._idle.put(process)


class _Process:
    """One process, started when it is first asked and again when it has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: Connection | None = None

    def ask(self, requests: list[LoggedRequest]) -> Decoded:
        socket = self._socket or self._start()
        try:
            socket.send_bytes(pickle.dumps(requests, pickle.HIGHEST_PROTOCOL))
            if not socket.poll(_SILENT_S):
                raise TimeoutError(f"no result after {_SILENT_S:.0f} s")
            return pickle.loads(socket.recv_bytes())  # noqa: S301  # from a process of our own
        except (OSError, EOFError) as err:
            code = self.end()
            log.error("a decoder ended (%s) at %d requests: %r", code, len(requests), err)
            raise DecoderDied(f"the process that decoded the requests ended ({code}): {err!r}") from err

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        fd = theirs.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(fd)],
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt from the terminal is for the server, which stores what it has
        )
        theirs.close()
        self._socket = ours
        return ours

    def end(self) -> int | None:
        """Stop it; returns its exit status, negative where a signal ended it."""
        if self._socket is not None:
            self._socket.close()
        process, self._socket, self._process = self._process, None, None
        if process is None:
            return None
        try:
            return process.wait(1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def serve(fd: int) -> None:
    """Decode what comes over the socket until it closes: the life of one process."""
    # a million small objects live until a part is done, and none of them in a cycle: looking for some takes a sixth of the time
    gc.disable()
    with Connection(fd) as socket, contextlib.suppress(EOFError, ConnectionError):
        while True:
            requests = pickle.loads(socket.recv_bytes())  # noqa: S301  # from the server that started us
            socket.send_bytes(pickle.dumps(decode(requests), pickle.HIGHEST_PROTOCOL))
            gc.collect()
            gc.freeze()  # also what a part was the first to import: looking through it takes a tenth of the time
