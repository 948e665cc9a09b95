"""What was counted before gives the same counts as the rows, whatever happens to the rows afterwards."""

import random
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from temporary_stores import temporary_store

from heedloop.schema import Author, Call, Feedback, Message, Target
from heedloop_server.filters import CallFilters
from heedloop_server.ingest.feedback_writer import FeedbackWriter
from heedloop_server.store.added_tags import change_tags
from heedloop_server.store.admin.erasure import erase
from heedloop_server.store.quality import counts, pairs, rollup
from heedloop_server.store.quality.counts import View
from heedloop_server.store.quality.hourly import (
    Fingerprints,
    make_plans,
    read_hour_fingerprints,
    read_minutes,
)
from heedloop_server.store.quality.patterns import pattern_cells
from heedloop_server.store.quality.rollup import roll_up, roll_up_minutes, roll_up_project
from heedloop_server.store.spans import insert_calls

START = datetime(2026, 10, 30, tzinfo=timezone.utc)  # the partition's month ends within
NOW = START + timedelta(days=4, hours=5, minutes=20)
PERIODS = [
    (START, NOW),
    (START + timedelta(hours=3, minutes=17), NOW - timedelta(hours=30, minutes=1)),
    (START + timedelta(days=1), START + timedelta(days=2)),
]
FILTERS = [
    {},
    {"tag": ["billing"]},
    {"tag": ["billing", "vip"]},
    {"metadata.language": "de"},
    {"metadata.request": "r7"},
    {"metadata.language": ""},
    {"status": "error"},
    {"answer_chars": "201 to 1,000"},
    {"model": "small", "prompt_version": "v2"},
    {"answers_only": False},
    {"user_id": "u3"},
    {"rating": "down"},
    {"language": "fr"},
    {"user": "new"},
]


def _call(rng, i, at):
    metadata = {"heedloop.metadata.request": f"r{i}"}
    if i % 3:
        metadata["heedloop.metadata.language"] = rng.choice(["de", "en", "fr"])
    return Call(
        trace_id=f"{rng.getrandbits(128):032x}",
        span_id=f"{rng.getrandbits(64):016x}",
        start_time=at,
        duration_ns=10**9,
        name="answer",
        service="web",
        model_requested=rng.choice(["small", "large"]),
        prompt_version=rng.choice(["v1", "v2"]),
        user_id=f"u{i % 40}",
        is_answer=i % 9 != 0,
        tags=tuple(rng.sample(["billing", "vip", "refunds"], rng.randint(0, 2))),
        status="error" if i % 20 == 0 else "ok",
        sampling_probability=rng.choice([1.0, 0.5]),
        input_messages=(Message("user", "Where is it?"),),
        output_messages=(Message("assistant", "x" * rng.choice([0, 50, 500, 2000])),),
        attributes=metadata,
    )


def _said(rng, call, i):
    target = Target(trace_id=call.trace_id, span_id=call.span_id)
    at = call.start_time + timedelta(minutes=rng.randint(1, 90))
    yield _thumb(target, f"p{i}", rng.random() < 0.6, at)
    if i % 5 == 0:
        yield _thumb(target, "somebody else", rng.random() < 0.5, at + timedelta(minutes=1))
    if i % 7 == 0:
        annotator = _thumb(target, "w1", True, at, "annotator")
        yield replace(annotator, sampling_probability=0.25)
    if i % 6 == 0:
        for who in ("p1", "p2"):
            yield Feedback("flag", target, category="wrong", author=Author("end_user", who), created_at=at)


def _thumb(target, who, up, at, kind="end_user", **more):
    return Feedback("rating", target, value=float(up), author=Author(kind, who), created_at=at, **more)


def _view(since, until, filters, kind="end_user", cells=True, project=None):
    view = View(CallFilters.model_validate({"since": since, "until": until, **filters}), kind)
    if not cells:
        view.memo[since, until] = _without_aggregates(project, since, until)
    return view


def _without_aggregates(project, since, until):
    """Fingerprints by which everything is counted from the rows."""
    known = Fingerprints(read_hour_fingerprints(project, since, until).hours)
    while not known.detailed >= {h for hours in known.hours.values() for h in hours}:
        read_minutes(project, known, since, until)
    known.cells.clear()
    return known


def _everything(project, since, until, filters, kind, *, cells):
    view = _view(since, until, filters, kind, cells, project)
    fields = ("tag", "metadata.language", "metadata.request", "answer_chars", "user_id", "user")
    found = {f: counts.count_by(project, view, [f]) for f in fields}
    found |= {b: counts.count_over_time(project, view, b) for b in ("hour", "day")}
    found["pair"] = counts.count_by(project, view, ["tag", "prompt_version"])
    found["total"] = counts.count_total(project, view)
    said = counts.count_feedback(project, view)
    found |= {"kinds": said.kinds, "flags": said.flags}
    total, each = counts.count_each(project, view, fields)
    found |= {"each": total} | {f"each {f}": groups for f, groups in each.items()}
    whole = counts.count_overview(project, view, "day", "tag")
    found |= {n: getattr(whole, n) for n in ("over_time", "versions", "models", "segments")}
    assert whole.total == found["total"]
    assert whole.segments == found["pair"]
    found["days"] = sorted(map(repr, pairs.count_days(project, view, "model")))
    found["patterns"] = _sorted(pattern_cells(project, view))
    return found


def _sorted(cells):
    """Without the keys that are told apart only where the hour has few of them."""
    kept = {}
    for c in cells:
        key = frozenset(a for a in c.attributes if a[0] != "metadata.request")
        had = kept.get(key, (0, 0))
        kept[key] = (had[0] + c.num_rated, had[1] + c.num_bad)
    return kept


def _assert_same(project, *asked):
    """`asked`: (period, filters, author kind); everything that is counted is the same from cells and from rows."""
    for (since, until), chosen, kind in asked:
        fast = _everything(project, since, until, chosen, kind, cells=True)
        slow = _everything(project, since, until, chosen, kind, cells=False)
        for name, value in slow.items():
            assert _near(fast[name]) == _near(value), (name, chosen, kind, since)


def _assert_same_totals(project):
    """Of every filter and period, the total, the trend and the kinds."""
    for since, until in PERIODS:
        for chosen in FILTERS:
            fast, slow = (_view(since, until, chosen, "end_user", c, project) for c in (True, False))
            assert _near(counts.count_total(project, fast)) == _near(counts.count_total(project, slow)), (
                chosen
            )
            assert counts.count_feedback(project, fast) == counts.count_feedback(project, slow), chosen


WHOLE, PART = (PERIODS[0], {}, "end_user"), (PERIODS[1], {"tag": ["billing"]}, "end_user")


def _near(value):
    """Sums of floats differ in their last digits by the order in which they are added."""
    if isinstance(value, dict):
        return {k: _near(v) for k, v in value.items()}
    if isinstance(value, counts.Group):
        parts = (value.answers, value.ratings)
        return [[round(getattr(p, n), 6) for n in p.__slots__] for p in parts]
    return value


@pytest.fixture
def place():
    rng = random.Random(11)
    step = (NOW - START) / 700
    calls = [_call(rng, i, START + i * step) for i in range(700)]
    said = [f for i, c in enumerate(calls) if rng.random() < 0.5 for f in _said(rng, c, i)]
    with temporary_store() as store:
        project = store.project("p")
        insert_calls(project, calls, received_at=NOW)
        desk = FeedbackWriter(store)
        desk.start()
        desk.submit("p", said).result()
        yield project, desk, calls, said
        desk.stop()


def test_counted_before_and_counted_now_are_the_same(place):
    project = place[0]
    assert roll_up_project(project, now=NOW) == 5
    plan, _ = make_plans(read_hour_fingerprints(project, *PERIODS[0]), *PERIODS[0])
    assert (len(plan.days), len(plan.hours)) == (4, 5)
    assert plan.ranges == ((NOW.replace(minute=0), NOW),)
    _assert_same(project, WHOLE, (PERIODS[1], {"metadata.language": "de"}, "annotator"))
    _assert_same_totals(project)
    assert roll_up_project(project, now=NOW) == 0


def test_whatever_changes_afterwards_is_counted(place):
    """Resent and changed calls, late ones, late tags, changed minds, retractions, ratings of old calls, erasures, merges."""
    project, desk, calls, said = place
    roll_up_project(project, now=NOW)
    insert_calls(project, calls[100:130], received_at=NOW)  # resent: nothing new
    changed = [replace(c, status="error", tags=("late",)) for c in calls[200:205]]
    insert_calls(project, changed, received_at=NOW + timedelta(seconds=1))
    rng = random.Random(1)
    insert_calls(project, [_call(rng, 9000 + i, calls[300].start_time) for i in range(5)])
    later = NOW + timedelta(hours=1)
    desk.submit("p", [replace(f, id="again" + f.id, value=1.0 - f.value, created_at=later)
                      for f in said[:40] if f.kind == "rating"]).result()  # fmt: skip
    desk.submit(
        "p", [replace(f, id="gone" + f.id, retracted=True, created_at=later) for f in said[50:70]]
    ).result()
    for since, until in PERIODS[:1]:
        plan, _ = make_plans(read_hour_fingerprints(project, since, until), since, until)
        assert plan.ranges
        assert plan.hours
    tagged = {(c.trace_id, c.span_id): c.start_time for c in calls[500:540]}
    change_tags(project, tagged, add=["vip", "by hand"], remove=[], author_id="w1")
    erase(project, "trace_id", calls[400].trace_id, erasure_id="e1")
    _assert_same(project, WHOLE)
    assert roll_up_project(project, now=NOW) > 0
    for table in ("spans", "feedback"):
        project.store.command(f"OPTIMIZE TABLE {table} FINAL")
    _assert_same(project, PART)
    roll_up_project(project, now=NOW)
    assert (
        counts.count_by(project, _view(*PERIODS[0], {"answers_only": False}), ["tag"])[
            ("by hand",)
        ].answers.num
        == 40
    )
    change_tags(project, tagged, add=[], remove=["by hand"], author_id="w1")
    assert ("by hand",) not in counts.count_by(project, _view(*PERIODS[0], {}), ["tag"])
    assert roll_up_project(project, now=NOW) > 0
    assert roll_up_project(project, now=NOW) == 0
    _assert_same(project, WHOLE)


def test_an_hour_that_was_erased_leaves_no_cells(place):
    project, _, calls, _ = place
    roll_up_project(project, now=NOW)
    hour = calls[0].start_time
    for i, call in enumerate(c for c in calls if c.start_time < hour + timedelta(hours=1)):
        erase(project, "trace_id", call.trace_id, erasure_id=f"e{i}")
    roll_up_project(project, now=NOW)
    rows = project.rows(
        "SELECT sum(length(cell_num)) AS n FROM answer_aggregates FINAL WHERE project_id = {project:String} AND grain = 'hour' "
        "AND start = toDateTime({hour:UInt32}, 'UTC')",
        {"hour": int(hour.timestamp())},
    )
    assert rows[0]["n"] == 0
    assert roll_up_project(project, now=NOW) == 0
    _assert_same(project, WHOLE)


def test_no_project_waits_for_ever(place):
    """A round without time counts one day of one project; the next round goes on with the next project."""
    store = place[0].store
    for name in ("q", "r"):
        insert_calls(store.project(name), [_call(random.Random(1), 1, START)], received_at=NOW)
    seen = [roll_up(store, budget_s=0, now=NOW)]
    for _ in range(3):
        seen.append(roll_up(store, after=seen[-1], budget_s=0, now=NOW))
    assert seen == ["p", "q", "r", "p"]
    roll_up(store, after="p", budget_s=300, now=NOW)
    assert roll_up_project(place[0], now=NOW) == 0


def test_another_project_s_cells_are_not_read(place):
    project = place[0]
    roll_up_project(project, now=NOW)
    other = View(CallFilters(since=START, until=NOW))
    assert counts.count_total(project.store.project("q"), other).num_answers == 0


def test_an_overview_has_every_hour_of_the_longest_period():
    """2,000 hours that begin within one lie in 2,001, each of which counts."""
    since = START - timedelta(hours=2000, minutes=-30)
    calls = [
        Call(trace_id=f"{i:032x}", span_id=f"{i:016x}", start_time=since + timedelta(minutes=60 * i - (i == 2000)),
             model_requested="small", is_answer=True)
        for i in range(2001)
    ]  # fmt: skip
    with temporary_store() as store:
        project = store.project("p")
        insert_calls(project, calls, received_at=NOW)
        view = _view(since, since + timedelta(hours=counts.MAX_BUCKETS), {"answers_only": False})
        found = counts.count_overview(project, view, "hour", "tag").over_time
        assert len(found) == 2001
        assert found == counts.count_over_time(project, view, "hour")


@pytest.fixture(scope="module")
def shared_store():
    with temporary_store() as store:
        yield store


class Hour:
    """Traffic of one project within three hours: what happens to it, in any order, beside a plain list of what counts."""

    def __init__(self, store, seed):
        self.rng, self.project = random.Random(seed), store.project(f"hour-{seed}")
        self.now = START + timedelta(hours=1)
        self.calls, self.thumbs, self.gone = {}, {}, set()
        self.desk = FeedbackWriter(store)
        self.desk.start()

    def answers(self):
        """New answers, some of them late."""
        made = [
            _call(
                self.rng, len(self.calls) + i, self.now - timedelta(minutes=self.rng.choice([0, 0, 0, 5, 90]))
            )
            for i in range(self.rng.randint(1, 8))
        ]
        insert_calls(self.project, made, received_at=self.now)
        self.calls |= {c.trace_id: c for c in made}

    def changed_answers(self):
        """Answers that are sent once more with another status."""
        changed = [replace(c, status="error") for c in self._some(2)]
        insert_calls(self.project, changed, received_at=self.now)
        self.calls |= {c.trace_id: c for c in changed}

    def rated(self):
        """Thumbs, whether or not there was one by the same user before."""
        self._send(dict.fromkeys((c.trace_id for c in self._some(6)), False))

    def retracted(self):
        """Thumbs that are taken back."""
        rated = sorted(self.thumbs.keys() - self.gone)
        self._send(dict.fromkeys(self.rng.sample(rated, min(2, len(rated))), True))

    def erased(self):
        """An answer with all that is said of it."""
        for call in self._some(1):
            erase(self.project, "trace_id", call.trace_id, erasure_id=call.trace_id)
            self.gone.add(call.trace_id)

    def counted(self):
        """What the background job does at any time."""
        roll_up_minutes(self.project.store, now=self.now)
        if self.rng.random() < 0.4:
            roll_up_project(self.project, now=self.now)

    def merged(self):
        """A merge of the parts, after which the rows are others."""
        for table in ("spans", "feedback", "answer_aggregates"):
            self.project.store.command(f"OPTIMIZE TABLE {table} FINAL")

    def restarted(self):
        """Another writer, as after the end of a server."""
        self.desk.stop()
        self.desk = FeedbackWriter(self.project.store)
        self.desk.start()

    def passed(self):
        """Time."""
        self.now += timedelta(seconds=self.rng.choice([20, 61, 400]))

    def _some(self, most):
        left = sorted(self.calls.keys() - self.gone)
        return [self.calls[t] for t in self.rng.sample(left, min(most, len(left)))]

    def _send(self, retracted):
        sent = []
        for trace_id, is_retracted in retracted.items():
            target = Target(trace_id=trace_id, span_id=self.calls[trace_id].span_id)
            up = self.rng.random() < 0.5
            self.now += timedelta(milliseconds=1)
            sent.append(_thumb(target, "u", up, self.now, retracted=is_retracted))
            self.thumbs[trace_id] = None if is_retracted else up
        self.desk.submit(self.project.project, sent).result()

    def expected(self, since, until):
        """(answers, rated answers, thumbs up, errors) of a period by the list."""
        left = [
            c
            for t, c in self.calls.items()
            if t not in self.gone and since <= c.start_time < until and c.is_answer
        ]
        thumbs = [self.thumbs.get(c.trace_id) for c in left]
        rated = [up for up in thumbs if up is not None]
        return len(left), len(rated), sum(rated), sum(c.status == "error" for c in left)


def _numbers(project, since, until):
    view = _view(since, until, {})
    total = counts.count_total(project, view)
    errors = counts.count_by(project, view, ["status"]).get(("error",))
    return total.answers.num, total.ratings.num, total.ratings.num_up, errors.answers.num if errors else 0


_EVENTS = ("answers", "answers", "changed_answers", "rated", "rated", "retracted", "erased", "counted", "counted",
           "counted", "passed", "passed", "merged", "restarted")  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_the_running_hour_is_counted_as_it_fills(shared_store, seed):
    """Whatever happens in whatever order, at every moment each period gives the numbers of a plain list."""
    hour = Hour(shared_store, seed)
    used = 0
    events = [
        "answers",
        "rated",
        "passed",
        "answers",
        "rated",
        "passed",
        "counted",
        "rated",
        "counted",
        "changed_answers",
    ]
    for event in events + hour.rng.choices(_EVENTS, k=25):
        getattr(hour, event)()
        since = START + timedelta(minutes=hour.rng.choice([0, 0, 61]), seconds=hour.rng.choice([0, 17]))
        until = max(hour.now - timedelta(minutes=hour.rng.choice([0, 0, 7])), since + timedelta(minutes=1))
        assert _numbers(hour.project, since, until) == hour.expected(since, until)
        known = read_hour_fingerprints(hour.project, since, until)
        read_minutes(hour.project, known, since, until)
        used += sum(len(plan.minutes) for plan in make_plans(known, since, until))
    hour.desk.stop()
    assert used


def test_minutes_of_many_quiet_projects_are_read_from_their_rows(monkeypatch):
    """Beside many projects that change, only those with many spans have minutes counted; the others' numbers are the same."""
    monkeypatch.setattr(rollup, "FEW_PROJECTS", 1)
    monkeypatch.setattr(rollup, "MANY_SPANS", 5)
    rng = random.Random(1)
    with temporary_store() as store:
        for name, num in (("loud", 6), ("quiet", 4)):
            insert_calls(store.project(name), [_call(rng, i + 1, START) for i in range(num)])
        roll_up_minutes(store, now=START + timedelta(minutes=5))
        counted = store.rows("SELECT DISTINCT project_id FROM answer_aggregates")
        assert [r["project_id"] for r in counted] == ["loud"]
        for name, num in (("loud", 6), ("quiet", 4)):
            until = START + timedelta(minutes=5)
            assert _numbers(store.project(name), START, until)[0] == num
