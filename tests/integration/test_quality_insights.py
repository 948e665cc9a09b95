"""Versions, releases, clusters, leagues and liked answers over REST: what was planted is found, with links that show it."""

import random
from datetime import datetime, timedelta, timezone

import pytest
from fastapi.testclient import TestClient
from temporary_stores import temporary_store

from heedloop.schema import Author, Call, Feedback, Message, Ranking, Target, format_time
from heedloop_server.app import create_app
from heedloop_server.http.auth import make_key
from heedloop_server.ingest.feedback_writer import FeedbackWriter
from heedloop_server.settings import Settings
from heedloop_server.store.admin.erasure import erase
from heedloop_server.store.spans import insert_calls

SINCE = datetime(2026, 11, 2, tzinfo=timezone.utc)
UNTIL = SINCE + timedelta(days=12)
PERIOD = {"since": format_time(SINCE), "until": format_time(UNTIL)}
RELEASE = SINCE + timedelta(days=6, hours=9, minutes=30)
TOPICS = {
    "billing": ("Why was my card charged twice this month?", "Your invoice shows the card payment and the charged amount."),
    "shipping": ("When will the parcel reach my address?", "The parcel left the warehouse and the courier delivers it to your address."),
    "password": ("How can I reset my login password?", "Open settings, choose security, and reset the login password there."),
}  # fmt: skip
WORDS = ("maybe", "perhaps", "today", "tomorrow", "kindly", "please", "again", "later", "soon", "often")
UP = {("v1", 0): 0.7, ("v2", 0): 0.7, ("v3", 0): 0.3}


def _call(rng, i, at):
    topic = rng.choice(list(TOPICS))
    question, answer = TOPICS[topic]
    late = at >= RELEASE
    return Call(
        trace_id=f"{rng.getrandbits(128):032x}",
        span_id=f"{rng.getrandbits(64):016x}",
        start_time=at,
        duration_ns=10**9,
        name="answer",
        service="web",
        model_requested=rng.choice(["small", "large"]),
        prompt_version=rng.choice(["v1", "v2", "v3"] if late else ["v1", "v2"]),
        user_id=f"u{i % 200}",
        tags=(topic, "vip") if i % 4 == 0 else (topic,),
        input_messages=(Message("user", f"{question} {rng.choice(WORDS)} {rng.choice(WORDS)}"),),
        output_messages=(Message("assistant", f"{answer} {rng.choice(WORDS)} {rng.choice(WORDS)}"),),
        attributes={"heedloop.metadata.language": rng.choice(["de", "en"])},
    )


def _target(call):
    return Target(trace_id=call.trace_id, span_id=call.span_id)


def _thumb(call, up, **more):
    return Feedback("rating", _target(call), value=float(up), author=Author("end_user", "u" + call.span_id),
                    created_at=call.start_time + timedelta(minutes=1), **more)  # fmt: skip


def _comparison(rng, a, b, result, rater):
    ranks = {1: (1, 2), 0: (2, 1), 0.5: (1, 1)}[result]
    order = rng.choice([(0, 1), (1, 0)])
    ranking = Ranking((_target(a), _target(b)), ranks, shown_order=order)
    return Feedback("comparison", _target(a), ranking=ranking, author=Author("annotator", rater))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    rng = random.Random(5)
    step = (UNTIL - SINCE) / 1500
    calls = [_call(rng, i, SINCE + i * step) for i in range(1500)]
    thumbs = {c.span_id: rng.random() < UP[c.prompt_version, 0] for c in calls if rng.random() < 0.6}
    said = [
        _thumb(c, thumbs[c.span_id], comment="It charged me again!" if c.tags[0] == "billing" else None)
        for c in calls
        if c.span_id in thumbs
    ]
    large, small = ([c for c in calls if c.model == m] for m in ("large", "small"))
    for i in range(240):
        result = 0.5 if i % 10 == 0 else int(rng.random() < 0.7)
        said.append(_comparison(rng, large[i], small[i], result, f"w{i % 12}"))
    said.append(_comparison(rng, large[0], large[1], 1, "w1"))
    with temporary_store() as store:
        insert_calls(store.project("p"), calls)
        desk = FeedbackWriter(store)
        desk.start()
        desk.submit("p", said).result()
        desk.stop()
        key, _ = make_key(store, "p", name="reader", scopes=["read"])
        app = create_app(Settings(data=tmp_path_factory.mktemp("data")), store=store)
        with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
            yield client, calls, thumbs, store


def _get(place, what, status=200, **params):
    answer = place[0].get(f"/v1/quality/{what}", params={**PERIOD, **params})
    assert answer.status_code == status, answer.text
    return answer.json()


def _listed(place, filters):
    found, cursor = [], None
    while True:
        params = {**PERIOD, **filters, "limit": 500} | ({"cursor": cursor} if cursor else {})
        page = place[0].get("/v1/calls", params=params)
        assert page.status_code == 200, page.text
        found += page.json()["calls"]
        cursor = page.json()["next_cursor"]
        if not cursor:
            return found


# ------------------------------------------------------------------------------------------------- versions and releases


def test_every_version_against_one_decided_together(place):
    found = _get(place, "versions", field="prompt_version", baseline="v1")
    decided = {v["value"]: v["decided"] for v in found["versions"]}
    assert decided == {"v2": None, "v3": "worse"}
    assert found["baseline"]["value"] == "v1"
    assert found["num_compared"] == 2
    assert "v3 is rated worse" in found["sentence"]
    assert _get(place, "versions", 422, field="prompt_version", baseline="v9")["error"]["field"] == "baseline"
    assert _get(place, "versions", field="prompt_version", model="none")["versions"] == []


def test_a_release_is_set_against_the_days_before_it(place):
    (found,) = _get(place, "releases", days=6)["releases"]
    _, calls, thumbs, _ = place
    first = min(c.start_time for c in calls if c.prompt_version == "v3")
    assert (found["field"], found["value"], found["time"]) == ("prompt_version", "v3", format_time(first))
    after = [c for c in calls if c.prompt_version == "v3"]
    assert found["after"]["num_answers"] == len(after)
    assert found["after"]["num_up"] == sum(thumbs.get(c.span_id, 0) for c in after)
    assert found["change"]["high"] < 0
    assert found["decided"] == "worse"
    assert abs(found["drift"]["estimate"]) < 0.12
    assert found["run"] is None
    assert "v3 is rated worse" in found["sentence"]
    assert _get(place, "releases", field="model")["releases"] == []


# -------------------------------------------------------------------------------------------------------------- clusters


@pytest.mark.parametrize("of", ["answers", "questions"])
def test_clusters_are_the_planted_topics_and_their_links_show_them(place, of):
    found = _get(place, "clusters", of=of, num_clusters=3)
    low = [c for c in place[1] if place[2].get(c.span_id) is False]
    assert (found["num_texts"], found["num_low_rated"]) == (len(low), len(low))
    topics = {}
    for cluster in found["clusters"]:
        shown = _listed(place, cluster["filters"])
        assert len(shown) == cluster["num_answers"]
        assert {c["thumb"] for c in shown} == {0}
        kinds = {c["tags"][0] for c in shown}
        assert len(kinds) == 1
        topics[kinds.pop()] = cluster
        assert len(cluster["examples"]) == 3
        assert cluster["examples"][0]["text"]
    assert set(topics) == set(TOPICS)
    assert "password" in topics["password"]["words"]


@pytest.mark.parametrize("of", ["answers", "questions"])
def test_a_cluster_s_down_rate_is_that_of_its_topic(place, of):
    found = _get(place, "clusters", of=of, num_clusters=3)
    rated = [c for c in place[1] if c.span_id in place[2]]
    usual = sum(not place[2][c.span_id] for c in rated) / len(rated)
    harms = []
    for cluster in found["clusters"]:
        topic = _listed(place, cluster["filters"])[0]["tags"][0]
        mine = [c for c in rated if c.tags[0] == topic]
        rate = cluster["down_rate"]
        assert rate["estimate"] == pytest.approx(
            sum(not place[2][c.span_id] for c in mine) / len(mine), abs=0.01
        )
        assert cluster["lift"] == pytest.approx(rate["estimate"] / usual, rel=0.01)
        assert cluster["is_excess"] == (rate["low"] > usual)
        assert sum(cluster["counts"]) == cluster["num_answers"]
        harms.append((rate["estimate"] - usual) * rate["n"])
    assert harms == sorted(harms, reverse=True)
    comments = _get(place, "clusters", of="comments")["clusters"]
    assert all("down_rate" not in c for c in comments)


def test_clusters_of_comments_and_what_was_found_is_kept(place):
    found = _get(place, "clusters", of="comments")
    assert found["num_texts"] > 0
    again = _get(place, "clusters", of="comments")
    assert again["made_at"] == found["made_at"]
    assert again == found


def test_an_erased_person_s_clusters_go(place):
    store = place[3]
    cluster = _get(place, "clusters", of="answers", service="web")["clusters"][0]
    assert _listed(place, cluster["filters"])
    erase(store.project("p"), "trace_id", _listed(place, cluster["filters"])[0]["trace_id"], erasure_id="x1")
    assert _listed(place, cluster["filters"]) == []


# ---------------------------------------------------------------------------------------------------------------- league


def test_the_league_has_the_planted_winner(place):
    found = _get(place, "league", field="model")
    assert [s["value"] for s in found["standings"]] == ["large", "small"]
    assert found["connected"] is True
    assert found["standings"][0]["strength"]["low"] > 0
    assert (found["num_judgements"], found["num_ties"], found["num_raters"], found["num_unknown"]) == (
        240,
        24,
        12,
        1,
    )
    (pair,) = found["pairs"]
    assert pair["wins_a"] + pair["wins_b"] + pair["ties"] == 240
    assert pair["win_rate"]["low"] > 0.5
    assert found["first_shown_wins"]["low"] < 0.5 < found["first_shown_wins"]["high"]
    assert found["standings"][0]["at_equal_length"] > 0
    assert found["length_odds"]["low"] < 1 < found["length_odds"]["high"]
    assert _get(place, "league", field="model", judge="end_user")["num_judgements"] == 0
    assert _get(place, "league", 422, field="answer")["error"]["field"] == "field"


# --------------------------------------------------------------------------------------------------------- liked answers


def test_liked_answers_to_questions_like_this(place):
    _, calls, thumbs, _ = place
    call = next(c for c in calls if thumbs.get(c.span_id) is False and c.tags[0] == "password")
    found = _get_similar(place, call)
    assert len(found["calls"]) == 5
    assert {c["tags"][0] for c in found["calls"]} == {"password"}
    assert {c["thumb"] for c in found["calls"]} == {1}
    likeness = [c["similarity"] for c in found["calls"]]
    assert likeness == sorted(likeness, reverse=True)
    assert found["calls"][0]["answer"].startswith("Open settings")
    ghost = place[0].get("/v1/quality/similar", params={"trace_id": "a" * 32, "span_id": "b" * 16})
    assert ghost.status_code == 404


def _get_similar(place, call):
    params = {"trace_id": call.trace_id, "span_id": call.span_id}
    answer = place[0].get("/v1/quality/similar", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


# ----------------------------------------------------------------------------------------------------------------- links


def test_every_pattern_s_link_lists_exactly_its_thumbs_down(place):
    found = _get(place, "overrepresented", min_ratings=10, q=0.99, tag="vip")
    assert found["patterns"]
    for pattern in found["patterns"] + found["explained"]:
        assert len(_listed(place, pattern["filters"])) == pattern["num_down"], pattern["label"]
    finding = _get(place, "finding")
    assert len(_listed(place, finding["filters"])) == finding["num_answers"]
    for segment in _get(place, "raters", field=["answer_chars", "language"])["segments"]:
        assert len(_listed(place, segment["filters"])) == segment["num_answers"], segment["value"]


def test_coverage_and_errors_have_their_own_alarm(place):
    half = {"since": format_time(SINCE + timedelta(days=6)), "until": format_time(UNTIL)}
    for metric in ("coverage", "rate"):
        found = place[0].get("/v1/quality/drift", params={**half, "metric": metric}).json()
        assert found["metric"] == metric
    assert found["state"] == "alarm"
    assert place[0].get("/v1/quality/drift", params={**half, "metric": "coverage"}).json()["state"] == "ok"
    assert place[0].get("/v1/quality/drift", params={**half, "metric": "errors"}).json() is None
