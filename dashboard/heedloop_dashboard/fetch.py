"""What a page shows, read from the server: all of a page's questions at once, each with its own answer or error."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar, cast

import streamlit as st

from heedloop.client import ApiError, Client, Unauthorized
from heedloop_dashboard.auth.sessions import COOKIE, SESSIONS, Session

__all__ = [
    "Answer",
    "Ask",
    "ask",
    "ask_seldom",
    "current",
    "forget",
    "read",
    "read_one",
    "read_page",
    "write",
]

FRESH_S = 3.0
"""An answer this young is shown again instead of asked for again: a page shows feedback within seconds."""
SELDOM_S = 60.0
MAX_KEPT = 64
SLOW_S = 0.25
"""Seconds after which a page that still waits shows where its parts will be."""
_POOL = ThreadPoolExecutor(max_workers=12, thread_name_prefix="heedloop-read")
_KEPT = "heedloop_answers"
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
    kept: dict[str, tuple[float, Answer[Any]]] = st.session_state.setdefault(_KEPT, {})
    now = time.monotonic()
    keys = {name: f"{id(client)} {question.key}" for name, question in asks.items()}
    answers = {n: kept[k][1] for n, k in keys.items() if k in kept and asks[n].is_fresh(now - kept[k][0])}
    waiting = {n: _POOL.submit(_answer, client, q) for n, q in asks.items() if n not in answers}
    if slot is not None and wait(waiting.values(), timeout=SLOW_S).not_done:
        with slot.container():
            st.skeleton(height=120)
            st.skeleton(height=260)
    for name, future in waiting.items():
        answers[name] = future.result()
        if isinstance(answers[name].error, Unauthorized):
            SESSIONS.close(st.context.cookies.get(COOKIE))
            _stop("Your key was revoked or has expired.")
        if answers[name].error is None:
            kept[keys[name]] = (now, answers[name])
    for old in list(kept)[:-MAX_KEPT]:
        del kept[old]
    if slot is not None:
        slot.empty()
    return answers


def read_one(method: Callable[Concatenate[Client, P], T], *args: P.args, **kwargs: P.kwargs) -> Answer[T]:
    """One answer."""
    return read(only=ask(method, *args, **kwargs))["only"]


def write(method: Callable[Concatenate[Client, P], T], *args: P.args, **kwargs: P.kwargs) -> Answer[T]:
    """Do something on the server, once and now; what was kept is asked for again afterwards."""
    answer = _answer(current().client, Ask(method, args, kwargs))
    if answer.error is None:
        forget()
    return answer


def forget() -> None:
    """Ask for everything anew from now on."""
    st.session_state.pop(_KEPT, None)


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
