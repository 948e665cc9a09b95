"""What waits for another key: delivered where it is the same project's, named where it is not; counts that add up."""

import json

import pytest

import heedloop
from heedloop import _guard
from heedloop._configure import start
from heedloop._options import Options, default_outbox, older_names
from heedloop._outbox import Outbox
from heedloop._transport import Response
from heedloop.schema import Feedback, Target, to_json
from heedloop.testing import MemoryTransport
from heedloop_cli.commands import outbox as command

OLD, NEW = "hl_aaaaaaaaaaaa_" + "k" * 43, "hl_bbbbbbbbbbbb_" + "k" * 43


class Server(MemoryTransport):
    """A server that knows which keys are of one project."""

    def __init__(self, same_project):
        super().__init__()
        self.same_project = same_project
        self.asked = []

    def get(self, path):
        self.asked.append(path)
        return Response("accepted", 200, body={"same_project": self.same_project})


def put(outbox, name):
    said = Feedback(kind="comment", target=Target(session_id="s"), comment=name)
    outbox.put_feedback(said.id, json.dumps(to_json(said)).encode())


@pytest.fixture
def tmp_path(tmp_path):
    """A folder whose name has what an address would quote."""
    folder = tmp_path / "50% of #1?"
    folder.mkdir()
    return folder


@pytest.fixture
def begin(tmp_path, monkeypatch):
    monkeypatch.setattr(_guard, "_last_said", {})

    def run(transport, key=NEW, url="http://a"):
        outbox = Outbox(default_outbox(key, tmp_path), older_names=older_names(url, key))
        return start(transport, outbox, Options(), resource={}, api_key=key, sample_rate=1.0, capture=True)

    yield run
    heedloop.shutdown(0.1)


def test_what_waited_for_an_earlier_key_of_the_project_is_delivered_and_its_file_goes(begin, tmp_path):
    earlier = Outbox(default_outbox(OLD, tmp_path))
    for name in ("a", "b"):
        put(earlier, name)
    earlier.close()
    server = Server(same_project=True)
    runtime = begin(server)
    put(runtime.outbox, "c")
    how = heedloop.flush(10)
    assert [f.comment for f in server.feedback] == ["a", "b", "c"]
    assert server.asked == ["/v1/me?of_key=aaaaaaaaaaaa"]
    assert how.complete and how.feedback.sent == 3 and not how.other_outboxes
    heedloop.shutdown(10)
    assert [p.name for p in tmp_path.glob("outbox-*.sqlite3")] == ["outbox-bbbbbbbbbbbb.sqlite3"]


def test_what_waits_for_another_project_stays_and_is_named(begin, tmp_path, caplog):
    path = default_outbox(OLD, tmp_path)
    earlier = Outbox(path)
    put(earlier, "a")
    earlier.close()
    server = Server(same_project=False)
    begin(server)
    how = heedloop.flush(10)
    assert server.feedback == [] and how.other_outboxes == {str(path): 1}
    assert f"1 records wait in {path}" in caplog.text


@pytest.mark.parametrize("address", ["http://a", "http://a/", "https://a"])
def test_a_file_of_an_earlier_version_is_found_whatever_the_address_was(begin, tmp_path, address):
    import hashlib

    name = hashlib.sha256(f"{address}|bbbbbbbbbbbb".encode()).hexdigest()[:16]
    earlier = Outbox(tmp_path / f"outbox-{name}.sqlite3")
    put(earlier, "a")
    earlier.close()
    server = Server(same_project=False)
    begin(server)
    assert heedloop.flush(10).complete and [f.comment for f in server.feedback] == ["a"]


def test_a_file_that_another_process_delivers_is_left_to_it(begin, tmp_path):
    from heedloop._outbox import try_lock

    path = default_outbox(OLD, tmp_path)
    earlier = Outbox(path)
    put(earlier, "a")
    lock = try_lock(path.with_name(path.name + ".lock"))
    assert lock is not None
    server = Server(same_project=True)
    begin(server)
    heedloop.flush(10)
    assert server.feedback == [] and earlier.num_waiting() == (1, 0)


def test_each_process_reports_only_what_it_did_itself(begin, tmp_path):
    earlier = Outbox(default_outbox(NEW, tmp_path))
    put(earlier, "an earlier process sent it")
    earlier.finish_feedback(earlier.waiting_feedback(1, 1000), [])
    earlier.close()
    server = MemoryTransport()
    runtime = begin(server)
    put(runtime.outbox, "this one")
    how = heedloop.shutdown(10)
    assert how.feedback.sent == 2  # all that ever went through the outbox
    assert server.counts[-1]["feedback"] == {"sent": 1, "waiting": 0, "dropped": {}}


def test_the_last_counts_are_sent_at_the_end(begin):
    server = MemoryTransport()
    begin(server)

    @heedloop.trace
    def call(q):
        return q

    for n in range(7):
        call(str(n))
    heedloop.shutdown(10)
    assert server.counts[-1]["spans"]["sent"] == 7


def test_the_command_lists_and_drops(tmp_path, capsys, monkeypatch):
    import argparse

    path = default_outbox(OLD, tmp_path)
    earlier = Outbox(path)
    put(earlier, "a")
    earlier.close()
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)

    def run(*words):
        return command.run(parser.parse_args([*words, "--folder", str(tmp_path)]))

    assert run("list") == 0
    assert "key hl_aaaaaaaaaaaa_…: 1 feedback and 0 spans wait" in capsys.readouterr().out
    assert run("drop") == 2 and "name the files" in capsys.readouterr().err
    monkeypatch.setattr("builtins.input", lambda _asked: "n")
    assert run("drop", str(path)) == 0 and Outbox(path).num_waiting() == (1, 0)
    assert run("drop", str(path), "--yes") == 0 and Outbox(path).num_waiting() == (0, 0)
    assert Outbox(path).counts() == {"feedback.dropped.by_hand": 1}
    assert run("deliver", "--api-key", "nonsense") == 2 and "nonsense" not in capsys.readouterr().err
