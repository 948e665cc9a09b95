"""Equal questions share one execution; nothing is shared between projects, rights, or across a key's own change."""

import asyncio

import pytest
from fastapi import Response
from fastapi.testclient import TestClient
from temporary_stores import temporary_store

from heedloop.schema import Call, Message, utc_now
from heedloop_server.app import create_app
from heedloop_server.http.auth import make_key
from heedloop_server.http.shared_responses import SharedResponses
from heedloop_server.settings import Settings
from heedloop_server.store.spans import insert_calls

READ = frozenset({"read"})
QUESTION = ("p", READ, "/v1/quality/overview", (("interval", "day"),))


class Questions:
    """Executions that end when they are let: how many there were, and how many at once."""

    def __init__(self, **options):
        self.now = 0.0
        self.shared = SharedResponses(**{"keep_s": 3, "most": 2, **options}, clock=lambda: self.now)
        self.num, self.running, self.most = 0, 0, 0
        self.gate = asyncio.Event()

    def ask(self, question=QUESTION, key="k"):
        return asyncio.create_task(self.shared.respond(question, key, self.execute))

    async def execute(self):
        self.num += 1
        number, self.running = self.num, self.running + 1
        self.most = max(self.most, self.running)
        await self.gate.wait()
        self.running -= 1
        return Response(str(number), media_type="application/json")

    async def bodies(self, *tasks):
        self.gate.set()
        return [int((await t).body) for t in tasks]


async def _turns():
    for _ in range(5):
        await asyncio.sleep(0)


def test_ten_who_ask_at_once_and_soon_after_share_one_execution():
    async def ask():
        questions = Questions()
        at_once = [questions.ask(key=f"k{i}") for i in range(10)]
        await _turns()
        found = await questions.bodies(*at_once)
        questions.now = 2.9
        found += await questions.bodies(questions.ask())
        questions.now = 6.0
        return found, await questions.bodies(questions.ask())

    assert asyncio.run(ask()) == ([1] * 11, [2])


def test_who_asks_again_is_shown_what_is_there_while_the_next_is_made():
    async def ask():
        questions = Questions()
        first = questions.ask()
        await _turns()
        found = await questions.bodies(first)
        questions.gate.clear()
        questions.now = 4.0
        found += [
            int((await questions.ask(key=f"k{i}")).body) for i in range(3)
        ]  # while the second is running
        num_begun = questions.num
        questions.shared.note_change("mine")
        questions.now = 4.1
        mine = questions.ask(key="mine")
        await _turns()
        assert not mine.done()
        found += await questions.bodies(mine)
        await _turns()
        return found, num_begun, await questions.bodies(questions.ask(key="other"))

    assert asyncio.run(ask()) == ([1, 1, 1, 1, 3], 2, [3])


def test_what_is_too_old_or_was_forgotten_is_shown_to_nobody():
    async def ask():
        questions = Questions()
        first = questions.ask()
        await _turns()
        found = await questions.bodies(first)
        questions.now = 6.0
        found += await questions.bodies(questions.ask())
        questions.gate.clear()
        questions.now = 10.0
        found += [int((await questions.ask()).body)]  # begins the third
        questions.shared.forget("p")
        await _turns()
        questions.gate.set()
        await _turns()
        return found, await questions.bodies(questions.ask())

    assert asyncio.run(ask()) == ([1, 2, 2], [4])


def test_a_failure_in_the_background_leaves_what_was_there():
    async def ask():
        questions = Questions()
        first = questions.ask()
        await _turns()
        await questions.bodies(first)

        async def fail():
            raise ValueError("no")

        questions.now = 4.0
        shown = [int((await questions.shared.respond(QUESTION, "k", fail)).body)]
        await _turns()
        shown += await questions.bodies(questions.ask())
        await _turns()
        return shown + await questions.bodies(questions.ask())

    assert asyncio.run(ask()) == [1, 1, 2]


@pytest.mark.parametrize(
    "other",
    [
        ("q", *QUESTION[1:]),
        (QUESTION[0], frozenset({"read", "admin"}), *QUESTION[2:]),
        (*QUESTION[:2], "/v1/quality/trend", QUESTION[3]),
        (*QUESTION[:3], (("interval", "hour"),)),
    ],
    ids=["project", "rights", "path", "query"],
)
def test_another_question_is_executed_by_itself(other):
    async def ask():
        questions = Questions()
        tasks = [questions.ask(), questions.ask(other)]
        await _turns()
        return await questions.bodies(*tasks)

    assert asyncio.run(ask()) == [1, 2]


def test_a_change_is_seen_at_once_by_the_key_that_made_it():
    async def ask():
        questions = Questions()
        before = questions.ask(key="mine")
        await _turns()
        questions.now = 1.0
        questions.shared.note_change("mine")
        questions.now = 1.1
        mine, other = questions.ask(key="mine"), questions.ask(key="other")  # while the first is running
        await _turns()
        found = await questions.bodies(before, mine, other)
        return found, await questions.bodies(questions.ask(key="mine"))

    assert asyncio.run(ask()) == ([1, 2, 2], [2])


def test_executions_are_limited_and_failures_are_not_kept():
    async def ask():
        questions = Questions(most=2)
        tasks = [questions.ask((f"p{i}", *QUESTION[1:])) for i in range(5)]
        await _turns()
        await questions.bodies(*tasks)

        async def fail():
            raise ValueError("no")

        for _ in range(2):
            with pytest.raises(ValueError, match="no"):
                await questions.shared.respond(("broken", *QUESTION[1:]), "k", fail)
        again = await questions.shared.respond(("broken", *QUESTION[1:]), "k", questions.execute)
        return questions.most, int(again.body)

    assert asyncio.run(ask()) == (2, 6)


def test_projects_with_the_same_question_see_their_own_numbers(tmp_path):
    """Over HTTP: two projects, one question at the same moment, and keys without the scope."""
    with temporary_store() as store:
        for name, num in (("a", 1), ("b", 2)):
            calls = [
                Call(trace_id=f"{i + 1:032x}", span_id=f"{i + 1:016x}", start_time=utc_now(), is_answer=True,
                     output_messages=(Message("assistant", "x"),))
                for i in range(num)
            ]  # fmt: skip
            insert_calls(store.project(name), calls)
        keys = {name: make_key(store, name, name="r", scopes=["read"])[0] for name in ("a", "b")}
        blind = make_key(store, "a", name="f", scopes=["feedback"])[0]
        with TestClient(create_app(Settings(data=tmp_path, decoders=0), store=store)) as client:

            def ask(key):
                return client.get("/v1/quality/summary", headers={"Authorization": f"Bearer {key}"})

            for _ in range(2):
                assert [ask(keys[n]).json()["num_answers"] for n in ("a", "b")] == [1, 2]
            assert ask(blind).status_code == 403
            assert ask("hl_000000000000_" + "x" * 43).status_code == 401
            ids = [ask(keys["a"]).headers.get_list("x-request-id") for _ in range(2)]
            assert [len(i) for i in ids] == [1, 1]
            assert ids[0] != ids[1]
