"""`@heedloop.trace` on everything that can be called, and what `set`, `span`, `context` and `handle` add."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import json
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry import trace as trace_api

import heedloop
from heedloop import testing


@pytest.fixture
def recorded():
    with testing.recording() as seen:
        yield seen


@heedloop.trace
def answer(question: str, limit: int = 3) -> str:
    """Say something."""
    return f"answer to {question}"


def test_prompt_and_text_result_are_messages_and_the_rest_is_input(recorded):
    assert answer("why?", limit=5) == "answer to why?"
    span = recorded.span("answer")
    assert span.input_text == "why?"
    assert span.output_text == "answer to why?"
    assert json.loads(span.attributes["heedloop.input"]) == {"limit": 5}
    assert span.attributes["gen_ai.operation.name"] == "chat"
    assert span.attributes["heedloop.answer"] is True
    assert span.resource["service.name"] == "test"
    assert span.resource["heedloop.sdk.version"]


def test_the_decorated_function_looks_like_the_original():
    assert answer.__name__ == "answer" and answer.__doc__ == "Say something."
    assert list(inspect.signature(answer).parameters) == ["question", "limit"]


def test_messages_argument_wins_over_an_earlier_text(recorded):
    @heedloop.trace
    def chat(tenant, messages):
        return {"role": "assistant", "content": "ok"}

    chat("acme", [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}])
    span = recorded.span("test_messages_argument_wins_over_an_earlier_text.chat")
    assert [m["role"] for m in json.loads(span.attributes["gen_ai.input.messages"])] == ["system", "user"]
    assert json.loads(span.attributes["heedloop.input"]) == {"tenant": "acme"}
    assert span.output_text == "ok"


def test_a_result_that_is_no_text_is_output(recorded):
    @heedloop.trace(name="count")
    def count(text):
        return {"words": 2}

    count("a b")
    assert json.loads(recorded.span("count").attributes["heedloop.output"]) == {"words": 2}
    assert "gen_ai.output.messages" not in recorded.span("count").attributes


def test_static_words_of_the_decorator(recorded):
    @heedloop.trace(
        name="n", prompt_name="p", prompt_version="3", model="m", provider="openai", tags=["a", "b"]
    )
    def call(q):
        return "x"

    call("q")
    attributes = recorded.span("n").attributes
    assert attributes["gen_ai.prompt.name"] == "p"
    assert attributes["gen_ai.prompt.version"] == "3"
    assert attributes["gen_ai.request.model"] == "m"
    assert attributes["gen_ai.provider.name"] == "openai"
    assert attributes["heedloop.tags"] == ["a", "b"]


@pytest.mark.parametrize(
    ("capture", "has_input", "has_output"),
    [(True, True, True), (False, False, False), ("input", True, False), ("output", False, True)],
)
def test_capture_switches(recorded, capture, has_input, has_output):
    @heedloop.trace(name="c", capture=capture)
    def call(q, k):
        return "secret"

    call("secret", k="secret")
    attributes = recorded.span("c").attributes
    assert ("gen_ai.input.messages" in attributes) is has_input
    assert ("heedloop.input" in attributes) is has_input
    assert ("gen_ai.output.messages" in attributes) is has_output


def test_capture_off_for_the_whole_app_keeps_content_set_by_hand_out_too():
    with testing.recording(capture=False) as seen:

        @heedloop.trace(name="c")
        def call(q):
            heedloop.set(model="m", input="secret", output="secret")
            return "secret"

        call("secret")
    assert "secret" not in str(seen.transport.spans)
    assert seen.span("c").attributes["gen_ai.request.model"] == "m"


def test_exceptions_pass_untouched_and_are_recorded(recorded):
    mine = ValueError("bad luck")

    @heedloop.trace(name="fails")
    def fails(q):
        raise mine

    with pytest.raises(ValueError) as caught:
        fails("q")
    assert caught.value is mine
    span = recorded.span("fails")
    assert span.status == 2 and span.status_message == "ValueError: bad luck"
    assert span.attributes["error.type"] == "ValueError"
    assert span.events[0][0] == "exception" and "bad luck" in span.events[0][1]["exception.stacktrace"]
    assert not trace_api.get_current_span().get_span_context().is_valid


def test_an_exception_whose_str_raises(recorded):
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    @heedloop.trace(name="odd")
    def odd(q):
        raise Odd

    with pytest.raises(Odd):
        odd("q")
    assert "RuntimeError in its __str__" in recorded.span("odd").status_message


class Bot:
    @heedloop.trace
    def method(self, q):
        return q

    @heedloop.trace
    @classmethod
    def of_class(cls, q):
        return q

    @staticmethod
    @heedloop.trace
    def static(q):
        return q

    @heedloop.trace
    async def later(self, q):
        return q


def test_methods_of_every_kind(recorded):
    bot = Bot()
    assert bot.method("1") == "1" and Bot.of_class("2") == "2" and bot.static("3") == "3"
    assert asyncio.run(bot.later("4")) == "4"
    assert [s.input_text for s in recorded.spans] == ["1", "2", "3", "4"]
    assert all("heedloop.input" not in s.attributes for s in recorded.spans)
    assert recorded.spans[0].name == "Bot.method"


def test_partials_and_callables(recorded):
    heedloop.trace(functools.partial(lambda a, q: q, 1))("x")
    assert recorded.spans[0].input_text == "x"
    with pytest.raises(ValueError, match="decorates functions"):
        heedloop.trace(3)


def test_only_the_outermost_call_is_the_answer_and_knows_the_inner_model(recorded):
    @heedloop.trace(name="outer")
    def outer(q):
        return inner(q)

    @heedloop.trace(name="inner", prompt_name="p")
    def inner(q):
        heedloop.set(
            model="m-1", response_model="m-1-0901", provider="openai", usage={"input": 1, "output": 2}
        )
        return q

    outer("q")
    assert recorded.span("inner").attributes["heedloop.answer"] is False
    assert recorded.span("inner").parent_span_id == recorded.span("outer").span_id
    outer_attributes = recorded.span("outer").attributes
    assert outer_attributes["gen_ai.request.model"] == "m-1"
    assert outer_attributes["gen_ai.response.model"] == "m-1-0901"
    assert outer_attributes["gen_ai.prompt.name"] == "p"
    assert "gen_ai.usage.input_tokens" not in outer_attributes  # or the tokens would count twice


def test_set_writes_everything_it_takes(recorded):
    @heedloop.trace(name="c")
    def call(q):
        heedloop.set(
            model="m",
            usage=heedloop.Usage(input=10, output=2, cache_read_input=4),
            cost=0.25,
            user="u",
            session="s",
            tags=["t"],
            metadata={"plan": "pro"},
            prompt_variables={"k": "v"},
            parameters={"temperature": 0.5, "max_tokens": 10, "skip": object()},
            response_id="r-1",
            finish_reasons=["stop"],
            output="what was really said",
        )
        return "raw"

    call("q")
    a = recorded.span("c").attributes
    assert a["gen_ai.usage.input_tokens"] == 10 and a["gen_ai.usage.cache_read.input_tokens"] == 4
    assert a["heedloop.cost"] == 0.25 and a["user.id"] == "u" and a["gen_ai.conversation.id"] == "s"
    assert a["heedloop.metadata.plan"] == "pro" and a["gen_ai.prompt.variable.k"] == "v"
    assert a["gen_ai.request.temperature"] == 0.5 and "gen_ai.request.skip" not in a
    assert a["gen_ai.response.id"] == "r-1" and a["gen_ai.response.finish_reasons"] == ["stop"]
    assert recorded.span("c").output_text == "what was really said"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"usage": {"input": 1, "outputs": 1}}, "usage.outputs: is not one of input"),
        ({"usage": {"input": -1}}, "usage.input: must be a whole number"),
        ({"usage": 3}, "usage: has no token counts"),
        ({"cost": "a lot"}, "cost: must be US dollars"),
        ({"cost": float("nan")}, "cost: must be US dollars"),
        ({"tags": "a"}, "tags: must be a list"),
        ({"model": object()}, "model: must be text"),
        ({"metadata": 1}, "metadata: must be a mapping"),
    ],
)
def test_wrong_values_raise_with_a_sentence(values, message):
    with pytest.raises(ValueError, match=message):
        heedloop.set(**values)


def test_an_unknown_name_raises():
    with pytest.raises(TypeError, match=r"set\(\) has no argument modle; did you mean model\?"):
        heedloop.set(modle="m")


def test_steps_lie_between_and_set_goes_to_the_call(recorded):
    @heedloop.trace(name="call")
    def call(q):
        with heedloop.span("retrieve", k=5) as step:
            step.set_attribute("found", 3)
            heedloop.set(model="m")
            inner(q)
        return q

    @heedloop.trace(name="inner")
    def inner(q):
        return q

    call("q")
    step = recorded.span("retrieve")
    assert step.attributes["heedloop.step"] == "retrieve"
    assert step.attributes["heedloop.metadata.k"] == 5 and step.attributes["found"] == 3
    assert recorded.span("inner").parent_span_id == step.span_id
    assert recorded.span("call").attributes["gen_ai.request.model"] == "m"
    assert "gen_ai.request.model" not in step.attributes


def test_a_failing_step(recorded):
    with pytest.raises(KeyError), heedloop.span("s"):
        raise KeyError("x")
    assert recorded.span("s").status == 2


def test_context_reaches_every_call_inside_and_nothing_outside(recorded):
    with heedloop.context(user="u", session="s", tags=["x"], metadata={"a": "1"}):
        answer("in")
    answer("out")
    inside, outside = recorded.spans
    assert inside.attributes["user.id"] == "u" and inside.attributes["heedloop.tags"] == ["x"]
    assert (
        inside.attributes["gen_ai.conversation.id"] == "s" and inside.attributes["heedloop.metadata.a"] == "1"
    )
    assert "user.id" not in outside.attributes


def test_an_external_id_makes_the_trace_id(recorded):
    with heedloop.context(external_id="message-17"):
        answer("q")
    assert recorded.spans[0].trace_id == heedloop.target(external="message-17").trace_id


def test_handle_inside_after_and_where_there_is_none(recorded):
    inside = []

    @heedloop.trace(name="outer")
    def outer(q):
        inner(q)
        inside.append(heedloop.handle())
        return q

    @heedloop.trace(name="inner")
    def inner(q):
        inside.append(heedloop.handle())
        return q

    outer("q")
    expected = recorded.span("outer").handle
    assert inside == [expected, expected] and heedloop.handle() == ""
    assert contextvars.Context().run(heedloop.handle) == ""


async def test_handles_of_concurrent_tasks_do_not_mix(recorded):
    @heedloop.trace
    async def call(q):
        await asyncio.sleep(0)
        return q

    async def request(q):
        return await call.with_handle(q)

    pairs = await asyncio.gather(*[request(f"q{i}") for i in range(50)])
    by_handle = {s.handle: s.input_text for s in recorded.spans}
    assert {h: q for q, h in pairs} == by_handle and len(by_handle) == 50


def test_thread_pools_keep_calls_apart(recorded):
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: answer(f"q{i}"), range(200)))
    assert len(results) == 200
    assert {s.input_text for s in recorded.spans} == {f"q{i}" for i in range(200)}
    assert len({s.trace_id for s in recorded.spans}) == 200


def test_off_means_off():
    heedloop.shutdown()
    assert answer("q") == "answer to q"
    assert heedloop.handle() == ""
    with heedloop.span("s") as step:
        step.set_attribute("a", 1)
    heedloop.set(model="m")
    assert heedloop.flush().complete


def test_clock_and_ids_can_be_given():
    with testing.recording(clock=testing.SteppingClock(1000, 10), ids=testing.CountingIds()) as seen:
        answer("q")
    span = seen.span("answer")
    assert (span.start_ns, span.end_ns) == (1000, 1010)
    assert span.trace_id == f"{1:032x}" and span.span_id == f"{2:016x}"


def test_long_texts_are_cut_and_marked():
    with testing.recording(options=heedloop.Options(max_value_chars=100)) as seen:
        answer("x" * 1000)
    span = seen.span("answer")
    assert span.input_text == "x" * 50 + "… [truncated: 900 of 1,000 characters left out] …" + "x" * 50
    assert "gen_ai.input.messages" in span.attributes["heedloop.truncated"]


def test_a_cancelled_task_is_recorded_and_no_error(recorded):
    @heedloop.trace(name="slow")
    async def slow(q):
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(slow("q"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    span = recorded.span("slow")
    assert span.status == 0 and "error.type" not in span.attributes
    assert span.events == (
        ("stopped", {"stopped.by": "asyncio.exceptions.CancelledError", "stopped.message": ""}),
    )


def test_a_coroutine_thrown_away_ends_its_span_and_leaves_others_alone(recorded):
    class Forever:
        def __await__(self):
            yield

    @heedloop.trace(name="dropped")
    async def dropped(q):
        await Forever()

    def in_thread():
        coroutine = dropped("q")
        coroutine.send(None)
        holder.append(coroutine)

    holder = []
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    holder.pop().close()
    assert recorded.span("dropped").status == 0


def test_an_ended_call_is_freed_without_the_garbage_collector():
    """Its content may be megabytes; a reference cycle would keep it until the collector comes by."""

    def chat(question):
        yield question

    async def chat_later(question):
        return question

    def fails(_question):
        raise LookupError

    ended = []
    with testing.recording() as seen:
        seen.runtime.queue.push = lambda span, _num_chars: ended.append(weakref.ref(span))
        gc.disable()
        try:
            heedloop.trace(lambda q: heedloop.trace(ascii)(q))("q")
            heedloop.trace(ascii).with_handle("q")
            list(heedloop.trace(chat)("q"))
            asyncio.run(heedloop.trace(chat_later)("q"))
            with contextlib.suppress(LookupError):
                heedloop.trace(fails)("q")
            assert [span() for span in ended] == [None] * 6
        finally:
            gc.enable()
