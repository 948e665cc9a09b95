"""Streams: generator semantics stay whole, nothing is attached across a yield, the span ends with the stream."""

import asyncio
import gc
import inspect
import io
import json

import pytest
from fastapi.responses import StreamingResponse
from opentelemetry import trace as trace_api

import heedloop
from heedloop import testing


@pytest.fixture
def recorded():
    with testing.recording() as seen:
        yield seen


@heedloop.trace(name="words")
def words(q, fail=False):
    yield from q.split()
    if fail:
        raise ValueError("broken off")
    return "the end"


@heedloop.trace(name="words")
async def words_async(q, fail=False):
    for word in q.split():
        await asyncio.sleep(0)
        yield word
    if fail:
        raise ValueError("broken off")


def inside():
    return trace_api.get_current_span().get_span_context().is_valid


def test_the_decorated_functions_are_what_they_were():
    assert inspect.isgeneratorfunction(words) and inspect.isasyncgenfunction(words_async)


def test_pieces_become_one_answer(recorded):
    assert list(words("a b c")) == ["a", "b", "c"]
    span = recorded.span("words")
    assert span.output_text == "abc" and span.input_text == "a b c"
    assert span.attributes["gen_ai.request.stream"] is True
    assert span.attributes["gen_ai.response.time_to_first_chunk"] >= 0


def test_no_context_is_attached_across_a_yield(recorded):
    seen_inside = []

    @heedloop.trace(name="g")
    def generator(q):
        with heedloop.span("step"):
            seen_inside.append(inside())
            yield 1
            seen_inside.append(inside())
        yield 2

    for _ in generator("q"):
        assert not inside()
    assert seen_inside == [True, True]
    assert recorded.span("step").parent_span_id == recorded.span("g").span_id


async def test_no_context_is_attached_across_an_async_yield(recorded):
    @heedloop.trace(name="g")
    async def generator(q):
        with heedloop.span("step"):
            yield 1
        yield 2

    async for _ in generator("q"):
        assert not inside()
    assert recorded.span("step").parent_span_id == recorded.span("g").span_id


def test_two_generators_in_turn_do_not_nest(recorded):
    first, second = words("a b"), words("c d")
    assert [next(first), next(second), next(first), next(second)] == ["a", "c", "b", "d"]
    assert [list(first), list(second)] == [[], []]
    assert {s.parent_span_id for s in recorded.spans} == {None}
    assert [s.output_text for s in recorded.spans] == ["ab", "cd"]


def test_send_throw_close_and_return_value(recorded):
    @heedloop.trace(name="g")
    def generator(q):
        got = []
        try:
            while len(got) < 2:
                try:
                    got.append((yield len(got)))
                except KeyError as error:
                    got.append(str(error))
            return got
        finally:
            closed.append(True)

    closed = []

    def outer():
        result.append((yield from generator("q")))

    result = []
    driver = outer()
    assert next(driver) == 0
    assert driver.send("sent") == 1
    with pytest.raises(StopIteration):
        driver.throw(KeyError("thrown"))
    assert result == [["sent", "'thrown'"]] and closed == [True]
    assert recorded.span("g").status == 0


def test_an_early_break_closes_the_producer_and_keeps_what_came(recorded):
    closed = []

    @heedloop.trace(name="g")
    def generator(q):
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(inside())

    stream = generator("q")
    next(stream)
    stream.close()
    assert closed == [True]
    span = recorded.span("g")
    assert span.output_text == "a" and span.status == 0


async def test_an_early_break_of_an_async_generator(recorded):
    stream = words_async("a b c")
    async for _ in stream:
        break
    await stream.aclose()
    assert recorded.span("words").output_text == "a"
    assert not inside()


async def test_async_generators_abandoned_in_another_task_end_their_span(recorded):
    async def consume():
        stream = words_async("a b")
        await stream.__anext__()
        return stream

    stream = await asyncio.create_task(consume())
    assert [piece async for piece in stream] == ["b"]
    assert recorded.span("words").output_text == "ab"


async def test_asend_and_athrow(recorded):
    @heedloop.trace(name="g")
    async def generator(q):
        try:
            got = yield 1
            yield got
        except KeyError:
            yield "caught"

    stream = generator("q")
    assert await stream.__anext__() == 1
    assert await stream.asend("x") == "x"
    assert await stream.athrow(KeyError("k")) == "caught"
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()


def test_a_failing_stream_keeps_its_pieces_and_its_error(recorded):
    with pytest.raises(ValueError, match="broken off"):
        list(words("a b", fail=True))
    span = recorded.span("words")
    assert span.output_text == "ab" and span.status == 2


async def test_a_failing_async_stream(recorded):
    with pytest.raises(ValueError, match="broken off"):
        async for _ in words_async("a", fail=True):
            pass
    assert recorded.span("words").status == 2


def test_a_function_that_returns_a_generator(recorded):
    @heedloop.trace(name="f")
    def function(q):
        return (word for word in q.split())

    stream = function("a b")
    assert not inside()
    assert list(stream) == ["a", "b"]
    assert recorded.span("f").output_text == "ab"


class ClientStream:
    """The shape of an LLM client's stream."""

    def __init__(self, pieces):
        self._pieces = iter(pieces)
        self.response = "the response"
        self.closed = False

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._pieces)

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def test_a_clients_stream_keeps_its_type_and_attributes(recorded):
    original = ClientStream(["a", "b"])

    @heedloop.trace(name="f")
    def function(q):
        return original

    stream = function("q")
    assert isinstance(stream, ClientStream) and stream.response == "the response"
    with stream as entered:
        assert list(entered) == ["a", "b"]
    assert original.closed
    assert recorded.span("f").output_text == "ab"


def test_a_stream_nobody_reads_still_ends_its_span(recorded):
    @heedloop.trace(name="f")
    def function(q):
        return ClientStream(["a"])

    function("q")
    assert recorded.span("f").status == 0


def test_files_are_no_streams(recorded):
    @heedloop.trace(name="f")
    def function(q):
        return io.StringIO("x")

    assert type(function("q")) is io.StringIO
    assert recorded.span("f")


def test_pieces_that_are_no_text_are_kept_as_they_came(recorded):
    @heedloop.trace(name="g")
    def generator(q):
        yield {"delta": "a"}
        yield {"delta": "b"}

    list(generator("q"))
    assert json.loads(recorded.span("g").attributes["heedloop.output"]) == [{"delta": "a"}, {"delta": "b"}]


def test_bytes_of_a_web_stream_are_text_and_objects_are_not(recorded):
    @heedloop.trace(name="bytes")
    def stream_bytes(q):
        yield b"caf"
        yield "\u00e9".encode()

    @heedloop.trace(name="objects")
    def stream_objects(q):
        yield object()

    list(stream_bytes("q"))
    list(stream_objects("q"))
    assert recorded.span("bytes").output_text == "café"
    assert "heedloop.output" in recorded.span("objects").attributes


def test_an_endless_stream_is_cut_and_marked():
    with testing.recording(options=heedloop.Options(max_value_chars=10)) as seen:

        @heedloop.trace(name="g")
        def generator(q):
            for _ in range(100_000):
                yield "abc"

        assert sum(1 for _ in generator("q")) == 100_000
    span = seen.span("g")
    assert span.attributes["heedloop.truncated"] == ["gen_ai.output.messages"]
    assert len(span.output_text) < 100


def test_off_leaves_streams_alone():
    heedloop.shutdown()
    assert list(words("a b")) == ["a", "b"]

    async def main():
        return [w async for w in words_async("a b")]

    assert asyncio.run(main()) == ["a", "b"]


def test_a_stream_whose_handle_is_out_is_recorded_though_nobody_reads_it():
    """The client went away between the header and the first piece."""

    @heedloop.trace
    def pieces(q):
        yield q

    @heedloop.trace
    async def pieces_later(q):
        yield q

    async def take_handle():
        return pieces_later.with_handle("q").handle

    def returned(q):
        return (piece for piece in q)

    def web_response(q):
        return StreamingResponse(iter(q))

    with testing.recording() as seen:
        handles = [pieces.with_handle("q").handle, asyncio.run(take_handle())]
        handles += [heedloop.trace(f).with_handle("q").handle for f in (returned, web_response)]
        gc.collect()
        assert [s.handle for s in seen.answers] == handles
        assert [(s.status, s.output_text) for s in seen.answers] == [(0, "")] * 4


def test_a_stream_that_is_dropped_in_the_middle_keeps_what_was_read():
    """As a web server drops the generator of a client that went away."""

    @heedloop.trace
    def pieces(q):
        yield q
        yield "more"

    @heedloop.trace
    async def pieces_later(q):
        yield q
        yield "more"

    async def read_one():
        stream, _handle = pieces_later.with_handle("later")
        await anext(stream)

    with testing.recording() as seen:
        stream, _handle = pieces.with_handle("now")
        next(stream)
        del stream
        asyncio.run(read_one())
        gc.collect()
    assert [s.output_text for s in seen.answers] == ["now", "later"]


@pytest.mark.parametrize("step_ns", [-(10**9), 0])
def test_a_clock_that_is_set_back_makes_no_negative_time(step_ns):
    @heedloop.trace(name="pieces")
    def pieces(q):
        yield q

    with testing.recording(clock=testing.SteppingClock(step_ns=step_ns)) as seen:
        list(pieces("q"))
        heedloop.trace(ascii)("q")
    assert [s.end_ns - s.start_ns for s in seen.spans] == [0, 0]
    assert seen.span("pieces").attributes["gen_ai.response.time_to_first_chunk"] == 0
