"""A key that is in use is looked up again beside its requests, so that none of them waits for the store."""

import threading

import pytest
from server_process import wait_for
from temporary_stores import temporary_store

from heedloop_server.http import auth
from heedloop_server.http.auth import KeyRing, make_key


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch):
    """A ring, its clock, a key's text and id, and what looking a key up waits for."""
    gate, looked, real = threading.Event(), [], auth.find_key
    gate.set()

    def find(store, key_id):
        looked.append(threading.current_thread().name)
        assert gate.wait(30)
        return real(store, key_id)

    monkeypatch.setattr(auth, "find_key", find)
    with temporary_store() as store:
        clock = Clock()
        text, key = make_key(store, "p", name="app", scopes=["ingest"])
        yield KeyRing(store, clock), clock, text, key.key_id, gate, looked


def test_a_key_in_use_never_waits_for_the_store_again(made) -> None:
    ring, clock, text, _, gate, looked = made
    assert ring.principal(text).project == "p"
    for _ in range(4):
        clock.now += 3
        gate.clear()
        assert ring.cached(text) is not None, "a request would wait for the store"
        before = len(looked)
        gate.set()
        wait_for(lambda: not ring._refreshing, what="the look beside the request")
        assert len(looked) <= before + 1
    assert set(looked[1:]) == {"key-refresh"}


def test_a_key_that_becomes_too_old_at_that_moment_does_not_hold_up_the_event_loop(made, monkeypatch) -> None:
    ring, clock, text, _, _, looked = made
    ring.principal(text)
    clock.now += 2

    def slow(self: Clock) -> float:
        self.now += 2  # between any two looks at the clock
        return self.now

    monkeypatch.setattr(Clock, "__call__", slow)
    assert ring.cached(text) is not None
    wait_for(lambda: not ring._refreshing, what="the look beside the request")
    assert set(looked[1:]) <= {"key-refresh"}


def test_a_key_that_nobody_used_for_a_while_is_looked_up_before_it_counts(made) -> None:
    ring, clock, text, *_ = made
    ring.principal(text)
    clock.now += 6
    assert ring.cached(text) is None


def test_a_key_that_was_changed_here_is_not_remembered_by_a_look_that_began_before(made) -> None:
    ring, clock, text, key_id, gate, looked = made
    ring.principal(text)
    clock.now += 3
    gate.clear()
    ring.principal(text)
    wait_for(lambda: len(looked) == 2, what="the look beside the request")
    ring.forget(key_id)
    gate.set()
    wait_for(lambda: not ring._refreshing, what="its end")
    assert ring.cached_key(key_id) is None
