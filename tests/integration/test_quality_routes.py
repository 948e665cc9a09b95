"""The quality routes over a real store: every number is counted again in Python, by other means, from what was sent."""

import random
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

import pytest
from fastapi.testclient import TestClient
from temporary_stores import temporary_store

from heedloop.schema import Author, Call, Feedback, Message, Target, format_time
from heedloop_server.app import create_app
from heedloop_server.http.auth import make_key
from heedloop_server.ingest.feedback_writer import FeedbackWriter
from heedloop_server.settings import Settings
from heedloop_server.store.spans import insert_calls

SINCE = datetime(2026, 11, 1, tzinfo=timezone.utc)
UNTIL = SINCE + timedelta(days=10)
PERIOD = {"since": format_time(SINCE), "until": format_time(UNTIL)}
TOPICS = ("billing", "refunds", "shipping")
MODELS = ("small-2", "large-2")


@dataclass(frozen=True)
class World:
    """What was sent: calls and the thumbs that count."""

    calls: list[Call]
    thumbs: dict[str, int]


def _calls(rng: random.Random, num: int) -> list[Call]:
    made = []
    for i in range(num):
        at = SINCE - timedelta(days=10) + timedelta(days=20) * (i / num)
        topic = rng.choice(TOPICS)
        made.append(
            Call(
                trace_id=f"{rng.getrandbits(128):032x}",
                span_id=f"{rng.getrandbits(64):016x}",
                start_time=at,
                duration_ns=10**9,
                name="answer",
                service="support",
                model_requested=rng.choice(MODELS),
                prompt_name="support",
                prompt_version="v13" if at >= SINCE + timedelta(days=4) else "v12",
                user_id=f"u{i % 300}",
                tags=("vip", topic) if i % 7 == 0 else (topic,),
                status="error" if i % 50 == 0 else "ok",
                input_messages=(Message("user", "Where is my order?"),),
                output_messages=(Message("assistant", "It is under way. " * rng.randint(1, 100)),),
                attributes={"heedloop.metadata.topic": topic},
            )
        )
    return made


def _thumbs(rng: random.Random, calls: list[Call]) -> tuple[list[Feedback], dict[str, int]]:
    """Four of ten answers rated; refunds on v13 badly; some people change their mind, some take it back."""
    said, counts = [], {}
    for i, call in enumerate(calls):
        if rng.random() > 0.4:
            continue
        bad = call.tags[-1] == "refunds" and call.prompt_version == "v13"
        up = int(rng.random() < (0.25 if bad else 0.75))
        said.append(_thumb(call, up, f"person{i}", minutes=1))
        counts[call.span_id] = up
        if i % 11 == 0:
            said.append(_thumb(call, 1 - up, f"person{i}", minutes=5))
            counts[call.span_id] = 1 - up
        if i % 13 == 0:
            said.append(_thumb(call, 1, "somebody else", minutes=9))
            counts[call.span_id] = 1
    return said, counts


def _thumb(call: Call, up: int, who: str, *, minutes: int, **more) -> Feedback:
    return Feedback(
        "rating",
        Target(trace_id=call.trace_id, span_id=call.span_id),
        value=float(up),
        author=Author("end_user", who),
        created_at=call.start_time + timedelta(minutes=minutes),
        **more,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    rng = random.Random(7)
    calls = _calls(rng, 1600)
    said, counts = _thumbs(rng, calls)
    rated = [c for c in calls if c.span_id in counts and c.start_time >= SINCE]
    flagged = [Target(trace_id=c.trace_id, span_id=c.span_id) for c in rated[:9]]
    said += [
        Feedback("flag", t, category="misleading" if i < 6 else "incomplete") for i, t in enumerate(flagged)
    ]
    said.append(Feedback("correction", flagged[0], correction="It was sent on Monday."))
    said.append(_thumb(rated[0], 0, "gone", minutes=20))
    said.append(_thumb(rated[0], 0, "gone", minutes=21, retracted=True))
    with temporary_store() as store:
        insert_calls(store.project("p"), calls)
        insert_calls(store.project("p"), calls[:40])  # resent
        insert_calls(store.project("other"), _calls(rng, 50))
        desk = FeedbackWriter(store)
        desk.start()
        desk.submit("p", said).result()
        desk.stop()
        app = create_app(Settings(data=tmp_path_factory.mktemp("data")), store=store)
        key, _ = make_key(store, "p", name="reader", scopes=["read"])
        with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
            yield client, World(calls, counts)


def _get(place, what, **params):
    answer = place[0].get(f"/v1/quality/{what}", params={**PERIOD, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()


def _now(world, **same):
    return [
        c
        for c in world.calls
        if SINCE <= c.start_time < UNTIL and all(getattr(c, k) == v for k, v in same.items())
    ]


def _count(world, calls):
    rated = [world.thumbs[c.span_id] for c in calls if c.span_id in world.thumbs]
    return {"num_answers": len(calls), "num_rated": len(rated), "num_up": sum(rated)}


def _same_counts(group, expected):
    assert {k: group[k] for k in expected} == expected
    if expected["num_rated"]:
        assert group["rate"]["estimate"] == pytest.approx(expected["num_up"] / expected["num_rated"])
        assert group["rate"]["n"] == expected["num_rated"]
        assert group["rate"]["low"] <= group["rate"]["estimate"] <= group["rate"]["high"]
    else:
        assert group["rate"] is None


def test_summary(place):
    found, world = _get(place, "summary"), place[1]
    _same_counts(found, _count(world, _now(world)))
    before = [c for c in world.calls if SINCE - timedelta(days=10) <= c.start_time < SINCE]
    _same_counts(found["previous"], _count(world, before))
    assert found["coverage"]["estimate"] == pytest.approx(found["num_rated"] / found["num_answers"])
    assert found["change"]["estimate"] == pytest.approx(
        found["rate"]["estimate"] - found["previous"]["rate"]["estimate"]
    )
    assert found["change"]["method"] == "newcombe"
    assert (found["num_flags"], found["num_corrections"], found["num_comparisons"]) == (9, 1, 0)


def test_nothing_in_view_is_undefined_not_zero(place):
    found = _get(place, "summary", model="no such model")
    assert (found["num_answers"], found["num_rated"]) == (0, 0)
    assert found["rate"] is None
    assert found["coverage"] is None
    assert found["change"] is None
    assert _get(place, "finding", model="no such model") is None
    assert _get(place, "overrepresented", model="no such model")["patterns"] == []


def test_trend_has_every_bucket(place):
    found, world = _get(place, "trend"), place[1]
    assert len(found["points"]) == 10
    for point in found["points"]:
        day = [c for c in _now(world) if format_time(c.start_time)[:10] == point["time"][:10]]
        _same_counts(point, _count(world, day))
    assert [(r["field"], r["value"]) for r in found["releases"]] == [("prompt_version", "v13")]
    assert len(_get(place, "trend", interval="hour")["points"]) == 240
    weeks = _get(place, "trend", interval="week")["points"]
    assert [w["time"][:10] for w in weeks] == ["2026-10-26", "2026-11-02", "2026-11-09"]
    assert sum(w["num_rated"] for w in weeks) == _count(world, _now(world))["num_rated"]


def test_a_gap_is_a_gap(place):
    later = {"since": format_time(UNTIL - timedelta(days=1)), "until": format_time(UNTIL + timedelta(days=3))}
    points = place[0].get("/v1/quality/trend", params=later).json()["points"]
    assert [p["rate"] is None for p in points] == [False, True, True, True]
    assert [p["coverage"] is None for p in points] == [False, True, True, True]


@pytest.mark.parametrize(
    ("field", "value_of"),
    [
        ("prompt_version", lambda c: [c.prompt_version]),
        ("model", lambda c: [c.model]),
        ("status", lambda c: [c.status]),
        ("tag", lambda c: list(c.tags)),
        ("metadata.topic", lambda c: [c.tags[-1]]),
        ("user_id", lambda c: [c.user_id]),
    ],
)
def test_by_a_field(place, field, value_of):
    groups, world = _get(place, "by", field=field)["groups"], place[1]
    members = {}
    for call in _now(world):
        for value in value_of(call):
            members.setdefault(value, []).append(call)
    assert {g["value"] for g in groups} == set(members)
    for group in groups:
        _same_counts(group, _count(world, members[group["value"]]))


def test_by_two_fields_and_as_a_heatmap(place):
    world = place[1]
    groups = _get(place, "by", field="tag", field2="prompt_version")["groups"]
    for group in groups:
        calls = [c for c in _now(world, prompt_version=group["value2"]) if group["value"] in c.tags]
        _same_counts(group, _count(world, calls))
    table = _get(place, "heatmap", field="tag", field2="prompt_version", min_ratings=20)
    assert (table["rows"], table["columns"]) == ([*TOPICS, "vip"], ["v12", "v13"])
    assert all(c["enough"] == (c["num_rated"] >= 20) for c in table["cells"])


@pytest.mark.parametrize(
    "filters",
    [
        {"model": "small-2"},
        {"tag": "vip"},
        {"status": "error"},
        {"prompt_version": "v13", "model": "large-2"},
        {"text": "under way"},
        {"rating": "down"},
        {"rating": "up", "tag": "billing"},
        {"rating": "any"},
        {"rating": "none"},
        {"max_duration_ms": 10},
        {"flag": "misleading"},
        {"has": "correction"},
        {"user_id": "u3"},
    ],
)
def test_filters_are_those_of_calls(place, filters):
    """Answers and ratings in view are those of exactly the calls that /v1/calls lists, or would list."""
    world = place[1]
    found = _get(place, "summary", **filters)
    takes = {
        "model": lambda c, v: c.model == v,
        "tag": lambda c, v: v in c.tags,
        "status": lambda c, v: c.status == v,
        "prompt_version": lambda c, v: c.prompt_version == v,
        "text": lambda c, v: True,
        "rating": lambda c, v: (
            world.thumbs.get(c.span_id) in {"up": [1], "down": [0], "none": [None], "any": [0, 1]}[v]
        ),
        "max_duration_ms": lambda c, v: False,
        "flag": lambda c, v: c in first_rated[:6],
        "has": lambda c, v: c in first_rated[:1],
        "user_id": lambda c, v: c.user_id == v,
    }
    first_rated = [c for c in _now(world) if c.span_id in world.thumbs]
    calls = [c for c in _now(world) if all(takes[k](c, v) for k, v in filters.items())]
    _same_counts(found, _count(world, calls))


def test_compare_decides_what_was_planted_and_not_what_was_not(place):
    world = place[1]
    found = _get(place, "compare", field="prompt_version", a="v12", b="v13", tag="refunds")
    for side in ("a", "b"):
        calls = [c for c in _now(world, prompt_version=found[side]["value"]) if "refunds" in c.tags]
        _same_counts(found[side], _count(world, calls))
    assert found["decided"] == "a"
    assert found["e_value"] >= 20
    assert found["num_needed"] == 0
    assert found["design"] == "before_and_after"
    assert "only if nothing else changed" in found["sentence"]
    models = _get(place, "compare", field="model", a="small-2", b="large-2", stratify="prompt_version")
    assert models["decided"] is None
    assert models["design"] == "same_days"
    assert models["sentence"].startswith("Not enough evidence yet")
    assert [s["value"] for s in models["stratified"]["strata"]] == ["v12", "v13"]
    assert models["stratified"]["reversal"] is False


def test_compare_with_an_unknown_value_is_undefined(place):
    found = _get(place, "compare", field="model", a="small-2", b="ghost")
    assert found["difference"] is None
    assert found["b"]["rate"] is None
    assert found["decided"] is None
    assert "ghost has no ratings" in found["sentence"]


def test_reasons(place):
    assert _get(place, "reasons")["flags"] == [
        {"category": "misleading", "count": 6},
        {"category": "incomplete", "count": 3},
    ]


def test_the_planted_pattern_is_the_finding(place):
    world = place[1]
    found = _get(place, "finding", min_ratings=20)
    calls = [c for c in _now(world, prompt_version="v13") if c.tags[-1] == "refunds"]
    expected = _count(world, calls)
    assert {"field": "prompt_version", "value": "v13"} in found["attributes"]
    assert found["rate"]["n"] == expected["num_rated"]
    assert found["num_answers"] == expected["num_rated"] - expected["num_up"]
    assert found["change"]["high"] < 0
    assert found["q_value"] < 0.05
    assert found["lead"].endswith("v13")
    patterns = _get(place, "overrepresented", min_ratings=20)
    assert patterns["num_rated"] == _count(world, _now(world))["num_rated"]
    top = patterns["patterns"][0]
    assert top["label"].endswith("v13")
    assert top["lift"] > 1.5


def test_the_finding_s_filters_show_its_answers(place):
    found = _get(place, "finding")
    shown = _get(place, "summary", **found["filters"])
    assert shown["num_answers"] >= found["num_answers"]
    assert shown["num_down"] == shown["num_rated"]


def test_who_rates(place):
    found, world = _get(place, "raters"), place[1]
    first = {}
    for call in world.calls:
        first.setdefault(call.user_id, call.start_time.date())
    segments = {(s["field"], s["value"]): s for s in found["segments"]}
    returning = [c for c in _now(world) if first[c.user_id] != c.start_time.date()]
    _same_counts(segments["user", "returning"], _count(world, returning))
    lengths = Counter(
        "up to 200"
        if len(c.output_text) <= 200
        else "201 to 1,000"
        if len(c.output_text) <= 1000
        else "over 1,000"
        for c in _now(world)
    )
    assert {v: s["num_answers"] for (f, v), s in segments.items() if f == "answer_chars"} == lengths


def test_the_sample_without_reviews_is_undefined_and_bounded(place):
    found = _get(place, "sample")
    assert found["random_sample"] is None
    assert found["difference"] is None
    assert found["bounds"]["low"] < found["self_selected"]["estimate"] < found["bounds"]["high"]


def test_drift_is_seen_where_it_was_planted_and_only_there(place):
    """Refunds fell on the fifth day, when v13 came; shipping never did."""
    fallen = _get(place, "drift", tag="refunds", interval="hour")
    assert fallen["state"] in ("alarm", "warning")
    assert fallen["history"][0]["time"] >= format_time(SINCE + timedelta(days=4))
    assert fallen["baseline"]["estimate"] > 0.6
    assert _get(place, "drift", tag="shipping")["state"] in ("ok", "warning")
    assert _get(place, "drift", model="no such model") is None
    errors = _get(place, "drift", metric="errors")
    assert errors["baseline"]["estimate"] == pytest.approx(1 / 50)
    assert errors["state"] == "ok"


@pytest.mark.parametrize(
    ("what", "params", "field"),
    [
        ("by", {"field": "answer"}, "field"),
        ("by", {"field": "metadata."}, "field"),
        ("by", {}, "field"),
        ("compare", {"field": "model", "a": "x", "b": "x"}, "b"),
        ("compare", {"field": "model", "a": "x", "b": "y", "stratify": "model"}, "stratify"),
        ("trend", {"interval": "minute"}, "interval"),
        ("trend", {"interval": "hour", "since": "2020-01-01T00:00:00Z"}, "interval"),
        ("summary", {"since": "2026-11-12T00:00:00Z"}, "since"),
        ("summary", {"author_kind": "martian"}, "author_kind"),
        ("overrepresented", {"q": "2"}, "q"),
    ],
)
def test_what_is_wrong_is_named(place, what, params, field):
    answer = place[0].get(f"/v1/quality/{what}", params={**PERIOD, **params})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["field"] == field


def test_hostile_names_are_values_never_sql(place):
    for field in ("metadata.x'] OR 1=1 --", "metadata.\x00`", "metadata." + "k" * 128):
        groups = _get(place, "by", field=field)["groups"]
        assert {g["value"] for g in groups} == {""}


def test_another_project_sees_nothing(place):
    assert (
        place[0].get("/v1/quality/summary", params=PERIOD, headers={"Authorization": "Bearer x"}).status_code
        == 401
    )


# ------------------------------------------------------------------------------------- sampled calls, sampled reviews


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """Calls recorded one in four, every rated one kept; annotators reviewed a sample with two known probabilities."""
    rng = random.Random(3)
    given = [c for c in _calls(rng, 4000) if SINCE <= c.start_time < UNTIL]
    rated = {c.span_id for c in given if rng.random() < 0.1}
    kept = [replace(c, sampling_probability=0.25) for c in given if c.span_id in rated or rng.random() < 0.25]
    said = [
        _thumb(c, int(rng.random() < 0.6), f"p{c.span_id}", minutes=1) for c in kept if c.span_id in rated
    ]
    truth, review = {c.span_id: int(rng.random() < 0.8) for c in kept}, []
    for call in kept:
        probability = 0.9 if call.model == "small-2" else 0.3
        if rng.random() < probability:
            thumb = _thumb(call, truth[call.span_id], "w1", minutes=2, sampling_probability=probability)
            review.append(replace(thumb, author=Author("annotator", "w1"), solicited=True))
    with temporary_store() as store:
        insert_calls(store.project("p"), kept)
        desk = FeedbackWriter(store)
        desk.start()
        desk.submit("p", said + review).result()
        desk.stop()
        key, _ = make_key(store, "p", name="reader", scopes=["read"])
        app = create_app(Settings(data=tmp_path_factory.mktemp("data")), store=store)
        with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
            yield client, len(given), len(rated), review


def test_sampled_out_calls_are_counted_by_what_was_recorded(sampled):
    """Recorded calls alone would say 29% were rated; 10% were."""
    client, num_given, num_rated, _ = sampled
    found = client.get("/v1/quality/summary", params=PERIOD).json()
    assert found["num_rated"] == num_rated
    assert found["num_answers"] == pytest.approx(num_given, rel=0.12)
    assert found["coverage"]["low"] < num_rated / num_given < found["coverage"]["high"]


def test_reviews_are_weighted_by_their_probability(sampled):
    client, _, num_rated, review = sampled
    weights = [1 / f.sampling_probability for f in review]
    rate = sum(w * f.value for w, f in zip(weights, review, strict=True)) / sum(weights)
    found = client.get("/v1/quality/sample", params=PERIOD).json()
    assert found["random_sample"]["estimate"] == pytest.approx(rate)
    assert found["random_sample"]["method"] == "wilson weighted by design"
    assert found["random_sample"]["n"] == len(review)
    assert found["self_selected"]["n"] == num_rated
    assert found["difference"]["high"] < 0
    by_annotators = client.get("/v1/quality/summary", params={**PERIOD, "author_kind": "annotator"}).json()
    plain, by_design = by_annotators["rate"], found["random_sample"]
    assert (pytest.approx(plain["estimate"]), plain["n"]) == (by_design["estimate"], by_design["n"])
    last_digits = 1e-12  # sums of floats differ in them by the order in which they are added
    assert by_design["low"] - last_digits <= plain["low"]
    assert plain["high"] <= by_design["high"] + last_digits


@pytest.mark.parametrize("chosen", [{}, {"model": "small-2", "rating": "down"}], ids=str)
def test_the_overview_is_the_other_routes_answers(place, chosen):
    client = place[0]

    def ask(route, **more):
        return client.get(f"/v1/quality/{route}", params={**PERIOD, **chosen, **more}).json()

    found = ask("overview", interval="week", segment="metadata.topic")
    assert found["summary"] == ask("summary")
    assert found["trend"] == ask("trend", interval="week")
    assert found["versions"] == ask("by", field="prompt_version")["groups"]
    assert found["models"] == ask("by", field="model")["groups"]
    assert found["segments"] == ask("by", field="metadata.topic", field2="prompt_version")["groups"]
    assert found["reasons"] == ask("reasons")
    assert found["finding"] == ask("finding")
    assert (found["finding"] is None) == bool(chosen)
    assert found["overrepresented"] == ask("overrepresented")


def test_an_overview_of_nothing_and_of_too_much(place):
    client = place[0]
    empty = client.get("/v1/quality/overview", params={**PERIOD, "model": "none such"}).json()
    assert (empty["versions"], empty["finding"], empty["summary"]["rate"]) == ([], None, None)
    assert len(empty["trend"]["points"]) == 10
    wrong = client.get("/v1/quality/overview", params={**PERIOD, "segment": "nonsense"})
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "field")
    long = {"since": "1990-01-01T00:00:00Z", "until": PERIOD["until"], "interval": "hour"}
    assert client.get("/v1/quality/overview", params=long).json()["error"]["field"] == "interval"
