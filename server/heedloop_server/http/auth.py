"""Who is asking: keys, scopes, and the one way a route gets its project.

A key is `hl_<12 hex>_<43 base64url characters>`: 72 bits would do to name it, 256 random bits make it secret. Only `sha256` of the
whole text is stored. A route names the scope it needs; a route that names none is refused when the app is made (`app.py`).
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, cast

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from heedloop.schema import SchemaError, utc_now
from heedloop_server.errors import Forbidden, ServerError, Unauthorized
from heedloop_server.http.rates import AddressLimit, RateLimit
from heedloop_server.http.request_records import KEY_ID
from heedloop_server.store.admin.keys import StoredKey, find_key, insert_key
from heedloop_server.store.connection import ProjectStore, Store, StoreError

log = logging.getLogger("heedloop.auth")

SCOPES = ("ingest", "feedback", "read", "annotate", "review", "train", "admin", "instance")
PROJECT_SCOPES = SCOPES[:-1]
"""Every scope but `instance`: what the first key of a new project has."""

ROLES: dict[str, tuple[str, ...]] = {
    "viewer": ("read",),
    "annotator": ("annotate",),
    "reviewer": ("annotate", "review"),
    "admin": PROJECT_SCOPES,
}
"""Names for the sets of scopes that people have. A key stores its scopes; its role is what they amount to."""

INVITED = "sign-in:"
"""How the one scope of a sign-in link begins; behind it stands the role of the key that is made with it. No route takes it."""

_MAX_AUTHOR_CHARS = 256

_KEY = re.compile(r"hl_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_CACHE_S = 5.0
_REFRESH_S = 2.5
"""Age from which the key of a request is looked up again beside it."""
_CACHE_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose request this is. The project of every query comes from here and from nowhere else."""

    project: str
    scopes: frozenset[str]
    key_id: str
    name: str = ""
    author_id: str = ""
    """The person whose key this is, where it was made for one."""

    @property
    def author(self) -> str:
        """The author id of what is judged with this key: the person's, else the key's name, else its id."""
        return self.author_id or self.name or self.key_id


def check_scopes(scopes: Iterable[str], field: str = "scopes") -> tuple[str, ...]:
    """The scopes in their fixed order; raises `SchemaError` where one is unknown or there is none."""
    given = set(scopes)
    unknown = sorted(given - set(SCOPES))
    if unknown:
        raise SchemaError(field, f"{unknown[0]!r} is no scope; there are {', '.join(SCOPES)}")
    if not given:
        raise SchemaError(field, f"name at least one of {', '.join(SCOPES)}")
    return tuple(s for s in SCOPES if s in given)


def scopes_of_role(role: str) -> tuple[str, ...]:
    """The scopes of a role; raises `SchemaError` where there is no such role."""
    if role not in ROLES:
        raise SchemaError("role", f"{role!r} is no role; there are {', '.join(ROLES)}")
    return ROLES[role]


def role_of(scopes: Iterable[str]) -> str | None:
    """The role that these scopes amount to; None where they are another set."""
    given = frozenset(scopes) - {"instance"}
    return next((role for role, has in ROLES.items() if given == frozenset(has)), None)


def hash_key(text: str) -> str:
    """SHA-256 (hex) over the whole key text."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_key(
    store: Store,
    project: str,
    *,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    author_id: str = "",
) -> tuple[str, StoredKey]:
    """Make and store a key; returns its text, which can never be read again, and the stored row.

    Args:
        author_id: the person it is for: what is said with it is recorded as theirs. Empty for a program's key.
    """
    if len(author_id) > _MAX_AUTHOR_CHARS or author_id != author_id.strip():
        raise SchemaError(
            "author_id", f"must be 1 to {_MAX_AUTHOR_CHARS} characters without spaces around them"
        )
    scopes = tuple(scopes)
    key_id = secrets.token_hex(6)
    text = f"hl_{key_id}_{secrets.token_urlsafe(32)}"
    key = StoredKey(
        key_id,
        project,
        name,
        scopes if _is_link(scopes) else check_scopes(scopes),
        hash_key(text),
        utc_now(),
        expires_at=expires_at,
        author_id=author_id,
    )
    insert_key(store, key)
    return text, key


def _is_link(scopes: tuple[str, ...]) -> bool:
    return len(scopes) == 1 and scopes[0].removeprefix(INVITED) in ROLES and scopes[0].startswith(INVITED)


class KeyRing:
    """Finds keys, remembering what it found for five seconds (a revocation elsewhere is seen after that)."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, tuple[float, StoredKey | None]] = {}
        self._lock = threading.Lock()
        self._uses: dict[str, datetime] = {}
        self._refreshing: set[str] = set()

    def principal(self, text: str) -> Principal:
        """Whom a key's text names; raises `Unauthorized` with the same words whatever was wrong with it."""
        match = _KEY.fullmatch(text)
        return self._principal(text, self.find(match[1]) if match else None)

    def _principal(self, text: str, key: StoredKey | None) -> Principal:
        if key is None or not hmac.compare_digest(key.secret_hash, hash_key(text)):
            raise Unauthorized(
                "the key is unknown; send `Authorization: Bearer hl_…` with a key of this server"
            )
        now = utc_now()
        if not key.usable(now):
            raise Unauthorized("the key was revoked or has expired; make a new one")
        self._uses[key.key_id] = now
        return Principal(key.project_id, frozenset(key.scopes), key.key_id, key.name, key.author_id)

    def was_good(self, text: str) -> bool:
        """True for a key that was found lately, whatever became of it since; never asks the store."""
        match = _KEY.fullmatch(text)
        key = self.cached_key(match[1]) if match else None
        return key is not None and hmac.compare_digest(key.secret_hash, hash_key(text))

    def cached_key(self, key_id: str) -> StoredKey | None:
        """The stored key of this id as it was when it was last looked up; never asks the store."""
        hit = self._known.get(key_id)
        return hit[1] if hit is not None else None

    def cached(self, text: str) -> Principal | None:
        """Like `principal`, but None where the store would have to be asked: for callers on the event loop."""
        match = _KEY.fullmatch(text)
        if match is None:
            return self._principal(text, None)
        hit = self._fresh(match[1])
        return None if hit is None else self._principal(text, hit[1])

    def find(self, key_id: str) -> StoredKey | None:
        """The stored key of this id."""
        now = self._clock()
        if (hit := self._fresh(key_id)) is not None:
            return hit[1]
        key = find_key(self._store, key_id)
        with self._lock:
            if len(self._known) >= _CACHE_KEYS:  # made-up key ids must not fill the memory
                self._known.clear()
            self._known[key_id] = (now, key)
        return key

    def _fresh(self, key_id: str) -> tuple[float, StoredKey | None] | None:
        """What was found lately, and when; None where that is too long ago. Never asks the store itself."""
        now = self._clock()
        with self._lock:
            hit = self._known.get(key_id)
        if hit is None or now - hit[0] >= _CACHE_S:
            return None
        if now - hit[0] > _REFRESH_S:
            self._refresh(key_id, hit)
        return hit

    def _refresh(self, key_id: str, hit: tuple[float, StoredKey | None]) -> None:
        """Look a key that is in use up before it is too old, on the side, so that nobody's request waits for it."""
        with self._lock:
            if key_id in self._refreshing:
                return
            self._refreshing.add(key_id)

        def look() -> None:
            try:
                now = self._clock()
                key = find_key(self._store, key_id)
                with self._lock:
                    if self._known.get(key_id) is hit:  # not forgotten meanwhile
                        self._known[key_id] = (now, key)
            except (ServerError, StoreError) as err:
                log.debug("key %s was not looked up ahead: %s", key_id, err)
            finally:
                with self._lock:
                    self._refreshing.discard(key_id)

        threading.Thread(target=look, name="key-refresh", daemon=True).start()

    def forget(self, key_id: str) -> None:
        """Read this key anew at its next use, because it was changed here."""
        with self._lock:
            self._known.pop(key_id, None)

    def take_uses(self) -> dict[str, datetime]:
        """When each key was used since the last call."""
        uses, self._uses = self._uses, {}
        return uses


def key_text(request: Request) -> str:
    """The key that a request carries; raises `Unauthorized` where there is none."""
    header = request.headers.get("authorization", "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    text = request.headers.get("x-heedloop-key", "").strip()
    if not text:
        raise Unauthorized("no key; send `Authorization: Bearer hl_…` (or `x-heedloop-key: hl_…`)")
    return text


@contextmanager
def counted(request: Request, *, known: bool) -> Generator[None]:
    """Around looking at a key: an address that sends too much, or too many keys that are none, gets `TooMany`.

    Args:
        known: the key was good before, so that other people's guesses from the same address do not shut it out.
    """
    limits = cast(AddressLimit, request.app.state.addresses)
    address = request.client.host if request.client is not None else ""
    limits.check(address)
    if not known:
        limits.check_refusals(address)
    try:
        yield
    except Unauthorized:
        limits.count_refusal(address)
        raise


def caller(request: Request) -> Principal:
    """Who sent this request; raises `Unauthorized` or `TooMany`."""
    if (known := request.scope.get(_PRINCIPAL)) is not None:
        return cast(Principal, known)
    text, ring = key_text(request), cast(KeyRing, request.app.state.keys)
    with counted(request, known=ring.was_good(text)):
        who = ring.principal(text)
    request.scope[KEY_ID] = who.key_id
    cast(RateLimit, request.app.state.rates).check(who.key_id)
    return who


async def caller_with(request: Request, scope: str) -> Principal:
    """Who sent this request and has the scope, without a thread where the key was found lately.

    Raises:
        Unauthorized, Forbidden, TooMany: as by `caller` and `check_scope`.
    """
    text, ring = key_text(request), cast(KeyRing, request.app.state.keys)
    with counted(request, known=ring.was_good(text)):
        who = ring.cached(text) or await run_in_threadpool(ring.principal, text)
    request.scope[KEY_ID] = who.key_id
    check_scope(who, scope)
    cast(RateLimit, request.app.state.rates).check(who.key_id)
    request.scope[_PRINCIPAL] = who
    return who


_PRINCIPAL = "heedloop.principal"
"""Where a request's scope says who sent it, once that was looked at."""


@cache
def require(*scopes: str) -> Callable[[Request], Principal]:
    """A dependency: the caller, who must have the scope, or one of several; one for all who name the same, so that a key is looked at once.

    `principal: Annotated[Principal, Depends(require("read"))]`
    """
    for scope in scopes:
        if scope not in SCOPES:
            raise ValueError(f"{scope!r} is no scope; there are {', '.join(SCOPES)}")

    only_sends = {"ingest", "feedback"}.issuperset(scopes)

    def principal(request: Request) -> Principal:
        who = caller(request)
        check_scope(who, *scopes)
        if not only_sends:
            request.app.state.intake.wait_until_stored()  # whoever reads sees the feedback that was answered before
        return who

    principal.heedloop_scope = scopes  # type: ignore[attr-defined]  # read by the walk over all routes
    return principal


def check_scope(who: Principal, *scopes: str) -> None:
    """Raises `Forbidden` where the caller has none of the scopes."""
    if who.scopes.isdisjoint(scopes):
        needed = " or ".join(repr(s) for s in scopes)
        raise Forbidden(
            f"this needs the scope {needed}; the key {who.key_id} has {', '.join(sorted(who.scopes))}"
        )


def scoped(scope: str) -> Callable[..., ProjectStore]:
    """A dependency: the store as the caller's project sees it; the caller must have `scope`.

    `project: Annotated[ProjectStore, Depends(scoped("read"))]`
    """
    needed = require(scope)

    def project_store(request: Request, who: Principal = Depends(needed)) -> ProjectStore:  # noqa: B008
        return cast(Store, request.app.state.store).project(who.project)

    return project_store


def open_route(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a route that needs no key, or checks its caller by itself. Everything unmarked needs a scope."""
    endpoint.heedloop_open = True  # type: ignore[attr-defined]
    return endpoint


def any_key_route(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a route that checks by itself that there is a key, whatever its scopes."""
    endpoint.heedloop_checks = ""  # type: ignore[attr-defined]
    return open_route(endpoint)
