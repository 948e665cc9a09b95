"""Quality control of a queue over REST: agreement, annotators, consensus, settling, exchange with other tools."""

import json
from datetime import datetime, timezone
from itertools import combinations

import numpy as np
import pytest
from review_people import COMPARE, QUESTIONS, Person, World, call, review_server

from heedloop.schema import Author, Feedback, Message, Target, to_json
from heedloop_server.review.formats import Users
from heedloop_server.review.formats.argilla import user_id_of
from heedloop_server.store.spans import insert_calls

FULL = [
    *QUESTIONS[:2],
    {"name": "topic", "kind": "category", "categories": ["refund", "delivery"], "required": False},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with review_server(tmp_path_factory.mktemp("control")) as new_world:
        yield new_world()


def post(person: Person, path: str, body: bytes, **params):
    answer = person._client.post(
        f"/v1{path}",
        content=body,
        params=params,
        headers={**person._headers, "content-type": "application/json"},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def read(person: Person, path: str, **params) -> str:
    answer = person._client.get(f"/v1{path}", params=params, headers=person._headers)
    assert answer.status_code == 200, answer.text
    return answer.text


def judge_all(person: Person, queue: str, answers) -> None:
    while (one := person.take(queue)) is not None:
        person.submit(one, answers(one))


def number(one) -> int:
    return int(one["answers"][0]["text"].removeprefix("Answer ").rstrip("."))


@pytest.fixture(scope="module")
def queue(server: World) -> str:
    """24 answers, judged by two careful people and one who says the contrary; half of them are gold."""
    calls = server.calls(24)
    made = server.queue(FULL, fill=False, judgements_per_item=3, gold_share=0.5)
    targets = [[{"trace_id": c.trace_id, "span_id": c.span_id}] for c in calls]
    gold = [
        {"targets": t, "answers": {"thumb": n % 2, "helpfulness": 3}} for n, t in enumerate(targets) if n % 2 == 0 or n < 12
    ]  # fmt: skip
    rest = [t for n, t in enumerate(targets) if not (n % 2 == 0 or n < 12)]
    server.admin.ask("POST", f"/review/queues/{made}/items", {"source": "targets", "items": rest})
    server.admin.ask("POST", f"/review/queues/{made}/gold", {"items": gold})
    for who in ("ann", "bob"):
        judge_all(
            server.person(who), made, lambda a: {"thumb": number(a) % 2, "helpfulness": 3, "topic": "refund"}
        )
    judge_all(
        server.person("liar"),
        made,
        lambda a: {"thumb": 1 - number(a) % 2, "helpfulness": 5, "topic": "refund"},
    )
    return made


def test_agreement_per_question_and_slice(server: World, queue: str) -> None:
    boss = server.person("boss", scopes=("review",))
    found = boss.ask("GET", f"/review/queues/{queue}/agreement", by="model")
    thumb = next(q for q in found["questions"] if q["question"] == "thumb")
    assert thumb["num_annotators"] == 3
    items = boss.ask("GET", f"/review/queues/{queue}/items", limit=500)["items"]
    said = [[j["answers"]["thumb"] for j in i["judgements"]] for i in items]
    shares = [np.mean([a == b for a, b in combinations(s, 2)]) for s in said if len(s) > 1]
    assert thumb["percent"]["estimate"] == pytest.approx(np.mean(shares))
    assert thumb["fleiss"]["n"] == thumb["num_units"]
    assert [s["value"] for s in thumb["slices"]] == ["model-a"]
    topic = next(q for q in found["questions"] if q["question"] == "topic")
    assert topic["percent"]["estimate"] == 1.0
    assert topic["alpha"] is None  # everybody always said the same
    assert "slices" not in boss.ask("GET", f"/review/queues/{queue}/agreement")["questions"][0]
    boss.ask("GET", f"/review/queues/{queue}/agreement", by="shoe size", status=422)


def test_the_liar_is_found_by_gold(server: World, queue: str) -> None:
    found = server.admin.ask("GET", f"/review/queues/{queue}/annotators")
    record = {a["author_id"]: a for a in found["annotators"]}
    assert record["ann"]["gold_by_question"]["thumb"]["estimate"] == 1.0
    assert record["liar"]["gold_by_question"]["thumb"]["estimate"] == 0.0
    assert record["liar"]["careless"] and not record["ann"]["careless"]
    assert record["liar"]["severity"]["helpfulness"]["estimate"] == pytest.approx(
        0.5
    )  # of 0 to 1: 5 beside 3 of 1 to 5
    assert found["num_gold"] > 0
    assert {b["question"] for b in found["bias"]} == {"thumb", "helpfulness"}, "topic has no order"


def test_consensus_by_every_method(server: World, queue: str) -> None:
    for method in ("majority", "dawid_skene", "weighted"):
        found = server.admin.ask("GET", f"/review/queues/{queue}/consensus", method=method)
        items = {
            i["item_id"]: i
            for i in server.admin.ask("GET", f"/review/queues/{queue}/items", limit=500)["items"]
        }
        for row in found["questions"]["thumb"]:
            said = {j["annotator"]: j["answers"]["thumb"] for j in items[row["item_id"]]["judgements"]}
            assert row["by"] == method
            if "ann" in said and "bob" in said:
                assert row["label"] == said["ann"]
    server.admin.ask("GET", f"/review/queues/{queue}/consensus", method="dice", status=422)


def test_a_reviewer_settles_a_disagreement_and_everything_stays(server: World, queue: str) -> None:
    boss = server.person("judge", scopes=("review",))
    page = boss.ask("GET", f"/review/queues/{queue}/items", state="disagreement", limit=5)
    assert page["next_cursor"]
    following = boss.ask(
        "GET", f"/review/queues/{queue}/items", state="disagreement", limit=5, cursor=page["next_cursor"]
    )
    assert not {i["item_id"] for i in page["items"]} & {i["item_id"] for i in following["items"]}
    item = page["items"][0]
    assert item["disagreements"] == ["thumb", "helpfulness"]
    path = f"/review/items/{item['item_id']}/adjudicate"
    whole = boss.ask("GET", f"/review/items/{item['item_id']}")
    assert whole["answers"][0]["text"].startswith("Answer ")
    asked = [i["asked"] for i in page["items"]]
    assert asked[0] == whole["messages"][-1]["text"]
    assert len(set(asked)) == 5
    boss.ask("POST", path, {"answers": {"thumb": 1, "helpfulness": 2}}, status=422)
    boss.ask("POST", path, {"answers": {"thumb": 7}, "reason": "x"}, status=422)
    boss.ask("POST", path, {"answers": {"thumb": 0, "helpfulness": 2}, "reason": "first thought"})
    settled = boss.ask("POST", path, {"answers": {"thumb": 1}, "reason": "It answers the question."})
    assert (settled["state"], settled["adjudicated"]["reviewer"]) == ("adjudicated", "judge")
    assert len(settled["judgements"]) == 3
    [row] = settled["consensus"]["thumb"]
    assert (row["label"], row["by"]) == (1, "adjudication")
    said = {f["name"]: f for f in server.admin.feedback(author_id="judge")}
    assert set(said) == {"thumb", "adjudication"}  # the helpfulness of the first word is taken back
    assert said["thumb"]["metadata"] == {"adjudication": "true"}
    assert said["adjudication"]["comment"] == "It answers the question."
    history = server.admin.ask("GET", f"/feedback/{said['thumb']['feedback_id']}")["history"]
    assert [h["value"] for h in history] in ([0.0, 1.0], [1.0, 0.0])
    other = server.person("chief", scopes=("review",))
    other.ask("POST", path, {"answers": {"thumb": 0, "helpfulness": 1}, "reason": "No."})
    assert server.admin.feedback(author_id="judge") == []
    assert {f["name"] for f in server.admin.feedback(author_id="chief")} == {
        "thumb",
        "helpfulness",
        "adjudication",
    }
    states = {
        i["item_id"]: i["state"] for i in boss.ask("GET", f"/review/queues/{queue}/items", limit=500)["items"]
    }
    assert states[item["item_id"]] == "adjudicated"


def test_people_beside_users_judges_and_the_model_itself(server: World) -> None:
    calls = server.calls(8)
    queue = server.queue(FULL, fill=False)
    targets = [[{"trace_id": c.trace_id, "span_id": c.span_id}] for c in calls]
    server.admin.ask("POST", f"/review/queues/{queue}/items", {"source": "targets", "items": targets})
    judge_all(server.person("ann2"), queue, lambda a: {"thumb": number(a) % 2, "topic": "refund"})
    for n, c in enumerate(calls):
        target = Target(trace_id=c.trace_id, span_id=c.span_id)
        thumb = Feedback(
            "rating", target, value=float(n % 2 if n < 6 else 1), author=Author("end_user", f"u{n}")
        )
        judge = Feedback(
            "rating", target, name="thumb", value=float(n % 2), author=Author("model", "judge-1")
        )
        server.admin.ask("POST", "/feedback", {"feedback": [to_json(thumb), to_json(judge)]})
    path = f"/review/queues/{queue}/confusion"
    users = server.admin.ask("GET", path, against="user")["questions"][0]
    assert (users["n"], users["table"]) == (8, [[3, 1], [0, 4]])
    judge = server.admin.ask("GET", path, against="judge", by="model")["questions"][0]
    assert judge["accuracy"]["estimate"] == 1.0
    assert judge["slices"][0]["value"] == "model-a"
    assert (
        server.admin.ask("GET", path, against="model")["questions"][2]["n"] == 0
    )  # no answer is a topic's name


def test_a_classifier_beside_people(server: World) -> None:
    made = server.calls(4)
    moderated = [
        type(c)(
            **{
                **{f: getattr(c, f) for f in c.__dataclass_fields__},
                "output_messages": (Message("assistant", text),),
            }
        )
        for c, text in zip(made, ["refund", "delivery", "refund", "something"], strict=True)
    ]
    insert_calls(server.project, moderated)
    queue = server.queue(
        [{"name": "topic", "kind": "category", "categories": ["refund", "delivery"]}], fill=False
    )
    targets = [[{"trace_id": c.trace_id, "span_id": c.span_id}] for c in moderated]
    server.admin.ask("POST", f"/review/queues/{queue}/items", {"source": "targets", "items": targets})
    judge_all(server.person("mod"), queue, lambda _: {"topic": "refund"})
    [topic] = server.admin.ask("GET", f"/review/queues/{queue}/confusion", against="model")["questions"]
    assert (topic["n"], topic["categories"], topic["table"]) == (3, ["refund", "delivery"], [[2, 1], [0, 0]])


VERDICTS = {"name": "verdict", "kind": "category", "categories": ["Violates", "Fine"]}
WHOLE, JSON, FENCED = (
    "Violates",
    '{"verdict": "Fine", "score": 0.9}',
    'So:\n```json\n{"a": {"label": "violates"}}\n```',
)


@pytest.mark.parametrize(
    ("more", "answers", "table", "unknown", "none"),
    [
        ({}, [WHOLE, JSON, FENCED, "I cannot say", ""], [[2, 1], [0, 0]], 1, 1),
        ({"verdict_path": "a.label"}, [FENCED, '{"a": {"label": "Fine"}}', WHOLE], [[1, 1], [0, 0]], 1, 0),
        ({"verdict_path": "items.1.label"}, ['{"items": [{}, {"label": "Fine"}]}', '{"items": []}'], [[0, 1], [0, 0]], 1, 0),
        ({"verdict_pattern": "Verdict: (\\w+)"}, ["Because.\nVerdict: Fine", "Verdict: Violates!", "none"], [[1, 1], [0, 0]], 0, 1),
    ],
)  # fmt: skip
def test_a_models_verdict_wherever_it_is(server: World, more, answers, table, unknown, none) -> None:
    """Whole text, JSON by path or by name, a pattern: what is left out is counted, and every cell opens its answers."""
    calls = [call(f"Case {n}?", text, at_s=60 + n) for n, text in enumerate(answers)]
    insert_calls(server.project, calls)
    queue = server.queue([VERDICTS | more], fill=False)
    items = [[{"trace_id": c.trace_id, "span_id": c.span_id}] for c in calls]
    server.admin.ask("POST", f"/review/queues/{queue}/items", {"source": "targets", "items": items})
    judge_all(server.person(f"mod{len(answers)}"), queue, lambda _: {"verdict": "Violates"})
    path = f"/review/queues/{queue}/confusion"
    [found] = server.admin.ask("GET", path, against="model")["questions"]
    row = dict(zip(found["categories"], found["table"][found["categories"].index("Violates")], strict=True))
    assert [row.get(c, 0) for c in VERDICTS["categories"]] == table[0]
    assert (found["n"], found["left_out"]["unknown"], found["left_out"]["none"]) == (
        sum(table[0]),
        unknown,
        none,
    )
    cells = [
        server.admin.ask(
            "GET", f"{path}/answers", against="model", question="verdict", people="Violates", other=o
        )
        for o in VERDICTS["categories"]
    ]
    assert [len(c["answers"]) for c in cells] == table[0]
    left = server.admin.ask("GET", f"{path}/answers", against="model", question="verdict", left_out=True)[
        "answers"
    ]
    assert len(left) == unknown + none and {a["other"] for a in left} == {None}
    assert all(a["asked"].startswith("Case ") for a in left)


@pytest.mark.parametrize("bad", [{"verdict_pattern": "("}, {"verdict_path": "a", "verdict_pattern": "b"}])
def test_a_verdict_that_cannot_be_read_is_refused(server: World, bad) -> None:
    body = {"name": "q", "questions": [VERDICTS | bad]}
    server.admin.ask("POST", "/review/queues", body, status=422)


@pytest.mark.parametrize("format", ["jsonl", "label_studio", "argilla"])
def test_out_to_another_tool_and_back_into_another_queue(server: World, format: str) -> None:
    """The same items in a second queue: what was exported is taken in with its annotators, and once more is a duplicate."""
    calls = server.calls(4)
    pairs = [
        [{"trace_id": c.trace_id, "span_id": c.span_id} for c in calls[:2]],
        [{"trace_id": c.trace_id, "span_id": c.span_id} for c in calls[2:]],
    ]
    queue = server.queue(COMPARE, fill=False)
    server.admin.ask("POST", f"/review/queues/{queue}/items", {"source": "targets", "items": pairs})
    who = f"vendor-{format}"

    def answers(one):
        return {"preference": {"preferred": 1, "strength": 0.5}, "accuracy": [2, 5], "why": "clearer"}

    judge_all(server.person(who), queue, answers)
    text = read(server.admin, f"/review/queues/{queue}/export", format=format)
    entries = [json.loads(t) for t in text.splitlines()] if format == "jsonl" else json.loads(text)
    assert len(entries) == 2
    before = server.admin.ask("GET", f"/review/queues/{queue}/items", limit=500)["items"]
    moved = json.dumps(entries).replace(who, f"{who}-2")
    body = moved.replace(user_id_of(who, Users()), user_id_of(f"{who}-2", Users())).encode()
    done = post(server.admin, f"/review/queues/{queue}/import", body, format=format)
    assert (done["stored"], done["duplicate"], done["rejected"]) == (2, 0, 0)
    again = post(server.admin, f"/review/queues/{queue}/import", body, format=format)
    assert (again["stored"], again["duplicate"]) == (0, 2)
    after = server.admin.ask("GET", f"/review/queues/{queue}/items", limit=500)["items"]
    for old, new in zip(before, after, strict=True):
        first, second = (j for j in new["judgements"])
        assert first["answers"] == second["answers"] == old["judgements"][0]["answers"]
        assert second["submitted_at"] == first["submitted_at"]
    said = server.admin.feedback(author_id=f"{who}-2")
    assert len(said) == 2 * (1 + 2 + 1)
    assert {f["created_at"] for f in said} == {f["created_at"] for f in server.admin.feedback(author_id=who)}


def test_lines_are_cut_at_newlines_only(server: World) -> None:
    """JSON leaves U+2028, U+2029 and U+0085 as they are; our own export of such an answer has to come back in."""
    [call] = server.calls(1)
    queue = server.queue([*FULL, {"name": "note", "kind": "text"}], fill=False)
    items = [[{"trace_id": call.trace_id, "span_id": call.span_id}]]
    server.admin.ask("POST", f"/review/queues/{queue}/items", {"source": "targets", "items": items})
    note = "one\u2028two\u2029three\u0085four"
    judge_all(server.person("lines"), queue, lambda _: {"thumb": 1, "note": note})
    text = read(server.admin, f"/review/queues/{queue}/export")
    assert "\u2028" in text
    body = text.replace('"lines"', '"lines-2"').encode()
    done = post(server.admin, f"/review/queues/{queue}/import", body)
    assert (done["stored"], done["rejected"]) == (1, 0)
    assert {f["comment"] for f in server.admin.feedback(author_id="lines-2") if f["name"] == "note"} == {note}


def test_an_import_answers_for_each_judgement_and_nothing_wrong_is_taken(server: World) -> None:
    [c] = server.calls(1)
    queue = server.queue(FULL, fill=False)
    items = [[{"trace_id": c.trace_id, "span_id": c.span_id}]]
    server.admin.ask("POST", f"/review/queues/{queue}/items", {"source": "targets", "items": items})
    [item] = server.admin.ask("GET", f"/review/queues/{queue}/items")["items"]
    at = datetime(2025, 5, 1, tzinfo=timezone.utc).isoformat()
    good = {"annotator": "out", "answers": {"thumb": 1}, "submitted_at": at}
    lines = [
        {"item_id": item["item_id"], "judgements": [good, {**good, "annotator": "x", "answers": {"thumb": 9}}]},
        {"item_id": "nowhere", "judgements": [good]},
        {"item_id": item["item_id"], "judgements": [{**good, "annotator": ""}, {**good, "annotator": "y", "submitted_at": "2999-01-01T00:00:00Z"}]},
        "nonsense",
    ]  # fmt: skip
    done = post(server.admin, f"/review/queues/{queue}/import", "\n".join(map(json.dumps, lines)).encode())
    assert (done["stored"], done["rejected"]) == (1, 5)
    assert [r.get("error", {}).get("field") for r in done["results"]] == [
        None, "[0].answers.thumb", "[1]", "[2].annotator", "[2].submitted_at", "[3]",
    ]  # fmt: skip
    [said] = server.admin.feedback(author_id="out")
    assert said["created_at"].startswith("2025-05-01T00:00:00")
    for bad in (b"", b"{", b"\xff", b"[]"):
        answer = server.client.post(
            f"/v1/review/queues/{queue}/import", content=bad, headers=server.admin._headers
        )
        assert answer.status_code == 422, answer.text


def test_an_item_that_all_have_skipped_is_the_leads(server: World) -> None:
    """Their reasons are there to read, and the lead settles it."""
    [c] = server.calls(1)
    names = ["s1", "s2"]
    queue = server.queue(FULL, fill=False, judgements_per_item=2, annotators=names)
    items = [[{"trace_id": c.trace_id, "span_id": c.span_id}]]
    server.admin.ask("POST", f"/review/queues/{queue}/items", {"source": "targets", "items": items})
    path = f"/review/queues/{queue}/items"
    for name, left in zip(names, [0, 1], strict=True):
        person = server.person(name)
        person.skip(person.take(queue), f"not for {name}")
        assert len(server.admin.ask("GET", path, state="skipped")["items"]) == left
    [item] = server.admin.ask("GET", path, state="skipped")["items"]
    assert [(s["annotator"], s["reason"]) for s in item["skips"]] == [
        ("s1", "not for s1"),
        ("s2", "not for s2"),
    ]
    word = {"answers": {"thumb": 1}, "reason": "It is fine."}
    settled = server.person("lead", scopes=("review",)).ask(
        "POST", f"/review/items/{item['item_id']}/adjudicate", word
    )
    assert settled["state"] == "adjudicated" and len(settled["skips"]) == 2
    assert server.admin.ask("GET", path, state="skipped")["items"] == []


def test_pseudonyms_are_stable_and_tell_nothing(server: World, queue: str) -> None:
    text = read(server.admin, f"/review/queues/{queue}/export", pseudonyms="true")
    names = {j["annotator"] for t in text.splitlines() for j in json.loads(t)["judgements"]}
    assert len(names) == 3
    assert not any(n in text for n in ('"ann"', '"bob"', '"liar"'))
    assert read(server.admin, f"/review/queues/{queue}/export", pseudonyms="true") == text


@pytest.mark.parametrize("format", ["jsonl", "label_studio", "argilla"])
def test_a_pseudonymous_file_cannot_be_joined_back(server: World, queue: str, format: str) -> None:
    """Tried by ids, by times and by the order of the lines against the file with names."""
    path = f"/review/queues/{queue}/export"
    named = [json.loads(t) for t in read(server.admin, path).splitlines()]
    text = read(server.admin, path, format=format, pseudonyms="true")
    secrets = {e["item_id"] for e in named} | {t["trace_id"] for e in named for t in e["targets"]}
    secrets |= {j["submitted_at"] for e in named for j in e["judgements"]} | {'expected": {"thumb'}
    assert [s for s in secrets if s in text] == []
    entries = [json.loads(t) for t in text.splitlines()] if format == "jsonl" else json.loads(text)
    texts = {"jsonl": lambda e: e["answers"], "label_studio": lambda e: [e["data"]["answer_1"]], "argilla": lambda e: [e["fields"]["answer_1"]]}  # fmt: skip
    assert [texts[format](e) for e in entries] != [e["answers"] for e in named]
    assert sorted(texts[format](e) for e in entries) == sorted(e["answers"] for e in named)


def test_only_reviewers_see_it_and_only_their_own_project(server: World, queue: str) -> None:
    annotator = server.person("ann")
    stranger = server.person("boss", scopes=("review", "admin"), project="q")
    [item] = server.admin.ask("GET", f"/review/queues/{queue}/items", limit=1)["items"]
    for what in ("items", "agreement", "annotators", "consensus", "export", "confusion"):
        more = {"against": "user"} if what == "confusion" else {}
        annotator.ask("GET", f"/review/queues/{queue}/{what}", status=403, **more)
        stranger.ask("GET", f"/review/queues/{queue}/{what}", status=404, **more)
    word = {"answers": {"thumb": 1}, "reason": "x"}
    annotator.ask("POST", f"/review/items/{item['item_id']}/adjudicate", word, status=403)
    stranger.ask("POST", f"/review/items/{item['item_id']}/adjudicate", word, status=404)
    stranger.ask("GET", f"/review/items/{item['item_id']}", status=404)
