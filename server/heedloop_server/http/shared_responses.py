"""Equal questions share one execution, and its response is shown again for a few seconds; for as long again while the next is made,
so that of many viewers who ask again and again none waits.

A question is a path with its query, asked for one project with the same scopes: nothing is shared between projects or rights. A key that
changed something is never shown, nor waits for, a response that was begun before its change. Executions are limited in number, so that
many questions leave the processors to ingestion and feedback.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

from fastapi import Request, Response

from heedloop_server.http.auth import caller_with
from heedloop_server.http.responses import RouteOfRecord, Router

MAX_KEPT = 256
MAX_BYTES = 1 << 20
"""Longer responses are shared, but not kept."""
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Question = tuple[str, frozenset[str], str, tuple[tuple[str, str], ...]]


@dataclass(slots=True)
class _Execution:
    """One execution of a question.

    Attributes:
        begun, ended: seconds of the monotonic clock; `ended` is infinite while it runs.
        following: the execution that takes this one's place once it has ended.
    """

    task: asyncio.Task[Response]
    begun: float
    ended: float = math.inf
    following: _Execution | None = None


class SharedResponses:
    """The questions of one server; used on its event loop alone.

    Args:
        keep_s: for how long a response is shown again after it was made; for twice as long while the next is made.
        most: executions at once.
    """

    def __init__(self, *, keep_s: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_s = keep_s
        self._slots = asyncio.Semaphore(most)
        self._clock = clock
        self._known: OrderedDict[Question, _Execution] = OrderedDict()
        self._changes: OrderedDict[str, float] = OrderedDict()

    def note_change(self, key_id: str) -> None:
        """The key changed something now."""
        self._changes[key_id] = self._clock()
        self._changes.move_to_end(key_id)
        if len(self._changes) > 100 * MAX_KEPT:
            self._changes.popitem(last=False)

    def forget(self, project: str) -> None:
        """Execute every question of a project anew; may be called from any thread."""
        for question in [q for q in self._known.copy() if q[0] == project]:
            self._known.pop(question, None)

    async def respond(
        self, question: Question, key_id: str, execute: Callable[[], Coroutine[Any, Any, Response]]
    ) -> Response:
        """The response to a question, by an execution of its own where there is none to share."""
        changed = self._changes.get(key_id, -math.inf)
        known = self._known.get(question)
        if known is not None and known.following is not None and known.begun <= changed:
            known = known.following
        if known is None or known.begun <= changed or self._age(known) >= 2 * self._keep_s:
            known = self._known[question] = self._begin(question, execute)
            self._forget_oldest(question)
        elif self._age(known) >= self._keep_s and known.following is None:
            known.following = self._begin(question, execute, replaced=known)
        made = await asyncio.shield(known.task)
        # headers belong to a request: each gets a response of its own
        place = {n: made.headers[n] for n in ("location",) if n in made.headers}
        return Response(made.body, made.status_code, media_type=made.media_type, headers=place)

    def _age(self, known: _Execution) -> float:
        return self._clock() - known.ended

    def _begin(
        self,
        question: Question,
        execute: Callable[[], Coroutine[Any, Any, Response]],
        *,
        replaced: _Execution | None = None,
    ) -> _Execution:
        """Begin an execution; it takes the place of `replaced` when it ends well, and goes away when it does not."""

        async def run() -> Response:
            async with self._slots:
                known.begun = self._clock()
                return await execute()

        def end(task: asyncio.Task[Response]) -> None:
            known.ended = self._clock()
            is_kept = not task.cancelled() and task.exception() is None
            is_kept = is_kept and task.result().status_code == 200 and len(task.result().body) <= MAX_BYTES
            if replaced is not None:
                replaced.following = None
            # what was forgotten meanwhile is not put back
            if is_kept and replaced is not None and self._known.get(question) is replaced:
                self._known[question] = known
            if not is_kept and self._known.get(question) is known:
                self._known.pop(question, None)

        known = _Execution(asyncio.create_task(run()), self._clock())
        known.task.add_done_callback(end)
        return known

    def _forget_oldest(self, newest: Question) -> None:
        self._known.move_to_end(newest)
        if len(self._known) > MAX_KEPT:
            self._known.popitem(last=False)


class _SharedRoute(RouteOfRecord):
    """A route whose equal questions share one execution; it needs the scope `read`."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def handle_shared(request: Request) -> Response:
            shared = cast(SharedResponses, request.app.state.shared)
            who = await caller_with(request, "read")
            asked = tuple(sorted(request.query_params.multi_items()))
            question = (who.project, who.scopes, request.url.path, asked)
            return await shared.respond(question, who.key_id, lambda: handle(request))

        return handle_shared


class SharedRouter(Router):
    """A router of heavy questions, each of which needs the scope `read`."""

    def __init__(self) -> None:
        super().__init__(route_class=_SharedRoute)
