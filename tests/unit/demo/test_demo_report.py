"""What the demo prints says what was found, and no more."""

import itertools
import time

from heedloop.responses import Interval
from heedloop.schema import to_json
from heedloop_trainer.demo.report import DemoReport, StageQuality, Thread, overlaps, render
from heedloop_trainer.demo.stopwatch import Lap, Stopwatch


def interval(estimate: float, low: float, high: float) -> Interval:
    return Interval(estimate, low, high, 400, "wilson")


def stage(name: str, rate: Interval | None, kl: float | None = None) -> StageQuality:
    return StageQuality(name, f"fernleaf-{name}", 1000, 400, 200, rate, interval(0.4, 0.37, 0.43), kl)


def report(*stages: StageQuality) -> DemoReport:
    return DemoReport(
        seed=1,
        stages=stages,
        thread=Thread("feedback-1", "trace-1", ["snapshot-1"], [("run-1", "sft", "fernleaf-sft")]),
        laps=[Lap("training", 10.0, 12.5)],
        num_parameters=1,
        num_pretraining_tokens=1,
        feedback={},
        rows={},
        reward_accuracy={"chance": {"estimate": 0.5}, "reward model": to_json(interval(0.8, 0.7, 0.9))},
    )


def test_intervals_overlap_where_they_share_a_point_or_one_is_unknown() -> None:
    assert overlaps(interval(0.5, 0.4, 0.6), interval(0.6, 0.6, 0.7))
    assert not overlaps(interval(0.5, 0.4, 0.6), interval(0.7, 0.61, 0.8))
    assert overlaps(None, interval(0.7, 0.61, 0.8))


def test_the_report_shows_rates_ids_and_a_verdict_only_where_it_is_decided() -> None:
    base, better = stage("base", interval(0.4, 0.35, 0.45)), stage("ppo", interval(0.8, 0.76, 0.84), kl=1.25)
    text = render(report(base, better))
    for expected in (
        "40.0% [35.0, 45.0]",
        "1.25 nats/answer",
        "feedback-1",
        "run-1",
        "do not overlap",
        "12.5 s",
    ):
        assert expected in text
    close = render(report(base, stage("ppo", interval(0.5, 0.44, 0.56))))
    assert "not decided" in close
    assert "do not overlap" not in close
    assert "no ratings" in render(report(base, stage("ppo", None)))


def test_the_stopwatch_counts_children_too() -> None:
    children = itertools.count(0, 5)
    watch = Stopwatch(lambda: float(next(children)))
    with watch.lap("busy"):
        until = time.perf_counter() + 0.02
        while time.perf_counter() < until:
            pass
    (lap,) = watch.laps
    assert lap.name == "busy"
    assert lap.wall_s >= 0.02
    assert lap.cpu_s >= 5
