"""Releases: a candidate prompt is tried offline, goes live at 5% and is taken back; a better prompt and the trained model follow.

Production serves the base model with the second version of the prompt. What is simulated are the users, as everywhere; what is real:
the evaluation, the assignment, the always-valid intervals, and the server, which ramps, takes back and promotes by its own rules.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import heedloop
from heedloop.client import Client
from heedloop.responses import Evaluation, EvaluationResult, ExperimentResults
from heedloop.schema import (
    Arm,
    Case,
    ExperimentMetric,
    ExperimentSpec,
    Guardrail,
    JudgeSpec,
    Message,
    Snapshot,
    utc_now,
)
from heedloop_cli.evaluate.judging import judged_items
from heedloop_cli.evaluate.sources import snapshot_source
from heedloop_cli.evaluate.worker import Evaluator, finished
from heedloop_cli.judges.backends import backend_of, weights_hash
from heedloop_cli.judges.journal import Budget, Journal
from heedloop_cli.judges.paid_calls import PaidCalls, Prices
from heedloop_cli.judges.parsers import Reply
from heedloop_cli.judges.worker import Worker
from heedloop_trainer.demo.app import SupportApp
from heedloop_trainer.demo.plan import Plan
from heedloop_trainer.demo.serving import ServedModel
from heedloop_trainer.demo.visits import Traffic
from heedloop_trainer.demo.world import PROMPTS, Question

RAMP = (0.05, 1.0)
RAMP_HOURS = 1 / 3600
"""A second: between two steps lies one look of the server, which is days in production."""
GUARDRAIL = Guardrail(ExperimentMetric("error"), 0.01)
LOOK_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Release:
    """One experiment from 5% of the users to its end."""

    results: ExperimentResults
    num_visits: int


@dataclass
class Releases:
    """The releases of one demo; `deliver` waits until what was recorded is stored."""

    plan: Plan
    client: Client
    folder: Path
    traffic: Traffic
    questions: Iterator[Question]
    deliver: Callable[[], None]

    def evaluate(
        self, model: ServedModel, version: str, snapshot: Snapshot, reward: Path
    ) -> EvaluationResult:
        """Answer held-out questions of the snapshot with a version of the prompt; compared with production's answers.

        Args:
            reward: the reward model's checkpoint, which rates both answers.
        """
        source = snapshot_source(self.client, snapshot.id)
        cases = source.cases[: self.plan.evaluated]
        weights = {"sha256": weights_hash(reward)}
        judge = JudgeSpec("preference", "pointwise", backend="reward", model="reward", parameters=weights)
        self.client.create_judge(judge)
        one = self.client.save_evaluation(
            Evaluation(
                name=f"prompt-{version}",
                target=f"{model.name} with prompt {version}",
                source=source.name,
                status="running",
                created_at=utc_now(),
                judges=(judge.id,),
                num_cases=len(cases),
            )
        )
        with self._journal(f"evaluation:{one.name}") as calls:
            rows = Evaluator(self.client, one, _Candidate(model, version), calls).run(cases)
        self.client.save_evaluation(finished(one, rows, 0.0, utc_now()))
        self.client.wait_until_stored()
        backend = backend_of(judge, url=None, key_env="", folder=reward, timeout_s=60)
        with self._journal(judge.id) as calls:
            items = judged_items(self.client, judge, rows, {c.id: c for c in cases})
            Worker(self.client, judge, backend, calls).run(items)
        return self.client.evaluation(one.name)

    @contextmanager
    def _journal(self, name: str) -> Generator[PaidCalls]:
        journal = Journal(self.folder / "evaluation.sqlite", name, Budget())
        try:
            yield PaidCalls(journal, Prices(), concurrency=self.plan.live_visits, attempts=1)
        finally:
            journal.close()

    def release(self, name: str, models: Sequence[ServedModel], arms: Sequence[Arm]) -> Release:
        """Define and start an experiment, and let users come until the server has decided it, or no more come."""
        spec = ExperimentSpec(
            name,
            tuple(arms),
            guardrails=(GUARDRAIL,),
            effect=0.2,
            ramp=RAMP,
            ramp_hours=RAMP_HOURS,
            promote="rule",
            min_units=30,
        )
        self.client.define_experiment(spec)
        self.client.change_experiment(name, "start")
        app, num_visits = SupportApp(models, "v2", experiment=name), 0
        for _ in range(self.plan.waves):
            heedloop.fetch_settings()
            now = datetime.now(timezone.utc)
            count = self.plan.live_visits
            self.traffic.visits(app, self.questions, count, users="live", period=(now, now))
            num_visits += count
            self.deliver()
            if self._looked_at(name).experiment.state != "running":
                break
        return Release(self.client.experiment_results(name), num_visits)

    def _looked_at(self, name: str) -> ExperimentResults:
        """The results after the server has looked once more, by itself, at all that is stored now."""
        since, until = utc_now(), time.monotonic() + LOOK_TIMEOUT_S
        while True:
            found = self.client.experiment_results(name)
            looked = found.looks and found.looks[-1].at > since
            if looked or found.experiment.state != "running":
                return self.client.experiment_results(name)
            if time.monotonic() > until:
                raise TimeoutError(
                    f"the server did not look at the experiment {name} for {LOOK_TIMEOUT_S:g} s"
                )
            time.sleep(0.2)


class _Candidate:
    """A model under a version of the prompt, as `heedloop evaluate` asks it: from several threads, answered together."""

    def __init__(self, model: ServedModel, version: str) -> None:
        self.model = model.name
        self._model, self._version = model, version
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def ask(self, case: Case, prompt: Sequence[Message]) -> Reply:  # noqa: ARG002  the evaluator gives both
        """The answer under the candidate prompt in place of production's."""
        messages = (Message("system", PROMPTS[self._version]), *(m for m in prompt if not m.is_instruction))
        found = asyncio.run_coroutine_threadsafe(self._model.complete(messages), self._loop).result()
        return Reply(found.text, input_tokens=found.input_tokens, output_tokens=found.output_tokens)
