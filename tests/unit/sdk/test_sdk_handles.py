"""A handle is the one of the answer that it was taken with, in every documented way; anywhere else there is none."""

import asyncio
import contextlib
import contextvars
import functools
import itertools
import logging
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import fastapi
import httpx
import pytest
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from opentelemetry import context as context_api
from opentelemetry import propagate
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


# ------------------------------------------------------------------- what goes on after the answer or the block


async def start_worker():
    """A worker that serves whoever comes next, in the context of the one that needed it first."""
    questions = asyncio.Queue()

    async def work():
        while True:
            question, served = await questions.get()
            served.set_result((await answer_later.with_handle(question), heedloop.handle()))

    async def ask(question):
        served = asyncio.get_running_loop().create_future()
        questions.put_nowait((question, served))
        return await served

    return asyncio.create_task(work()), ask


@heedloop.trace
async def answer_that_starts_a_worker(q):
    return await start_worker()


async def worker_of_an_answer():
    return await answer_that_starts_a_worker("first")


async def worker_of_a_handled_answer():
    return (await answer_that_starts_a_worker.with_handle("first")).result


async def worker_of_a_block():
    with heedloop.collect_handles():
        return await start_worker()


async def worker_of_a_message():
    with heedloop.context(external_id="message-1"):
        return await start_worker()


@pytest.mark.parametrize(
    "start",
    [worker_of_an_answer, worker_of_a_handled_answer, worker_of_a_block, worker_of_a_message],
    ids=lambda f: f.__name__,
)
def test_a_task_that_outlives_where_it_was_started_gives_each_of_its_answers_its_own_handle(recorded, start):
    async def main():
        worker, ask = await start()
        served = [await ask(q) for q in ("a", "b")]
        worker.cancel()
        return served

    served = asyncio.run(main())
    assert [question_of(recorded, handled.handle) for handled, _after in served] == ["a", "b"]
    assert [after for _handled, after in served] == ["", ""]
    assert len({s.trace_id for s in recorded.answers}) == len(recorded.answers)
    assert heedloop.target(external_id="message-1").trace_id not in {s.trace_id for s in recorded.spans}


def test_a_thread_that_outlives_its_answer_is_not_inside_it():
    released, handles = threading.Event(), []

    def work():
        released.wait()
        handles.append(answer.with_handle("later").handle)

    @heedloop.trace
    def starts_a_thread(q):
        thread = threading.Thread(target=work)
        thread.start()
        return thread

    with testing.recording(options=heedloop.Options(threads=True)) as recorded:
        thread, handle = starts_a_thread.with_handle("q")
        released.set()
        thread.join()
        assert handles != [handle] and question_of(recorded, handles[0]) == "later"


def test_a_context_that_another_library_puts_back_too_late_leads_to_no_other_answer(recorded):
    attached = []

    @heedloop.trace
    def leaves_a_context(q):
        attached.append(context_api.attach(context_api.set_value("of another library", q)))

    @heedloop.trace
    def puts_it_back(q):
        context_api.detach(attached.pop())
        return heedloop.handle(), inner.with_handle("inside").handle

    leaves_a_context("first")
    (at_once, inside), handle = puts_it_back.with_handle("now")
    assert at_once in ("", handle) and question_of(recorded, inside) in ("inside", "now")
    assert question_of(recorded, handle) == "now"


def test_a_block_that_is_over_holds_no_later_answers(recorded):
    with heedloop.collect_handles() as made:
        inside = contextvars.copy_context()
        answer("now")
    inside.run(answer, "later")
    assert question_of(recorded, made.handle) == "now"


TURNS = sorted({"".join(order) for order in itertools.permutations("aaabbb")})


@pytest.mark.parametrize("order", TURNS)
@pytest.mark.parametrize("cached", [{"a"}, {"b"}, set()], ids=str)
def test_blocks_in_generators_that_take_turns_keep_their_answers_and_users(recorded, order, cached):
    def serve(q):
        with heedloop.context(user_id=f"user {q}"), heedloop.collect_handles() as made:
            yield from ("A:", q) if q in cached else stream(q)
        yield made.handle

    served, handles = {q: serve(q) for q in "ab"}, {}
    for q in order:
        handles[q] = next(served[q])
    assert [next(s, None) for s in served.values()] == [None, None]
    _, after = answer.with_handle("after")
    for q, handle in handles.items():
        assert handle == "" if q in cached else question_of(recorded, handle) == q
    assert question_of(recorded, after) == "after"
    users = {s.input_text: s.attributes.get("user.id") for s in recorded.answers}
    assert users == {**{q: f"user {q}" for q in "ab" if q not in cached}, "after": None}


def test_what_a_consumer_asks_between_two_items_is_not_the_generators(recorded):
    async def serve(q):
        with heedloop.collect_handles() as made:
            yield "first"
            yield await asyncio.create_task(answer_later(q))
        yield made.handle

    def serve_at_once(q):
        with heedloop.collect_handles() as made:
            yield "first"
            yield answer(q)
        yield made.handle

    async def main():
        pieces = []
        async for piece in serve("a"):
            pieces.append(piece)
            await answer_later(f"asked after {piece}")
        return pieces

    assert question_of(recorded, asyncio.run(main())[-1]) == "a"
    pieces = []
    for piece in serve_at_once("b"):
        pieces.append(piece)
        answer(f"asked after {piece}")
    assert question_of(recorded, pieces[-1]) == "b"


def test_a_block_of_a_context_manager_or_a_fixture_holds_what_is_between(recorded):
    @contextlib.contextmanager
    def collected():
        with heedloop.collect_handles() as made:
            yield made

    with collected() as made:
        answer("inside")
    assert question_of(recorded, made.handle) == "inside"


# -------------------------------------------------------------------------------------- in a web framework's steps


def test_what_a_dependency_of_fastapi_says_is_around_the_endpoint(recorded):
    app = fastapi.FastAPI()

    async def user():
        with heedloop.context(user_id="ann", external_id="message-2"), heedloop.collect_handles() as made:
            yield made

    @app.get("/ask")
    async def ask(made: Annotated[Any, fastapi.Depends(user)]) -> str:
        await asyncio.to_thread(answer, "now")
        return made.handle

    handle = TestClient(app).get("/ask").json()
    (span,) = recorded.answers
    assert span.handle == handle and span.attributes["user.id"] == "ann"
    assert span.trace_id == heedloop.target(external_id="message-2").trace_id


def test_a_block_in_a_dependency_that_runs_in_a_thread_is_told(recorded, caplog, monkeypatch):
    monkeypatch.setattr(_guard, "_last_said", {})
    app = fastapi.FastAPI()

    def user():
        with heedloop.context(user_id="ann"):
            yield

    @app.get("/ask", dependencies=[fastapi.Depends(user)])
    async def ask() -> str:
        return answer("now")

    with caplog.at_level(logging.WARNING):
        assert TestClient(app).get("/ask").status_code == 200
    assert [r.message for r in caplog.records if "must be an `async def`" in r.message] != []
    assert "Failed to detach" not in caplog.text and "user.id" not in recorded.answers[0].attributes


def test_a_block_sees_answers_whose_handles_were_taken_inside(recorded):
    with heedloop.collect_handles() as outer, heedloop.collect_handles() as made:
        handle = answer.with_handle("now").handle
    assert handle == made.handle == outer.handle


# ------------------------------------------------------------------------- other decorators around a coroutine's


class CacheObject:
    """As async_lru's: an object that is awaited, and makes the answer in a task that all askers share."""

    def __init__(self, function):
        self.function, self.tasks = function, {}
        functools.update_wrapper(self, function)

    async def __call__(self, q):
        if q not in self.tasks:
            self.tasks[q] = asyncio.create_task(self.function(q))
        return await asyncio.shield(self.tasks[q])


def cache_of_tasks(function):
    tasks = {}

    @functools.wraps(function)
    def cached(q):
        if q not in tasks:
            tasks[q] = asyncio.ensure_future(function(q))
        return tasks[q]

    return cached


def retry_that_is_no_coroutine(function):
    @functools.wraps(function)
    def retrying(q):
        async def attempts():
            return await function(q)

        return attempts()

    return retrying


def coroutine_decorator(function):
    @functools.wraps(function)
    async def call(q):
        return await asyncio.create_task(function(q))

    return call


CACHES = [CacheObject, cache_of_tasks]


@pytest.mark.parametrize("decorate", [*CACHES, retry_that_is_no_coroutine, coroutine_decorator])
def test_an_awaited_answer_with_another_decorator_around_it_has_its_own_handle_or_none(recorded, decorate):
    decorated = decorate(answer_later)

    async def main():
        at_once = await asyncio.gather(
            *[heedloop.with_handle(decorated, q) for q in ("a", "a", "b", "b", "c")]
        )
        return [*at_once, await heedloop.with_handle(decorated, "a")]

    handled = asyncio.run(main())
    assert [h.result for h in handled] == ["A:a", "A:a", "A:b", "A:b", "A:c", "A:a"]
    for h in filter(lambda h: h.handle, handled):
        assert f"A:{question_of(recorded, h.handle)}" == h.result
    num_handles = len({h.handle for h in handled} - {""})
    assert num_handles == len(recorded.answers) == (3 if decorate in CACHES else 6)


def test_a_plain_functions_awaitable_and_handle_are_a_pair_also_while_off(recorded):
    async def main():
        pending, handle = returns_a_coroutine.with_handle("q")
        return await pending, handle

    text, handle = asyncio.run(main())
    assert text == "A:q" and question_of(recorded, handle) == "q"
    heedloop.shutdown()
    assert asyncio.run(main()) == ("A:q", "")


# ---------------------------------------------------------------------------------- a thousand answers, any way


def in_a_thread(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


@heedloop.trace
def judges_itself(q):
    inner(q)
    return heedloop.handle()


@heedloop.trace
async def streams_later_judged_inside(q):
    yield heedloop.handle()
    await asyncio.sleep(0)
    yield heedloop.handle()


@heedloop.trace
async def web_response(q):
    async def body():
        for piece in ("A:", q):
            await asyncio.sleep(0)
            yield piece

    return StreamingResponse(body(), headers={"x-handle": heedloop.handle()})


@heedloop.trace
def returns_a_coroutine(q):
    return answer_later(q)


@functools.lru_cache
def slow(q):
    return f"A:{q}"


@heedloop.trace
def answer_of_a_cache(q):
    return slow(q)


def fails_once():
    busy = [ConnectionError("busy")]

    def retry(function):
        @functools.wraps(function)
        def call(q):
            try:
                return function(q)
            except ConnectionError:
                return function(q)

        return call

    @retry
    @heedloop.trace
    def ask(q):
        if busy:
            raise busy.pop()
        return f"A:{q}"

    return ask


@heedloop.trace
def asks_a_service(q):
    headers = {}
    propagate.inject(headers)
    return contextvars.Context().run(service, headers)


def service(headers):
    context_api.attach(propagate.extract(headers))
    return in_the_service("part")


@heedloop.trace
def in_the_service(q):
    return heedloop.handle()


chat = fastapi.FastAPI()


async def collected_around_the_route(q: str):
    with heedloop.context(user_id=q), heedloop.collect_handles() as made:
        yield made


@chat.get("/route")
async def route(q: str) -> str:
    return (await answer_later.with_handle(q)).handle


@chat.get("/route-in-a-thread")
def route_in_a_thread(q: str) -> str:
    return nested.with_handle(q).handle


@chat.get("/stream")
async def streaming_route(q: str) -> StreamingResponse:
    pieces, handle = stream_later.with_handle(q)
    return StreamingResponse(pieces, headers={"x-handle": handle})


@chat.get("/dependency")
async def route_with_a_dependency(
    q: str, made: Annotated[Any, fastapi.Depends(collected_around_the_route)]
) -> str:
    await asyncio.to_thread(nested, q)
    return made.handle


async def get(path, q):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(chat), base_url="http://chat") as client:
        return await client.get(path, params={"q": q})


class Asking:
    """One question, asked in some way of the docs; each method gives the handle that it took with the answer."""

    def __init__(self, pool):
        self.pool, self.answers, self.worker, self.ask_worker = pool, {}, None, None
        self.messages = itertools.count()

    def in_the_pool(self, *call):
        return asyncio.get_running_loop().run_in_executor(self.pool, *call)

    async def coroutine(self, q):
        return (await answer_later.with_handle(q)).handle

    async def function_in_a_pool(self, q):
        return (await self.in_the_pool(answer.with_handle, q)).handle

    async def async_generator(self, q):
        pieces, handle = stream_later.with_handle(q)
        assert [p async for p in pieces] == ["A:", q]
        return handle

    async def async_generator_broken_off(self, q):
        pieces, handle = stream_later.with_handle(q)
        await anext(pieces)
        await pieces.aclose()
        return handle

    async def async_generator_passed_to_a_task(self, q):
        pieces, handle = stream_later.with_handle(q)

        async def read():
            return [p async for p in pieces]

        assert await asyncio.create_task(read()) == ["A:", q]
        return handle

    async def async_generator_that_asks_inside(self, q):
        first, second = [h async for h in streams_later_judged_inside(q)]
        assert first == second
        return first

    async def generator(self, q):
        pieces, handle = stream.with_handle(q)
        for _ in pieces:
            await asyncio.sleep(0)
        return handle

    async def generator_read_in_a_pool(self, q):
        pieces, handle = stream.with_handle(q)
        await self.in_the_pool(list, pieces)
        return handle

    async def streaming_response(self, q):
        response, handle = await web_response.with_handle(q)
        assert [p async for p in response.body_iterator] == ["A:", q]
        assert response.headers["x-handle"] == handle
        return handle

    async def awaitable_of_a_plain_function(self, q):
        return (await returns_a_coroutine.with_handle(q)).handle

    async def collecting_block_around_a_task(self, q):
        with heedloop.collect_handles() as made:
            await asyncio.wait_for(asyncio.create_task(answer_later(q)), 30)
        return made.handle

    async def collecting_block_around_a_pool(self, q):
        with heedloop.collect_handles() as made:
            await self.in_the_pool(nested, q)
        return made.handle

    async def collecting_block_around_a_stream(self, q):
        with heedloop.collect_handles() as made:
            async for _ in stream_later(q):
                await asyncio.sleep(0)
        return made.handle

    async def inside(self, q):
        return await asyncio.to_thread(judges_itself, q)

    async def cache(self, q):
        if q not in self.answers:
            self.answers[q] = await answer_later.with_handle(q)
        return self.answers[q].handle

    async def method(self, q):
        return heedloop.with_handle(Bot().answer, q).handle

    async def coroutine_method(self, q):
        return (await heedloop.with_handle(Bot().answer_later, q)).handle

    async def worker_that_the_first_request_started(self, q):
        if self.ask_worker is None:
            self.worker, self.ask_worker = await answer_that_starts_a_worker("first")
        handled, _after = await self.ask_worker(q)
        return handled.handle

    async def callable_object(self, q):
        return heedloop.with_handle(CallableBot(), q).handle

    async def partial(self, q):
        return (await heedloop.with_handle(functools.partial(answer_later, q))).handle

    async def retry_around(self, q):
        return heedloop.with_handle(fails_once(), q).handle

    async def coroutines_retry_around(self, q):
        return (await heedloop.with_handle(retry_that_is_no_coroutine(answer_later), q)).handle

    async def cache_inside(self, q):
        return answer_of_a_cache.with_handle(q).handle

    async def two_generators_that_take_turns(self, q):
        (mine, handle), (other, _) = stream.with_handle(q), stream.with_handle("other")
        assert list(zip(mine, other, strict=True)) == [("A:", "A:"), (q, "other")]
        return handle

    async def service_behind(self, q):
        return asks_a_service.with_handle(q).result

    async def thread(self, q):
        return await asyncio.to_thread(in_a_thread, lambda: nested.with_handle(q).handle)

    async def fastapi_route(self, q):
        return (await get("/route", q)).json()

    async def fastapi_route_in_a_thread(self, q):
        return (await get("/route-in-a-thread", q)).json()

    async def fastapi_stream(self, q):
        return (await get("/stream", q)).headers["x-handle"]

    async def fastapi_dependency(self, q):
        return (await get("/dependency", q)).json()

    async def id_of_the_app(self, q):
        message = f"message-{next(self.messages)}"
        with heedloop.context(external_id=message):
            await asyncio.create_task(answer_later(q))
        return heedloop.target(external_id=message)

    async def afterwards(self, q):
        await answer_later(q)
        return heedloop.handle()

    async def afterwards_in_a_pool(self, q):
        await self.in_the_pool(answer, q)
        return await self.in_the_pool(heedloop.handle)


REFUSED = ("afterwards", "afterwards_in_a_pool")
WAYS = [name for name, way in vars(Asking).items() if asyncio.iscoroutinefunction(way)]


def test_a_thousand_answers_in_every_way_and_every_thumb_on_its_own(recorded):
    chosen = random.Random(12)
    work = [(f"q{i % 900}", chosen.choice(WAYS)) for i in range(1000)]

    async def main():
        with ThreadPoolExecutor(4) as pool:
            asking, handles = Asking(pool), []
            for start in range(0, 1000, 50):
                batch = work[start : start + 50]
                handles += await asyncio.gather(*[getattr(asking, way)(q) for q, way in batch])
            asking.worker.cancel()
            return handles

    for (q, way), handle in zip(work, asyncio.run(main()), strict=True):
        if way in REFUSED:
            with pytest.raises(ValueError):
                heedloop.thumbs_up(handle, author=q)
        else:
            heedloop.thumbs_up(handle, author=q)
    by_span = {(s.trace_id, s.span_id): s.input_text for s in recorded.answers}
    by_trace = {s.trace_id: s.input_text for s in recorded.answers}
    judged = [(f.target, f.author.id) for f in recorded.feedback]
    for target, asked in judged:
        said_of = by_span[target.trace_id, target.span_id] if target.span_id else by_trace[target.trace_id]
        assert said_of == asked
    assert len(judged) == sum(way not in REFUSED for _q, way in work) and {w for _q, w in work} == set(WAYS)


class CallableBot:
    @heedloop.trace
    def __call__(self, q):
        return f"A:{q}"


class LaterCallableBot:
    @heedloop.trace
    async def __call__(self, q):
        return f"A:{q}"


def test_with_handle_of_callable_objects_and_partials(recorded):
    made = [
        heedloop.with_handle(CallableBot(), "q"),
        heedloop.with_handle(functools.partial(answer, "q")),
        heedloop.with_handle(functools.partial(Bot().answer), q="q"),
        heedloop.with_handle(functools.partial(CallableBot(), "q")),
        asyncio.run(heedloop.with_handle(LaterCallableBot(), "q")),
        asyncio.run(heedloop.with_handle(functools.partial(answer_later), "q")),
    ]
    assert [result for result, _handle in made] == ["A:q"] * 6
    assert [question_of(recorded, handle) for _result, handle in made] == ["q"] * 6
    with pytest.raises(TypeError, match="not decorated"):
        heedloop.with_handle(functools.partial(str, "q"))
