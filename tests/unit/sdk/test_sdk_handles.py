"""A handle is the one of the answer that it was taken with, in every documented way; anywhere else there is none."""

import asyncio
import contextvars
import functools
import logging
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry import trace as trace_api

import heedloop
from heedloop import _guard, testing


@heedloop.trace
def answer(q):
    return f"A:{q}"


@heedloop.trace
async def answer_later(q):
    await asyncio.sleep(0)
    return f"A:{q}"


@heedloop.trace
def stream(q):
    yield from ("A:", q)


@heedloop.trace
async def stream_later(q):
    for piece in ("A:", q):
        await asyncio.sleep(0)
        yield piece


@heedloop.trace(name="inner")
def inner(q):
    return f"inner of {q}"


@heedloop.trace
def nested(q):
    inner(q)
    return f"A:{q}"


class Bot:
    @heedloop.trace
    def answer(self, q):
        return f"A:{q}"

    @heedloop.trace
    async def answer_later(self, q):
        return f"A:{q}"

    @heedloop.trace
    @classmethod
    def of_class(cls, q):
        return f"A:{q}"


@pytest.fixture
def recorded():
    with testing.recording() as seen:
        yield seen


def question_of(recorded, handle):
    (span,) = [s for s in recorded.spans if s.handle == handle]
    return span.input_text


def outside(_r):
    answer("before")


async def wait_for(_r):
    await answer_later("before")
    await asyncio.wait_for(answer_later("now"), 5)


async def gather(_r):
    await asyncio.gather(answer_later("a"), answer_later("b"))


async def to_thread(_r):
    await asyncio.to_thread(answer, "now")


async def task(_r):
    await asyncio.create_task(answer_later("now"))


async def executor(_r):
    await asyncio.get_running_loop().run_in_executor(None, answer, "now")


def reused_thread(_r):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(answer, "another user's").result()
        assert pool.submit(heedloop.handle).result() == ""


def cache_hit(_r):
    @functools.cache
    def cached(q):
        return answer(q)

    cached("a")
    answer("between")
    cached("a")


def in_an_http_span(_r):
    with trace_api.get_tracer("web").start_as_current_span("GET /chat"):
        answer("now")
        assert heedloop.handle() == ""


def between_two_pieces(_r):
    pieces = stream("now")
    next(pieces)
    assert heedloop.handle() == ""
    pieces.close()


def in_a_copied_context(_r):
    answer("now")
    assert contextvars.copy_context().run(heedloop.handle) == ""


@pytest.mark.parametrize(
    "hand_off",
    [
        outside,
        wait_for,
        gather,
        to_thread,
        task,
        executor,
        reused_thread,
        cache_hit,
        in_an_http_span,
        between_two_pieces,
        in_a_copied_context,
    ],
    ids=lambda f: f.__name__,
)
def test_there_is_no_handle_after_a_call(recorded, hand_off):
    done = hand_off(recorded)
    if done is not None:
        asyncio.run(done)
    assert heedloop.handle() == ""


def test_asking_for_it_there_is_said_once(recorded, caplog, monkeypatch):
    monkeypatch.setattr(_guard, "_last_said", {})
    answer("q")
    with caplog.at_level(logging.WARNING, "heedloop"):
        assert [heedloop.handle() for _ in range(3)] == [""] * 3
    (record,) = caplog.records
    assert "answer.with_handle(question)" in record.message and "collect_handles" in record.message


@pytest.mark.parametrize(
    "say",
    [
        heedloop.thumbs_up,
        heedloop.thumbs_down,
        lambda about: heedloop.rate(about, 1),
        lambda about: heedloop.correct(about, "x"),
        lambda about: heedloop.flag(about, "x"),
        lambda about: heedloop.comment(about, "x"),
        lambda about: heedloop.retract(about, author="u"),
        lambda about: heedloop.compare([about, about]),
        lambda about: heedloop.feedback_token(about, subject="u"),
        heedloop.keep,
    ],
)
@pytest.mark.parametrize("about", [None, "", "undefined", 17])
def test_what_is_no_handle_is_refused(recorded, say, about):
    answer("q")
    with pytest.raises(ValueError):
        say(about)
    assert recorded.feedback == []


def test_about_left_out_outside_of_a_call_is_left_out_in_production(recorded, monkeypatch):
    answer("q")
    monkeypatch.delenv("PYTEST_VERSION")
    assert heedloop.thumbs_up(author="u") == "" and heedloop.retract(author="u") == ""
    assert heedloop.feedback_token(subject="u") == ""
    heedloop.keep()
    assert recorded.feedback == []


def test_none_inside_a_call_is_that_answer(recorded):
    @heedloop.trace
    def judged(q):
        heedloop.thumbs_up(None, author="u")

    _, handle = judged.with_handle("q")
    recorded.assert_feedback("rating", about=handle)


def test_with_handle_of_everything_that_can_be_decorated(recorded):
    bot = Bot()
    at_once = {
        "function": answer.with_handle("function"),
        "nested": nested.with_handle("nested"),
        "method": heedloop.with_handle(bot.answer, "method"),
        "unbound": Bot.answer.with_handle(bot, "unbound"),
        "class": heedloop.with_handle(Bot.of_class, "class"),
        "as a function": heedloop.with_handle(answer, "as a function"),
    }
    pieces, handle = stream.with_handle("generator")
    assert handle.startswith("00-")  # before the first piece
    at_once["generator"] = ("".join(pieces), handle)

    async def later():
        found = {
            "coroutine": await answer_later.with_handle("coroutine"),
            "method": await heedloop.with_handle(bot.answer_later, "method"),
        }
        pieces, handle = stream_later.with_handle("async generator")
        found["async generator"] = ("".join([p async for p in pieces]), handle)
        return found

    for question, (text, handle) in [*at_once.items(), *asyncio.run(later()).items()]:
        assert text == f"A:{question}" and question_of(recorded, handle) == question


def test_with_handle_of_a_method_is_never_given_the_question_as_its_instance(recorded):
    class Default:
        @heedloop.trace
        def answer(self, q="x"):
            return q

    with pytest.raises(TypeError, match=r"answer is a method: write heedloop.with_handle\(it.answer"):
        Default().answer.with_handle("question")
    with pytest.raises(TypeError, match="is not decorated"):
        heedloop.with_handle(len, "question")


def test_with_handle_inside_an_answer_is_that_answers(recorded):
    handles = []

    @heedloop.trace(name="outer")
    def outer(q):
        handles.append(inner.with_handle(q).handle)

    handles.append(outer.with_handle("q").handle)
    assert handles == [recorded.span("outer").handle] * 2


def test_with_handle_passes_exceptions_and_works_while_off(recorded):
    @heedloop.trace
    def broken(q):
        raise LookupError(q)

    with pytest.raises(LookupError):
        broken.with_handle("q")
    heedloop.shutdown()
    assert answer.with_handle("q") == ("A:q", "")
    assert asyncio.run(answer_later.with_handle("q")) == ("A:q", "")
    assert "".join(stream.with_handle("q").result) == "A:q"


async def collect_in_a_task():
    await asyncio.create_task(answer_later("now"))


async def collect_in_wait_for():
    await asyncio.wait_for(answer_later("now"), 5)


async def collect_in_to_thread():
    await asyncio.to_thread(answer, "now")


def collect_in_a_thread():
    thread = threading.Thread(target=answer, args=("now",))
    thread.start()
    thread.join()


def collect_in_a_pool():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(answer, "now").result()
        assert pool.submit(lambda: contextvars.copy_context()).result() is not None


def collect_of_a_stream():
    list(stream("now"))


def collect_of_a_nested_call():
    nested("now")


def collect_of_a_second_attempt():
    @heedloop.trace
    def flaky(q, attempts=[]):  # noqa: B006  counts its calls
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError
        return "A"

    with pytest.raises(ConnectionError):
        flaky("now")
    flaky("now")


@pytest.mark.parametrize(
    "work",
    [
        collect_in_a_task,
        collect_in_wait_for,
        collect_in_to_thread,
        collect_in_a_thread,
        collect_in_a_pool,
        collect_of_a_stream,
        collect_of_a_nested_call,
        collect_of_a_second_attempt,
    ],
    ids=lambda f: f.__name__,
)
def test_a_block_collects_the_answer_made_inside(recorded, work):
    answer("before")

    async def asynchronous():
        with heedloop.collect_handles() as made:
            await work()
        return made

    if asyncio.iscoroutinefunction(work):
        made = asyncio.run(asynchronous())
    else:
        with heedloop.collect_handles() as made:
            work()
    answer("after")
    assert question_of(recorded, made.handle) == "now"


def test_none_and_several_answers_are_told(recorded, caplog, monkeypatch):
    monkeypatch.setattr(_guard, "_last_said", {})
    with heedloop.collect_handles() as none:
        pass
    with heedloop.collect_handles() as several:
        answer("a"), answer("b")
    with caplog.at_level(logging.WARNING, "heedloop"):
        assert several.handle == ""
        assert none.handle == ""
    assert "2 answers were made" in caplog.text
    assert [question_of(recorded, h) for h in several.handles] == ["a", "b"]
    heedloop.shutdown()
    with heedloop.collect_handles() as off:
        answer("c")
    assert off.handle == "" and off.handles == ()


def test_a_pools_thread_that_was_started_inside_a_block_is_not_in_it_later(recorded):
    with ThreadPoolExecutor(1) as pool:
        with heedloop.collect_handles() as made:
            pool.submit(answer, "now").result()
        pool.submit(answer, "somebody else's").result()
    assert question_of(recorded, made.handle) == "now"


# ---------------------------------------------------------------------------------- a thousand answers, any way


def _thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def _inside(q, told):
    @heedloop.trace
    def judges_itself(question):
        told.append((question, heedloop.handle()))
        inner(question)
        return question

    return judges_itself(q)


async def one_answer(q, way, pool, cache, told):
    """One answer to `q`, made and judged in the `way` of that number; notes (question, handle) in `told`."""
    loop = asyncio.get_running_loop()
    if way == 0:
        told.append((q, (await answer_later.with_handle(q)).handle))
    elif way == 1:
        told.append((q, (await loop.run_in_executor(pool, answer.with_handle, q)).handle))
    elif way == 2:
        pieces, handle = stream_later.with_handle(q)
        async for _ in pieces:
            await asyncio.sleep(0)
        told.append((q, handle))
    elif way == 3:
        pieces, handle = stream.with_handle(q)
        for _ in pieces:
            await asyncio.sleep(0)
        told.append((q, handle))
    elif way == 4:
        with heedloop.collect_handles() as made:
            await asyncio.wait_for(asyncio.create_task(answer_later(q)), 30)
        told.append((q, made.handle))
    elif way == 5:
        with heedloop.collect_handles() as made:
            await loop.run_in_executor(pool, nested, q)
        told.append((q, made.handle))
    elif way == 6:
        await asyncio.to_thread(_inside, q, told)
    elif way == 7:
        if q not in cache:
            cache[q] = await answer_later.with_handle(q)
        told.append((q, cache[q].handle))
    elif way == 8:
        await answer_later(q)
        told.append((q, heedloop.handle()))  # refused
    elif way == 9:
        await loop.run_in_executor(pool, answer, q)
        told.append((q, await loop.run_in_executor(pool, heedloop.handle)))  # refused
    elif way == 10:
        told.append((q, heedloop.with_handle(Bot().answer, q).handle))
    else:
        told.append((q, await asyncio.to_thread(_thread, lambda: nested.with_handle(q).handle)))


def test_a_thousand_answers_in_every_way_and_every_thumb_on_its_own(recorded):
    chosen = random.Random(12)
    told, cache = [], {}

    async def main():
        with ThreadPoolExecutor(4) as pool:
            work = [(f"q{i % 900}", chosen.randrange(12)) for i in range(1000)]
            for start in range(0, 1000, 50):
                await asyncio.gather(
                    *[one_answer(q, way, pool, cache, told) for q, way in work[start : start + 50]]
                )

    asyncio.run(main())
    refused = 0
    for q, handle in told:
        if handle:
            heedloop.thumbs_up(handle, author=q)
        else:
            with pytest.raises(ValueError):
                heedloop.thumbs_up(handle, author=q)
            refused += 1
    questions = {s.handle: s.input_text for s in recorded.answers}
    judged = [(f"00-{f.target.trace_id}-{f.target.span_id}-01", f.author.id) for f in recorded.feedback]
    assert all(questions[handle] == asked for handle, asked in judged)
    assert len(told) == 1000 and len(judged) + refused == 1000 and 100 < refused < 250
