"""The loop itself, one stage after the other: serve, judge, snapshot, train, serve again.

What is simulated: the users, their feedback and the days on which it all happens. What is real: the model, the SDK, the server, the
snapshots, the training and the statistics. The trainer reads what the server returns with a key that can only read and
train; it knows neither the world's facts nor the users' tastes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tqdm import tqdm

import heedloop
from heedloop import testing
from heedloop.client import Client
from heedloop.responses import EvaluationResult
from heedloop.schema import Arm, Snapshot
from heedloop_trainer.demo.app import SimulatedTime, SupportApp
from heedloop_trainer.demo.lineage import (
    follow_one_thumb,
    leaked,
    read_quality,
    response_kl,
)
from heedloop_trainer.demo.plan import MODEL_NAMES, Days, Plan
from heedloop_trainer.demo.pretrain import pretrain
from heedloop_trainer.demo.releases import Release, Releases
from heedloop_trainer.demo.report import DemoReport
from heedloop_trainer.demo.serving import ServedModel
from heedloop_trainer.demo.stopwatch import Stopwatch
from heedloop_trainer.demo.visits import Period, Traffic
from heedloop_trainer.demo.world import questions
from heedloop_trainer.jobs.job import Job
from heedloop_trainer.jobs.run_job import run_job
from heedloop_trainer.runs.folder import RunFolder

ENVIRONMENT = "demo (simulated)"
EARLY_TAG, FRESH_TAG = "users:early", "users:fresh"
FLUSH_TIMEOUT_S = 60.0

RULES = {"validation_fraction": 0.05, "test_fraction": 0.1}
"""What the snapshots' rules set; everything else is the server's default."""


@dataclass(frozen=True, slots=True)
class Keys:
    """One key per part, each with the scopes that it needs and no more."""

    app: str
    trainer: str
    dashboard: str
    releases: str

    @classmethod
    def make(cls, admin: Client) -> Keys:
        """Make them with the server's first key."""
        return cls(
            app=admin.create_key("demo app", ["ingest", "feedback"]).key,
            trainer=admin.create_key("demo trainer", ["read", "train"]).key,
            dashboard=admin.create_key("demo dashboard", ["read", "annotate"]).key,
            releases=admin.create_key("demo releases", ["read", "train", "ingest", "feedback"]).key,
        )


def run_loop(
    plan: Plan, *, seed: int, url: str, keys: Keys, folder: Path, stopwatch: Stopwatch
) -> DemoReport:
    """Go round the loop once; the models and run folders are left in `folder`.

    Raises:
        RuntimeError: what was sent does not arrive at the server, or is dropped.
        TimeoutError: the server does not store it within two minutes.
    """
    heedloop.configure(
        url,
        keys.app,
        service="fernleaf-support",
        environment=ENVIRONMENT,
        options=heedloop.Options(outbox=folder / "outbox"),
    )
    clock = SimulatedTime()
    testing.use_clock(clock)
    try:
        releasing = Client(url, keys.releases)
        return _Loop(plan, seed, Client(url, keys.trainer), releasing, folder, stopwatch, clock).run()
    finally:
        heedloop.shutdown()


@dataclass
class _Loop:
    """The state that the stages hand on."""

    plan: Plan
    seed: int
    client: Client
    releasing: Client
    folder: Path
    stopwatch: Stopwatch
    clock: SimulatedTime
    days: Days = field(default_factory=lambda: Days(datetime.now(timezone.utc)))
    fresh_questions: set[str] = field(default_factory=set)
    rows: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.traffic = Traffic(random.Random(self.seed), self.clock)
        self.early_questions = questions(random.Random(self.seed + 1), fresh=False)

    def run(self) -> DemoReport:
        """All stages."""
        plan, days = self.plan, self.days
        with self.stopwatch.lap("pre-training the base model"):
            base, pretraining = self._pretrain()
        with self.stopwatch.lap("serving the base model, feedback"):
            half = plan.base_visits // 2
            self._serve("base", base, "v1", days.base_v1, visits=half)
            self._serve(
                "base", base, "v2", days.base_v2, visits=half, pairs=plan.base_pairs, fresh=plan.fresh_visits
            )
        first = self._snapshot("after the base model")
        with self.stopwatch.lap("training: SFT"):
            sft = self._train("sft", first, plan.sft, start=base, model_name=MODEL_NAMES["sft"])
        with self.stopwatch.lap("serving the SFT model, feedback"):
            self._serve(
                "sft",
                sft,
                "v2",
                days.sft,
                visits=plan.sft_visits,
                pairs=plan.sft_pairs,
                fresh=plan.fresh_visits,
            )
        second = self._snapshot("after the SFT model")
        with self.stopwatch.lap("training: reward model"):
            reward = self._train("reward", second, plan.reward, start=sft, model_name="fernleaf-reward")
        with self.stopwatch.lap("training: PPO"):
            ppo = self._train(
                "ppo", second, plan.ppo, start=sft, reward=reward, model_name=MODEL_NAMES["ppo"]
            )
        with self.stopwatch.lap("serving the PPO model, feedback"):
            self._serve("ppo", ppo, "v2", days.ppo, fresh=plan.fresh_visits)
            self._deliver()
        with self.stopwatch.lap("releases to live users"):
            evaluation, releases = self._release(base, ppo, reward, first)
        with self.stopwatch.lap("KL and reading back"):
            kl = self._kl(second, {"base": base, "sft": sft, "ppo": ppo})
            return replace(
                self._report(pretraining, [first, second], kl), evaluation=evaluation, releases=releases
            )

    # ------------------------------------------------------------------------------------------------- stages

    def _pretrain(self) -> tuple[Path, Any]:
        run = RunFolder.create(
            self.folder / "runs" / "base",
            "pretrain",
            config=self.plan.size,
            model_name=MODEL_NAMES["base"],
            client=self.client,
        )
        checkpoint = self.folder / "runs" / "base" / "checkpoint"
        pretraining = pretrain(checkpoint, self.plan.size, seed=self.seed)
        for step, loss in enumerate(pretraining.losses):
            if step % 10 == 0 or step == len(pretraining.losses) - 1:
                run.log(step, loss=loss)
        run.finish(
            metrics={
                "loss": pretraining.losses[-1],
                "tokens": pretraining.num_tokens,
                "parameters": pretraining.num_parameters,
            }
        )
        return checkpoint, pretraining

    def _serve(
        self,
        stage: str,
        checkpoint: Path,
        version: str,
        period: Period,
        *,
        visits: int = 0,
        pairs: int = 0,
        fresh: int = 0,
    ) -> None:
        """Let a model serve for a while: early users whose feedback is trained on, then fresh ones who only judge."""
        model = ServedModel(MODEL_NAMES[stage], checkpoint, seed=self.seed)
        app = SupportApp([model], version)
        total = visits + 2 * pairs + fresh
        with tqdm(total=total, desc=f"{model.name} {version} answers", unit="answer", leave=False) as bar:
            self.traffic.visits(
                app, self.early_questions, visits, users="early", period=period, on_progress=bar.update
            )
            self.traffic.comparisons(app, self.early_questions, pairs, period=period, on_progress=bar.update)
            # The same held-out questions to every model, by other users each time.
            held_out = questions(random.Random(self.seed + 2), fresh=True)
            shown = self.traffic.visits(
                app, held_out, fresh, users="fresh", period=period, on_progress=bar.update
            )
        self.fresh_questions |= {one.visit.question.text for one in shown}

    def _deliver(self) -> None:
        """Wait until everything that was said is on the server, and stored; as long as it goes on, however slowly."""
        waiting = None
        while not (delivery := heedloop.flush(FLUSH_TIMEOUT_S)).complete:
            before, waiting = waiting, delivery.spans.waiting + delivery.feedback.waiting
            if before is not None and waiting >= before:
                raise RuntimeError(f"{waiting} records do not reach the server: {delivery.last_error}")
        if delivery.spans.dropped or delivery.feedback.dropped:
            raise RuntimeError(f"records were dropped on their way to the server: {delivery}")
        self.client.wait_until_stored()

    def _snapshot(self, name: str) -> Snapshot:
        with self.stopwatch.lap(f"snapshot {name}"):
            self._deliver()
            filters = {"tag": EARLY_TAG, "environment": ENVIRONMENT}
            snapshot = self.client.create_snapshot(name, filters=filters, rules=RULES)
        self.rows[name] = snapshot.num_rows
        counts = ", ".join(f"{sum(by.values()):,} {form}" for form, by in snapshot.num_rows.items())
        print(f"snapshot {snapshot.id[:12]} {name}: {counts}", flush=True)
        return snapshot

    def _train(
        self,
        method: str,
        snapshot: Snapshot,
        config: Any,
        *,
        start: Path,
        model_name: str,
        reward: Path | None = None,
    ) -> Path:
        """One training run on what the server returns; the folder of its model."""
        out = self.folder / "runs" / method
        job = Job(
            method=method,
            out=out,
            snapshot_id=snapshot.id,
            config=config,
            model=start,
            reward_models=() if reward is None else (reward,),
            save_every=0,
            model_name=model_name,
        )
        run_job(job, self.client, say=lambda text: print(text, flush=True))
        return out / "checkpoint"

    def _release(
        self, base: Path, ppo: Path, reward: Path, snapshot: Snapshot
    ) -> tuple[EvaluationResult, Sequence[Release]]:
        """A prompt that is worse; then one that is better, next to the trained model."""
        old, new = (
            ServedModel(MODEL_NAMES[stage], path, seed=self.seed)
            for stage, path in (("base", base), ("ppo", ppo))
        )
        run = next(r.id for r in self.client.runs() if r.method == "ppo")
        releases = Releases(
            self.plan, self.releasing, self.folder, self.traffic, self.early_questions, self._deliver
        )
        control = Arm("v2", {"model": old.name, "prompt": "v2"})
        v3, v4 = (Arm(version, {"model": old.name, "prompt": version}) for version in ("v3", "v4"))
        trained = Arm("trained", {"model": new.name, "prompt": "v2"}, run=run)
        evaluation = releases.evaluate(old, "v3", snapshot, reward)
        worse = releases.release("persuasive-prompt", [old], [control, v3])
        better = releases.release("better-answers", [old, new], [control, v4, trained])
        return evaluation, [worse, better]

    # -------------------------------------------------------------------------------------------- reading back

    def _kl(self, snapshot: Snapshot, models: dict[str, Path]) -> dict[str, float]:
        """KL of SFT to the base model and of PPO to the SFT model, on prompts that were held out of the training."""
        prompts = list(self.client.snapshot_rows(snapshot.id, "prompts", "test"))
        if not prompts:
            return {}
        pairs = {"sft": "base", "ppo": "sft"}
        return {
            stage: response_kl(models[stage], models[parent], prompts, seed=self.seed)
            for stage, parent in pairs.items()
        }

    def _report(self, pretraining: Any, snapshots: Sequence[Snapshot], kl: dict[str, float]) -> DemoReport:
        accuracy = next(
            (r.evaluation.get("accuracy", {}) for r in self.client.runs() if r.method == "reward"), {}
        )
        return DemoReport(
            seed=self.seed,
            stages=read_quality(self.client, tag=FRESH_TAG, kl=kl),
            thread=follow_one_thumb(self.client, snapshots[0].id),
            laps=self.stopwatch.laps,
            num_parameters=pretraining.num_parameters,
            num_pretraining_tokens=pretraining.num_tokens,
            feedback=dict(self.traffic.num_feedback),
            rows=self.rows,
            reward_accuracy=accuracy,
            num_leaked=leaked(self.client, [s.id for s in snapshots], self.fresh_questions),
        )
