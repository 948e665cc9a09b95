"""What is erased is unseen at once by every read of its project, removed behind it, and removed by the next server after a crash."""

from datetime import datetime, timedelta, timezone

import pytest
from temporary_stores import temporary_store

from heedloop.schema import Author, Call, Feedback, Message, Target
from heedloop_server.filters import CallFilters
from heedloop_server.ingest.feedback_writer import FeedbackWriter
from heedloop_server.store.admin.erasure import hide, remove, remove_pending, verify
from heedloop_server.store.connection import Store
from heedloop_server.store.datasets.exports import blocks_of_calls, pages_of_feedback
from heedloop_server.store.datasets.snapshot_calls import read_calls
from heedloop_server.store.feedback import list_feedback
from heedloop_server.store.quality.counts import View, count_by, count_total
from heedloop_server.store.quality.rollup import roll_up_project
from heedloop_server.store.quality.summaries import facet_values
from heedloop_server.store.spans import insert_calls, list_calls, trace_calls

AT = datetime(2026, 11, 1, 10, tzinfo=timezone.utc)
NOW = AT + timedelta(days=2)
PERIOD = CallFilters(since=AT - timedelta(days=1), until=NOW)
NUM = 12
PROJECTS = ("p", "it's \\ another")


def _call(i):
    return Call(
        trace_id=f"{i + 1:032x}",
        span_id=f"{i + 1:016x}",
        start_time=AT + timedelta(minutes=i),
        is_answer=True,
        model_requested=f"model-{i % 3}",
        user_id=f"user-{i % 3}",
        output_messages=(Message("assistant", f"words {i}"),),
    )


@pytest.fixture
def projects():
    """Two projects with the same ids, counted in the background."""
    with temporary_store() as store:
        writer = FeedbackWriter(store)
        writer.start()
        calls = [_call(i) for i in range(NUM)]
        for name in PROJECTS:
            insert_calls(store.project(name), calls, received_at=NOW)
            said = [
                Feedback("rating", Target(trace_id=c.trace_id, span_id=c.span_id), value=1.0, created_at=c.start_time,
                         author=Author("end_user", c.user_id))
                for c in calls
            ]  # fmt: skip
            writer.submit(name, said).result()
            roll_up_project(store.project(name), now=NOW)
        writer.stop()
        yield [store.project(name) for name in PROJECTS]


def _seen(project):
    """How many calls or pieces of feedback each kind of read finds."""
    total = count_total(project, View(PERIOD))
    by_model = count_by(project, View(PERIOD), ["model"])
    return {
        "calls": len(list_calls(project, PERIOD, limit=100, after=None)),
        "traces": sum(bool(trace_calls(project, _call(i).trace_id)) for i in range(NUM)),
        "feedback": len(list_feedback(project, {}, limit=100, after=None)),
        "exported calls": sum(block.rows.num_rows for block in blocks_of_calls(project, PERIOD)),
        "exported feedback": sum(map(len, pages_of_feedback(project, {}))),
        "calls of a snapshot": len(list(read_calls(project, PERIOD, NOW))),
        "counted answers": total.answers.num,
        "counted ratings": total.ratings.num,
        "answers by model": sum(g.answers.num for g in by_model.values()),
        "facet": sum(int(v["count"]) for v in facet_values(project, "model", PERIOD)),
    }


def _stored(store, table):
    return store.rows(f"SELECT count() AS n FROM {table} FINAL")[0]["n"]


def _read_again(project):
    """The project as another server sees it."""
    other = Store(project.store.address, num_clients=2, threads=1)
    return other.project(project.project)


def test_what_is_hidden_is_unseen_by_every_read_at_once(projects):
    project, other = projects
    store = project.store
    assert set(_seen(project).values()) == {NUM}
    erased = hide(project, "user_id", "user-1", erasure_id="e1")
    assert (len(erased.trace_ids), len(erased.feedback_ids)) == (4, 4)
    assert set(_seen(project).values()) == {NUM - 4}
    assert set(_seen(other).values()) == {NUM}
    assert (_stored(store, "spans"), _stored(store, "feedback")) == (2 * NUM, 2 * NUM)
    roll_up_project(project, now=NOW)
    assert set(_seen(project).values()) == {NUM - 4}
    hide(project, "trace_id", _call(0).trace_id, erasure_id="e'2")
    assert set(_seen(project).values()) == {NUM - 5}
    remove(project, "e1")
    assert set(_seen(project).values()) == {NUM - 5}
    remove(project, "e'2")
    assert set(_seen(project).values()) == {NUM - 5}
    assert (_stored(store, "spans"), _stored(store, "feedback")) == (2 * NUM - 5, 2 * NUM - 5)
    assert not any(verify(project, "e1").values())
    roll_up_project(project, now=NOW)
    assert set(_seen(project).values()) == {NUM - 5}
    assert set(_seen(other).values()) == {NUM}


def test_the_next_server_hides_and_removes_what_one_that_ended_had_noted(projects):
    project, _ = projects
    hide(project, "user_id", "user-2", erasure_id="e1")
    again = _read_again(project)
    try:
        assert set(_seen(again).values()) == {NUM - 4}
        remove_pending(again.store, old_parts_s=1)
        assert _stored(again.store, "spans") == 2 * NUM - 4
        assert set(_seen(again).values()) == {NUM - 4}
        assert again.store.masks.settings(again.project) == {}
    finally:
        again.store.close()
