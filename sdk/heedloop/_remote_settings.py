"""Documents of the server that an app reads while it answers: prompts, experiments. Never fetched on the caller's thread.

A document is what one GET route returns. It is kept in memory and next to the outbox, so that an app that starts while the server
is away has what it had last, and one thread fetches all documents that were asked for again and again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from heedloop._guard import report, start_thread, warn
from heedloop._http import key_id
from heedloop._transport import Transport

REFRESH_S = 10.0
"""How old what the app reads is at most, while the server can be reached."""


class RemoteSettings:
    """The documents of one key.

    Args:
        folder: where copies are kept; None keeps them in memory alone.
        api_key: its public id is in the files' names, so that no other project reads them.
    """

    def __init__(
        self, transport: Transport, folder: Path | None, api_key: str, *, refresh_s: float = REFRESH_S
    ) -> None:
        self._transport = transport
        self._folder = folder
        self._key_id = key_id(api_key)
        self._refresh_s = refresh_s
        self.reset(keep={})

    def reset(self, keep: dict[str, Any] | None = None) -> None:
        """Start over without a thread, as in a forked child; what is known stays."""
        self._documents: dict[str, Any] = self._documents if keep is None else keep
        self._fetched: set[str] = set()
        self._etags: dict[str, str] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._due = True
        self._closed = False

    def document(self, path: str) -> Any | None:
        """The newest known document of a route; None before the first was fetched. Waits for nothing and does not raise.

        After a fork the child's copy is as old as the fork until its own thread has fetched.
        """
        if self._thread is None or path not in self._documents:
            self._follow(path)
        return self._documents[path]

    def wait(self, path: str, timeout_s: float) -> Any | None:
        """The document, for the first fetch of which this waits at most so long; for the start of an app and for tests."""
        self._follow(path)
        with self._changed:
            self._changed.wait_for(lambda: path in self._fetched or self._closed, timeout_s)
        return self._documents[path]

    def refresh(self) -> None:
        """Fetch every document again soon."""
        with self._changed:
            self._fetched.clear()
            self._due = True
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread; what is known stays readable."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _follow(self, path: str) -> None:
        with self._changed:
            if path not in self._documents:
                self._documents[path] = self._read_copy(path)
                self._due = True
                self._changed.notify_all()
            if self._thread is None and not self._closed:
                self._thread = start_thread(self._run, "heedloop-settings")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._due, self._refresh_s)
                if self._closed:
                    break
                self._due, paths = False, list(self._documents)
            for path in paths:
                self._fetch(path)
        self._transport.close()

    def _fetch(self, path: str) -> None:
        try:
            known = self._etags.get(path)
            response = self._transport.get(path, etag=known) if known else self._transport.get(path)
            if response.status == 304:
                pass  # it is what is known already
            elif response.verdict == "accepted":
                self._keep(path, response.body)
                self._etags[path] = response.etag
            else:
                warn(f"settings {path}", f"{path} was not fetched; the last copy is used: {response.reason}")
        except Exception as error:  # noqa: BLE001  the thread goes on
            report(error, f"fetching {path}")
        with self._changed:
            self._fetched.add(path)
            self._changed.notify_all()

    def _keep(self, path: str, document: Any) -> None:
        if document == self._documents[path]:
            return
        self._documents[path] = document
        if (file := self._file(path)) is not None:
            part = file.with_suffix(f".{os.getpid()}.part")
            text = json.dumps({"path": path, "fetched_at": time.time(), "document": document})
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as copy:
                copy.write(text)
            part.replace(file)

    def _read_copy(self, path: str) -> Any | None:
        file = self._file(path)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return None if file is None else json.loads(file.read_text("utf-8"))["document"]
        return None

    def _file(self, path: str) -> Path | None:
        name = hashlib.sha256(path.encode()).hexdigest()[:12]
        return None if self._folder is None else self._folder / f"settings-{self._key_id}-{name}.json"
