"""`heedloop.assign`: the same arm for the same unit, without the network, over threads, forks and processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import heedloop
from heedloop import _assignment, testing
from heedloop import attributes as names
from heedloop._configure import start
from heedloop._options import Options
from heedloop._outbox import Outbox
from heedloop._transport import Response
from heedloop_server.experiments.hash_line import NUM_PLACES

ARM, UNIT = names.EXPERIMENT_ARM_PREFIX + "prompt", names.EXPERIMENT_UNIT_PREFIX + "prompt"


def plan(**changes: Any) -> dict[str, Any]:
    """Half of all units in the experiment, evenly."""
    return {
        "name": "prompt",
        "round": 3,
        "salt": "a1b2",
        "ends": [NUM_PLACES // 4, NUM_PLACES // 2],
        "segments": [0, 1],
        "probabilities": [0.5, 0.5],
        "arms": ["old", "new"],
        "parameters": [{"prompt": "Answer."}, {"prompt": "Answer kindly.", "temperature": 0.2}],
        "serving": 0,
    } | changes


@pytest.fixture
def recorded():
    with testing.recording() as seen:
        yield seen


def serve(seen: testing.Recorded, *plans: Any) -> None:
    """Let the background thread fetch these plans."""
    seen.transport.documents[_assignment.PLANS] = {"plans": list(plans)}
    seen.runtime.settings.refresh()
    assert seen.runtime.settings.wait(_assignment.PLANS, 10) == {"plans": list(plans)}


@heedloop.trace
def answer(question: str) -> str:
    return f"to {question}"


def test_defaults_until_something_is_known(recorded):
    default = {"prompt": "Mine.", "model": "m"}
    assert heedloop.assign("prompt", unit="u", default=default)[:4] == ("prompt", "", default, None)
    serve(recorded, plan())
    given = heedloop.assign("prompt", unit="user-1", default=default)
    assert (given.arm, given.probability) == ("old", 0.5)
    assert given.parameters == {"prompt": "Answer.", "model": "m"}
    given.parameters["prompt"] = "changed by the app"
    assert heedloop.assign("prompt", unit="user-1").parameters == {"prompt": "Answer."}
    heedloop.shutdown()
    assert heedloop.assign("prompt", unit="user-1", default=default).parameters == default


def test_a_script_waits_for_what_the_server_says_now(recorded):
    recorded.transport.documents |= {
        _assignment.PLANS: {"plans": [plan()]},
        _assignment.PROMPTS: {"prompts": []},
    }
    assert heedloop.fetch_settings(5)
    assert heedloop.assign("prompt", unit="user-1").arm == "old"
    recorded.transport.documents[_assignment.PLANS] = {"plans": []}
    assert heedloop.fetch_settings(5)
    assert heedloop.assign("prompt", unit="user-1").arm == ""
    heedloop.shutdown()
    assert not heedloop.fetch_settings(5)


def test_the_hash_is_the_stated_one(recorded):
    """Known answers: any other language, version or server must give these."""
    serve(recorded, plan(ends=[NUM_PLACES // 4, NUM_PLACES]))
    given = {}
    for unit in ("user-1", "user-2", "zoë", 17):
        with heedloop.context():
            heedloop.assign("prompt", unit=unit)
            answer("q")
        given[unit] = recorded.answers[-1].attributes[UNIT]
    assert given == KNOWN


KNOWN = {
    "user-1": "311f7ab9767eb19d 0.5 3",
    "user-2": "9ff2b11870271c67 0.5 3",
    "zoë": "7fd9d596191e8bd8 0.5 3",
    17: "53d719472a27a0e1 0.5 3",
}
"""`printf 'a1b2\\0user-1' | b2sum -l 64`, by coreutils."""


def test_the_assignment_is_on_the_call_and_on_those_that_follow(recorded):
    serve(recorded, plan())
    with heedloop.context(user_id="user-1"):
        heedloop.assign("prompt", unit="user-1")
        answer("first")
        answer("second")
    answer("outside")

    @heedloop.trace
    def inner(question):
        heedloop.assign("prompt", unit="user-1")
        with heedloop.span("step"):
            return question

    @heedloop.trace
    def outer(question):
        return inner(question)

    outer("q")
    answer("after")
    spans = {(s.name, s.input_text): s.attributes.get(ARM) for s in recorded.spans}
    assert {k[1] or k[0]: v for k, v in spans.items() if "answer" in k[0]} == {
        "first": "old", "second": "old", "outside": None, "after": None,
    }  # fmt: skip
    assert all(v == "old" for k, v in spans.items() if "answer" not in k[0])
    unit = recorded.answers[0].attributes[UNIT]
    assert unit == recorded.answers[-2].attributes[UNIT] and unit.endswith(" 0.5 3")


def test_a_bare_thread_writes_an_assignment_on_the_next_answer_alone(recorded):
    serve(recorded, plan(), plan(name="other", ends=[1, NUM_PLACES]))
    heedloop.assign("other", unit="user-1")
    heedloop.assign("prompt", unit="user-1")
    with heedloop.context(session="s-1"):
        answer("hers")
        answer("hers too")
    answer("somebody else's")

    async def serve_one(unit):
        heedloop.assign("prompt", unit=unit)
        return [answer("a"), answer("b")]

    asyncio.run(serve_one("user-1"))
    answer("after the task")
    given = [(a.input_text, a.attributes.get(ARM)) for a in recorded.answers]
    assert given == [
        ("hers", "old"), ("hers too", "old"), ("somebody else's", None),
        ("a", "old"), ("b", "old"), ("after the task", None),
    ]  # fmt: skip
    other = names.EXPERIMENT_UNIT_PREFIX + "other"
    assert [other in a.attributes for a in recorded.answers] == [True, True, False, False, False, False]


def test_the_next_unit_of_a_thread_replaces_the_last_ones(recorded):
    serve(recorded, plan())
    units = [f"user-{i}" for i in range(40)]
    given = []
    for unit in units:
        given.append(
            heedloop.assign("prompt", unit=unit).probability and heedloop.assign("prompt", unit=unit).arm
        )
        answer(unit)
    assert [a.attributes.get(ARM) for a in recorded.answers] == given
    assert {"old", "new", None} == set(given)


def test_no_unit_is_in_no_experiment(recorded, monkeypatch):
    serve(recorded, plan())
    monkeypatch.delenv("PYTEST_VERSION")
    for unit in (None, "", True):
        with heedloop.context(user_id="user-1"):
            assert heedloop.assign("prompt", unit="user-1").probability == 0.5
            given = heedloop.assign("prompt", unit=unit)
            assert (given.arm, given.probability) == ("old", None)
            answer("whose?")
    assert [a.attributes.get(ARM) for a in recorded.answers] == [None] * 3, "the unit before is another one"


@pytest.mark.parametrize(
    "broken",
    [
        {"arms": 3},
        {"parameters": [None, {}]},
        {"parameters": ["a", "b"]},
        {"serving": 7},
        {"ends": [NUM_PLACES]},
        {"probabilities": ["x", 1]},
        {"salt": None, "segments": None},
    ],
    ids=str,
)
def test_a_plan_that_cannot_be_read_harms_no_other(recorded, broken):
    serve(recorded, plan(name="broken", **broken), "no plan", None, plan())
    assert heedloop.assign("prompt", unit="user-1").arm == "old"
    assert heedloop.assign("broken", unit="user-1").arm == ""


@pytest.mark.parametrize(
    "document", [[], "text", {"plans": None}, {"plans": 5}, {"plans": {"a": 1}}, {}], ids=str
)
def test_a_document_of_another_shape_is_nothing_known(recorded, document):
    recorded.transport.documents[_assignment.PLANS] = document
    recorded.runtime.settings.refresh()
    recorded.runtime.settings.wait(_assignment.PLANS, 10)
    assert heedloop.assign("prompt", unit="user-1", default={"a": 1})[1:] == ("", {"a": 1}, None, None)


def test_an_arm_gives_its_prompt_of_the_registry(recorded):
    """Its words can be filled in, and the call says which version it was, inside of the experiment and outside."""
    text = {"name": "support", "text": "Answer {{question}}.", "version": 1}
    chat = {"name": "support", "messages": [{"role": "system", "text": "Be kind to {{name}}."}], "version": 2}
    serve(recorded, plan(prompts=[text, chat]), plan(name="plain", prompts=[None, None]))

    @heedloop.trace
    def kindly(user: str) -> Any:
        arm = heedloop.assign("prompt", unit=user)
        assert arm.prompt is not None
        return arm.prompt.as_text(question="why") if arm.arm == "old" else arm.prompt.as_messages(name="Ada")

    assert [kindly("user-1"), kindly("zoë"), kindly("user-2")] == [
        "Answer why.",
        [{"role": "system", "content": "Be kind to Ada."}],
        "Answer why.",
    ]
    versions = [
        (a.attributes[names.PROMPT_NAME], a.attributes[names.PROMPT_VERSION]) for a in recorded.answers
    ]
    assert versions == [("support", "1"), ("support", "2"), ("support", "1")]
    assert heedloop.assign("plain", unit="user-1").prompt is None


def test_a_redactor_does_not_change_an_assignment():
    with testing.recording(options=Options(redact=lambda text: "x")) as seen:
        serve(seen, plan())
        with heedloop.context():
            heedloop.assign("prompt", unit="user-1")
            answer("q")
        assert seen.answers[0].attributes[ARM] == "old"
        assert seen.answers[0].attributes[UNIT].endswith(" 0.5 3")


def test_threads_and_forks_agree(recorded):
    serve(recorded, plan())
    units = [f"user-{i}" for i in range(200)]
    here = [heedloop.assign("prompt", unit=u).arm for u in units]
    there: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: there.append([heedloop.assign("prompt", unit=u).arm for u in units]))
        for _ in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert there == [here] * 4
    pid = os.fork()
    if pid == 0:
        same = [heedloop.assign("prompt", unit=u).arm for u in units] == here
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class Away(testing.MemoryTransport):
    """A server that does not answer."""

    def get(self, path: str, *, etag: str = "") -> Response:
        del path, etag
        return Response("later", reason="nobody there")


PROGRAM = """
import json, sys
from pathlib import Path
import test_sdk_assign as world
runtime = world.run(world.Away(), Path(sys.argv[1]))
import heedloop
print(json.dumps([heedloop.assign("prompt", unit=f"user-{i}").arm for i in range(200)]))
"""


def run(transport: testing.MemoryTransport, folder: Path):
    """A configured heedloop with an outbox on disk."""
    outbox = Outbox(folder / "outbox-000000000000.sqlite3")
    key = testing.TEST_KEY
    return start(transport, outbox, Options(), resource={}, api_key=key, sample_rate=1.0, capture=True)


def test_a_restart_without_the_server_keeps_every_arm(tmp_path):
    transport = testing.MemoryTransport()
    transport.documents[_assignment.PLANS] = {"plans": [plan()]}
    runtime = run(transport, tmp_path)
    runtime.settings.wait(_assignment.PLANS, 10)
    before = [heedloop.assign("prompt", unit=f"user-{i}").arm for i in range(200)]
    heedloop.shutdown()
    assert {"old", "new"} == set(before)
    other = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=Path(__file__).parent, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(other.stdout) == before


def test_an_unchanged_plan_is_not_sent_again():
    asked: list[str] = []

    class Versioned(testing.MemoryTransport):
        def get(self, path: str, *, etag: str = "") -> Response:
            asked.append(etag)
            if etag == '"v1"':
                return Response("accepted", 304)
            return Response("accepted", 200, body={"plans": [plan()]}, etag='"v1"')

    runtime = start(
        Versioned(), Outbox(None), Options(),
        resource={}, api_key=testing.TEST_KEY, sample_rate=1.0, capture=True,
    )  # fmt: skip
    known = runtime.settings.wait(_assignment.PLANS, 10)
    runtime.settings.refresh()
    assert runtime.settings.wait(_assignment.PLANS, 10) is known
    heedloop.shutdown()
    assert asked == ["", '"v1"']
