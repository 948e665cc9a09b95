"""Every statement of the quality pages as the store gets it, next to the file in tests/golden/sql that it must equal.

The statements run on a real, nearly empty store. HEEDLOOP_WRITE_GOLDEN=1 writes the files again: read the difference.
"""

import os
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from temporary_stores import temporary_store

from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import Store
from heedloop_server.store.quality import (
    comparisons,
    counts,
    health,
    low_rated,
    named_ratings,
    pairs,
    patterns,
    summaries,
)
from heedloop_server.store.quality.hourly import PARTS, Fingerprints, read_hour_fingerprints, read_minutes
from heedloop_server.store.quality.named_ratings import NamedRating
from heedloop_server.store.quality.rollup import roll_up_minutes, roll_up_project
from heedloop_server.store.quality.rows import View
from heedloop_server.store.spans import list_calls

GOLDEN = Path(__file__).parents[2] / "golden/sql"
SINCE = datetime(2026, 3, 1, 5, 30, tzinfo=timezone.utc)
UNTIL = datetime(2026, 3, 4, 12, tzinfo=timezone.utc)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=timezone.utc)
KEY = (SINCE, "0" * 32, "1" * 16)
TONE = NamedRating("tone", (), 1.0, 5.0, False, 1, 1, ("end_user",))


class Noted(Store):
    """A store that notes every statement."""

    statements: list[str]

    def rows(self, sql, params=None, **settings):
        self.statements.append(sql)
        return super().rows(sql, params, **settings)

    def command(self, sql, params=None, **settings):
        self.statements.append(sql)
        super().command(sql, params, **settings)


@pytest.fixture(scope="module")
def store():
    with temporary_store() as opened:
        opened.command(
            """
            INSERT INTO spans (project_id, trace_id, span_id, start_time, name, operation, is_answer, ingested_at)
            SELECT 'p', unhex(repeat('0', 32)), unhex(repeat('1', 16)), toDateTime64('2026-03-01 05:40:00', 6, 'UTC'), 'a', 'chat', true, now64(6)
            """
        )
        noted = Noted(opened.address)
        noted.statements = []
        noted.masks.refresh()  # which the first read would do
        yield noted
        noted.close()


def view(**filters):
    """Three and a half days, of which the second day, the first hours of the third and a minute have fresh aggregates."""
    fresh = {}
    for part in PARTS:
        fresh[part, "day", MIDNIGHT] = (24, frozenset())
        fresh |= {(part, "hour", MIDNIGHT + DAY + i * HOUR): (1, frozenset()) for i in range(2)}
    fresh["answers", "minute", MIDNIGHT + DAY + 2 * HOUR] = (1, frozenset())
    hours = {MIDNIGHT + i * HOUR: 1 for i in range(27)}
    minutes = {MIDNIGHT + DAY + 2 * HOUR + i * MINUTE: 1 for i in range(2)}
    prints = Fingerprints(
        dict.fromkeys(PARTS, hours),
        fresh,
        dict.fromkeys(PARTS, minutes),
        detailed=set(hours),
    )
    chosen = CallFilters(since=SINCE, until=UNTIL, **filters)
    found = View.of(chosen)
    found.memo[SINCE - (UNTIL - SINCE), UNTIL] = prints
    return found


PAIR = pairs.Pair("prompt_version", "v2", ("v1",), frozenset({MIDNIGHT.date()}), frozenset({MIDNIGHT.date()}))
PRICES = {"m": {"input": 1.0, "output": 2.0}}
RATED = {"rating_name": "tone", "rating_below": 3.0}
STATEMENTS = {
    "count_total": lambda p: counts.count_total(p, view(model="m", metadata={"plan": "pro"})),
    "count_total_of_thumbs_down": lambda p: counts.count_total(p, view(rating="down")),
    "count_total_of_a_named_rating": lambda p: counts.count_total(p, view(**RATED)),
    "count_total_by_annotators": lambda p: counts.count_total(p, view(author_kind="annotator", tag=("a",), text="why")),
    "count_over_time": lambda p: counts.count_over_time(p, view(user="new"), "hour"),
    "count_by": lambda p: counts.count_by(p, view(language="de"), ["tag", "metadata.plan"], values=["a"]),
    "count_each": lambda p: counts.count_each(p, view(), ["model", "language"]),
    "count_overview": lambda p: counts.count_overview(p, view(), "day", "tag"),
    "count_days": lambda p: pairs.count_days(p, view(), "tag"),
    "count_days_of_thumbs_up": lambda p: pairs.count_days(p, view(rating="up"), "model"),
    "count_strata": lambda p: pairs.count_strata(p, view(), PAIR, ["tag", "user_id"], by_day=True),
    "count_grid": lambda p: counts.count_grid(p, view(), "status", "week"),
    "first_call": counts.first_call,
    "first_seen": lambda p: counts.first_seen(p, view(), "model", {"m": SINCE}),
    "count_feedback": lambda p: counts.count_feedback(p, view(flag="wrong")),
    "count_feedback_from_aggregates": lambda p: counts.count_feedback(p, view()),
    "releases": lambda p: counts.releases(p, view()),
    "releases_of_rated_answers": lambda p: counts.releases(p, view(rating="any")),
    "count_sample": lambda p: counts.count_sample(p, view()),
    "count_sample_of_a_named_rating": lambda p: counts.count_sample(p, view(**RATED)),
    "design_weights": counts.design_weights,
    "pattern_cells": lambda p: patterns.pattern_cells(p, view()),
    "measure_health": lambda p: health.measure_health(p, view(status="ok").filters, "day", "tag", PRICES),
    "measure_hours_of_cost": lambda p: health.measure_hours(p, view().filters, "cost", PRICES),
    "measure_hours_of_latency": lambda p: health.measure_hours(p, view().filters, "latency", {}, limit_ms=5.0),
    "metadata_keys": lambda p: patterns.metadata_keys(p, view()),
    "list_named_ratings": lambda p: named_ratings.list_named_ratings(p, view(author_kind="model").filters),
    "rated_groups": lambda p: named_ratings.rated_groups(p, view().filters, TONE, "metadata.plan"),
    "rated_over_time": lambda p: named_ratings.rated_over_time(p, view().filters, TONE, "day"),
    "count_marks": lambda p: named_ratings.count_marks(p, view().filters, "model"),
    "low_rated_comments": lambda p: low_rated.low_rated_texts(p, view(), "comments"),
    "texts_of": lambda p: low_rated.texts_of(p, [KEY], "question"),
    "whole_calls": lambda p: low_rated.whole_calls(p, [KEY]),
    "newest_clustering": lambda p: low_rated.newest_clustering(p, "key"),
    "question_of_call": lambda p: low_rated.question_of_call(p, *KEY[1:]),
    "sample_questions": lambda p: low_rated.sample_questions(p, UNTIL),
    "liked_candidates": lambda p: low_rated.liked_candidates(p, ["refund", "where"], UNTIL, without=KEY[1:]),
    "read_duels": lambda p: comparisons.read_duels(p, view(), "model", comparisons.Comparisons(queue_id="q")),
    "judgements_of": lambda p: summaries.judgements_of(p, [KEY[1:]]),
    "judgements_of_a_page": lambda p: summaries.judgements_of(p, [KEY[1:]], [SINCE]),
    "facet_values": lambda p: summaries.facet_values(p, "tag", view().filters),
    "facet_values_of_flags": lambda p: summaries.facet_values(p, "flag", view().filters),
    "list_calls_rated_down": lambda p: list_calls(p, view(rating="down", flag="wrong").filters, limit=5, after=None),
    "read_hour_fingerprints": lambda p: read_hour_fingerprints(p, SINCE, UNTIL),
    "read_minutes": lambda p: read_minutes(p, read_hour_fingerprints(p, SINCE, UNTIL), SINCE, UNTIL),
    "roll_up_project": lambda p: roll_up_project(p, now=UNTIL),
    "roll_up_minutes": lambda p: roll_up_minutes(p.store, now=SINCE + HOUR),
}  # fmt: skip


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement(store, name):
    store.statements.clear()
    STATEMENTS[name](store.project("p"))
    printed = "\n\n".join(dict.fromkeys(indented(sql) + ";" for sql in store.statements)) + "\n"
    path = GOLDEN / f"{name}.sql"
    if os.environ.get("HEEDLOOP_WRITE_GOLDEN") == "1":
        path.write_text(printed, encoding="utf-8")
    assert printed == path.read_text(encoding="utf-8")


def test_no_statement_is_left_over():
    assert sorted(p.stem for p in GOLDEN.glob("*.sql")) == sorted(STATEMENTS)


CLAUSE = re.compile(r"[A-Z]{4}|\)")
CONDITION = re.compile(r"(AND|OR) ")


def indented(sql: str) -> str:
    """The lines of a statement indented by the brackets that are open where they begin, and below their clause."""
    out: list[str] = []
    depth = 0
    for line in (part.strip() for part in sql.splitlines()):
        if line:
            leading = len(line) - len(line.lstrip(")"))
            below = 0 if CLAUSE.match(line) else 2 if CONDITION.match(line) else 4
            out.append(" " * (4 * max(0, depth - leading) + below) + line)
            depth += line.count("(") - line.count(")")
    return "\n".join(out)
