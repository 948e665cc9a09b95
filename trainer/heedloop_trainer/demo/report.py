"""What the demo found, and how it is printed. Every rate was read back from the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heedloop.responses import ArmResult, EvaluationResult, Interval
from heedloop.schema import to_json
from heedloop_cli.evaluate.report import result_text
from heedloop_trainer.demo.releases import Release
from heedloop_trainer.demo.stopwatch import Lap


@dataclass(frozen=True, slots=True)
class StageQuality:
    """How fresh users judged one model, as `GET /v1/quality/by` says.

    Attributes:
        rate: thumbs-up rate of the rated answers with its 95% interval, or None where nobody rated.
        coverage: share of answers that were rated, with its interval.
        kl: nats per answer between this model and the one it was trained from, on held-out prompts; None for the base.
    """

    stage: str
    model: str
    num_answers: int
    num_rated: int
    num_up: int
    rate: Interval | None
    coverage: Interval | None
    kl: float | None = None


@dataclass(frozen=True, slots=True)
class Thread:
    """The ids along which one thumb can be followed."""

    feedback_id: str
    trace_id: str
    snapshots: Sequence[str]
    runs: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Everything the demo prints, and what `--report` writes as JSON.

    Attributes:
        feedback: how much of what simulated users said, by kind.
        rows: snapshot name -> form -> split -> count.
        reward_accuracy: held-out pairwise accuracy by model, with its interval.
        num_leaked: fresh users' questions that the training snapshots hold; anything but 0 is a bug.
    """

    seed: int
    stages: Sequence[StageQuality]
    thread: Thread | None
    laps: Sequence[Lap]
    num_parameters: int
    num_pretraining_tokens: int
    feedback: Mapping[str, int]
    rows: Mapping[str, Mapping[str, Mapping[str, int]]]
    reward_accuracy: Mapping[str, Any] = field(default_factory=dict)
    num_leaked: int = 0
    evaluation: EvaluationResult | None = None
    releases: Sequence[Release] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return to_json(self)


def overlaps(a: Interval | None, b: Interval | None) -> bool:
    """True where two intervals share a point, or one of them is not known."""
    if a is None or b is None:
        return True
    return a.low <= b.high and b.low <= a.high


def render(report: DemoReport) -> str:
    """The report as text for a terminal."""
    return "\n".join(
        [
            "",
            "Thumbs-up rate of fresh simulated users on held-out questions (95% Wilson intervals, from GET /v1/quality/by)",
            "",
            *_rate_table(report.stages),
            "",
            _verdict(report.stages),
            "",
            *_release_lines(report),
            *_reward_lines(report),
            *_thread_lines(report.thread),
            *_time_table(report.laps),
        ]
    )


def _rate_table(stages: Sequence[StageQuality]) -> list[str]:
    lines = [
        f"  {'model':<16}{'thumbs up':>26}{'rated':>8}{'of answers':>12}{'coverage':>20}{'KL to its parent':>20}"
    ]
    for s in stages:
        kl = "" if s.kl is None else f"{s.kl:.2f} nats/answer"
        lines.append(
            f"  {s.model:<16}{_interval(s.rate):>26}{s.num_rated:>8}{s.num_answers:>12}{_interval(s.coverage, 0):>20}{kl:>20}"
        )
    return lines


def _interval(found: Interval | None, digits: int = 1) -> str:
    return "no ratings" if found is None else _percent(found.estimate, found.low, found.high, digits=digits)


def _percent(estimate: float, low: float, high: float, *, digits: int = 1) -> str:
    return f"{100 * estimate:.{digits}f}% [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


def _verdict(stages: Sequence[StageQuality]) -> str:
    first, last = stages[0], stages[-1]
    if first.rate is None or last.rate is None:
        return "  Too few ratings to say anything."
    change = 100 * (last.rate.estimate - first.rate.estimate)
    if overlaps(first.rate, last.rate):
        return f"  {last.model} against {first.model}: {change:+.1f} points, but the intervals overlap: not decided."
    return f"  {last.model} against {first.model}: {change:+.1f} points; the intervals do not overlap."


def _release_lines(report: DemoReport) -> list[str]:
    if report.evaluation is None:
        return []
    lines = ["A candidate prompt before its release, next to production's answers", ""]
    lines += [f"  {line}" for line in result_text(report.evaluation).splitlines()[:8]]
    lines += [
        "",
        "Releases from 5% of live users, decided by the server (intervals hold however often it looks)",
        "",
    ]
    for release in report.releases:
        experiment, (metric, *_) = release.results.experiment, release.results.metrics
        lines.append(
            f"  {experiment.name}: {experiment.state} after {release.num_visits:,} visits, {experiment.serving} serves"
        )
        lines += [f"    {_arm(arm)}" for arm in metric.arms]
        lines += [f"    {release.results.sentence}", ""]
    return lines


def _arm(arm: ArmResult) -> str:
    mean = "no ratings" if arm.mean is None else f"{100 * arm.mean:.1f}% thumbs up"
    difference = "" if arm.difference is None else f", {_interval(arm.difference)} points to the control"
    return f"{arm.arm:<10}{mean} of {arm.num_units} users{difference}"


def _reward_lines(report: DemoReport) -> list[str]:
    if not report.reward_accuracy:
        return []
    lines = ["Reward model on held-out judgements (pairwise accuracy, intervals clustered by judge)", ""]
    for name, found in report.reward_accuracy.items():
        estimate = found["estimate"]
        interval = (
            _percent(estimate, found["low"], found["high"]) if "low" in found else f"{100 * estimate:.1f}%"
        )
        lines.append(f"  {name:<24}{interval:>26}")
    return [*lines, ""]


def _thread_lines(thread: Thread | None) -> list[str]:
    if thread is None:
        return []
    lines = [
        "Follow one thumb (these ids are on the pages too)",
        "",
        f"  feedback  {thread.feedback_id}",
        f"  trace     {thread.trace_id}",
        *[f"  snapshot  {s}" for s in thread.snapshots],
        *[f"  run       {run_id}  {method:<7} {model}" for run_id, method, model in thread.runs],
    ]
    return [*lines, ""]


def _time_table(laps: Sequence[Lap]) -> list[str]:
    wall, cpu = sum(lap.wall_s for lap in laps), sum(lap.cpu_s for lap in laps)
    lines = ["Where the time went", "", f"  {'':<34}{'wall':>9}{'processor':>12}"]
    lines += [f"  {lap.name:<34}{lap.wall_s:>7.1f} s{lap.cpu_s:>10.1f} s" for lap in laps]
    return [*lines, f"  {'together':<34}{wall:>7.1f} s{cpu:>10.1f} s"]
