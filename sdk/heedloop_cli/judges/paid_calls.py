"""Calls that cost something: written down before and after, tried again, within a budget, so many at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

from heedloop_cli.judges.backends import BackendError
from heedloop_cli.judges.journal import Journal
from heedloop_cli.judges.parsers import Reply

T = TypeVar("T")
_LONGEST_WAIT_S = 60.0
_TEMPLATE_TOKENS = 32
_UNPAID = ("unreachable", "function", "too long")
"""Kinds of errors, next to refusals, after which nothing was paid for."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What a million tokens cost, in any currency; `max_output` tokens are reckoned with before a call."""

    input: float = 0.0
    output: float = 0.0
    max_output: int = 1024

    def of(self, reply: Reply) -> float:
        """What a reply cost."""
        return (reply.input_tokens * self.input + reply.output_tokens * self.output) / 1e6

    def most(self, prompt: str) -> float:
        """The most that a call can cost: a token is a byte at least, and a chat template adds a few."""
        return ((len(prompt.encode()) + _TEMPLATE_TOKENS) * self.input + self.max_output * self.output) / 1e6


@dataclass(slots=True)
class PaidCalls:
    """Asks for what was not answered yet.

    Attributes:
        attempts: calls per question before it counts as failed; it is tried again in the next run.
        wait_s: seconds before the second attempt; doubled for each further one, unless the endpoint says how long.
    """

    journal: Journal
    prices: Prices = field(default_factory=Prices)
    concurrency: int = 4
    attempts: int = 4
    wait_s: float = 1.0
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(
        self,
        items: Iterable[T],
        work: Callable[[T], None],
        after: Callable[[], None],
        at_end: Callable[[], None],
    ) -> None:
        """`work` on every item, `after` whenever some are done, and `at_end` whatever happens.

        At most twice as many items wait as are asked about: a long list is never read far ahead of the budget.
        """
        self._ended.clear()
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(self.concurrency) as pool:
            try:
                for item in items:
                    running.add(pool.submit(work, item))
                    if len(running) >= 2 * self.concurrency:
                        running = _collect(running, after)
                while running:
                    running = _collect(running, after)
            finally:
                self._ended.set()
                pool.shutdown(cancel_futures=True)
                at_end()

    def reply(self, key: str, part: str, prompt: str, ask: Callable[[], Reply]) -> Reply:
        """The reply to a part of an item; one that was paid for is not asked for again. Raises `BackendError`, `OverBudget`."""
        known = self.journal.reply(key, part)
        if known is not None:
            return known
        for attempt in range(1, self.attempts + 1):
            try:
                return self._ask(key, part, prompt, ask)
            except BackendError as err:
                if not err.passing or attempt == self.attempts:
                    raise
                pause = (
                    err.retry_after_s if err.retry_after_s is not None else self.wait_s * 2 ** (attempt - 1)
                )
                if self._ended.wait(min(pause, _LONGEST_WAIT_S)):
                    raise
        raise AssertionError("unreachable")

    def _ask(self, key: str, part: str, prompt: str, ask: Callable[[], Reply]) -> Reply:
        """One call, written down before and after it. What failed is taken to have cost its prompt where the answer was lost."""
        most = self.prices.most(prompt)
        number, start = self.journal.begin(key, part, most), time.monotonic()
        try:
            reply = ask()
        except (
            BaseException
        ) as err:  # whatever it is, the call is over: others may wait for what it leaves of the budget
            kind = err.kind if isinstance(err, BackendError) else err.__class__.__name__
            cost = 0.0 if kind in _UNPAID or kind.startswith("http ") else most
            self.journal.end(number, None, cost, _ms_since(start), kind)
            raise
        self.journal.end(number, reply, self.prices.of(reply), _ms_since(start))
        return reply


def _collect(running: set[Future[None]], after: Callable[[], None]) -> set[Future[None]]:
    done, running = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    after()
    return running


def _ms_since(start: float) -> float:
    return (time.monotonic() - start) * 1000
