"""What is returned now and there later is recorded later: awaitables, streams of every form, web responses."""

import asyncio
import functools
import gc
import http.server
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.responses import StreamingResponse

import heedloop
from heedloop import testing

USAGE = {"prompt_tokens": 21, "completion_tokens": 4, "total_tokens": 25}
CHOICE = {
    "index": 0,
    "finish_reason": "stop",
    "message": {"role": "assistant", "content": "Thirty days."},
}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "model-0901",
    "choices": [CHOICE],
    "usage": USAGE,
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "model-0901",
    "content": [{"type": "text", "text": "Thirty days."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 21, "output_tokens": 4},
}
ASKED = [{"role": "user", "content": "How long?"}]


def chunks():
    for text in ("Thirty ", "days."):
        yield {
            **CHAT,
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
            "usage": None,
        }
    yield {**CHAT, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None}
    yield {**CHAT, "choices": [], "usage": USAGE}


def events():
    begun = {**MESSAGE, "content": [], "stop_reason": None, "usage": {"input_tokens": 21, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for text in ("Thirty ", "days."):
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    yield {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 4}}
    yield {"type": "message_stop"}


class Provider(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        of_anthropic = self.path.endswith("/messages")
        kind = "text/event-stream" if request.get("stream") else "application/json"
        if not request.get("stream"):
            body = json.dumps(MESSAGE if of_anthropic else CHAT)
        elif of_anthropic:
            body = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events())
        else:
            parts = [json.dumps({**c, "object": "chat.completion.chunk"}) for c in chunks()]
            body = "".join(f"data: {part}\n\n" for part in [*parts, "[DONE]"])
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def clients():
    openai = pytest.importorskip("openai")
    anthropic = pytest.importorskip("anthropic")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"

    class Clients:
        openai_sync = openai.OpenAI(base_url=f"{url}/v1", api_key="k")
        openai_async = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k")
        anthropic_sync = anthropic.Anthropic(base_url=url, api_key="k")
        anthropic_async = anthropic.AsyncAnthropic(base_url=url, api_key="k")

    yield Clients
    server.shutdown()
    server.server_close()


@pytest.fixture
def recorded():
    with testing.recording() as seen:
        yield seen


CHAT_ARGUMENTS = {"model": "m", "messages": ASKED}
STREAM_ARGUMENTS = {**CHAT_ARGUMENTS, "stream": True, "stream_options": {"include_usage": True}}
MESSAGE_ARGUMENTS = {**CHAT_ARGUMENTS, "max_tokens": 9}


def at_once(_result):
    pass


def exhaust(result):
    list(result)


def parse_and_exhaust(result):
    list(result.parse())


def enter_and_exhaust(manager):
    with manager as stream:
        list(stream)


def enter_and_read_texts(manager):
    with manager as stream:
        assert "".join(stream.text_stream) == "Thirty days."


def enter_and_parse(manager):
    with manager as response:
        response.parse()


def wait(result):
    async def run():
        return await result

    return asyncio.run(run())


def wait_and_exhaust(result):
    async def run():
        return [piece async for piece in await result]

    asyncio.run(run())


def enter_later(manager):
    async def run():
        async with manager as stream:
            return [event async for event in stream]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("ask", "use"),
    [
        (lambda c: c.openai_sync.chat.completions.create(**STREAM_ARGUMENTS), exhaust),
        (lambda c: c.openai_sync.chat.completions.with_raw_response.create(**CHAT_ARGUMENTS), at_once),
        (
            lambda c: c.openai_sync.chat.completions.with_raw_response.create(**STREAM_ARGUMENTS),
            parse_and_exhaust,
        ),
        (
            lambda c: c.openai_sync.chat.completions.with_streaming_response.create(**CHAT_ARGUMENTS),
            enter_and_parse,
        ),
        (
            lambda c: c.openai_sync.chat.completions.stream(
                **CHAT_ARGUMENTS, stream_options={"include_usage": True}
            ),
            enter_and_exhaust,
        ),
        (lambda c: c.anthropic_sync.messages.with_raw_response.create(**MESSAGE_ARGUMENTS), at_once),
        (lambda c: c.anthropic_sync.messages.stream(**MESSAGE_ARGUMENTS), enter_and_exhaust),
        (lambda c: c.anthropic_sync.messages.stream(**MESSAGE_ARGUMENTS), enter_and_read_texts),
        (lambda c: c.openai_async.chat.completions.create(**CHAT_ARGUMENTS), wait),
        (lambda c: c.openai_async.chat.completions.create(**STREAM_ARGUMENTS), wait_and_exhaust),
        (lambda c: c.openai_async.chat.completions.with_raw_response.create(**CHAT_ARGUMENTS), wait),
        (lambda c: c.anthropic_async.messages.stream(**MESSAGE_ARGUMENTS), enter_later),
    ],
)
def test_what_the_clients_give_is_recorded_when_it_is_there(clients, recorded, ask, use):
    use(heedloop.trace(lambda: ask(clients))())
    (span,) = recorded.answers
    assert span.output_text == "Thirty days."
    assert span.attributes["gen_ai.response.model"] == "model-0901"
    assert span.attributes["gen_ai.usage.input_tokens"] == 21
    assert span.attributes["gen_ai.usage.output_tokens"] == 4


def texts_of_openai(clients):
    for chunk in clients.openai_sync.chat.completions.create(**STREAM_ARGUMENTS):
        if chunk.choices:
            yield chunk.choices[0].delta.content or ""


def texts_of_anthropic(clients):
    with clients.anthropic_sync.messages.stream(**MESSAGE_ARGUMENTS) as stream:
        yield from stream.text_stream


async def texts_of_openai_later(clients):
    async for chunk in await clients.openai_async.chat.completions.create(**STREAM_ARGUMENTS):
        if chunk.choices:
            yield chunk.choices[0].delta.content or ""


@pytest.mark.parametrize("texts", [texts_of_openai, texts_of_anthropic, texts_of_openai_later])
def test_a_generator_of_texts_has_model_and_usage_of_its_chunks(clients, recorded, texts):
    pieces = heedloop.trace(capture="output")(texts)(clients)
    if hasattr(pieces, "__anext__"):

        async def run():
            return [piece async for piece in pieces]

        asyncio.run(run())
    else:
        list(pieces)
    (span,) = recorded.answers
    assert span.output_text == "Thirty days."
    assert span.attributes["gen_ai.response.model"] == "model-0901"
    assert span.attributes["gen_ai.usage.output_tokens"] == 4


class Client:
    """One question to a model's client, in each way that a client can stream; gives the handle of the answer."""

    def __init__(self, clients):
        self.clients = clients

    @staticmethod
    def arguments(q, **more):
        return {"model": "m", "messages": [{"role": "user", "content": q}], **more}

    def chat(self, q, **more):
        return self.clients.openai_sync.chat.completions.create(**self.arguments(q, **more))

    async def whole(self, q):
        return (await asyncio.to_thread(heedloop.trace(self.chat).with_handle, q)).handle

    async def stream(self, q):
        chunks, handle = heedloop.trace(lambda q: self.chat(q, stream=True)).with_handle(q)
        await asyncio.to_thread(list, chunks)
        return handle

    async def async_stream(self, q):
        create = self.clients.openai_async.chat.completions.create
        ask = heedloop.trace(lambda q: create(**self.arguments(q, stream=True)))
        chunks, handle = await ask.with_handle(q)
        async for _ in chunks:
            await asyncio.sleep(0)
        return handle

    async def manager(self, q):
        ask = heedloop.trace(lambda q: self.clients.openai_sync.chat.completions.stream(**self.arguments(q)))
        opened, handle = ask.with_handle(q)
        await asyncio.to_thread(enter_and_exhaust, opened)
        return handle

    async def anthropic_manager(self, q):
        arguments = self.arguments(q, max_tokens=9)
        ask = heedloop.trace(lambda q: self.clients.anthropic_sync.messages.stream(**arguments))
        opened, handle = ask.with_handle(q)
        await asyncio.to_thread(enter_and_read_texts, opened)
        return handle

    async def anthropic_async_manager(self, q):
        arguments = self.arguments(q, max_tokens=9)
        ask = heedloop.trace(lambda q: self.clients.anthropic_async.messages.stream(**arguments))
        with heedloop.collect_handles() as made:
            async with ask(q) as opened:
                async for _ in opened:
                    await asyncio.sleep(0)
        return made.handle

    async def texts_in_a_web_response(self, q):
        @heedloop.trace
        async def route(q):
            create = self.clients.openai_async.chat.completions.create

            async def body():
                async for chunk in await create(**self.arguments(q, stream=True)):
                    yield chunk.choices[0].delta.content or "" if chunk.choices else ""

            return StreamingResponse(body(), headers={"x-handle": heedloop.handle()})

        response = await route(q)
        async for _ in response.body_iterator:
            await asyncio.sleep(0)
        return response.headers["x-handle"]


def test_answers_of_clients_mixed_at_random_each_with_its_own_thumb(clients, recorded):
    ways = [name for name, way in vars(Client).items() if asyncio.iscoroutinefunction(way)]
    chosen = random.Random(7)
    questions = [f"q{i}" for i in range(70)]

    async def main():
        asking, handles = Client(clients), []
        for start in range(0, len(questions), 20):
            batch = questions[start : start + 20]
            handles += await asyncio.gather(*[getattr(asking, chosen.choice(ways))(q) for q in batch])
        return handles

    handles = asyncio.run(main())
    answers = {s.handle: s for s in recorded.answers}
    assert [answers[h].input_text for h in handles] == questions
    assert {answers[h].output_text for h in handles} == {"Thirty days."}


# ------------------------------------------------------------------------------------- awaitables of the app


async def implementation(q):
    await asyncio.sleep(0)
    heedloop.set(model="m-1")
    return f"A:{q}"


class Callable:
    async def __call__(self, q):
        return await implementation(q)


class Once:
    """An awaitable object that may be awaited again, as a cache of coroutines hands out."""

    def __init__(self, coroutine):
        self.coroutine, self.result = coroutine, None

    def __await__(self):
        if self.result is None:
            self.result = yield from self.coroutine.__await__()
        return self.result


def sync_wrapper(fn):
    @functools.wraps(fn)
    def call(*args):
        return fn(*args)

    return call


class Wrapped:
    """A callable object that is no coroutine function, as `sync_to_async` makes."""

    def __call__(self, q):
        return asyncio.get_running_loop().create_task(implementation(q))


@pytest.mark.parametrize(
    "function",
    [
        lambda q: implementation(q),
        Callable(),
        sync_wrapper(implementation),
        functools.partial(implementation),
        Wrapped(),
        lambda q: asyncio.gather(implementation(q)),
        lambda q: Once(implementation(q)),
        lambda q: asyncio.wait_for(implementation(q), 5),
    ],
)
def test_an_awaitable_is_recorded_when_it_was_awaited(recorded, function):
    ask = heedloop.trace(name="ask")(function)

    async def main():
        result, handle = await ask.with_handle("q")
        return result, handle

    result, handle = asyncio.run(main())
    (span,) = recorded.answers
    assert result in ("A:q", ["A:q"]) and span.handle == handle
    assert "A:q" in (span.output_text or span.attributes["heedloop.output"])
    assert span.attributes["gen_ai.request.model"] == "m-1"


def test_an_awaitable_that_fails_or_is_cancelled_ends_its_call(recorded):
    async def broken(q):
        raise LookupError(q)

    async def forever(_q):
        await asyncio.Event().wait()

    async def main():
        with pytest.raises(LookupError):
            await heedloop.trace(name="broken")(lambda q: broken(q))("q")
        task = heedloop.trace(name="task")(lambda q: asyncio.ensure_future(forever(q)))("q")
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(heedloop.trace(name="slow")(lambda q: forever(q))("q"), 0.001)

    asyncio.run(main())
    assert recorded.span("broken").attributes["error.type"] == "LookupError"
    assert [recorded.span(n).status for n in ("task", "slow")] == [0, 0]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("function", [implementation, lambda q: Once(implementation(q))])
def test_an_awaitable_that_is_never_awaited_is_an_empty_answer(recorded, function):
    ask = heedloop.trace(lambda q: function(q))
    handle = ask.with_handle("q").handle
    gc.collect()
    (span,) = recorded.answers
    assert (span.handle, span.input_text, span.output_text) == (handle, "q", "")


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.openai_sync.chat.completions.with_streaming_response.create(**CHAT_ARGUMENTS),
        lambda c: c.openai_sync.chat.completions.with_raw_response.create(**STREAM_ARGUMENTS),
        lambda c: c.anthropic_sync.messages.stream(**MESSAGE_ARGUMENTS),
    ],
)
def test_a_clients_result_that_is_never_looked_at_is_an_empty_answer(clients, recorded, ask):
    heedloop.trace(lambda: ask(clients))()
    gc.collect()
    assert [s.output_text for s in recorded.answers] == [""]


def test_a_stream_outlives_the_raw_response_that_it_was_parsed_from(clients, recorded):
    ask = heedloop.trace(clients.openai_sync.chat.completions.with_raw_response.create)
    pieces = ask(**STREAM_ARGUMENTS).parse()
    gc.collect()
    assert recorded.answers == [] and list(pieces)
    assert recorded.answers[0].output_text == "Thirty days."


def test_an_awaitable_object_may_be_awaited_again(recorded):
    ask = heedloop.trace(lambda q: Once(implementation(q)))

    async def main():
        held = ask("q")
        assert isinstance(held, Once)
        return await held, await held

    assert asyncio.run(main()) == ("A:q", "A:q")
    assert len(recorded.answers) == 1


def test_a_future_of_a_pool_is_recorded_when_it_is_done(recorded):
    with ThreadPoolExecutor(1) as pool:

        @heedloop.trace
        def ask(q):
            return pool.submit(lambda: f"A:{q}")

        assert ask("q").result() == "A:q"
    assert recorded.answers[0].output_text == "A:q"


def test_with_handle_of_something_that_is_there_is_not_awaited(recorded):
    answer = heedloop.trace(lambda q: q)

    async def main():
        await answer.with_handle("q")

    with pytest.raises(TypeError, match="write it without await"):
        asyncio.run(main())


# ------------------------------------------------------------------------------------- bodies of web responses


async def body_later():
    for piece in ("Thirty ", "days."):
        await asyncio.sleep(0)
        yield piece


@pytest.mark.parametrize("body", [body_later, lambda: iter(["Thirty ", "days."])])
def test_a_streaming_responses_body_is_recorded_as_it_is_sent(recorded, body):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app = FastAPI()

    @app.get("/chat")
    @heedloop.trace
    async def chat(q: str):
        return StreamingResponse(body(), headers={"x-handle": heedloop.handle()})

    response = TestClient(app).get("/chat?q=how")
    assert response.text == "Thirty days."
    (span,) = recorded.answers
    assert (span.input_text, span.output_text) == ("how", "Thirty days.")
    assert response.headers["x-handle"] == span.handle


def test_an_http_4xx_of_the_app_is_no_error_and_the_clients_own_is(recorded):
    from fastapi import HTTPException

    class TooMany(HTTPException):
        pass

    class ProviderError(Exception):
        status_code = 429

    for error in (HTTPException(404), TooMany(429), HTTPException(503), ProviderError()):

        @heedloop.trace
        def ask(q, error=error):
            raise error

        with pytest.raises(type(error)):
            ask("q")
    assert [s.status for s in recorded.answers] == [0, 0, 2, 2]
