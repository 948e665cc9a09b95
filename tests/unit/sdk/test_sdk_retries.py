"""A retry decorator above `@heedloop.trace` makes one answer with its failed attempts; other decorators change nothing."""

import asyncio
import contextlib
import functools
import threading

import pytest

import heedloop
from heedloop import testing


class Busy(Exception):
    pass


def retry(function):
    """What every retry library does."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        for _ in range(4):
            try:
                return function(*args, **kwargs)
            except Busy as error:
                last = error
        raise last

    @functools.wraps(function)
    async def call_async(*args, **kwargs):
        for _ in range(4):
            try:
                return await function(*args, **kwargs)
            except Busy as error:
                last = error
                await asyncio.sleep(0)
        raise last

    return call_async if asyncio.iscoroutinefunction(function) else call


def tenacity_retry(function):
    tenacity = pytest.importorskip("tenacity", reason="tenacity is not installed")
    return tenacity.retry(stop=tenacity.stop_after_attempt(4), reraise=True)(function)


def backoff_retry(function):
    backoff = pytest.importorskip("backoff", reason="backoff is not installed")
    return backoff.on_exception(backoff.constant, Busy, max_tries=4, interval=0, jitter=None)(function)


RETRIES = pytest.mark.parametrize("retry", [retry, tenacity_retry, backoff_retry])


def flaky(num_failures):
    """A model that is busy that many times for each question."""
    seen = {}

    def model(question):
        seen[question] = seen.get(question, 0) + 1
        if seen[question] <= num_failures:
            raise Busy(question)
        return f"A:{question}"

    return model


def module_level(model):
    @heedloop.trace(name="answer")
    def answer(question):
        return model(question)

    return answer


def module_level_async(model):
    @heedloop.trace(name="answer")
    async def answer(question):
        await asyncio.sleep(0)
        return model(question)

    return answer


@RETRIES
def test_failed_attempts_are_parts_of_the_one_answer(retry):
    answer = retry(module_level(flaky(2)))
    with testing.recording() as seen:
        text, handle = heedloop.with_handle(answer, "q")
        heedloop.thumbs_up(handle, author="u")
    assert text == "A:q" and len(seen.spans) == 3
    (only,) = seen.answers
    assert only.handle == handle and only.output_text == "A:q"
    assert {s.trace_id for s in seen.spans} == {only.trace_id}
    assert [s.status for s in seen.spans] == [2, 2, 0]


@RETRIES
def test_coroutines_and_many_at_a_time(retry):
    answer = retry(module_level_async(flaky(2)))

    async def main():
        return await asyncio.gather(*[heedloop.with_handle(answer, f"q{i}") for i in range(20)])

    with testing.recording() as seen:
        made = asyncio.run(main())
    by_handle = {s.handle: s for s in seen.answers}
    assert len(by_handle) == 20 and len(seen.spans) == 60
    for text, handle in made:
        assert by_handle[handle].output_text == text
        parts = [s for s in seen.spans if s.trace_id == by_handle[handle].trace_id]
        assert {s.input_text for s in parts} == {text[2:]}


@RETRIES
def test_a_retry_that_gives_up_is_one_failed_answer(retry):
    answer = retry(module_level(flaky(9)))
    with testing.recording() as seen:
        with pytest.raises(Busy):
            answer("q")
        with pytest.raises(Busy):
            answer("q")
    assert len(seen.spans) == 8 and [s.status for s in seen.answers] == [2, 2]
    assert len({s.trace_id for s in seen.spans}) == 2


def test_threads_of_one_pool_do_not_mix_their_attempts():
    answer = retry(module_level(flaky(3)))
    with testing.recording() as seen:
        threads = [threading.Thread(target=answer, args=(f"q{i}",)) for i in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert len(seen.answers) == 16 and len(seen.spans) == 64
    assert len({(s.trace_id, s.input_text) for s in seen.spans}) == 16


def test_a_loop_over_questions_is_no_retry():
    answer = module_level(flaky(1))

    def ask(function):
        for question in ("a", "b", "c"):
            try:
                function(question)
            except Busy:
                continue

    with testing.recording() as seen:
        ask(answer)
        ask(answer)
    assert len(seen.answers) == 6 and len({s.trace_id for s in seen.spans}) == 6


def test_a_failure_under_a_decorator_that_does_not_retry_is_sent_with_the_next_call():
    def timed(function):
        @functools.wraps(function)
        def call(*args):
            return function(*args)

        return call

    answer = timed(module_level(flaky(1)))
    with testing.recording() as seen:
        with pytest.raises(Busy):
            answer("q")
        assert seen.runtime.delivery().spans.waiting == 1
        assert answer("q") == "A:q"
        assert not seen.runtime.attempts.held
    assert sorted(s.status for s in seen.answers) == [0, 2]


def test_a_failure_of_a_task_is_sent_when_the_task_has_ended():
    def timed(function):
        @functools.wraps(function)
        async def call(*args):
            return await function(*args)

        return call

    answer = timed(module_level_async(flaky(1)))
    with testing.recording() as seen:
        with pytest.raises(Busy):
            asyncio.run(answer("q"))
        seen.runtime.attempts.release()  # what the delivering thread does each second
        assert not seen.runtime.attempts.held
    assert [s.status for s in seen.answers] == [2]


def test_other_threads_run_while_attempts_are_held():
    """Looking for those that are over must not walk the stacks of threads that run meanwhile."""
    answer = retry(module_level_async(flaky(3)))
    with testing.recording() as seen:
        stop = threading.Event()

        def release():
            while not stop.is_set():
                seen.runtime.attempts.release()

        releasing = threading.Thread(target=release)
        releasing.start()

        async def main():
            await asyncio.gather(*[answer(f"q{i}") for i in range(300)])

        try:
            asyncio.run(main())
        finally:
            stop.set()
            releasing.join()
    assert len(seen.answers) == 300 and len(seen.spans) == 1200


def test_with_handle_past_another_decorator_is_refused():
    cached = functools.lru_cache(retry(module_level(flaky(0))))
    with testing.recording() as seen:
        with pytest.raises(TypeError, match=r"heedloop\.with_handle"):
            cached.with_handle("q")
        first = heedloop.with_handle(cached, "q")
        assert first.handle and heedloop.with_handle(cached, "q") == ("A:q", "")
    assert len(seen.answers) == 1


def test_a_method_under_a_retry():
    class Bot:
        model = staticmethod(flaky(2))

        @retry
        @heedloop.trace
        def answer(self, question):
            return self.model(question)

    with testing.recording() as seen:
        text, handle = heedloop.with_handle(Bot().answer, "q")
    assert text == "A:q" and [s.handle for s in seen.answers] == [handle]


# ------------------------------------------------------------------------------------------------- celery


def decorated_task(app, model):
    @app.task(autoretry_for=(Busy,), max_retries=4)
    @heedloop.trace(name="answer")
    def task(question):
        return model(question)

    return task


def task_around_an_answer(app, model):
    answer = module_level(model)

    @app.task(autoretry_for=(Busy,), max_retries=4)
    def task(question):
        return answer(question)

    return task


def task_that_retries_itself(app, model):
    @app.task(bind=True, max_retries=4)
    @heedloop.trace(name="answer")
    def task(self, question):
        try:
            return model(question)
        except Busy as error:
            raise self.retry(exc=error, countdown=0) from error

    return task


def task_that_wraps_the_error(app, model):
    answer = module_level(model)

    @app.task(autoretry_for=(RuntimeError,), max_retries=4)
    def task(question):
        try:
            return answer(question)
        except Busy as error:
            raise RuntimeError("the job failed") from error

    return task


@pytest.fixture
def celery_app():
    celery = pytest.importorskip("celery", reason="celery is not installed")
    app = celery.Celery("tasks", broker="memory://", backend="cache+memory://")
    app.conf.task_always_eager = True
    return app


@pytest.mark.parametrize(
    "make_task",
    [decorated_task, task_around_an_answer, task_that_retries_itself, task_that_wraps_the_error],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("num_failures", [0, 1, 3, 9])
def test_a_celery_task_is_one_answer_with_its_failed_attempts(celery_app, make_task, num_failures):
    task = make_task(celery_app, flaky(num_failures))
    num_attempts = min(num_failures, 4) + 1
    with testing.recording() as seen:
        for question in ("a", "b"):
            task.delay(question)
        assert not seen.runtime.attempts.held
    assert [s.status for s in seen.answers] == [2 if num_failures > 4 else 0] * 2
    assert len(seen.spans) == 2 * num_attempts
    assert len({(s.trace_id, s.input_text) for s in seen.spans}) == 2


def test_what_a_celery_task_handles_itself_is_no_attempt(celery_app):
    """Answers that failed in a task which went on, and was tried again for another reason, are answers."""
    answer = module_level(flaky(1))

    @celery_app.task(autoretry_for=(LookupError,), max_retries=2, retry_kwargs={"countdown": 0})
    def task(questions, failures=[1]):  # noqa: B006  counts its calls
        for question in questions:
            with contextlib.suppress(Busy):
                answer(question)
        if failures:
            failures.pop()
            raise LookupError("of the task's own")

    with testing.recording() as seen:
        task.delay(["a", "b"])
    assert [s.status for s in seen.answers] == [2, 2, 0, 0]
    assert len({s.trace_id for s in seen.answers}) == 4
