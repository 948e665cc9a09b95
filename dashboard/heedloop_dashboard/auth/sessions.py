"""Who is signed in: random session ids in a cookie, the keys behind them in this process's memory only.

The key never reaches the browser after sign-in, never stands in a URL and is never written to disk. The server decides
everything by the key; nothing here grants anything.
"""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, replace

from heedloop.client import Client
from heedloop_dashboard.auth.access import Access

COOKIE = "heedloop_session"
LIFETIME_S = 12 * 3600
MAX_SESSIONS = 10_000


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in.

    Attributes:
        client: reads with the person's own key.
        project: the key's project, as the server said.
        name: the person, where someone else vouched for them, else the key's name.
        scopes: what the server lets the key do.
        role: `admin`, `viewer` or `annotator`: the scopes in one word.
        expires_at: seconds of the monotonic clock.
        person: whom a proxy or a provider named; empty where the key itself was entered.
        via: `key`, `proxy` or `oidc`: how the person signed in.
    """

    client: Client
    project: str
    name: str
    scopes: tuple[str, ...]
    role: str
    expires_at: float
    person: str = ""
    via: str = "key"

    def can(self, scope: str) -> bool:
        """True where the key has the scope: pages then show what needs it. The server decides at every call."""
        return scope in self.scopes


def role_of(scopes: tuple[str, ...]) -> str:
    """The scopes in one word: `admin`, `viewer`, `annotator`, or `none` of these."""
    words = {"admin": "admin", "read": "viewer", "annotate": "annotator"}
    return next((word for scope, word in words.items() if scope in scopes), "none")


class Sessions:
    """Sign-ins by their random id. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[str, list[Session]] = {}
        self.url: str | None = None
        self.local: Session | None = None
        self.access = Access()
        self._local_key: str | None = None

    def configure(
        self, url: str | None, *, local_key: str | None = None, access: Access | None = None
    ) -> None:
        """Set the server's address, the key that serves everyone on this machine, where there is one, and who else
        may vouch for people."""
        self.url = url
        self.access = access or Access()
        self._local_key = local_key
        self.local = None

    def open(self, key: str, *, person: str = "", via: str = "key", beside: str | None = None) -> str:
        """Sign in with a key; returns the new session's id.

        Args:
            person: whom a proxy or a provider named; the key is then the one that the configuration gives them.
            beside: a session whose other projects, entered with keys of their own, stay open in the new one.

        Raises:
            ApiError: the server refused the key or did not answer.
        """
        session = self._session(key)
        if person:
            session = replace(session, name=person, person=person, via=via)
        name = secrets.token_urlsafe(32)
        with self._lock:
            self._drop_expired()
            others = [
                s
                for s in self._by_id.get(beside or "", [])
                if s.via == "key" and s.project != session.project
            ]
            if len(self._by_id) >= MAX_SESSIONS:
                self._by_id.pop(next(iter(self._by_id)))
            self._by_id[name] = [session, *others]
        return name

    def get(self, name: str | None) -> Session | None:
        """The session of a cookie, or the local key's; None where there is neither.

        Raises:
            ApiError: the server refused the local key or did not answer.
        """
        return self.signed_in(name) or self._local()

    def signed_in(self, name: str | None) -> Session | None:
        """The session of a cookie, whoever else may use this dashboard; asks the server nothing."""
        return next(iter(self._valid(name)), None)

    def projects(self, name: str | None) -> list[str]:
        """The projects that a session can show, by name."""
        return sorted(s.project for s in self._valid(name))

    def switch(self, name: str | None, project: str) -> None:
        """Show another of a session's projects from now on."""
        with self._lock:
            self._by_id.get(name or "", []).sort(key=lambda s: s.project != project)

    def _valid(self, name: str | None) -> list[Session]:
        with self._lock:
            return [s for s in self._by_id.get(name or "", []) if s.expires_at > time.monotonic()]

    def close(self, name: str | None) -> None:
        """Sign out."""
        with self._lock:
            self._by_id.pop(name or "", None)

    @property
    def is_local(self) -> bool:
        """True where a key from the environment serves everyone who reaches this page."""
        return self._local_key is not None

    def _local(self) -> Session | None:
        if self._local_key is None:
            return None
        if self.local is None:
            self.local = self._session(self._local_key)
        return self.local

    def _session(self, key: str) -> Session:
        client = Client(self.url, key, timeout_s=20)
        me = client.me()
        scopes = tuple(me.scopes)
        expires_at = time.monotonic() + LIFETIME_S
        return Session(client, me.project, me.name, scopes, me.role or role_of(scopes), expires_at)

    def _drop_expired(self) -> None:
        now = time.monotonic()
        for name in [n for n, s in self._by_id.items() if all(one.expires_at <= now for one in s)]:
            del self._by_id[name]


SESSIONS = Sessions()
