"""Where items come from, gold among them, guidelines that change, comparisons, and what annotators must not be told."""

import json
from collections import Counter
from datetime import timedelta

import pytest
from review_people import COMPARE, QUESTIONS, THUMB_ONLY, World, call, review_server
from server_process import wait_for

from heedloop.schema import Author, Call, Feedback, Scale, Target, to_json
from heedloop_server.store.review.content import calls_at
from heedloop_server.store.spans import insert_calls

LAST = {"since": "2020-01-01T00:00:00Z"}


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory):
    with review_server(tmp_path_factory.mktemp("review")) as new_project:
        yield new_project


@pytest.fixture
def server(projects):
    return projects()


def target(one: Call) -> dict[str, str]:
    return {"trace_id": one.trace_id, "span_id": one.span_id}


def fill(server: World, queue: str, **body):
    return server.admin.ask("POST", f"/review/queues/{queue}/items", body)


def rate(server: World, one: Call, value, kind: str, author: str, name: str = "thumb", **more) -> None:
    said = Feedback(
        kind="rating",
        target=Target(**target(one)),
        name=name,
        value=value,
        author=Author(kind, author),
        **more,
    )
    server.admin.ask("POST", "/feedback", to_json(said))


def items(server: World, queue: str) -> set[str]:
    """Trace ids of the queue's first answers."""
    rows = server.project.rows(
        "SELECT lower(hex(trace_ids[1])) AS t FROM review_items FINAL WHERE project_id = {project:String} AND queue_id = {q:String}",
        {"q": queue},
    )
    return {r["t"] for r in rows}


def wait_for_removal(server: World, erasure_id: str) -> None:
    """The response to an erasure does not wait for it on a busy machine."""
    wait_for(
        lambda: not any(server.admin.ask("GET", f"/erasures/{erasure_id}")["left"].values()),
        what="the removal of what was erased",
    )


def test_a_filter_takes_the_newest_once(server: World) -> None:
    calls = server.calls(5)
    queue = server.queue(fill=False)
    assert fill(server, queue, source="filter", limit=3) == {
        "added": 3,
        "known": 0,
        "matching": 5,
        "missing": [],
    }
    assert items(server, queue) == {c.trace_id for c in calls[:3]}
    assert fill(server, queue, source="filter", filters={"model": "model-a"}) == {
        "added": 2,
        "known": 3,
        "matching": 5,
        "missing": [],
    }
    assert fill(server, queue, source="filter", filters={"model": "other"})["matching"] == 0


def test_a_random_sample_stores_its_probability_with_every_judgement(server: World) -> None:
    server.calls(20)
    queue = server.queue(fill=False)
    assert fill(server, queue, source="sample", size=5, seed="s")["added"] == 5
    again = server.queue(fill=False)
    fill(server, again, source="sample", size=5, seed="s")
    assert items(server, queue) == items(server, again)
    ada = server.person("ada")
    ada.submit(ada.take(queue), {"thumb": 1})
    assert server.admin.feedback(author_id="ada")[0]["sampling_probability"] == 0.25


def test_what_was_in_the_queue_already_belongs_to_the_sample_that_draws_it(server: World) -> None:
    """The queue is filled with what users disliked, half of it is judged, then all is drawn: the rate is of all."""
    calls = server.calls(20)
    for bad in calls[:8]:
        rate(server, bad, 0, "end_user", "u")
    queue = server.queue(fill=False)
    assert fill(server, queue, source="filter", filters={"rating": "down"})["added"] == 8
    worse = {c.trace_id for c in calls[:8]}
    ada = server.person("ada")

    def judge(num: int) -> None:
        for _ in range(num):
            one = ada.take(queue)
            ada.submit(one, {"thumb": 0 if one["messages"][-1]["text"] in asked_badly else 1})

    asked_badly = {c.input_messages[-1].text for c in calls if c.trace_id in worse}
    judge(4)
    before = {f["target"]["trace_id"]: f for f in server.admin.feedback(author_id="ada")}
    drawn = fill(server, queue, source="sample", size=20, filters={})
    assert (drawn["added"], drawn["known"]) == (12, 8)
    judge(16)
    found = server.admin.feedback(author_id="ada")
    assert len(found) == 20
    assert {f["sampling_probability"] for f in found} == {1.0}
    for one in found:
        if one["target"]["trace_id"] in before:
            assert one["created_at"][:19] == before[one["target"]["trace_id"]]["created_at"][:19]
    rates = server.admin.ask("GET", "/quality/sample", since="2020-01-01T00:00:00Z")
    assert rates["random_sample"]["n"] == 20
    assert rates["random_sample"]["estimate"] == pytest.approx(0.6)
    fill(server, queue, source="sample", size=20, filters={})
    assert len(server.admin.feedback(author_id="ada")) == 20


def test_disagreements_are_found_by_kind_widest_first(server: World) -> None:
    a, b, c, d = server.calls(4)
    scale = Scale(1, 5)
    rate(server, a, 1, "end_user", "u")
    rate(server, a, 0, "annotator", "ann")
    rate(server, b, 1, "end_user", "u")
    rate(server, b, 1, "annotator", "ann")
    rate(server, b, 2.0, "model", "judge", "helpfulness", scale=scale)
    rate(server, c, 1.0, "annotator", "ann", "tone", scale=scale)
    rate(server, c, 4.0, "annotator", "bob", "tone", scale=scale)
    rate(server, d, 1, "model", "moderator", "safe")
    rate(server, d, 0, "annotator", "ann", "safe")
    for kind, wanted in (
        ("user_annotator", [a]),
        ("judge_human", [b, d]),
        ("annotators", [c]),
        ("model_human", [d]),
    ):
        queue = server.queue(fill=False)
        fill(server, queue, source="disagreement", kind=kind)
        assert items(server, queue) == {w.trace_id for w in wanted}, kind
    queue = server.queue(fill=False)
    assert fill(server, queue, source="disagreement", kind="judge_human", judge="judge")["added"] == 1
    assert items(server, queue) == {b.trace_id}
    assert (
        fill(server, queue, source="disagreement", kind="annotators", filters={"model": "none"})["added"] == 0
    )


@pytest.mark.parametrize(
    ("where", "template"),
    [({}, "{}"), ({"verdict_path": "result.label"}, '{{"result": {{"label": "{}"}}}}'), ({"verdict_pattern": "Verdict: (\\w+)"}, "Because.\nVerdict: {}")],
)  # fmt: skip
def test_a_verdict_in_the_answer_counts_as_the_models_rating(server: World, where, template) -> None:
    question = {"name": "verdict", "kind": "category", "categories": ["Violates", "Fine"], **where}
    categories = Scale(categories=("Violates", "Fine"))
    same, differs, silent, rated = calls = [
        call(f"Text {n}?", template.format(said) if said else "I cannot say.")
        for n, said in enumerate(["Violates", "Violates", "", "Fine"])
    ]
    insert_calls(server.project, calls)
    for one, label in ((same, "Violates"), (differs, "Fine"), (silent, "Fine"), (rated, "Fine")):
        rate(server, one, label, "annotator", "ann", "verdict", scale=categories)
    rate(server, rated, "Violates", "model", "judge", "verdict", scale=categories)
    queue = server.queue([question], fill=False)
    added = fill(server, queue, source="disagreement", kind="model_human")
    assert added["matching"] == 2
    assert items(server, queue) == {differs.trace_id, rated.trace_id}
    only_judge = server.queue([question], fill=False)
    fill(server, only_judge, source="disagreement", kind="model_human", judge="judge")
    assert items(server, only_judge) == {rated.trace_id}


def test_low_confidence_takes_what_the_judge_could_not_decide(server: World) -> None:
    calls = server.calls(3)
    for one, value in zip(calls, (0.9, 0.55, 0.1), strict=True):
        rate(server, one, value, "model", "judge", "score", scale=Scale(0, 1))
    queue = server.queue(fill=False)
    fill(server, queue, source="low_confidence", limit=1, judge="judge")
    assert items(server, queue) == {calls[1].trace_id}


def test_different_answers_to_one_prompt_become_comparisons(server: World) -> None:
    same = [call("Why?", f"Because {n}.", model=f"m{n % 2}", at_s=100 + n) for n in range(4)]
    insert_calls(
        server.project,
        [
            *same,
            call("Why?", "Because 0.", model="m0"),
            call("Other?", "x"),
            call("Twice?", "y"),
            call("Twice?", "y"),
        ],
    )
    queue = server.queue(COMPARE, fill=False)
    assert fill(server, queue, source="same_prompt", answers_per_item=2)["added"] == 1
    ada = server.person("ada")
    one = ada.take(queue)
    assert len(one["answers"]) == 2
    texts = {c.output_text: c for c in same}
    models = {texts[a["text"]].model for a in one["answers"]}
    assert models == {"m0", "m1"}
    assert all(a["facts"] == {} for a in one["answers"])


def test_a_comparison_keeps_the_sides_and_the_winner(server: World) -> None:
    pairs = [[call("Q?", "good", at_s=50 + n), call("Q?", "bad", at_s=50 + n)] for n in range(12)]
    insert_calls(server.project, [c for p in pairs for c in p])
    queue = server.queue(COMPARE, fill=False)
    fill(server, queue, source="targets", items=[[target(c) for c in p] for p in pairs])
    ada = server.person("ada")
    sides = Counter()
    while one := ada.take(queue):
        texts = [a["text"] for a in one["answers"]]
        best = texts.index("good")
        sides[best] += 1
        ada.submit(
            one,
            {
                "preference": {"preferred": best, "strength": 0.5},
                "accuracy": [5 - 4 * (t == "bad") for t in texts],
            },
        )
    assert sides.total() == 12
    assert set(sides) == {0, 1}
    good = {c.span_id for c, _ in pairs}
    for said in server.admin.feedback(kind="comparison"):
        ranking = said["ranking"]
        winner = ranking["answers"][ranking["ranks"].index(1)]
        assert winner["span_id"] in good
        assert ranking["strength"] == 0.5
        assert sorted(ranking["shown_order"]) == [0, 1]
    for said in server.admin.feedback(kind="rating", name="accuracy"):
        assert (said["value"] == 5) == (said["target"]["span_id"] in good)


def test_targets_that_are_not_stored_are_named_and_unaskable_items_refused(server: World) -> None:
    (one,) = server.calls(1)
    queue = server.queue(fill=False)
    gone = {"trace_id": "ab" * 16, "span_id": "cd" * 8}
    assert fill(server, queue, source="targets", items=[[target(one)], [gone]])["missing"] == [gone]
    compare = server.queue(COMPARE[:1], fill=False)
    path = f"/review/queues/{compare}/items"
    err = server.admin.ask("POST", path, {"source": "targets", "items": [[target(one)]]}, status=422)["error"]
    assert "none of the queue's questions" in err["message"]
    twice = [[target(one), target(one)]]
    err = server.admin.ask("POST", path, {"source": "targets", "items": twice}, status=422)["error"]
    assert err["field"] == "items[0]"
    err = server.admin.ask("POST", path, {"source": "filter", "filters": {"modell": "x"}}, status=422)[
        "error"
    ]
    assert "modell" in err["field"]


def test_gold_is_mixed_in_and_nothing_tells_it(server: World) -> None:
    calls = server.calls(30)
    queue = server.queue(fill=False, gold_share=0.25, judgements_per_item=1)
    fill(server, queue, source="targets", items=[[target(c)] for c in calls[:20]])
    gold = [{"targets": [target(c)], "answers": {"thumb": 1}, "why": "it is right"} for c in calls[20:]]
    assert server.admin.ask("POST", f"/review/queues/{queue}/gold", {"items": gold})["added"] == 10
    golden = {c.trace_id for c in calls[20:]}
    met: dict[str, int] = {}
    for who, num in (("ada", 12), ("bob", 12)):
        person = server.person(who)
        shapes = set()
        for step in range(num):
            before = person.ask("GET", f"/review/queues/{queue}")["mine"]["remaining"]
            one = person.take(queue)
            done = person.submit(one, {"thumb": step % 2})
            assert done["progress"]["remaining"] == before - 1
            shapes.add(tuple(sorted(one)) + tuple(sorted(done)) + (len(one["item_id"]), done["training"]))
            said = server.admin.feedback(author_id=who)
            met[who] = sum(f["target"]["trace_id"] in golden for f in said)
        assert len(shapes) == 1
    assert all(2 <= n <= 4 for n in met.values()), met
    seen = json.dumps(server.person("eve").ask("GET", f"/review/queues/{queue}"))
    assert not any(word in seen for word in ("gold", "counts", "annotators", "judgements_per_item", "seed"))
    assert server.admin.ask("GET", f"/review/queues/{queue}")["counts"]["gold"] == 10


def test_training_comes_first_and_explains_afterwards(server: World) -> None:
    calls = server.calls(2)
    queue = server.queue(QUESTIONS, fill=False)
    fill(server, queue, source="targets", items=[[target(calls[0])]])
    train = {
        "targets": [target(calls[1])],
        "answers": {"thumb": 0, "helpfulness": 4},
        "training": True,
        "why": "too short",
    }
    server.admin.ask("POST", f"/review/queues/{queue}/gold", {"items": [train]})
    ada = server.person("ada")
    one = ada.take(queue)
    assert one["answers"][0]["text"] == calls[1].output_text
    done = ada.submit(one, {"thumb": 0, "helpfulness": 2})
    assert done["training"] == {
        "correct": {"thumb": True, "helpfulness": False},
        "expected": {"thumb": 0, "helpfulness": 4},
        "why": "too short",
    }
    assert ada.submit(ada.take(queue), {"thumb": 1})["training"] is None
    wrong = {"items": [{**train, "answers": {"thumb": 7}}]}
    err = server.admin.ask("POST", f"/review/queues/{queue}/gold", wrong, status=422)["error"]
    assert err["field"] == "items[0].answers.thumb"


def test_a_changed_guideline_asks_again_and_keeps_every_version(server: World) -> None:
    server.calls(2)
    queue = server.queue(guideline={"text": "v1", "examples": [{"input": "a", "verdict": "good"}]})
    ada = server.person("ada")
    first = ada.take(queue)
    ada.submit(first, {"thumb": 1})
    body = {"text": "v2", "send_back": True}
    assert server.admin.ask("PUT", f"/review/queues/{queue}/guideline", body)["guideline"]["version"] == 2
    again = ada.take(queue)
    assert (again["assignment_id"], again["guideline_version"], again["draft"]) == (
        first["assignment_id"],
        2,
        {"thumb": 1},
    )
    ada.submit(again, {"thumb": 0})
    now = server.admin.feedback(author_id="ada")
    assert [(f["value"], f["guideline"]) for f in now] == [(0.0, "2")]
    words = server.admin.ask("GET", f"/feedback/{now[0]['feedback_id']}")["history"]
    assert [(w["value"], w["guideline"]) for w in words] == [(0.0, "2"), (1.0, "1")]
    versions = ada.ask("GET", f"/review/queues/{queue}/guidelines")["guidelines"]
    assert [(g["version"], g["text"]) for g in versions] == [(2, "v2"), (1, "v1")]


def test_paused_hands_out_nothing_and_closed_takes_nothing(server: World) -> None:
    server.calls(3)
    queue = server.queue()
    ada = server.person("ada")
    one = ada.take(queue)
    server.admin.ask("PATCH", f"/review/queues/{queue}", {"status": "paused"})
    assert [a["assignment_id"] for a in ada.next(queue, 3)["assignments"]] == [one["assignment_id"]]
    ada.submit(one, {"thumb": 1})
    assert ada.take(queue) is None
    server.admin.ask("PATCH", f"/review/queues/{queue}", {"status": "closed"})
    assert "closed" in ada.submit(one, {"thumb": 0}, status=409)["error"]["message"]
    ada.submit(one, {"thumb": 1})  # the same again is not a new judgement
    server.admin.ask("PATCH", f"/review/queues/{queue}", {"status": "open", "due_at": "2027-01-01T00:00:00Z"})
    assert ada.take(queue) is not None
    err = server.admin.ask("PATCH", f"/review/queues/{queue}", {"questions": QUESTIONS}, status=409)["error"]
    assert err["field"] == "questions"


def test_models_words_are_shown_as_suggestions_only_where_wanted(server: World) -> None:
    (one,) = server.calls(1)
    rate(server, one, 0, "model", "judge")
    rate(server, one, 1, "annotator", "somebody")
    silent, helped = server.queue(THUMB_ONLY), server.queue(THUMB_ONLY, suggestions=True)
    ada = server.person("ada")
    assert ada.take(silent)["suggestions"] == {}
    assert ada.take(helped)["suggestions"] == {"thumb": 0.0}
    assert ada.take(helped)["draft"] == {}


def test_an_answer_that_changed_since_it_was_shown_is_not_judged(server: World) -> None:
    server.calls(1)
    queue = server.queue()
    ada = server.person("ada")
    one = ada.take(queue)
    hashes = [a["hash"] for a in one["answers"]]
    assert (
        ada.submit(one, {"thumb": 1}, answer_hashes=["0" * 64], status=409)["error"]["field"]
        == "answer_hashes"
    )
    ada.submit(one, {"thumb": 1}, answer_hashes=hashes)


def test_an_erased_answer_leaves_the_queue_with_all_that_was_said(server: World) -> None:
    calls = server.calls(2, user_id="u1")
    queue = server.queue(QUESTIONS)
    ada = server.person("ada")
    held = ada.next(queue, 2)["assignments"]
    ada.submit(held[0], {"thumb": 1, "note": "they said a secret"})
    ada.draft(held[1], {"note": "half a secret"})
    receipt = server.admin.ask("POST", "/erasures", {"trace_id": calls[0].trace_id})
    assert receipt["rows"]["review_items"] == 1
    assert receipt["rows"]["review_assignments"] >= 1
    wait_for_removal(server, receipt["erasure_id"])
    assert [a["assignment_id"] for a in ada.next(queue, 3)["assignments"]] == [held[1]["assignment_id"]]
    ada.submit(held[0], {"thumb": 0}, status=404)
    assert ada.ask("GET", f"/review/queues/{queue}/mine")["assignments"] == []


def test_an_erased_annotator_leaves_no_words(server: World) -> None:
    server.calls(3)
    queue = server.queue(QUESTIONS)
    ada = server.person("ada")
    held = ada.next(queue, 3)["assignments"]
    ada.submit(held[0], {"thumb": 1, "note": "mine"})
    ada.skip(held[1], "a private reason")
    ada.draft(held[2], {"note": "a private draft"})
    receipt = server.admin.ask("POST", "/erasures", {"user_id": "ada"})
    assert receipt["rows"]["review_assignments"] >= 3
    wait_for_removal(server, receipt["erasure_id"])
    rows = server.project.rows(
        "SELECT count() AS n FROM review_assignments WHERE project_id = {project:String} AND annotator = 'ada'"
    )
    assert rows[0]["n"] == 0
    assert server.person("bob").next(queue, 3)["progress"]["remaining"] == 3


def test_an_answer_that_was_sent_again_with_another_time_is_found(server: World) -> None:
    moved, same = server.calls(2)
    wanted = {(c.trace_id, c.span_id): c.start_time for c in (moved, same)}
    wanted[moved.trace_id, moved.span_id] -= timedelta(hours=3)
    found = calls_at(server.project, wanted.items())
    assert {k: c.output_text for k, c in found.items()} == {
        (c.trace_id, c.span_id): c.output_text for c in (moved, same)
    }
