"""From a review queue to training rows: consensus and reliability become weights, and a reviewer's word stands over both."""

import json

import pytest
from review_people import World, call, review_server

from heedloop_server.store.spans import insert_calls

NUM_PAIRS = 24
QUESTIONS = [{"name": "preference", "kind": "comparison"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with review_server(tmp_path_factory.mktemp("training")) as new_world:
        yield new_world()


@pytest.fixture(scope="module")
def queue(server: World) -> str:
    """Pairs in which the longer answer is the better one; two people say so, one says the contrary."""
    shorter = [call(f"What about {n}?", "Yes.") for n in range(NUM_PAIRS)]
    longer = [call(f"What about {n}?", f"Yes, because of the reason number {n}.") for n in range(NUM_PAIRS)]
    insert_calls(server.project, [*shorter, *longer])
    pairs = [
        [{"trace_id": c.trace_id, "span_id": c.span_id} for c in pair]
        for pair in zip(shorter, longer, strict=True)
    ]
    made = server.queue(QUESTIONS, fill=False, judgements_per_item=3)
    server.admin.ask("POST", f"/review/queues/{made}/items", {"source": "targets", "items": pairs})
    for who, honest in (("ann", True), ("bob", True), ("liar", False)):
        person = server.person(who)
        while (one := person.take(made)) is not None:
            best = max((0, 1), key=lambda i: len(one["answers"][i]["text"]))
            person.submit(one, {"preference": {"preferred": best if honest else 1 - best}})
    return made


def rows(server: World, name: str, **rules):
    snapshot = server.admin.ask(
        "POST",
        "/snapshots",
        {
            "name": name,
            "filters": {"since": "2020-01-01T00:00:00Z"},
            "rules": {"forms": ["comparisons"], "max_author_share": 1, **rules},
        },
        status=201,
    )
    assert snapshot["query"]["rules"].items() >= rules.items()  # the rule is written in the snapshot
    text = server.client.get(
        f"/v1/snapshots/{snapshot['id']}/rows",
        params={"form": "comparisons"},
        headers={"Authorization": f"Bearer {server.admin.key}"},
    ).text
    return [json.loads(line) for line in text.splitlines()]


def right(found) -> float:
    """The weight of rows that prefer the longer answer, of all."""
    weights = [(r["weight"], len(r["chosen"]) > len(r["rejected"])) for r in found]
    return sum(w for w, ok in weights if ok) / sum(w for w, _ in weights)


def test_consensus_and_reliability_become_weights(server: World, queue: str) -> None:
    votes = rows(server, "votes")
    assert len(votes) == 3 * NUM_PAIRS
    assert right(votes) == pytest.approx(2 / 3)
    agreed = rows(server, "agreed", consensus="majority")
    assert len(agreed) == NUM_PAIRS
    assert right(agreed) == 1.0
    assert {round(r["weight"], 3) for r in agreed} == {0.667}
    trusted = rows(server, "trusted", consensus="majority", reliability=True)
    assert right(trusted) == 1.0
    assert (
        min(r["weight"] for r in trusted) > 0.95
    )  # the liar's word turned round says the same as the others'
    assert all(len(r["feedback_ids"]) == 3 for r in trusted)


def test_what_a_reviewer_settled_is_what_is_learned(server: World, queue: str) -> None:
    boss = server.person("boss", scopes=("review",))
    item = boss.ask("GET", f"/review/queues/{queue}/items", limit=1)["items"][0]
    whole = boss.ask("GET", f"/review/items/{item['item_id']}")
    shorter = min((0, 1), key=lambda i: len(whole["answers"][i]["text"]))
    word = {"answers": {"preference": {"preferred": shorter}}, "reason": "The reason given is made up."}
    boss.ask("POST", f"/review/items/{item['item_id']}/adjudicate", word)
    found = rows(server, "settled", consensus="majority", reliability=True)
    [settled] = [r for r in found if len(r["chosen"]) < len(r["rejected"])]
    assert settled["author"] == "boss"
    assert len(settled["feedback_ids"]) == 1
    assert settled["chosen"] == whole["answers"][shorter]["text"]
