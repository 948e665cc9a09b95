"""The support app of the demo, written as an app developer would write it: heedloop is the decorator and `heedloop.set`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import heedloop
from heedloop.schema import Message
from heedloop_trainer.demo.serving import ServedModel
from heedloop_trainer.demo.world import PROMPT_NAME, PROMPTS, Question

Users = Literal["early", "fresh", "live"]
"""Whose visit it is: users whose feedback is trained on, fresh ones who only judge, or those of the releases."""


class SupportApp:
    """Answers customers' questions with one model and one version of the prompt, unless an experiment gives others.

    Args:
        models: by name; the first serves where no experiment says otherwise.
        experiment: gives a user the parameters `model` and `prompt`.
    """

    def __init__(
        self, models: Sequence[ServedModel], prompt_version: str, *, experiment: str | None = None
    ) -> None:
        self.models = {m.name: m for m in models}
        self.experiment = experiment
        self._default = {"model": models[0].name, "prompt": prompt_version}

    @heedloop.trace(name="support answer", prompt_name=PROMPT_NAME, provider="heedloop demo")
    async def answer(self, question: str, user_id: str) -> str:
        """One answer to one question."""
        chosen = self._default
        if self.experiment:
            chosen = heedloop.assign(self.experiment, unit=user_id, default=chosen).parameters
        model, version = self.models[chosen["model"]], chosen["prompt"]
        messages = (Message("system", PROMPTS[version]), Message("user", question))
        completion = await model.complete(messages)
        heedloop.set(
            model=model.name,
            prompt_version=version,
            input=[{"role": m.role, "content": m.text} for m in messages],
            usage={"input": completion.input_tokens, "output": completion.output_tokens},
            finish_reasons=[completion.finish_reason],
            parameters={"temperature": 1.0, "max_tokens": model.max_tokens},
        )
        return completion.text


class SimulatedTime:
    """The clock of simulated visits: inside a visit it shows the visit's time, elsewhere the real one.

    A visit takes as long as it really took, so that durations on the pages are true although the days are simulated.
    """

    def __init__(self) -> None:
        self._offset_ns: ContextVar[int] = ContextVar("simulated_time_offset_ns", default=0)

    def __call__(self) -> int:
        return time.time_ns() + self._offset_ns.get()

    def start_at(self, when: datetime) -> None:
        """Let it be `when` now, for the rest of this task."""
        self._offset_ns.set(int(when.timestamp() * 1e9) - time.time_ns())


@dataclass(frozen=True, slots=True)
class Visit:
    """One question that somebody asks at some (simulated) time."""

    question: Question
    user_id: str
    users: Users
    when: datetime


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer as its user saw it; `handle` is what feedback names."""

    visit: Visit
    text: str
    handle: str

    def later(self, seconds: float) -> datetime:
        """A time after the answer, when its user might react."""
        return self.visit.when + timedelta(seconds=seconds)


async def answer_visits(app: SupportApp, visits: Sequence[Visit], clock: SimulatedTime) -> list[Shown]:
    """Let the app answer visits that come at the same time; the answers in the visits' order."""

    async def one(visit: Visit) -> Shown:
        clock.start_at(visit.when)
        topic = visit.question.fact.topic  # the help page on which the question was asked
        with heedloop.context(
            user_id=visit.user_id,
            session_id=f"{visit.user_id}-{visit.when:%m%d%H%M%S}",
            tags=(f"topic:{topic}", f"users:{visit.users}"),
            metadata={"topic": topic},
        ):
            text, handle = await heedloop.with_handle(app.answer, visit.question.text, visit.user_id)
            return Shown(visit, text, handle)

    return list(await asyncio.gather(*(one(visit) for visit in visits)))
