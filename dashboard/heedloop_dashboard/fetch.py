"""What a page shows, read from the server: all of a page's questions at once, each with its own answer or error."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar, cast

import streamlit as st

from heedloop.client import ApiError, Client, Unauthorized
from heedloop_dashboard.auth.sessions import COOKIE, SESSIONS, Session

FRESH_S = 3.0
"""An answer this young is shown again instead of asked for again: a page shows feedback within seconds."""
SELDOM_S = 60.0
MAX_KEPT = 512
SLOW_S = 0.25
"""Seconds after which a page that still waits shows where its parts will be."""
_POOL = ThreadPoolExecutor(max_workers=12, thread_name_prefix="heedloop-read")
_KEPT: OrderedDict[tuple[Client, str], tuple[float, Future[Any]]] = OrderedDict()
"""(server and key, question) -> when it was asked and its answer, of all sessions: those with the same key share what was fetched."""
_LOCK = threading.Lock()
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """One question: a method of `Client` and its arguments.

    Attributes:
        keep_s: seconds for which an answer is shown again; None: `FRESH_S`.
    """

    method: Callable[..., T]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    keep_s: float | None = None

    def is_fresh(self, age_s: float) -> bool:
        """True where an answer of this age need not be asked for again."""
        return age_s < (FRESH_S if self.keep_s is None else self.keep_s)

    @property
    def key(self) -> str:
        """Equal questions have equal keys."""
        return f"{self.method.__name__}{self.args!r}{sorted(self.kwargs.items())!r}"


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What came back: a value, or the error that came instead.

    Attributes:
        value: what the method of `Client` returns; None where there is an error, which is looked at first.
    """

    value: T
    error: ApiError | None = None


def ask(method: Callable[Concatenate[Client, P], T], *args: P.args, **kwargs: P.kwargs) -> Ask[T]:
    """A question for `read`: `ask(Client.quality_by, "model", since=…)`. Arguments that are None are left out."""
    return Ask(method, args, {k: v for k, v in kwargs.items() if v is not None})


def ask_seldom(method: Callable[Concatenate[Client, P], T], *args: P.args, **kwargs: P.kwargs) -> Ask[T]:
    """As `ask`, for what changes slowly and is only there to choose from: a chooser must not hold a page up."""
    return replace(ask(method, *args, **kwargs), keep_s=SELDOM_S)


def current() -> Session:
    """The session of this page; stops the page with a link to sign in where there is none."""
    try:
        session = SESSIONS.get(st.context.cookies.get(COOKIE))
    except ApiError as err:
        _stop(
            f"The server does not take the key in HEEDLOOP_API_KEY: {err}"
            if isinstance(err, Unauthorized)
            else str(err)
        )
    if session is None:
        _stop("You are signed out.")
    return session


def read(**asks: Ask[Any]) -> dict[str, Answer[Any]]:
    """All answers, asked for at once. A key that stopped working ends the page."""
    return _collect(asks, None)


def read_page(**asks: Ask[Any]) -> dict[str, Answer[Any]]:
    """As `read`, for most of a page: where it takes longer than a blink, the page shows that answers are on their way."""
    return _collect(asks, st.empty())


def _collect(asks: Mapping[str, Ask[Any]], slot: Any) -> dict[str, Answer[Any]]:
    client = current().client
    asked = {name: _pending(client, question) for name, question in asks.items()}
    futures = [future for _, future in asked.values()]
    if slot is not None and wait(futures, timeout=SLOW_S).not_done:
        with slot.container():
            st.skeleton(height=120)
            st.skeleton(height=260)
    answers = {name: future.result() for name, (_, future) in asked.items()}
    if any(isinstance(answer.error, Unauthorized) for answer in answers.values()):
        SESSIONS.close(st.context.cookies.get(COOKIE))
        _stop("Your key was revoked or has expired.")
    if slot is not None:
        oldest = min((at for at, _ in asked.values()), default=time.monotonic())
        slot.caption(f"as of {_clock_time(oldest):%H:%M:%S} UTC")
    return answers


def _pending(client: Client, question: Ask[Any]) -> tuple[float, Future[Answer[Any]]]:
    """When a question was asked, by whichever session with this key, and its answer to come."""
    place, now = (client, question.key), time.monotonic()
    with _LOCK:
        kept = _KEPT.get(place)
        if kept is not None and question.is_fresh(now - kept[0]):
            return kept
        kept = _KEPT[place] = now, _POOL.submit(_answer, client, question)
        _KEPT.move_to_end(place)
        while len(_KEPT) > MAX_KEPT:
            _KEPT.popitem(last=False)

    def drop_failed(future: Future[Answer[Any]]) -> None:
        with _LOCK:
            if future.result().error is not None and _KEPT.get(place) == kept:
                del _KEPT[place]

    kept[1].add_done_callback(drop_failed)
    return kept


def _clock_time(at: float) -> datetime:
    """A moment of the monotonic clock as a time."""
    return datetime.now(timezone.utc) - timedelta(seconds=time.monotonic() - at)


def read_one(method: Callable[Concatenate[Client, P], T], *args: P.args, **kwargs: P.kwargs) -> Answer[T]:
    """One answer."""
    return read(only=ask(method, *args, **kwargs))["only"]


def write(method: Callable[Concatenate[Client, P], T], *args: P.args, **kwargs: P.kwargs) -> Answer[T]:
    """Do something on the server, once and now; what was kept is asked for again afterwards."""
    client = current().client
    answer = _answer(client, Ask(method, args, kwargs))
    if answer.error is None:
        forget(client)  # also where the reader has left meanwhile, whose session then has no client any more
    return answer


def forget(client: Client) -> None:
    """Ask for everything anew from now on."""
    with _LOCK:
        for place in [p for p in _KEPT if p[0] == client]:
            del _KEPT[place]


def _answer(client: Client, question: Ask[T]) -> Answer[T]:
    try:
        return Answer(question.method(client, *question.args, **question.kwargs))
    except ApiError as err:
        return Answer(cast(T, None), err)


def _stop(message: str) -> NoReturn:
    with st.container(border=True, key="signed_out"):
        st.text(message)
        if not SESSIONS.is_local:
            st.html('<a href="/sign-in" target="_self">Sign in</a>')
    st.stop()
