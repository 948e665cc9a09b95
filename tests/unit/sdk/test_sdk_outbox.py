"""The outbox keeps what it is given, in order, within its budget, whatever the disk does."""

import os
import sqlite3
import stat
import threading

import pytest

from heedloop._options import default_outbox
from heedloop._outbox import Outbox
from heedloop._store import Store

needs_permissions = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")


@pytest.fixture
def outbox(tmp_path):
    box = Outbox(tmp_path / "sub" / "o.sqlite3")
    yield box
    box.close()


def bodies(box):
    return [row.body for row in box.waiting_feedback(100, 10**9)]


def test_order_and_settling(outbox):
    for i in range(5):
        outbox.put_feedback(f"{i}", f"{i}".encode())
    rows = outbox.waiting_feedback(3, 10**9)
    assert [r.body for r in rows] == [b"0", b"1", b"2"]
    outbox.finish_feedback(rows[:2], [(rows[2], "value: wrong")])
    assert bodies(outbox) == [b"3", b"4"]
    assert outbox.refused_feedback() == [("2", "value: wrong")]
    assert outbox.counts() == {"feedback.sent": 2, "feedback.dropped.refused": 1}
    assert outbox.num_waiting() == (2, 0)


def test_what_one_process_left_the_next_one_finds(tmp_path):
    first = Outbox(tmp_path / "o.sqlite3")
    first.put_feedback("a", b"a")
    first.put_spans(b"spans", 7)
    second = Outbox(tmp_path / "o.sqlite3")
    assert bodies(second) == [b"a"] and second.waiting_spans().num == 7
    assert second.num_waiting() == (1, 7)


def test_a_trace_that_one_process_wants_stays_wanted_for_the_others(tmp_path):
    asking, other = Outbox(tmp_path / "outbox.sqlite3"), Outbox(tmp_path / "outbox.sqlite3")
    asking.want_trace("ab" * 16)
    asking.put_feedback("id", b"{}", trace_ids=["cd" * 16])
    asking.forget_wanted()
    found = other.wanted_since(0)
    assert [trace_id for _, trace_id in found] == ["ab" * 16, "cd" * 16]
    assert other.wanted_since(found[0][0]) == found[1:]


def test_rows_are_committed_and_synced_before_the_call_returns(tmp_path):
    box = Outbox(tmp_path / "o.sqlite3")
    box.put_feedback("a", b"a")
    with sqlite3.connect(tmp_path / "o.sqlite3") as other:
        assert other.execute("SELECT count(*) FROM feedback").fetchone() == (1,)
    assert box._disk._read("PRAGMA synchronous") == [(2,)]  # FULL: power loss included


@needs_permissions
def test_nobody_else_may_read_it(outbox):
    assert stat.S_IMODE(outbox.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(outbox.path.parent.stat().st_mode) == 0o700


def test_batches_keep_within_bytes(outbox):
    for i in range(5):
        outbox.put_feedback(f"{i}", b"x" * 100)
    assert len(outbox.waiting_feedback(100, 250)) == 2
    assert len(outbox.waiting_feedback(100, 1)) == 1


def test_a_marker_counts_only_what_was_there(outbox):
    outbox.put_feedback("a", b"a")
    marker = outbox.marker()
    outbox.put_feedback("b", b"b")
    assert outbox.num_waiting(marker=marker)[0] == 1
    outbox.finish_feedback(outbox.waiting_feedback(1, 10), [])
    assert outbox.num_waiting(marker=marker)[0] == 0


def test_spans_give_way_and_feedback_does_not(tmp_path):
    box = Outbox(tmp_path / "o.sqlite3", max_bytes=200_000)
    for _ in range(5):
        assert box.put_spans(b"s" * 30_000, 10)
    assert box.num_waiting()[1] == 30  # half of the budget is for spans
    assert box.counts()["spans.dropped.outbox_full"] == 20
    num_kept = 0
    while box.put_feedback(f"{num_kept}", b"f" * 10_000):
        num_kept += 1
    assert num_kept == 20
    assert box.num_waiting() == (20, 0)
    assert box.counts()["feedback.dropped.outbox_full"] == 1
    assert not box.put_spans(b"s" * 150_000, 1)


def test_a_folder_that_cannot_be_made_means_memory_and_says_so_once(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    box = Outbox(tmp_path / "file" / "o.sqlite3")
    assert box.path is None
    for i in range(3):
        assert box.put_feedback(f"{i}", b"x")
    assert box.num_waiting() == (3, 0)


def test_a_damaged_file_is_set_aside(tmp_path):
    path = tmp_path / "o.sqlite3"
    path.write_bytes(b"this is no database" * 100)
    box = Outbox(path)
    assert box.path == path and box.put_feedback("a", b"a")
    assert [p.name.startswith("o.sqlite3.damaged") for p in tmp_path.iterdir() if "damaged" in p.name] == [
        True
    ]


def test_a_full_disk_means_memory_until_there_is_room(tmp_path):
    box = Outbox(tmp_path / "o.sqlite3")
    pages = box._disk._read("PRAGMA page_count")[0][0]
    box._disk._read(f"PRAGMA max_page_count = {pages + 1}")  # SQLite's own way to be full
    for i in range(20):
        assert box.put_feedback(f"{i}", b"x" * 2000)
    assert box.num_waiting()[0] == 20
    box._disk._read("PRAGMA max_page_count = 1000000")
    box.put_feedback("later", b"later")
    delivered = []
    while rows := box.waiting_feedback(100, 10**9):
        delivered += [r.body for r in rows]
        box.finish_feedback(rows, [])
    assert len(delivered) == 21


def test_a_locked_file_means_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("heedloop._store._BUSY_TIMEOUT_S", 0.05)
    box = Outbox(tmp_path / "o.sqlite3")
    other = sqlite3.connect(tmp_path / "o.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert box.put_feedback("a", b"a")
    other.execute("ROLLBACK")
    assert bodies(box) == [b"a"]
    other.close()


def test_many_threads(outbox):
    def put(n):
        for i in range(20):
            outbox.put_feedback(f"{n}-{i}", f"{n}-{i}".encode())

    threads = [threading.Thread(target=put, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    found = [b.decode() for b in (r.body for r in outbox.waiting_feedback(1000, 10**9))]
    assert len(set(found)) == 160
    for n in range(8):
        assert [f for f in found if f.startswith(f"{n}-")] == [f"{n}-{i}" for i in range(20)]


def test_only_the_one_who_settles_counts(tmp_path):
    first, second = Store(tmp_path / "o", max_bytes=10**9), Store(tmp_path / "o", max_bytes=10**9)
    first.put_spans(b"x", 5)
    row = first.waiting_spans()
    first.finish_spans(row.seq, row.num, "sent")
    second.finish_spans(row.seq, row.num, "sent")
    assert first.counts() == {"spans.sent": 5}


def test_each_key_has_its_own_file_whatever_the_servers_address_is(tmp_path, monkeypatch):
    key, other = "hl_0123456789ab_" + "a" * 43, "hl_ba9876543210_" + "a" * 43
    here = default_outbox(key, tmp_path)
    assert here == default_outbox(key[:-1] + "b", tmp_path)  # a rotated secret of the same key
    assert here != default_outbox(other, tmp_path)
    assert here.name == "outbox-0123456789ab.sqlite3"
    assert default_outbox(key, "memory") is None
    monkeypatch.setenv("HEEDLOOP_OUTBOX", str(tmp_path / "env"))
    assert default_outbox(key, None).parent == tmp_path / "env"
    monkeypatch.delenv("HEEDLOOP_OUTBOX")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert default_outbox(key, None).parent == tmp_path / "state" / "heedloop"
