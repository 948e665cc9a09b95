"""A result together with the handle of the answer that it belongs to."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Handled(NamedTuple, Generic[T]):
    """`text, handle = answer.with_handle(question)`. Awaiting it awaits the result, where that is awaitable."""

    result: T
    handle: str

    def __await__(self) -> Generator[Any, Any, Handled[Any]]:
        return _awaited(self).__await__()


async def _awaited(handled: Handled[Any]) -> Handled[Any]:
    if not inspect.isawaitable(handled.result):
        raise TypeError("with_handle: the function gave its result at once; write it without await")
    return Handled(await handled.result, handled.handle)
