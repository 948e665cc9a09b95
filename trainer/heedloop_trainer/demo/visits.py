"""Simulated traffic: who comes when, what they ask, and what they say about the answers, all through the SDK."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

import heedloop
from heedloop.schema import Author, Feedback, Ranking, Target
from heedloop_trainer.demo.app import Shown, SimulatedTime, SupportApp, Users, Visit, answer_visits
from heedloop_trainer.demo.users import Reaction, SimulatedUser
from heedloop_trainer.demo.world import Question

WAVE = 256
"""Visits that are answered together."""

Period = tuple[datetime, datetime]
"""Simulated times between which visits happen."""


class Traffic:
    """Visitors of the support app. Every user is new; their ids begin with `sim-`.

    Attributes:
        num_feedback: feedback given so far, by kind.
    """

    def __init__(self, rng: random.Random, clock: SimulatedTime) -> None:
        self._rng = rng
        self._clock = clock
        self._num_users = 0
        self.num_feedback: Counter[str] = Counter()

    def visits(
        self,
        app: SupportApp,
        questions: Iterator[Question],
        count: int,
        *,
        users: Users,
        period: Period,
        on_progress: Callable[[int], object] = lambda _: None,
    ) -> list[Shown]:
        """`count` users ask a question each and say about the answer what they like to say."""
        visitors = [self._new_user(users) for _ in range(count)]
        times = self._times(count, period)
        planned = [
            Visit(next(questions), visitor.id, users, when)
            for visitor, when in zip(visitors, times, strict=True)
        ]
        shown = self._answers(app, planned, on_progress)
        for visitor, one in zip(visitors, shown, strict=True):
            question = one.visit.question
            self._tell(one, visitor, visitor.react(question, one.text, self._rng))
        return shown

    def comparisons(
        self,
        app: SupportApp,
        questions: Iterator[Question],
        count: int,
        *,
        period: Period,
        on_progress: Callable[[int], object],
    ) -> None:
        """`count` early users are shown two answers to their question, side by side, and say which is better."""
        visitors = [self._new_user("early") for _ in range(count)]
        times = self._times(count, period)
        planned = [
            Visit(next(questions), visitor.id, "early", when)
            for visitor, when in zip(visitors, times, strict=True)
        ]
        both = [visit for visit in planned for _ in range(2)]
        shown = self._answers(app, both, on_progress)
        for i, visitor in enumerate(visitors):
            self._choose(visitor, shown[2 * i : 2 * i + 2])

    # ------------------------------------------------------------------------------------------------- feedback

    def _tell(self, shown: Shown, user: SimulatedUser, reaction: Reaction) -> None:
        """Say through the SDK what the user did, some seconds after the answer."""
        if reaction.thumb is None:
            return
        at_once = shown.visit.users == "live"  # their visit is now, and nobody judges in the future
        when = shown.later(0 if at_once else self._rng.uniform(3, 90))
        thumb = heedloop.thumbs_up if reaction.thumb else heedloop.thumbs_down
        thumb(shown.handle, author=user.id, at=when, comment=reaction.comment)
        self.num_feedback["thumbs up" if reaction.thumb else "thumbs down"] += 1
        if reaction.flag is not None:
            about = _part(shown, reaction.wrong_part)
            heedloop.flag(about, reaction.flag, author=user.id, at=when)
            self.num_feedback["flags"] += 1
        if reaction.correction is not None:
            heedloop.correct(shown.handle, reaction.correction, author=user.id, at=when)
            self.num_feedback["corrections"] += 1

    def _choose(self, user: SimulatedUser, pair: Sequence[Shown]) -> None:
        """Compare two answers; the side on which each was shown is drawn at random and recorded."""
        first, second = pair
        better = user.prefer(first.visit.question, [first.text, second.text], self._rng)
        answers = (Target.from_handle(first.handle), Target.from_handle(second.handle))
        ranking = Ranking(
            answers=answers,
            ranks=(1, 1) if better is None else (1, 2) if better == 0 else (2, 1),
            shown_order=self._rng.choice([(0, 1), (1, 0)]),
        )
        heedloop.record(
            Feedback(
                kind="comparison",
                target=answers[0],
                ranking=ranking,
                author=Author("end_user", user.id),
                created_at=first.later(self._rng.uniform(5, 120)),
                solicited=True,
            )
        )
        self.num_feedback["comparisons"] += 1

    # ----------------------------------------------------------------------------------------------- visitors

    def _new_user(self, users: Users) -> SimulatedUser:
        self._num_users += 1
        return SimulatedUser.named(users, self._num_users, self._rng)

    def _times(self, count: int, period: Period) -> list[datetime]:
        since, until = period
        span = (until - since).total_seconds()
        return sorted(since + timedelta(seconds=self._rng.uniform(0, span)) for _ in range(count))

    def _answers(
        self, app: SupportApp, visits: Sequence[Visit], on_progress: Callable[[int], object]
    ) -> list[Shown]:
        shown: list[Shown] = []
        for start in range(0, len(visits), WAVE):
            wave = asyncio.run(answer_visits(app, visits[start : start + WAVE], self._clock))
            shown += wave
            on_progress(len(wave))
        return shown


def _part(shown: Shown, words: str | None) -> str | Target:
    """The handle, or the characters of the answer that hold these words."""
    start = -1 if words is None else shown.text.lower().find(words.lower())
    if words is None or start < 0:
        return shown.handle
    return heedloop.target(shown.handle, start=start, end=start + len(words), answer=shown.text)
