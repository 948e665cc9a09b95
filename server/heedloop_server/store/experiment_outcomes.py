"""What became of the calls of an experiment's units, summed by unit and then by arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heedloop import attributes as names
from heedloop.responses.experiments import Experiment
from heedloop.schema import ExperimentMetric
from heedloop_server.experiments.hash_line import step_ends
from heedloop_server.statistics.randomised import UnitSums
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.filters import BY_PEOPLE_FIRST, PRODUCTION, SHARE, THUMBS

_METADATA = names.EXPERIMENT_ARM_PREFIX.removeprefix(names.METADATA_PREFIX)

# calls that were recorded only because they failed or were rated would tilt every rate of calls
_RECORDED = f"attributes['{names.SAMPLING_KEPT}'] = ''"
_OF_CALLS = {
    "error": ("1.", "toFloat64(status = 'error')"),
    "latency": ("1.", "toFloat64(duration_ns)"),
    "cost": ("toFloat64(isNotNull(cost))", "ifNull(cost, 0.)"),
}
"""Of one call: how many outcomes it is, and their sum."""
_RATED = {
    "thumb": ("toFloat64(argMax(ifNull(score, 0) > 0.5, (version, feedback_id)))", THUMBS),
    "rating": (
        f"avg({SHARE})",
        f"kind = 'rating' AND name = {{rating:String}} AND score IS NOT NULL AND {BY_PEOPLE_FIRST}",
    ),
    "judge": (f"avg({SHARE})", "author_kind = 'model' AND author_id = {judge:String} AND score IS NOT NULL"),
}
"""Of one answer: its rating from its feedback, and which feedback counts."""
_ASSIGNED = f"""project_id = {{project:String}}
              AND start_time >= {{since:DateTime64(6,'UTC')}}
              AND is_answer
              AND {PRODUCTION}
              AND metadata[{{arm_key:String}}] != ''
              AND endsWith(attributes[{{unit_key:String}}], {{round:String}})"""
_ASSIGNMENT = """substring(attributes[{unit_key:String}], 1, 16) AS unit,
                metadata[{arm_key:String}] AS arm,
                start_time AS at"""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Sums by step and arm, and how many units were seen in more than one arm; those count for the first."""

    sums: list[UnitSums]
    num_mixed: int


@dataclass(frozen=True, slots=True)
class UnitAnswer:
    """A judged answer (`key` is its trace's and its span's id) with its unit and that unit's arm."""

    key: str
    unit: str
    arm: str


def read_outcomes(project: ProjectStore, experiment: Experiment, metric: ExperimentMetric) -> Outcomes:
    """The outcomes of one metric but `judge`, of all units that were assigned in this round."""
    source = _calls(metric.kind) if metric.kind in _OF_CALLS else _ratings(metric.kind, "toFloat64(1) AS n")
    rows = project.rows(
        f"""
        SELECT
            step,
            arm,
            count() AS units,
            countIf(is_mixed) AS num_mixed,
            sum(unit_n) AS n,
            sum(unit_y) AS y,
            sum(unit_n * unit_n) AS nn,
            sum(unit_n * unit_y) AS ny,
            sum(unit_y * unit_y) AS yy
        FROM (
            SELECT
                unit,
                arrayCount(
                    e -> e <= reinterpretAsUInt32(reverse(unhex(substring(unit, 1, 8)))),
                    {{ends:Array(UInt64)}}
                ) AS step,
                argMin(calls.arm, calls.at) AS arm,
                uniqExact(calls.arm) > 1 AS is_mixed,
                sum(calls.n) AS unit_n,
                sum(calls.y) AS unit_y
            FROM ({source}) AS calls
            GROUP BY unit
            HAVING unit_n > 0
        )
        GROUP BY
            step,
            arm
        ORDER BY
            step,
            arm
        """,  # noqa: S608
        _parameters(experiment) | {"rating": metric.name},
    )
    return Outcomes(_sums(experiment, rows), sum(int(r["num_mixed"]) for r in rows))


def judged_units(project: ProjectStore, experiment: Experiment, judge_id: str) -> list[UnitAnswer]:
    """The answers of the experiment's units that a judge judged, oldest first."""
    columns = "lower(concat(hex(trace_id), hex(span_id))) AS key"
    rows = project.rows(
        _ratings("judge", columns) + " ORDER BY at, key", _parameters(experiment) | {"judge": judge_id}
    )
    return [UnitAnswer(r["key"], r["unit"], r["arm"]) for r in rows]


def _calls(kind: str) -> str:
    n, y = _OF_CALLS[kind]
    return f"""
            SELECT
                {_ASSIGNMENT},
                {n} AS n,
                {y} AS y
            FROM spans FINAL
            WHERE {_ASSIGNED}
              AND {_RECORDED}"""  # noqa: S608


def _ratings(kind: str, columns: str) -> str:
    rating, which = _RATED[kind]
    return f"""
            SELECT
                {_ASSIGNMENT},
                {columns},
                rated.y AS y
            FROM spans FINAL
            INNER JOIN (
                SELECT
                    trace_id,
                    span_id,
                    assumeNotNull({rating}) AS y
                FROM feedback FINAL
                WHERE project_id = {{project:String}}
                  AND call_time >= {{since:DateTime64(6,'UTC')}}
                  AND {which}
                GROUP BY
                    trace_id,
                    span_id
            ) AS rated USING (trace_id, span_id)
            WHERE {_ASSIGNED}"""  # noqa: S608


def _parameters(experiment: Experiment) -> dict[str, Any]:
    return {
        "since": experiment.started_at or experiment.created_at,
        "arm_key": _METADATA + experiment.name,
        "unit_key": names.EXPERIMENT_UNIT_PREFIX + experiment.name,
        "round": f" {experiment.round}",
        "ends": step_ends(experiment.steps),
    }


def _sums(experiment: Experiment, rows: Sequence[Mapping[str, Any]]) -> list[UnitSums]:
    """The sums of arms and steps that the experiment has; a call of any other was not assigned by its plan."""
    arms = {arm.name: place for place, arm in enumerate(experiment.spec.arms)}
    fields = ("n", "y", "nn", "ny", "yy")
    return [
        UnitSums(
            step := int(r["step"]),
            arm := arms[r["arm"]],
            experiment.steps[step].probabilities[arm],
            int(r["units"]),
            *(float(r[f]) for f in fields),
        )
        for r in rows
        if r["arm"] in arms and int(r["step"]) < len(experiment.steps)
    ]
