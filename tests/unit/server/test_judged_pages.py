"""Pages of judged calls, found period by period in any version, are what the exact question over the whole period gives."""

import random
from datetime import datetime, timedelta, timezone

import pytest
from temporary_stores import temporary_store

from heedloop.schema import Author, Call, Feedback, Target
from heedloop_server.filters import CallFilters
from heedloop_server.ingest.feedback_writer import FeedbackWriter
from heedloop_server.store.filters import conditions
from heedloop_server.store.spans import insert_calls, list_calls, trace_calls

END = datetime(2026, 11, 1, tzinfo=timezone.utc)
MONTH = {"since": END - timedelta(days=30), "until": END}


@pytest.fixture(scope="module")
def project():
    """Calls of a month; a third of them judged, many of those again, some judgements taken back, spans in several versions."""
    rng = random.Random(7)
    with temporary_store() as store:
        desk = FeedbackWriter(store)
        desk.start()
        view = store.project("p")
        calls = [_call(rng, i) for i in range(240)]
        insert_calls(view, calls, received_at=END)
        insert_calls(view, rng.sample(calls, 60), received_at=END + timedelta(seconds=5))
        for _ in range(3):
            desk.submit("p", [_judgement(rng, rng.choice(calls)) for _ in range(120)]).result()
        desk.stop()
        yield view


def _call(rng: random.Random, number: int) -> Call:
    return Call(
        trace_id=rng.randbytes(16).hex(),
        span_id=rng.randbytes(8).hex(),
        start_time=END - timedelta(minutes=1 + rng.random() ** 3 * 43_000),
        duration_ns=rng.randrange(50) * 10**6,
        user_id=f"u{number % 7}",
        model_requested=f"m{number % 2}",
    )


def _judgement(rng: random.Random, call: Call) -> Feedback:
    target = Target(trace_id=call.trace_id, span_id=call.span_id if rng.random() < 0.7 else None)
    author = Author(rng.choice(("end_user", "annotator")), f"a{rng.randint(0, 2)}")
    more = {"created_at": END + timedelta(seconds=rng.random() * 1000), "retracted": rng.random() < 0.2}
    kind = rng.random()
    if kind < 0.7:
        return Feedback(kind="rating", target=target, value=rng.randint(0, 1), author=author, **more)
    if kind < 0.85:
        return Feedback(
            kind="flag", target=target, category=rng.choice(("false", "rude")), author=author, **more
        )
    return Feedback(kind="correction", target=target, correction="so", comment="why", author=author, **more)


JUDGED = [
    {"rating": "up"},
    {"rating": "down"},
    {"rating": "any"},
    {"rating": "none"},
    {"rating": "down", "author_kind": "annotator"},
    {"has": "correction"},
    {"has": "flag"},
    {"has": "comment"},
    {"flag": "rude"},
    {"rating": "up", "has": "correction"},
    {"rating": "down", "model": "m1"},
    {"user_id": "u3"},
    {},
]


@pytest.mark.parametrize("given", JUDGED, ids=str)
@pytest.mark.parametrize("limit", [3, 500])
def test_pages_hold_what_the_exact_question_gives(project, given, limit: int) -> None:
    filters = CallFilters(**MONTH, **given)
    where, params = conditions(filters)
    exact = project.rows(
        f"SELECT lower(hex(span_id)) AS span FROM spans FINAL WHERE {where} ORDER BY start_time DESC, trace_id DESC, span_id DESC",
        params,
    )
    found, after = [], None
    while rows := list_calls(project, filters, limit=limit, after=after):
        found += [r["span_id_hex"] for r in rows]
        last = rows[-1]
        after = (last["start_time"], last["trace_id_hex"], last["span_id_hex"])
        if limit == 3 and len(found) > 30:
            break
    assert found == [r["span"] for r in exact][: len(found)]
    assert len(found) > 30 or len(found) == len(exact)
    assert len(exact) > 1


@pytest.mark.parametrize("given", [{}, {"rating": "down"}, {"user_id": "u3"}], ids=str)
@pytest.mark.parametrize("order", ["oldest", "slowest", "fastest", "cheapest", "most_tokens"])
def test_pages_in_another_order_go_through_every_call_once(project, given, order) -> None:
    """The slowest calls share their durations: what follows goes on by time and ids."""
    filters = CallFilters(**MONTH, **given)
    exact = list_calls(project, filters, limit=500, after=None)
    key = {"slowest": lambda r: -r["duration_ns"], "fastest": lambda r: r["duration_ns"]}.get(order)
    expected = (
        sorted(exact, key=lambda r: r["start_time"]) if order in ("oldest", "fastest", "cheapest") else exact
    )
    expected = sorted(expected, key=key) if key else expected
    found, after = [], None
    while rows := list_calls(project, filters, limit=7, after=after, order=order):
        found += [r["span_id_hex"] for r in rows]
        after = (rows[-1]["start_time"], rows[-1]["trace_id_hex"], rows[-1]["span_id_hex"])
    assert found == [r["span_id_hex"] for r in expected]


def test_calls_are_chosen_by_their_trace_ids(project) -> None:
    some = [r["trace_id_hex"] for r in list_calls(project, CallFilters(**MONTH), limit=3, after=None)]
    found = list_calls(project, CallFilters(**MONTH, trace=some[1:]), limit=10, after=None)
    assert [r["trace_id_hex"] for r in found] == some[1:]


def test_a_trace_is_found_by_its_id_in_its_newest_version(project) -> None:
    for row in list_calls(project, CallFilters(**MONTH), limit=20, after=None):
        assert [c.span_id for c in trace_calls(project, row["trace_id_hex"])] == [row["span_id_hex"]]
    assert trace_calls(project, "ab" * 16) == []
