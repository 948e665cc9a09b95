"""What an app can set, and what it gets where it sets nothing."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from heedloop._capture import Clean
from heedloop._http import key_id


@dataclass(frozen=True, slots=True)
class Options:
    """The settings that most apps leave alone.

    Attributes:
        outbox: folder of the outbox; `None` for the user's state folder (or `HEEDLOOP_OUTBOX`), `"memory"` for none.
        outbox_max_bytes: byte budget of the outbox; beyond it the oldest spans give way.
        redact: what is done to every text before it leaves the process or touches the outbox, such as
            `heedloop.Redactor()`; None does nothing.
        max_value_chars: longest text kept of one argument or result.
        exit_timeout_s: the longest that leaving the process may take, whatever the server does.
        on_sigterm: deliver on SIGTERM too, then do what the app's own handler or the system would have done.
        serverless: deliver before each outermost call, and each feedback call outside of one, returns; waits at most
            `serverless_timeout_s`.
        serverless_timeout_s: see `serverless`.
        export_spans: False where an OpenTelemetry set-up of the app's own (a Collector) brings the spans to heedloop.
        tail_max_bytes: memory for calls that sampling left out, kept in case they are wanted after all.
        tail_max_age_s: how long they are kept.
        threads: threads and thread pools that a decorated call starts go on inside it. Off, because such a thread may outlive
            the call.
        all_spans: take every span of the app's OpenTelemetry set-up, also those that neither speak of an LLM nor are inside
            a decorated call, such as the web framework's own.
        follow_sampling: leave out what an upstream `traceparent` with flag 00, or the sampler of the app's own OpenTelemetry
            set-up, leaves out. Off, because their probability is unknown: the unrated answers among them would be lost, and
            coverage would read too high.
        read_timeout_s: the longest wait for the server's answer to one request, on threads of ours.
    """

    outbox: str | Path | None = None
    outbox_max_bytes: int = 128 * 1024 * 1024
    redact: Clean | None = None
    max_value_chars: int = 262_144
    exit_timeout_s: float = 2.0
    on_sigterm: bool = False
    serverless: bool = False
    serverless_timeout_s: float = 1.0
    export_spans: bool = True
    tail_max_bytes: int = 32 * 1024 * 1024
    tail_max_age_s: float = 900.0
    threads: bool = False
    all_spans: bool = False
    follow_sampling: bool = False
    read_timeout_s: float = 8.0
    resource: dict[str, str] = field(default_factory=dict[str, str])


def outbox_folder(folder: str | Path | None = None) -> Path | None:
    """Where outbox files are; None where everything waits in memory."""
    chosen = folder if folder is not None else os.environ.get("HEEDLOOP_OUTBOX")
    if chosen == "memory":
        return None
    return Path(chosen) if chosen else _state_folder()


def default_outbox(api_key: str, folder: str | Path | None) -> Path | None:
    """The outbox file of one key; None where it shall be in memory.

    It is named by the key's public id, so that records never reach another project, whatever the server's address is.
    """
    where = outbox_folder(folder)
    return None if where is None else where / f"outbox-{key_id(api_key)}.sqlite3"


def older_names(url: str, api_key: str) -> frozenset[str]:
    """What earlier versions called this key's outbox file: its name was made of the address as well."""
    host = url.partition("://")[2].rstrip("/")
    addresses = [f"{scheme}://{host}{end}" for scheme in ("http", "https") for end in ("", "/")]
    return frozenset(
        f"outbox-{hashlib.sha256(f'{address}|{key_id(api_key)}'.encode()).hexdigest()[:16]}.sqlite3"
        for address in addresses
    )


def _state_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "heedloop"
    state = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(state) if state else Path.home() / ".local" / "state") / "heedloop"
    except RuntimeError:  # no home folder, as in some containers
        return Path("/tmp") / f"heedloop-{os.getuid()}"  # noqa: S108  opened with mode 0700
