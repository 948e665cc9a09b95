"""The log before the feedback desk: answered from disk, stored by the desk, and never told otherwise than the desk would."""

import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from server_process import wait_for
from temporary_stores import temporary_store

from heedloop.schema import Author, Feedback, Target, utc_now
from heedloop_server.errors import Unavailable
from heedloop_server.ingest import feedback_log as log_module
from heedloop_server.ingest import feedback_writer as desk_module
from heedloop_server.ingest.bloom_filter import Seen, digest
from heedloop_server.ingest.feedback_log import FeedbackLog
from heedloop_server.ingest.feedback_writer import FeedbackWriter
from heedloop_server.ingest.segments import read_segment
from heedloop_server.store.admin.erasure import erase
from heedloop_server.store.connection import StoreError
from heedloop_server.store.feedback import list_feedback, num_history


def said(value: int = 1, *, author: str = "ada", trace: str = "ab" * 16, **more) -> Feedback:
    return Feedback(
        kind="rating", target=Target(trace_id=trace), value=value, author=Author("end_user", author), **more
    )


class Place:
    """A store, a desk, and a log before it that can be opened again as a new server would."""

    def __init__(self, store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.project = store.project("p")
        self.refused: list[tuple[str, Counter[str]]] = []
        self.desk = FeedbackWriter(store)
        self.desk.start()
        self.open()

    def open(self) -> None:
        self.log = FeedbackLog(
            self.desk, self.folder, on_refused=lambda project, counts: self.refused.append((project, counts))
        )
        self.log.start(self.store)

    def say(self, *entries: Feedback) -> list[str]:
        return [o.status for o in self.log.submit("p", entries).result(30)]

    def stored(self) -> list[Feedback]:
        assert self.log.wait_until_stored(30)
        return [f.feedback for f in list_feedback(self.project, {}, limit=500, after=None)]


@pytest.fixture
def place(tmp_path: Path):
    with temporary_store() as store:
        one = Place(store, tmp_path)
        yield one
        one.log.stop()
        one.desk.stop()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is not set, nothing reaches the tables."""
    gate, real = threading.Event(), desk_module.insert_feedback

    def insert(project, entries) -> None:
        assert gate.wait(30)
        real(project, entries)

    monkeypatch.setattr(desk_module, "insert_feedback", insert)
    return gate


def test_new_feedback_is_answered_before_it_is_in_the_table_and_is_there_then(
    place: Place, held: threading.Event
) -> None:
    one = said()
    assert place.say(one) == ["stored"]
    assert not place.log.wait_until_stored(0.05)
    held.set()
    assert [f.id for f in place.stored()] == [one.id]
    assert [p for p in place.folder.glob("*.log") if p.stat().st_size] == []


def test_a_resend_and_a_change_of_mind_are_told_as_the_desk_tells_them(place: Place) -> None:
    first = said(1)
    assert [place.say(first), place.say(first), place.say(said(0))] == [
        ["stored"],
        ["duplicate"],
        ["replaced"],
    ]
    twice = said(author="bob")
    assert place.say(twice, twice) == ["stored", "duplicate"]
    assert sorted(f.value for f in place.stored()) == [0, 1]
    assert num_history(place.project) == 3


def test_one_id_at_the_same_moment_is_stored_once(place: Place) -> None:
    votes = [said(author=f"u{i % 10}", id=f"vote-{i % 10}") for i in range(80)]
    with ThreadPoolExecutor(16) as pool:
        told = Counter(s for (s,) in pool.map(place.say, votes))
    assert told == {"stored": 10, "duplicate": 70}
    assert len(place.stored()) == num_history(place.project) == 10


def test_what_a_killed_server_answered_is_stored_by_the_next_one_and_known_to_it(
    place: Place, held: threading.Event
) -> None:
    one = said()
    assert place.say(one) == ["stored"]
    (path,) = [p for p in place.folder.glob("*.log") if p.stat().st_size]
    kept = path.read_bytes()
    held.set()
    assert place.stored()
    place.log.stop()
    path.write_bytes(kept)  # as if the kill had come between the insert and the end of the segment
    place.open()
    assert place.say(one) == ["duplicate"]
    assert [f.id for f in place.stored()] == [one.id]
    assert num_history(place.project) == 1


def test_a_new_server_knows_what_the_store_holds(place: Place) -> None:
    one = said()
    place.say(one)
    assert place.stored()
    place.log.stop()
    place.open()
    assert [place.say(one), place.say(said(0))] == [["duplicate"], ["replaced"]]


def test_an_erased_trace_stays_erased_here_and_for_the_next_server(place: Place) -> None:
    erased = erase(place.project, "trace_id", "cd" * 16, erasure_id="e1")
    place.log.forget("p", erased.trace_ids)
    assert place.say(said(trace="cd" * 16)) == ["erased"]
    place.log.stop()
    place.open()
    assert place.say(said(trace="cd" * 16, author="bob")) == ["erased"]
    assert place.stored() == []


def test_an_erasure_between_answer_and_table_is_counted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = desk_module.erased_among, threading.Event()

    def among(project, traces):
        erase(place.project, "trace_id", "ab" * 16, erasure_id="e1")
        asked.set()
        return real(project, traces)

    monkeypatch.setattr(desk_module, "erased_among", among)
    assert place.say(said()) == ["stored"]
    assert asked.wait(30)
    assert place.stored() == []
    assert place.refused == [("p", Counter(erased=1))]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(StoreError("no such column"), id="the store refuses it"),
        pytest.param(ValueError("surrogates not allowed"), id="our own code fails at it"),
    ],
)
def test_what_cannot_be_stored_is_kept_aside_and_does_not_hold_up_the_rest(
    place: Place, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    real = desk_module.insert_feedback

    def insert(project, entries) -> None:
        if any(e.feedback.author.id == "poison" for e in entries):
            raise fault
        real(project, entries)

    monkeypatch.setattr(desk_module, "insert_feedback", insert)
    assert place.say(said(author="ada"), said(author="poison"), said(author="bob")) == ["stored"] * 3
    assert sorted(f.author.id for f in place.stored()) == ["ada", "bob"]
    (kept,) = (place.folder / "quarantine").glob("*.json")
    assert "poison" in kept.read_text()
    assert place.refused == [("p", Counter(not_stored=1))]


def test_a_record_that_this_version_cannot_read_is_kept_and_holds_nothing_up(place: Place) -> None:
    place.log.log.submit(b'{"project": "p", "from": "another version"}').result(30)
    assert place.say(said()) == ["stored"]
    assert len(place.stored()) == 1
    (kept,) = (place.folder / "quarantine").glob("*.json")
    assert "another version" in kept.read_text()


def test_a_store_that_is_away_for_a_while_loses_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = desk_module.insert_feedback, [2]

    def insert(project, entries) -> None:
        if left[0]:
            left[0] -= 1
            raise Unavailable("away")
        real(project, entries)

    monkeypatch.setattr(desk_module, "insert_feedback", insert)
    assert place.say(said()) == ["stored"]
    assert len(place.stored()) == num_history(place.project) == 1


def test_what_was_refused_is_counted_once_however_often_the_rest_is_tried(
    place: Place, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.say(said(author="first"))  # until it is stored, the others wait for one another in the next segment
    erase(place.project, "trace_id", "cd" * 16, erasure_id="e1")
    assert place.say(said(trace="cd" * 16)) == ["stored"]  # the log was not told yet
    place.say(said(author="last"))
    real, left = desk_module.insert_feedback, [3]

    def insert(project, entries) -> None:
        if left[0] and any(e.feedback.author.id == "last" for e in entries):
            left[0] -= 1
            raise Unavailable("away")
        real(project, entries)

    monkeypatch.setattr(desk_module, "insert_feedback", insert)
    monkeypatch.setattr(desk_module, "_GROUP", 1)
    held.set()
    assert sorted(f.author.id for f in place.stored()) == ["first", "last"]
    assert left == [0]
    assert place.refused == [("p", Counter(erased=1))]


def test_nobody_waits_again_for_a_store_that_is_away_for_longer(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    back, real = threading.Event(), desk_module.insert_feedback

    def insert(project, entries) -> None:
        if not back.is_set():
            raise Unavailable("away")
        real(project, entries)

    monkeypatch.setattr(desk_module, "insert_feedback", insert)
    place.say(said())
    wait_for(lambda: place.log.log.failure is not None, what="the loader's word of it")
    assert not place.log.wait_until_stored(0.5)
    began = time.monotonic()
    for _ in range(20):
        assert not place.log.wait_until_stored(0.5)
    assert time.monotonic() - began < 20 * 0.5, "each of twenty readers waited half a second"
    back.set()
    assert len(place.stored()) == 1


def test_what_is_said_again_does_not_pile_up_behind_a_store_that_is_away(
    place: Place, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_SETTLE_S", 0.3)
    monkeypatch.setattr(log_module, "_MAX_LATE", 40)
    one = said()
    place.say(one)
    waiting = [place.log.submit("p", [one]) for _ in range(41)]
    with pytest.raises(Unavailable, match="too much"):
        place.log.submit("p", [one])
    began = time.monotonic()
    for again in waiting:
        with pytest.raises(Unavailable):
            again.result(30)
    assert time.monotonic() - began < 41 * 0.3, "they waited one after the other"
    held.set()
    assert len(place.stored()) == 1
    assert place.say(one) == ["duplicate"]


def test_a_full_disk_is_told_and_the_same_feedback_is_taken_later(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = said()
    with monkeypatch.context() as full:

        def writev(fd: int, buffers: list[bytes]) -> int:
            raise OSError(28, "No space left on device")

        full.setattr(os, "writev", writev)
        with pytest.raises(Unavailable, match="No space left"):
            place.say(one)
    assert place.say(one) == ["stored"]
    assert len(place.stored()) == 1


def test_a_torn_end_of_the_log_is_cut(place: Place, held: threading.Event) -> None:
    place.say(said())
    (path,) = [p for p in place.folder.glob("*.log") if p.stat().st_size]
    whole = path.read_bytes()
    held.set()
    assert place.stored()
    place.log.stop()
    path.write_bytes(whole + whole[: len(whole) // 2])
    place.open()
    assert len(place.stored()) == num_history(place.project) == 1


def test_a_log_record_says_everything(place: Place, held: threading.Event) -> None:
    one = said(comment='Grüße "quoted" \\ \n line', created_at=utc_now())
    place.say(one)
    (path,) = [p for p in place.folder.glob("*.log") if p.stat().st_size]
    (body,) = read_segment(path)
    assert "Grüße".encode() in body
    held.set()
    assert place.stored() == [one]


def test_names_that_were_never_added_are_never_taken_for_known() -> None:
    seen = Seen()
    names = [digest("id", "p", str(i)) for i in range(2_000)]
    for name in names[:500]:
        seen.add(name)
    seen.add_all(b"".join(names[500:1_000]))
    assert all(n in seen for n in names[:1_000])
    assert sum(n in seen for n in names[1_000:]) < 3


def test_the_engine_makes_the_same_names(place: Place) -> None:
    from heedloop_server.store.known_ids import seen_names

    one = said()
    place.say(one)
    assert place.stored()
    erase(place.project, "trace_id", "cd" * 16, erasure_id="e1")
    found = b"".join(seen_names(place.store))
    names = {found[i : i + 16] for i in range(0, len(found), 16)}
    assert names == {
        digest("id", "p", one.id),
        digest("feedback", str(one.identity("p"))),
        digest("erased", "p", "cd" * 16),
    }
