"""The request log: acknowledged means on disk, whatever is done to the process, the disk or the files."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from heedloop_server.errors import Unavailable
from heedloop_server.ingest.log import LogInUse, RequestLog
from heedloop_server.ingest.segments import Segment, read_segment


class Loader:
    """Keeps what it is given; fails as often as told, and can be held."""

    def __init__(self, *, failures: int = 0) -> None:
        self.bodies: list[bytes] = []
        self.failures = failures
        self.open = threading.Event()
        self.open.set()
        self.loaded = threading.Condition()

    def __call__(self, segment: Segment) -> None:
        self.open.wait(20)
        if self.failures:
            self.failures -= 1
            raise Unavailable("away")
        with self.loaded:
            self.bodies += read_segment(segment.path)
            self.loaded.notify_all()

    def wait_for(self, count: int) -> None:
        with self.loaded:
            assert self.loaded.wait_for(lambda: len(self.bodies) >= count, timeout=20), len(self.bodies)


def start(folder: Path, loader: Loader, **options) -> RequestLog:
    one = RequestLog(folder, loader, **{"seal_after_s": 0.01, **options})
    one.start()
    return one


def append(one: RequestLog, *bodies: bytes) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(one.append(b) for b in bodies))

    asyncio.run(all_of_them())


def abandon(one: RequestLog) -> None:
    """Let go of the folder as a killed process does: nothing is flushed, sealed or loaded."""
    os.close(one._lock_file)


def written(folder: Path) -> list[bytes]:
    return [b for p in sorted(folder.glob("*.log")) for b in read_segment(p)]


def test_records_reach_the_loader_in_order_and_their_files_go(tmp_path: Path) -> None:
    loader = Loader()
    one = start(tmp_path, loader)
    for i in range(20):
        append(one, b"record %d" % i)
    one.stop()
    assert loader.bodies == [b"record %d" % i for i in range(20)]
    assert list(tmp_path.glob("*.log")) == []
    assert one.backlog_bytes == 0


def test_an_acknowledged_record_is_on_disk_before_the_answer(tmp_path: Path) -> None:
    loader = Loader()
    loader.open.clear()
    one = start(tmp_path, loader, seal_after_s=60)
    append(one, b"safe")
    assert written(tmp_path) == [b"safe"]
    loader.open.set()
    one.stop()


def test_waiting_requests_share_one_sync(tmp_path: Path) -> None:
    loader = Loader()
    one = start(tmp_path, loader)
    append(one, *(b"%d" % i for i in range(400)))
    assert one.num_syncs < 100
    one.stop()
    assert sorted(loader.bodies) == sorted(b"%d" % i for i in range(400))


def test_a_store_that_is_away_loses_nothing(tmp_path: Path) -> None:
    loader = Loader(failures=3)
    one = start(tmp_path, loader)
    append(one, b"a", b"b")
    loader.wait_for(2)
    one.stop()
    assert sorted(loader.bodies) == [b"a", b"b"]
    assert one.failure is None


def test_a_crash_before_loading_is_replayed_once(tmp_path: Path) -> None:
    held = Loader()
    held.open.clear()
    first = start(tmp_path, held)
    append(first, b"one")
    append(first, b"two")
    abandon(first)
    again = Loader()
    second = start(tmp_path, again)
    append(second, b"three")
    second.stop()
    assert again.bodies == [b"one", b"two", b"three"]


def _segment_of(tmp_path: Path, *bodies: bytes) -> Path:
    """A folder with one segment that a crash left behind."""
    held = Loader()
    held.open.clear()
    one = start(tmp_path, held, seal_after_s=600)
    append(one, *bodies)
    abandon(one)
    (path,) = tmp_path.glob("*.log")
    return path


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_torn_tail_is_cut_and_the_rest_loaded(tmp_path: Path, cut: int) -> None:
    path = _segment_of(tmp_path, b"whole", b"torn")
    os.truncate(path, path.stat().st_size - cut)
    again = Loader()
    start(tmp_path, again).stop()
    assert again.bodies == [b"whole"]


def test_a_flipped_bit_costs_only_its_record(tmp_path: Path) -> None:
    path = _segment_of(tmp_path, b"first", b"second", b"third")
    data = bytearray(path.read_bytes())
    data[data.index(b"second")] ^= 1
    path.write_bytes(data)
    again = Loader()
    start(tmp_path, again).stop()
    assert again.bodies == [b"first", b"third"]


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"\xff" * 100, b"\x05"])
def test_garbage_after_the_records_is_cut_and_kept_aside(tmp_path: Path, garbage: bytes) -> None:
    path = _segment_of(tmp_path, b"good")
    path.write_bytes(path.read_bytes() + garbage)
    again = Loader()
    start(tmp_path, again).stop()
    assert again.bodies == [b"good"]
    assert [p.read_bytes() for p in (tmp_path / "quarantine").glob("*.bin")] == [garbage]


def test_a_full_log_refuses_and_takes_again_when_emptied(tmp_path: Path) -> None:
    loader = Loader()
    loader.open.clear()
    one = start(tmp_path, loader, max_backlog_bytes=1000)
    append(one, b"x" * 1001)
    with pytest.raises(Unavailable, match="wait for the store"):
        append(one, b"y")
    loader.open.set()
    loader.wait_for(1)
    assert one.wait_until_loaded(20)
    append(one, b"z")
    one.stop()
    assert loader.bodies == [b"x" * 1001, b"z"]


def test_a_full_disk_refuses_and_leaves_no_half_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Loader()
    one = start(tmp_path, loader, seal_after_s=60)
    append(one, b"before")
    real = os.writev

    def full(fd: int, buffers: list[bytes]) -> int:
        real(fd, [buffers[0][:3]])  # the kernel wrote a part
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(Unavailable, match="No space left"):
        append(one, b"lost, and the client knows")
    monkeypatch.setattr(os, "writev", real)
    append(one, b"after")
    one.stop()
    assert loader.bodies == [b"before", b"after"]


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    one = start(tmp_path, Loader())
    with pytest.raises(LogInUse):
        start(tmp_path, Loader())
    one.stop()
    start(tmp_path, Loader()).stop()


def test_stopping_with_the_store_away_keeps_everything_for_the_next_start(tmp_path: Path) -> None:
    away = Loader(failures=10_000)
    one = start(tmp_path, away)
    append(one, b"kept")
    one.stop(drain_s=0.2)
    again = Loader()
    start(tmp_path, again).stop()
    assert again.bodies == [b"kept"]


def test_nobody_waits_for_the_empty_segment_that_a_crash_left_behind_a_full_one(tmp_path: Path) -> None:
    held, loader = Loader(), Loader()
    held.open.clear()
    one = start(tmp_path, held)
    append(one, b"x")
    abandon(one)
    (tmp_path / "000000000009.log").touch()
    again = start(tmp_path, loader)
    assert again.wait_until_loaded(20)
    assert b"x" in loader.bodies
    again.stop()


def test_a_thread_may_append_too(tmp_path: Path) -> None:
    loader = Loader()
    one = start(tmp_path, loader)
    for done in [one.submit(b"one"), one.submit(b"two")]:
        done.result(20)
    assert one.wait_until_loaded(20)
    assert loader.bodies == [b"one", b"two"]
    one.stop()
