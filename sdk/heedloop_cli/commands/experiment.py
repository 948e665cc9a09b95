"""`heedloop experiment define | list | show | start | pause | ramp | promote | roll-back`: arms assigned to users, and what came of it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from heedloop.responses import ArmResult, Experiment, ExperimentResults, MetricResult
from heedloop.schema import ExperimentMetric, ExperimentSpec, from_json, to_json
from heedloop_cli.commands.connection import add_connection, client_of, with_plain_errors
from heedloop_cli.commands.json_text import json_object, json_value, number

HELP = "experiments: give variants of a prompt or model to users, and see which is better"
CHANGES = {
    "start": "assign units from now on; go on after a pause",
    "pause": "everybody gets the control until it is started again",
    "ramp": "take the next step of the ramp, or go up to --share",
    "promote": "serve one arm to everybody: the decision",
    "roll-back": "serve the control to everybody: the decision",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands' arguments."""
    commands = parser.add_subparsers(
        dest="what", required=True, metavar="define | list | show | " + " | ".join(CHANGES)
    )
    _add_define(commands.add_parser("define", help="store a draft; a decided experiment gets its next round"))
    add_connection(commands.add_parser("list", help="all experiments"))
    show = commands.add_parser("show", help="what was found so far")
    show.add_argument("name")
    show.add_argument("--round", type=int, help="an earlier round")
    show.add_argument("--json", action="store_true", help="everything as JSON")
    add_connection(show)
    for change, text in CHANGES.items():
        one = commands.add_parser(change, help=text)
        one.add_argument("name")
        if change == "ramp":
            one.add_argument("--share", type=float, help="of all units, above that of now and up to 1")
        if change == "promote":
            one.add_argument("arm")
        one.add_argument("--reason", default="", help="one sentence for the audit log")
        add_connection(one)


def _add_define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="needed without --file")
    parser.add_argument("--file", type=Path, help="the whole experiment as JSON; other options change it")
    parser.add_argument(
        "--arm", action="append", default=[], metavar="NAME[=JSON]", help="the first is the control"
    )
    parser.add_argument(
        "--run", action="append", default=[], metavar="ARM=RUN", help="the run that an arm serves"
    )
    parser.add_argument(
        "--prompt", action="append", default=[], metavar="ARM=NAME@VERSION",
        help="the registered prompt that an arm serves; a label instead of a version means its version at the start",
    )  # fmt: skip
    parser.add_argument("--weight", action="append", default=[], metavar="ARM=NUMBER")
    parser.add_argument(
        "--metric", metavar="KIND[:NAME]", help="thumb, rating:NAME, judge:ID, error, latency or cost"
    )
    parser.add_argument(
        "--guardrail", action="append", default=[], metavar="KIND[:NAME]:MARGIN", help="such as error:0.01"
    )
    parser.add_argument("--unit", help="what the app assigns by (user)")
    parser.add_argument("--effect", type=float, help="the difference worth finding (0.05)")
    parser.add_argument("--ramp", help="shares of all units after each step (0.1,0.5,1)")
    parser.add_argument("--ramp-hours", type=float, help="hours between steps; without it by hand")
    parser.add_argument("--promote", choices=("hand", "rule"), help="whether a winner is served by itself")
    parser.add_argument("--max-days", type=int, help="days until the control is kept (28)")
    parser.add_argument("--assignment", choices=("fixed", "thompson"))
    parser.add_argument("--floor", type=float, help="of thompson: every arm's least probability (0.1)")
    parser.add_argument("--min-units", type=int, help="units of each arm before a decision (100)")
    parser.add_argument("--webhook", dest="webhook_url", help="is told what the server does by itself")
    add_connection(parser)


def run(args: argparse.Namespace) -> int:
    """Run the sub-command."""
    work = {"define": _define, "list": _list, "show": _show}.get(args.what, _do)
    return with_plain_errors(args, work)


def _define(args: argparse.Namespace) -> int:
    made = client_of(args).define_experiment(spec_of(args))
    print(
        f"{made.experiment.name}, round {made.experiment.round}: a draft of {len(made.experiment.spec.arms)} arms"
    )
    if made.experiment.spec.webhook_url:
        print(f"secret of its webhook, shown this once: {made.webhook_secret}")
    print(f"start it with: heedloop experiment start {made.experiment.name}")
    return 0


def spec_of(args: argparse.Namespace) -> ExperimentSpec:
    """The experiment that the arguments describe; raises `ValueError`."""
    fields = json_object(args.file) if args.file else {}
    plain = ("name", "unit", "effect", "ramp_hours", "promote", "max_days", "assignment", "floor")
    for field in (*plain, "min_units", "webhook_url"):
        if getattr(args, field) is not None:
            fields[field] = getattr(args, field)
    if args.arm:
        fields["arms"] = [
            {"name": n, "parameters": json_value(f"--arm {n}", p or "{}")} for n, p in map(_pair, args.arm)
        ]
    for option in ("run", "prompt", "weight"):
        for name, value in map(_pair, getattr(args, option)):
            _arm(fields, name)[option] = number(f"--weight {name}", value) if option == "weight" else value
    if args.metric:
        fields["metric"] = _metric(args.metric)
    if args.guardrail:
        parts = [g.rpartition(":") for g in args.guardrail]
        fields["guardrails"] = [
            {"metric": _metric(m), "margin": number("--guardrail", margin)} for m, _, margin in parts
        ]
    if args.ramp:
        fields["ramp"] = [number("--ramp", s) for s in args.ramp.split(",")]
    return from_json(ExperimentSpec, fields)


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _arm(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    for arm in cast(list[dict[str, Any]], fields.get("arms", [])):
        if arm["name"] == name:
            return arm
    raise ValueError(f"there is no arm {name!r}; name it with --arm first")


def _metric(text: str) -> dict[str, str]:
    kind, _, name = text.partition(":")
    return {"kind": kind, "name": name}


def _list(args: argparse.Namespace) -> int:
    experiments = client_of(args).experiments()
    if not experiments:
        print("no experiments yet; `heedloop experiment define` makes one")
    for e in experiments:
        arms = ", ".join(a.name for a in e.spec.arms)
        share = f"{e.steps[-1].share:.0%} of units" if e.steps else "not started"
        print(f"{e.name}  round {e.round}, {e.state}: {arms}; {share}; others get {e.serving}")
    return 0


def _show(args: argparse.Namespace) -> int:
    found = client_of(args).experiment_results(args.name, args.round)
    print(json.dumps(to_json(found), indent=2) if args.json else results_text(found))
    return 0


def results_text(found: ExperimentResults) -> str:
    """The results in a few lines."""
    e, ratio = found.experiment, found.sample_ratio
    lines = [f"{e.name}, round {e.round}, {e.state}. {found.sentence}"]
    for result in found.metrics:
        head = f"{result.metric.kind} {result.metric.name}".strip()
        margin = "" if result.margin is None else f" (guardrail, margin {result.margin:g})"
        lines.append(f"{head}{margin}")
        lines += [f"  {_arm_text(result, arm)}" for arm in result.arms]
    units = ", ".join(f"{a.arm} {a.num_units:,} of {a.expected:,.0f}" for a in ratio.arms)
    lines.append(f"units seen of expected: {units or 'none'}; e-value {ratio.e_value:,.3g}")
    return "\n".join(lines)


def _arm_text(result: MetricResult, arm: ArmResult) -> str:
    mean = "nothing yet" if arm.mean is None else f"{_mean(result.metric, arm.mean)}, {arm.num_units:,} units"
    if arm.difference is None:
        return f"{arm.arm}: {mean}"
    d = arm.difference
    change = [result.metric.change_words(v) for v in (d.estimate, d.low, d.high)]
    return f"{arm.arm}: {mean}; {change[0]} ({change[1]} to {change[2]}), e-value {arm.e_value or 0:,.3g}"


def _mean(metric: ExperimentMetric, value: float) -> str:
    if metric.kind == "latency":
        return f"{value / 1e6:,.0f} ms" if value >= 1e7 else f"{value / 1e6:.2g} ms"
    return f"{value:.4g}" if metric.kind == "cost" else f"{value:.1%}"


def _do(args: argparse.Namespace) -> int:
    more = {n: v for n in ("share", "arm", "reason") if (v := getattr(args, n, None))}
    changed = client_of(args).change_experiment(args.name, args.what.replace("-", "_"), **more)
    print(state_text(changed))
    return 0


def state_text(experiment: Experiment) -> str:
    """How an experiment stands, in one line."""
    if experiment.state == "decided":
        return f"{experiment.name} is decided: {experiment.serving} is served to everybody"
    if experiment.state == "paused":
        return f"{experiment.name} is paused: {experiment.serving} is served to everybody"
    return f"{experiment.name} runs with {experiment.steps[-1].share:.0%} of units"
