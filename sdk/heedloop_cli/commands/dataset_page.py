"""A snapshot's report as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.responses import ReportedSnapshot, RunSummary
from heedloop.schema import format_time

SPLITS = ("train", "validation", "test")


def page(snapshot: ReportedSnapshot) -> list[str]:
    """What `heedloop dataset show` prints of a snapshot."""
    report = snapshot.report
    return [
        *_head(snapshot),
        *_rows(report),
        *_contributors(report),
        *_lengths(report["lengths"]),
        *_comparisons(report["comparisons"]),
        *_exposure(report["exposure"]),
        *_methods(report["methods"]),
        *_left_out(report),
        *_runs(snapshot.runs or []),
    ]


def _head(snapshot: ReportedSnapshot) -> Iterator[str]:
    yield f"{snapshot.name}  {snapshot.id}"
    yield f"  {snapshot.num_feedback:,} feedback as of {format_time(snapshot.as_of)[:19]}Z"
    filters = ", ".join(f"{k}={v}" for k, v in (snapshot.query.get("filters") or {}).items())
    if filters:
        yield f"  calls with {filters}"
    if snapshot.num_erased:
        yield f"  {snapshot.num_erased:,} rows were erased since; the numbers below are from before"


def _rows(report: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"  {'rows':<16}{'train':>10}{'validation':>12}{'test':>10}{'weight':>12}"
    for form, counts in report["rows"].items():
        numbers = "".join(f"{counts[s]:>{w},}" for s, w in zip(SPLITS, (10, 12, 10), strict=True))
        yield f"  {form:<16}{numbers}{report['weights'].get(form, 0):>12,.1f}"
    groups = report["groups"]
    yield f"  {'prompt groups':<16}{groups['train']:>10,}{groups['validation']:>12,}{groups['test']:>10,}"


def _contributors(report: Mapping[str, Any]) -> Iterator[str]:
    people = report["contributors"]
    yield ""
    kinds = ", ".join(f"{n:,} {kind}s" for kind, n in report["feedback"].items())
    yield f"  feedback        {kinds or 'none'}"
    unnamed = f", and {people['num_unnamed']:,} judgements without a name" if people["num_unnamed"] else ""
    yield f"  contributors    {people['num']:,} named{unnamed}"
    if people["largest"]:
        first = people["largest"][0]
        yield (
            f"                  the busiest (#{first['hash']}) gave {first['share']:.1%};"
            f" as even as {people['num_effective']:,.0f} equal ones"
        )
    for form, num in report["capped"].items():
        yield f"                  {num:,} of them weigh less in {form}, so that nobody has too large a share"


def _lengths(lengths: Mapping[str, Any]) -> Iterator[str]:
    if not lengths:
        return
    yield ""
    yield f"  {'words':<16}{'5%':>8}{'median':>8}{'mean':>8}{'95%':>8}{'longest':>9}"
    for name, s in lengths.items():
        yield f"  {name:<16}{s['p5']:>8,.0f}{s['median']:>8,.0f}{s['mean']:>8,.0f}{s['p95']:>8,.0f}{s['max']:>9,}"


def _comparisons(found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is None:
        return
    yield ""
    yield (
        f"  comparisons     {found['num_decided_pairs']:,} decided pairs of texts, {found['num_ties']:,} ties,"
        f" {found['num_with_margin']:,} with a margin"
    )
    names = {
        "agreement": "two judges agree",
        "bag_of_words": "bag of words",
        "longer_wins": "the longer wins",
        "first_shown_wins": "first shown wins",
    }
    yield f"  {'what to beat':<20}{'chance':<18} 50.0%"
    for key in ("longer_wins", "bag_of_words"):
        yield f"  {'':<20}{names[key]:<18} {_interval(found[key])}"
    if found["agreement_ceiling"] is not None:
        yield f"  {'what cannot be beaten':<20}{'':<17} {found['agreement_ceiling']:.1%} at most, as two judges agree {_interval(found['agreement'])}"
    else:
        yield f"  {'agreement':<20}not known: no pair was judged by two"
    if found["first_shown_wins"] is not None:
        yield f"  {'position':<20}{names['first_shown_wins']:<18} {_interval(found['first_shown_wins'])}"


def _interval(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "not known (too little)"
    return f"{value['estimate']:.1%} [{value['low']:.1%}, {value['high']:.1%}], n = {value['n']:,}"


def _exposure(found: Mapping[str, Any]) -> Iterator[str]:
    shown, rated = found["num_shown"], found["num_rated"]
    if not shown:
        return
    yield ""
    yield f"  exposure        {shown:,} answers shown, {rated:,} rated ({rated / shown:.1%}), {found['num_solicited']:,} of them asked for"
    rate = found["rate"]
    if rate is None:
        return
    weighted = (
        f", {rate['weighted']:.1%} weighted (worth {rate['num_effective']:,.0f} ratings)"
        if found["weighted"]
        else ""
    )
    yield f"                  {rate['counted']:.1%} of ratings are likes{weighted}"
    for bound in rate["bounds"]:
        if bound["ratio"] in (2, 10) and rated < shown:
            yield (
                f"                  {bound['low']:.1%} to {bound['high']:.1%} of all answers, if the dissatisfied rate"
                f" {bound['ratio']:.0f} times as readily, or as rarely"
            )


def _methods(methods: list[Mapping[str, Any]]) -> Iterator[str]:
    yield ""
    yield "  what it supports"
    for m in methods:
        yield f"    {'yes' if m['supported'] else 'no ':<4}{m['method']:<15}{m['why']}"


def _left_out(report: Mapping[str, Any]) -> Iterator[str]:
    for warning in report.get("warnings", ()):
        yield f"  warning         {warning['message']}"
    if report["dropped"]:
        yield ""
        yield "  left out"
        for reason, num in report["dropped"].items():
            yield f"    {num:>9,}  {reason.replace('_', ' ')}"


def _runs(runs: list[RunSummary]) -> Iterator[str]:
    if runs:
        yield ""
        yield "  trained on it"
        for run in runs:
            yield f"    {run.id[:12]}  {run.method:<14}{run.status:<10}{run.model_name}"
