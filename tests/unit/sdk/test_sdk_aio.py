"""The awaited feedback calls do what the plain ones do, for the call that is going on in the coroutine."""

import asyncio

import pytest

import heedloop
from heedloop import aio, testing
from heedloop.schema import SchemaError

NAMES = sorted(set(aio.__all__) - {"flush"})


@heedloop.trace
async def answer(question: str) -> str:
    await aio.thumbs_up(author="u1")
    return question


async def test_the_call_that_is_going_on_is_the_one_judged() -> None:
    with testing.recording() as seen:
        await asyncio.gather(answer("a"), answer("b"))
        judged = {f.target.trace_id for f in seen.feedback}
        assert len(judged) == 2
        assert {f.author.id for f in seen.feedback} == {"u1"}


async def test_wrong_arguments_raise_where_they_are_awaited() -> None:
    with testing.recording(), pytest.raises(SchemaError, match="traceparent"):
        await aio.thumbs_down("nonsense")


def test_every_feedback_call_can_be_awaited() -> None:
    assert all(asyncio.iscoroutinefunction(getattr(aio, name)) and hasattr(heedloop, name) for name in NAMES)
