"""The feedback desk under many hands, and when the store fails half-way."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
from temporary_stores import temporary_store

from heedloop.schema import Author, Call, Feedback, Target, utc_now
from heedloop_server.errors import Unavailable
from heedloop_server.ingest.feedback_writer import FeedbackWriter
from heedloop_server.store import feedback as feedback_store
from heedloop_server.store.admin.retention import drop_old_calls
from heedloop_server.store.feedback import list_feedback, num_history
from heedloop_server.store.spans import insert_calls, trace_calls


def said(value: int, *, author: str | None = "ada", trace: str = "ab" * 16, **more) -> Feedback:
    return Feedback(
        kind="rating", target=Target(trace_id=trace), value=value, author=Author("end_user", author), **more
    )


@pytest.fixture
def desk():
    with temporary_store() as store:
        one = FeedbackWriter(store)
        one.start()
        yield one, store.project("p")
        one.stop()


def test_one_group_keeps_its_order(desk) -> None:
    one, project = desk
    first, second = said(1), said(0)
    outcomes = one.submit("p", [first, second, first]).result(30)
    assert [o.status for o in outcomes] == ["stored", "replaced", "duplicate"]
    assert [f.feedback.value for f in list_feedback(project, {}, limit=10, after=None)] == [0]


def test_many_at_once_count_one_vote_each_and_share_inserts(desk) -> None:
    one, project = desk
    votes = [said(i % 2, author=f"user-{i % 20}") for i in range(200)]
    with ThreadPoolExecutor(16) as pool:
        done = list(pool.map(lambda v: one.submit("p", [v]).result(60)[0], votes))
    assert sum(o.status == "stored" for o in done) >= 20
    assert len({o.feedback_id for o in done}) == 20
    assert len(list_feedback(project, {}, limit=500, after=None)) == 20
    assert num_history(project) == 200


def test_authors_without_an_id_are_not_taken_for_one_another(desk) -> None:
    one, project = desk
    one.submit("p", [said(1, author=None), said(0, author=None)]).result(30)
    assert len(list_feedback(project, {}, limit=10, after=None)) == 2


def test_a_clock_far_ahead_does_not_win_for_ever(desk) -> None:
    one, project = desk
    one.submit("p", [said(1, created_at=datetime(2262, 4, 1, tzinfo=timezone.utc))]).result(30)
    ahead = list_feedback(project, {}, limit=10, after=None)[0]
    assert ahead.version < datetime(2100, 1, 1, tzinfo=timezone.utc).timestamp() * 1e6


def test_a_failure_between_the_two_inserts_loses_nothing_when_sent_again(
    desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, project = desk
    real = feedback_store._history_row
    failing = threading.Event()
    failing.set()

    def broken(entry):
        if failing.is_set():
            raise Unavailable("away")
        return real(entry)

    monkeypatch.setattr(feedback_store, "_history_row", broken)
    vote = said(1)
    with pytest.raises(Unavailable):
        one.submit("p", [vote]).result(30)
    failing.clear()
    assert one.submit("p", [vote]).result(30)[0].status in ("stored", "replaced")
    assert one.submit("p", [vote]).result(30)[0].status == "duplicate"
    assert len(list_feedback(project, {}, limit=10, after=None)) == 1
    assert num_history(project) == 1


def test_a_project_that_fails_does_not_fail_its_neighbour(desk) -> None:
    one, _ = desk
    with ThreadPoolExecutor(2) as pool:
        a = pool.submit(lambda: one.submit("p", [said(1)]).result(30))
        b = pool.submit(lambda: one.submit("q", [said(1)]).result(30))
        assert a.result()[0].feedback_id != b.result()[0].feedback_id


def test_feedback_from_before_a_restart_finds_its_call_in_the_sweep(desk) -> None:
    one, project = desk
    one.submit("p", [said(1)]).result(30)
    restarted = FeedbackWriter(project.store)  # knows nothing of what waits
    call = Call(trace_id="ab" * 16, span_id="cd" * 8, start_time=utc_now(), model_answered="m")
    insert_calls(project, [call])
    restarted.bind("p", lambda: {call.trace_id})
    assert list_feedback(project, {}, limit=1, after=None)[0].call is None
    assert restarted.sweep() == 1
    assert list_feedback(project, {}, limit=1, after=None)[0].call.model == "m"
    assert restarted.sweep() == 0


def test_old_calls_go_and_judged_ones_stay(desk) -> None:
    one, project = desk
    old = utc_now() - timedelta(days=40)
    calls = [
        Call(trace_id=t * 32, span_id="cd" * 8, start_time=at)
        for t, at in (("1", old), ("2", old), ("3", utc_now()))
    ]
    insert_calls(project, calls)
    one.submit("p", [said(1, trace="2" * 32)]).result(30)
    assert drop_old_calls(project.store, 30) == 1
    left = {t for t in ("1", "2", "3") if trace_calls(project, t * 32)}
    assert left == {"2", "3"}
    assert drop_old_calls(project.store, 30) == 0


def test_a_history_row_whose_feedback_a_crash_lost_does_not_make_a_resend_a_duplicate(desk) -> None:
    one, project = desk
    lost = said(1)
    feedback_store.insert_history(project, [feedback_store.StoredFeedback.of("p", lost, utc_now())])
    outcomes = [one.submit("p", [lost]).result(30)[0].status for _ in range(2)]
    assert outcomes == ["stored", "duplicate"]
    assert [f.feedback.id for f in list_feedback(project, {}, limit=10, after=None)] == [lost.id]
    assert num_history(project) == 1
