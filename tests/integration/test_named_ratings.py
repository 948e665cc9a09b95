"""Scales, categories and thumbs under any name: counted again in Python, by other means, from what was sent."""

import random
from collections import defaultdict
from statistics import mean
from typing import Any

import pytest
from review_people import World, call, review_server

from heedloop.schema import Author, Feedback, Scale, Target, to_json
from heedloop_server.store.spans import insert_calls

HELPFUL, TOPICS = Scale(1, 5), Scale(categories=("bug", "praise", "question"))
DOCUMENTS = ("brief", "contract")
NUM = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    with review_server(tmp_path_factory.mktemp("named")) as new_world:
        yield new_world()


@pytest.fixture(scope="module")
def truth(world: World) -> dict[str, dict[str, list[Any]]]:
    """Trace -> name -> the values that count, of two annotators, a model and users; version v13 is less helpful."""
    rng = random.Random(3)
    values: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    calls, said = [], []
    for n in range(NUM):
        version = "v13" if n % 3 == 0 else "v12"
        facts = {"attributes": {"heedloop.metadata.document": DOCUMENTS[n % 2]}, "prompt_version": version}
        calls.append(call(f"Question {n}?", "word " * (20 if n % 2 else 60), at_s=60 + n, **facts))
        target = Target(trace_id=calls[-1].trace_id, span_id=calls[-1].span_id)

        def rate(name: str, value: Any, scale: Scale, kind: str, who: str, target: Target = target) -> None:
            author = Author(kind, who)
            said.append(Feedback("rating", target, name=name, value=value, scale=scale, author=author))
            values[target.trace_id][name].append(value)

        for who in ("ada", "bo"):
            worse = 2 if version == "v13" else 0
            rate("helpfulness", float(max(1, min(5, rng.randint(3, 5) - worse))), HELPFUL, "annotator", who)
        if n % 2:
            rate("topic", rng.choice(TOPICS.categories), TOPICS, "model", "judge")
        rate("resolved", float(n % 4 != 0), Scale(0, 1), "end_user", f"u{n}")
        if n % 5 == 0:
            flag = {"category": "wrong", "author": Author("annotator", "ada"), "name": "flaws"}
            said.append(Feedback("flag", target, **flag))
    insert_calls(world.project, calls)
    for first in range(0, len(said), 100):
        world.admin.ask("POST", "/feedback", {"feedback": [to_json(f) for f in said[first : first + 100]]})
    world.versions = {c.trace_id: c.prompt_version for c in calls}
    world.num_words = {c.trace_id: len(c.output_text) for c in calls}
    return values


def ratings(world: World, **more: Any) -> dict[str, dict[str, Any]]:
    return {r["name"]: r for r in world.admin.ask("GET", "/quality/ratings", **more)["ratings"]}


def test_every_name_with_its_mean_or_shares(world: World, truth) -> None:
    found = ratings(world)
    assert {n: r["kind"] for n, r in found.items()} == {
        "helpfulness": "scale",
        "topic": "category",
        "resolved": "thumb",
    }
    helpful = found["helpfulness"]
    assert helpful["mean"]["estimate"] == pytest.approx(mean(mean(v["helpfulness"]) for v in truth.values()))
    assert helpful["mean"]["low"] < helpful["mean"]["estimate"] < helpful["mean"]["high"]
    assert (helpful["num_answers"], helpful["num_ratings"], helpful["author_kinds"]) == (
        NUM,
        2 * NUM,
        ["annotator"],
    )
    chosen = [v["topic"][0] for v in truth.values() if v["topic"]]
    shares = {c: i["estimate"] for c, i in found["topic"]["shares"].items()}
    assert shares == pytest.approx({c: chosen.count(c) / len(chosen) for c in TOPICS.categories})
    assert found["resolved"]["mean"]["estimate"] == pytest.approx(45 / 60)


def test_by_any_field_and_over_time(world: World, truth) -> None:
    [helpful] = ratings(world, rating_name="helpfulness", by="prompt_version", interval="week").values()
    groups = {g["value"]: g for g in helpful["groups"]}
    for version in ("v12", "v13"):
        own = [mean(v["helpfulness"]) for t, v in truth.items() if world.versions[t] == version]
        assert groups[version]["mean"]["estimate"] == pytest.approx(mean(own))
        assert groups[version]["num_answers"] == len(own)
    assert groups["v13"]["mean"]["high"] < groups["v12"]["mean"]["low"]
    assert sum(p["num_answers"] for p in helpful["points"]) == NUM
    by_document = ratings(world, rating_name="resolved", by="metadata.document")["resolved"]["groups"]
    assert {g["value"] for g in by_document} == set(DOCUMENTS)
    world.admin.ask("GET", "/quality/ratings", rating_name="mood", status=404)
    world.admin.ask("GET", "/quality/ratings", by="shoe size", status=422)


@pytest.mark.parametrize(
    ("filters", "takes"),
    [
        ({"rating_name": "helpfulness"}, lambda v: True),
        ({"rating_name": "helpfulness", "rating_below": 3}, lambda v: mean(v["helpfulness"]) < 3),
        ({"rating_name": "helpfulness", "rating_above": 3, "rating_below": 4.6}, lambda v: 3 < mean(v["helpfulness"]) < 4.6),
        ({"rating_name": "helpfulness", "rating": "down"}, lambda v: mean(v["helpfulness"]) < 3),
        ({"rating_name": "topic", "rating_value": "bug"}, lambda v: v["topic"] == ["bug"]),
        ({"rating_name": "topic", "rating": "none"}, lambda v: not v["topic"]),
        ({"rating_name": "resolved", "rating_below": 0.5, "author_kind": "annotator"}, lambda v: False),
    ],
)  # fmt: skip
def test_filters_by_a_named_rating(world: World, truth, filters, takes) -> None:
    found = world.admin.ask("GET", "/calls", limit=200, **filters)["calls"]
    assert {c["trace_id"] for c in found} == {t for t, v in truth.items() if takes(v)}


def test_thresholds_need_a_name(world: World) -> None:
    world.admin.ask("GET", "/calls", rating_below=2, status=422)


def test_low_rated_lists_failures_and_alerts_by_a_named_rating(world: World, truth) -> None:
    low = {t for t, v in truth.items() if mean(v["helpfulness"]) < 3.5}
    chosen = {"rating_name": "helpfulness", "rating_below": 3.5}
    summary = world.admin.ask("GET", "/quality/summary", **chosen)
    assert (summary["num_rated"], summary["num_answers"]) == (NUM, NUM)
    assert summary["rate"]["estimate"] == pytest.approx(1 - len(low) / NUM)
    clusters = world.admin.ask("GET", "/quality/clusters", of="questions", **chosen)
    assert clusters["num_low_rated"] == len(low)
    compared = world.admin.ask("GET", "/quality/by", field="prompt_version", **chosen)["groups"]
    rates = {g["value"]: g["rate"]["estimate"] for g in compared}
    assert rates["v13"] < rates["v12"]
    rule = {
        "name": "less helpful",
        "metric": "rate",
        "kind": "threshold",
        "threshold": 0.9,
        "filters": chosen,
    }
    made = world.admin.ask("POST", "/alerts", rule, status=201)
    assert "helpfulness" in str(made)


def test_flags_per_document_type_and_length(world: World, truth) -> None:
    found = world.admin.ask("GET", "/quality/marks", by="metadata.document", author_kind="annotator")[
        "groups"
    ]
    for group in found:
        [mark] = group["marks"]
        of_type = [c for n, c in enumerate(world.num_words) if DOCUMENTS[n % 2] == group["value"]]
        assert group["num_answers"] == len(of_type)
        flagged = [n for n in range(NUM) if n % 5 == 0 and DOCUMENTS[n % 2] == group["value"]]
        assert mark["num"] == len(flagged)
        chars = sum(world.num_words[c] for c in of_type)
        assert mark["per_1000_chars"] == pytest.approx(1000 * len(flagged) / chars)
