"""Words, corrections, spans, judgements, exports: the pure parts of pages."""

import csv
import io
import json
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedloop.changes import compare
from heedloop.responses import Ledger, StoredFeedback
from heedloop.schema import Call, CharRange, Message, Target, answer_hash, from_json
from heedloop_dashboard import export, filters, judgements, spans, words
from heedloop_dashboard.views import delivery, runs
from heedloop_dashboard.views.datasets import flatten

AT = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
SPAN_ID = "cd" * 8
GOLDEN = Path(__file__).parents[2] / "golden" / "dashboard"


@pytest.mark.parametrize(
    ("given", "shown"),
    [(None, "–"), (0.0, "0.0%"), (0.62, "62.0%"), (1.0, "100.0%")],
)
def test_percent(given, shown) -> None:
    assert words.percent(given) == shown


def test_a_change_that_rounds_to_nothing_has_no_sign() -> None:
    assert words.points(-0.00001) == "0.0 pts"
    assert words.points(-0.018) == "-1.8 pts"
    assert words.points(0.2) == "+20.0 pts"


def test_an_undefined_rate_is_never_a_number() -> None:
    assert words.interval(None) == "no ratings"
    assert words.change(None) == "–"


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [(None, "–"), (500, "0 µs"), (312e6, "312 ms"), (1.84e9, "1.8 s"), (125e9, "2 min 5 s")],
)
def test_durations(nanoseconds, shown) -> None:
    assert words.duration(nanoseconds) == shown


@given(st.text(max_size=200), st.text(max_size=200))
def test_a_correction_loses_no_character(before: str, after: str) -> None:
    pieces = compare(before, after)
    assert "".join(p["text"] for p in pieces if p["op"] != "new") == before
    assert "".join(p["text"] for p in pieces if p["op"] != "gone") == after


def test_a_correction_shows_what_changed_and_only_that() -> None:
    pieces = compare("Refunds take 30 days.", "Refunds take 14 days.")
    assert [(p["op"], p["text"]) for p in pieces] == [
        ("same", "Refunds take "),
        ("gone", "30"),
        ("new", "14"),
        ("same", " days."),
    ]


def test_a_huge_correction_is_compared_without_hanging() -> None:
    before = "word " * 50_000
    pieces = compare(before, before + "more")
    assert "".join(p["text"] for p in pieces if p["op"] != "new") == before


def span(span_id: str, start_ms: int, took_ms: int, parent: str | None = None):
    time = datetime(2026, 11, 20, 12, 0, 0, start_ms * 1000, tzinfo=timezone.utc)
    return Call("ab" * 16, span_id, time, took_ms * 1_000_000, parent, name=span_id)


def answered(*texts: str) -> Call:
    messages = tuple(Message("assistant", text) for text in texts)
    return Call("ab" * 16, SPAN_ID, AT, output_messages=messages)


def flag(answer: str, start: int, end: int, **more) -> StoredFeedback:
    marked = CharRange(start, end, answer_hash(answer))
    return StoredFeedback(
        kind="flag",
        category="inaccurate",
        target=Target("ab" * 16, SPAN_ID, range=marked),
        feedback_id="f",
        version=1,
        received_at=AT,
        **more,
    )


def test_the_waterfall_is_depth_first_by_time() -> None:
    rows = spans.waterfall(
        [span("c", 300, 100, "a"), span("b", 100, 200, "a"), span("d", 120, 50, "b"), span("a", 0, 400)]
    )
    assert [(r["span_id"], r["depth"]) for r in rows] == [("a", 0), ("b", 1), ("d", 2), ("c", 1)]
    assert rows[1]["start"] == pytest.approx(0.25)
    assert rows[1]["width"] == pytest.approx(0.5)


def test_spans_without_their_parent_and_in_a_loop_are_shown_once() -> None:
    rows = spans.waterfall([span("a", 0, 10, "gone"), span("x", 5, 5, "y"), span("y", 6, 5, "x")])
    assert sorted(r["span_id"] for r in rows) == ["a", "x", "y"]


def test_a_range_is_shown_only_in_the_text_it_was_marked_in() -> None:
    answer = "Refunds take 30 days."
    marked = flag(answer, 13, 20)
    (message,) = judgements.marked_messages(answered(answer), [marked])
    assert [(answer[m["start"] : m["end"]], m["label"]) for m in message["marks"]] == [
        ("30 days", "inaccurate")
    ]
    other = "Refunds take 14 days!"
    assert judgements.marked_messages(answered(other), [marked])[0]["marks"] == []
    assert "not this answer" in judgements.entry(marked, answer=other)["quote"]


def test_a_range_over_two_messages_is_split() -> None:
    first, second = "One fact.", "Two facts."
    marked = flag(f"{first}\n{second}", 4, len(first) + 1 + 3)
    one, two = judgements.marked_messages(answered(first, second), [marked])
    assert [first[m["start"] : m["end"]] for m in one["marks"]] == ["fact."]
    assert [second[m["start"] : m["end"]] for m in two["marks"]] == ["Two"]


def test_a_retracted_flag_marks_nothing() -> None:
    marked = flag("Yes.", 0, 3, retracted=True)
    assert judgements.marked_messages(answered("Yes."), [marked])[0]["marks"] == []


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", " =", "|", "%"])
def test_no_exported_cell_can_become_a_formula(start: str) -> None:
    text = f'{start}HYPERLINK("http://evil.example","x")'
    rows = list(csv.DictReader(io.StringIO(export.to_csv([{"answer": text, "n": -3}]), newline="")))
    assert rows == [{"answer": "'" + text, "n": "-3"}]


def test_export_keeps_every_row_and_column() -> None:
    rows = list(csv.DictReader(io.StringIO(export.to_csv([{"a": 'x,"\n'}, {"b": 2}]), newline="")))
    assert rows == [{"a": 'x,"\n', "b": ""}, {"a": "", "b": "2"}]


def test_a_period_is_whole_days_and_reproducible() -> None:
    now = datetime(2026, 11, 20, 15, 4, 3, 2, tzinfo=timezone.utc)
    assert filters.window("7 d", now) == {
        "since": "2026-11-14T00:00:00.000000Z",
        "until": "2026-11-20T15:04:10.000000Z",
    }
    assert filters.window("24 h", now)["since"] == "2026-11-19T16:00:00.000000Z"


def test_the_ledger_says_what_it_cannot_account_for() -> None:
    recorded = json.loads((GOLDEN / "ledger.json").read_text(encoding="utf-8"))
    ledger = from_json(Ledger, recorded, strict=False)
    assert delivery.balance(ledger) == 0
    assert delivery.balance(replace(ledger, stored=ledger.stored - 5)) == 5


def test_the_metrics_that_decide_come_first() -> None:
    rows = [{"step": 1, "zeta": 1.0, "objective/kl": 2.0, "name": "text"}, {"step": 2, "alpha": 1}]
    assert runs.metric_names(rows) == ["objective/kl", "alpha", "zeta"]


def test_nested_values_become_dotted_names() -> None:
    assert flatten({"a": {"b": 1234, "c": None}, "d": [1, 2], "e": True}) == [
        ("a.b", "1,234"),
        ("d", "1, 2"),
        ("e", "True"),
    ]
