"""Judges on a server: what measures them, what must not, and whose numbers they never enter."""

import json
import random
from dataclasses import replace

import pytest
from review_people import World, call, review_server

from heedloop.schema import (
    Author,
    Call,
    Feedback,
    JudgeExample,
    JudgeSpec,
    Ranking,
    Scale,
    Target,
    to_json,
    utc_now,
)
from heedloop_server.alerts.evaluate import alert_of, evaluate
from heedloop_server.store.admin.alerts import list_alerts
from heedloop_server.store.spans import insert_calls

NUM = 160
WORDS = [
    "amber",
    "basalt",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "glacier",
    "harbour",
    "island",
    "jasmine",
    "kelp",
    "lagoon",
    "maple",
    "nectar",
    "onyx",
    "prairie",
]
SPEC = JudgeSpec(
    "helpful", "pointwise", "endpoint", "org/tiny-1b", prompt="{question}\n{answer}", verdicts={"YES": 1.0, "NO": 0.0}
)  # fmt: skip


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory):
    with review_server(tmp_path_factory.mktemp("judges")) as new_world:
        yield new_world


class Judged:
    """A project with `NUM` answers of which 70% are good, and a judge that is right about nine in ten of them."""

    def __init__(self, world: World, right: float = 0.9) -> None:
        rng = random.Random(1)
        self.world, self.admin = world, world.admin
        self.calls = [
            call(" ".join(rng.choices(WORDS, k=9)), "word " * rng.randint(3, 60) + str(n), at_s=60 + n)
            for n in range(NUM)
        ]
        self.good = {c.trace_id: rng.random() < 0.7 for c in self.calls}
        self.truths = {c.output_text: self.good[c.trace_id] for c in self.calls}
        insert_calls(world.project, self.calls)
        self.judge_id = self.admin.ask("POST", "/judges", to_json(SPEC), status=201)["id"]
        self.said = {t: good if rng.random() < right else not good for t, good in self.good.items()}
        self.send(SPEC, self.said)

    def send(self, spec: JudgeSpec, said: dict[str, bool]) -> None:
        ratings = [
            Feedback("rating", Target(trace_id=c.trace_id, span_id=c.span_id), value=float(said[c.trace_id]), author=Author("model", spec.id), id=f"{spec.id}{c.trace_id}")
            for c in self.calls
        ]  # fmt: skip
        self.admin.ask("POST", "/feedback", {"feedback": [to_json(r) for r in ratings]})

    def card(self, judge_id: str = "", **chosen):
        return self.admin.ask("GET", f"/judges/{judge_id or self.judge_id}/card", **chosen)

    def annotate(self, queue: str, who: str = "ada", most: int = NUM) -> int:
        """An annotator says of up to `most` items of a queue what is true; how many there were."""
        person, num = self.world.person(who), 0
        while num < most and (work := person.take(queue)):
            person.submit(work, {"thumb": int(self.truths[work["answers"][0]["text"]])})
            num += 1
        return num

    def fill(self, queue: str, **source):
        return self.admin.ask("POST", f"/review/queues/{queue}/items", source)


@pytest.fixture(scope="module")
def judged(projects) -> Judged:
    return Judged(projects())


def test_a_judge_never_changes(projects) -> None:
    admin = projects().admin
    made = admin.ask("POST", "/judges", to_json(SPEC), status=201)
    assert made["id"] == SPEC.id
    assert admin.ask("POST", "/judges", to_json(SPEC))["created_at"] == made["created_at"]
    other = replace(SPEC, prompt="Another {answer}")
    assert admin.ask("POST", "/judges", to_json(other), status=201)["id"] != SPEC.id
    assert len(admin.ask("GET", "/judges")["judges"]) == 2
    admin.ask("GET", "/judges/none@0", status=404)
    wrong = {**to_json(SPEC), "parser": "json"}
    assert admin.ask("POST", "/judges", wrong, status=422)["error"]["field"] == "parser"


def test_calls_are_counted_and_failed_ones_stay_to_be_done(projects) -> None:
    admin = projects().admin
    admin.ask("POST", "/judges", to_json(SPEC), status=201)
    items = [f"{n:032x}" for n in range(4)]
    states = ["judged", "unparsable", "failed"]
    calls = [
        {"item": i, "status": s, "num_calls": 2, "cost": 0.5, "latency_ms": 10.0}
        for i, s in zip(items, states, strict=False)
    ]
    path = f"/judges/{SPEC.id}"
    assert admin.ask("POST", f"{path}/calls", {"calls": calls}) == {"stored": 3}
    assert admin.ask("POST", f"{path}/unjudged", {"items": items})["items"] == items[2:]
    admin.ask("POST", f"{path}/calls", {"calls": [{"item": items[2], "status": "judged", "num_calls": 3}]})
    found = admin.ask("GET", path)["calls"]
    assert (found["num_judged"], found["num_unparsable"], found["num_failed"], found["num_calls"]) == (
        2,
        1,
        0,
        7,
    )
    assert found["cost"] == pytest.approx(1.0)
    admin.ask("POST", f"{path}/calls", {"calls": [{"item": "no hash", "status": "judged"}]}, status=422)


def test_what_chose_itself_calibrates_nothing(projects) -> None:
    """Users' thumbs, annotators' judgements of picked answers, those given beside a suggestion, and forged ones."""
    judged = Judged(projects())
    thumbs = [
        Feedback("rating", Target(trace_id=c.trace_id, span_id=c.span_id), value=1.0, author=Author("end_user", c.trace_id[:8]))
        for c in judged.calls
    ]  # fmt: skip
    forged = [
        replace(t, author=Author("annotator", "eve"), id=f"f{n}", sampling_probability=0.5, queue_item="none")
        for n, t in enumerate(thumbs)
    ]
    judged.admin.ask("POST", "/feedback", {"feedback": [to_json(f) for f in [*thumbs, *forged]]})
    picked = judged.world.queue(fill=False)
    judged.fill(picked, source="filter", limit=32)
    shown = judged.world.queue(fill=False, suggestions=True)
    judged.fill(shown, source="sample", size=32)
    assert judged.annotate(picked, "ada") == judged.annotate(shown, "bo") == 32
    card = judged.card()
    assert (card["state"], card["num_audits"], card["combined"]) == ("unmeasured", 0, None)
    assert card["num_judged"] == NUM


def test_an_audit_measures(judged: Judged) -> None:
    queue = judged.world.queue(fill=False, judgements_per_item=2)
    filled = judged.fill(queue, source="audit", judge=judged.judge_id, size=70)
    assert 50 <= filled["added"] <= 90
    assert filled["matching"] == NUM
    assert judged.card()["state"] == "unmeasured"
    judged.annotate(queue, "ada")
    judged.annotate(queue, "bo")
    card = judged.card()
    assert (card["state"], card["reasons"]) == ("measured", [])
    assert card["num_audits"] == filled["added"]
    truth = sum(judged.good.values()) / NUM
    assert card["combined"]["low"] < truth < card["combined"]["high"]
    assert card["worth"] > 1.2 * card["num_audits"]
    assert (
        card["combined"]["high"] - card["combined"]["low"]
        < card["people_rate"]["high"] - card["people_rate"]["low"]
    )
    right = sum(judged.said[t] == g for t, g in judged.good.items()) / NUM
    assert card["agreement"]["low"] < right < card["agreement"]["high"]
    assert card["people_agreement"]["estimate"] == 1
    assert card["informedness"]["low"] > 0.4
    assert card["drift"]["state"] == "ok"
    assert [g["guideline"] for g in card["guidelines"]] == [f"{queue}/0"]
    assert card["labels_left"] is None or card["labels_left"] > 0
    assert judged.card(half_width=0.4)["labels_left"] == 0
    loose = judged.card(max_error=0.3)["deferral"]
    assert loose["threshold"] is not None
    assert loose["error"]["high"] <= 0.3
    assert judged.card(max_error=0.01)["deferral"]["threshold"] is None


def test_an_alert_watches_the_agreement(judged: Judged) -> None:
    """A threshold that it is surely below alarms; a rule without a judge, or with one for another metric, is refused."""
    rule = {
        "name": "agrees",
        "metric": "judge_agreement",
        "judge": judged.judge_id,
        "kind": "threshold",
        "threshold": 0.99,
    }
    made = judged.admin.ask("POST", "/alerts", rule, status=201)
    project = judged.world.project
    stored = next(a for a in list_alerts(project) if a.alert_id == made["id"])
    found = alert_of(evaluate(project, stored, utc_now()))
    card = judged.card()
    assert found.value.estimate == pytest.approx(card["agreement"]["estimate"], abs=0.02)
    assert (found.value.n, found.bad) == (card["num_audits"], "lower")
    assert found.state == ("alarm" if found.value.high < 0.99 else "warning")
    for wrong in ({"judge": ""}, {"metric": "rate"}):
        judged.admin.ask("POST", "/alerts", rule | wrong, status=422)


def test_rows_of_a_judge_only_where_the_rules_name_it(judged: Judged) -> None:
    """After the audit: weighted by the low end of its agreement, under its own id; other judges and guesses are refused."""
    admin = judged.admin
    forms = {"forms": ["unpaired"], "max_author_share": 1}
    period = {"filters": {"since": "2020-01-01T00:00:00Z"}}

    def rows(name: str, **rules) -> list[dict]:
        made = admin.ask(
            "POST", "/snapshots", {"name": name, "rules": {**forms, **rules}, **period}, status=201
        )
        path = f"/v1/snapshots/{made['id']}/rows?form=unpaired"
        text = judged.world.client.get(path, headers={"Authorization": f"Bearer {admin.key}"}).text
        return [json.loads(line) for line in text.splitlines()]

    everyone = rows("kinds", author_kinds=["annotator", "model"])
    assert {r["author"] for r in everyone} <= {"ada", "bo"}
    named = [r for r in rows("named", judges=[judged.judge_id]) if r["author"] == judged.judge_id]
    assert len(named) == NUM
    agreement = judged.card()["agreement"]
    assert {round(r["weight"], 6) for r in named} == {round(2 * agreement["low"] - 1, 6)}
    for wrong in ({judged.judge_id: 1.0}, ["no@000000000000"], "all"):
        refused = {"name": "x", "rules": {"judges": wrong}}
        assert admin.ask("POST", "/snapshots", refused, status=422)["error"]["field"] == "rules.judges"


def test_a_second_draw_adds_to_the_same_sample(judged: Judged) -> None:
    queue = judged.world.queue(fill=False)
    first = judged.fill(queue, source="audit", judge=judged.judge_id, size=20)
    again = judged.fill(queue, source="audit", judge=judged.judge_id, size=20)
    assert (again["added"], again["known"]) == (0, first["added"])
    more = judged.fill(queue, source="audit", judge=judged.judge_id, size=60)
    assert more["known"] == first["added"]
    rows = judged.world.project.rows(
        "SELECT sampling_probability AS p FROM review_items FINAL WHERE project_id = {project:String} AND queue_id = {q:String}",
        {"q": queue},
    )
    assert len(rows) == first["added"] + more["added"]
    assert all(r["p"] > 20 / NUM / 2 for r in rows)
    unknown = {"source": "audit", "judge": "no@0", "size": 5}
    judged.admin.ask("POST", f"/review/queues/{queue}/items", unknown, status=404)


def test_examples_are_never_the_exam(judged: Judged) -> None:
    """Of the prompts that may be shown, those whose answers a version was shown leave its card."""
    before = judged.card()
    wrong = judged.admin.ask("GET", f"/judges/{judged.judge_id}/disagreements")
    assert 0 < wrong["num_exam"] < before["num_audits"]
    assert all(
        judged.said[d["target"]["trace_id"]] != judged.good[d["target"]["trace_id"]]
        for d in wrong["disagreements"]
    )
    audited = [
        c
        for c in judged.calls
        if judged.admin.ask("GET", "/feedback", trace_id=c.trace_id, author_kind="annotator")["feedback"]
    ]
    shown = audited[0]
    better = replace(
        SPEC, examples=(JudgeExample(Target(trace_id=shown.trace_id, span_id=shown.span_id), "YES"),)
    )
    judged.admin.ask("POST", "/judges", to_json(better), status=201)
    judged.send(better, judged.good)
    card = judged.card(better.id)
    assert card["num_examples"] == 1
    assert card["num_audits"] == before["num_audits"] - 1
    compared = judged.admin.ask("GET", f"/judges/{judged.judge_id}/compare", other=better.id)
    assert compared["other"]["estimate"] == 1
    assert compared["num_answers"] <= wrong["num_exam"]
    assert compared["difference"]["estimate"] == pytest.approx(1 - compared["judge"]["estimate"], abs=0.15)


def test_a_version_that_is_not_stored_takes_the_exam(judged: Judged) -> None:
    """It is compared on held-out audits alone; what could not be read is wrong, and what is off the scale is refused."""
    path = f"/judges/{judged.judge_id}"
    wrong = judged.admin.ask("GET", f"{path}/disagreements", limit=500)
    assert len(wrong["exam"]) == wrong["num_exam"] > 20
    held_out = {t["trace_id"] for t in wrong["exam"]}
    assert held_out.isdisjoint(d["target"]["trace_id"] for d in wrong["disagreements"])

    def examined(value, *, status: int = 200):
        targets = [{"trace_id": c.trace_id, "span_id": c.span_id} for c in judged.calls]
        rows = [{"target": t, "value": value(t["trace_id"])} for t in targets]
        return judged.admin.ask("POST", f"{path}/exam", {"verdicts": rows}, status=status)

    right = examined(lambda t: float(judged.good[t]))
    assert (right["num_answers"], right["other"]["estimate"]) == (wrong["num_exam"], 1)
    assert right["difference"]["estimate"] == pytest.approx(1 - right["judge"]["estimate"], abs=0.15)
    same = examined(lambda t: float(judged.said[t]))
    assert (same["difference"]["estimate"], same["other"]) == (0, same["judge"])
    assert examined(lambda _: None)["other"]["estimate"] == 0
    assert examined(lambda _: 2.0, status=422)["error"]["field"] == "verdicts"
    none = judged.admin.ask("POST", f"{path}/exam", {"verdicts": []})
    assert (none["num_answers"], none["difference"]) == (0, None)


def test_a_judge_that_is_no_better_than_a_coin_is_weak_and_adds_nothing(projects) -> None:
    judged = Judged(projects(), right=0.3)  # a coin itself is found better than one in 2.5% of samples
    queue = judged.world.queue(fill=False)
    judged.fill(queue, source="sample", size=40)
    judged.annotate(queue)
    card = judged.card()
    assert card["state"] == "weak"
    assert card["combined"] is None
    assert card["people_rate"]["n"] == 40
    refused = {"name": "x", "rules": {"judges": [judged.judge_id]}}
    assert "weak" in judged.admin.ask("POST", "/snapshots", refused, status=422)["error"]["message"]


def test_a_guideline_of_its_own_counts_alone(judged: Judged) -> None:
    """Agreement belongs to judge and guideline: audits under another one say nothing of it."""
    spec = replace(SPEC, guideline="another/2")
    judged.admin.ask("POST", "/judges", to_json(spec), status=201)
    judged.send(spec, judged.good)
    assert judged.card(spec.id)["num_audits"] == 0


def test_model_ratings_enter_no_human_number(projects) -> None:
    """Quality, named ratings, filters, leagues, agreement: the same before and after a judge has spoken."""
    world = projects()
    calls = [call(f"{WORDS[n % 16]} {n}", f"answer {n}", at_s=60 + n, model=f"m{n % 2}") for n in range(24)]
    insert_calls(world.project, calls)
    targets = [Target(trace_id=c.trace_id, span_id=c.span_id) for c in calls]
    said = [
        Feedback("rating", t, value=float(n % 3 > 0), author=Author("end_user", f"u{n}"))
        for n, t in enumerate(targets)
    ]
    said += [
        Feedback("rating", t, name="tone", value=4.0, scale=Scale(1, 5), author=Author("annotator", "ada"))
        for t in targets
    ]
    said += [
        _pair(a, b, Author("annotator", "ada")) for a, b in zip(targets[::2], targets[1::2], strict=True)
    ]
    world.admin.ask("POST", "/feedback", {"feedback": [to_json(f) for f in said]})
    before = _numbers(world, snapshot=201)
    machine = Author("model", SPEC.id)
    judged = [Feedback("rating", t, value=0.0, author=machine) for t in targets]
    judged += [
        Feedback("rating", t, name="tone", value=1.0, scale=Scale(1, 5), author=machine) for t in targets
    ]
    judged += [_pair(b, a, machine) for a, b in zip(targets[::2], targets[1::2], strict=True)]
    judged += [Feedback("rating", t, name="brevity", value=1.0, author=machine) for t in targets]
    world.admin.ask("POST", "/feedback", {"feedback": [to_json(f) for f in judged]})
    after = _numbers(world, snapshot=200)  # equal rows are one snapshot
    brevity = [r for r in after["ratings"]["ratings"] if r["name"] == "brevity"]
    assert [r["author_kinds"] for r in brevity] == [
        ["model"]
    ]  # a name of the model's own is shown as the model's
    after["ratings"]["ratings"] = [r for r in after["ratings"]["ratings"] if r["name"] != "brevity"]
    for counts in (before, after):  # of comparisons by any author: a count, not a rate
        for name in ("summary", "named"):
            del counts[name]["num_comparisons"]
    assert after == before


def _pair(winner: Target, loser: Target, author: Author) -> Feedback:
    return Feedback("comparison", winner, ranking=Ranking((winner, loser), (1, 2)), author=author)


def _numbers(world: World, *, snapshot: int) -> dict:
    period = {"since": "2020-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z"}
    paths = {
        "summary": {},
        "ratings": {},
        "by": {"field": "model"},
        "league": {"field": "model"},
        "versions": {"field": "model"},
    }
    found = {p: world.admin.ask("GET", f"/quality/{p}", **more, **period) for p, more in paths.items()}
    low = {"rating_name": "tone", "rating": "down"}
    found["low"] = world.admin.ask("GET", "/calls", **low, **period)
    found["named"] = world.admin.ask("GET", "/quality/summary", rating_name="tone", **period)
    made = world.admin.ask("POST", "/snapshots", {"name": "rows"}, status=snapshot)
    found["rows"] = made["id"], made["num_rows"], made["report"]["weights"]
    return found


def test_pairs_are_judged_and_audited(projects) -> None:
    world = projects()
    rng = random.Random(5)
    spec = replace(SPEC, name="pair", form="pairwise", question="preference")
    world.admin.ask("POST", "/judges", to_json(spec), status=201)
    pairs: list[tuple[Call, Call]] = []
    for _ in range(40):
        prompt = " ".join(rng.choices(WORDS, k=9))
        pairs.append((call(prompt, "long " * 30, at_s=90), call(prompt, "short", at_s=60)))
    insert_calls(world.project, [c for pair in pairs for c in pair])
    sides = [[Target(trace_id=c.trace_id, span_id=c.span_id) for c in pair] for pair in pairs]
    said = [_pair(a, b, Author("model", spec.id)) for a, b in sides]  # the longer one always wins
    world.admin.ask("POST", "/feedback", {"feedback": [to_json(f) for f in said]})
    queue = world.queue([{"name": "preference", "kind": "comparison"}], fill=False)
    filled = world.admin.ask(
        "POST", f"/review/queues/{queue}/items", {"source": "audit", "judge": spec.id, "size": 40}
    )
    assert filled["added"] == 40
    ada, num = world.person("ada"), 0
    while work := ada.take(queue):
        longer = max((0, 1), key=lambda i: len(work["answers"][i]["text"]))
        ada.submit(work, {"preference": {"preferred": longer if num % 4 else 1 - longer}})
        num += 1
    card = world.admin.ask("GET", f"/judges/{spec.id}/card")
    assert card["num_audits"] == 40
    assert card["agreement"]["n"] == 40
    assert card["length_effect"] is not None
    doubts = {"source": "low_confidence", "judge": spec.id}
    assert world.admin.ask("POST", f"/review/queues/{queue}/items", doubts)["matching"] == 0
    tied = sides[:3]
    ties = [
        Feedback("comparison", a, ranking=Ranking((a, b), (1, 1)), author=Author("model", spec.id))
        for a, b in tied
    ]
    world.admin.ask("POST", "/feedback", {"feedback": [to_json(f) for f in ties]})
    other = world.queue([{"name": "preference", "kind": "comparison"}], fill=False)
    filled = world.admin.ask("POST", f"/review/queues/{other}/items", {**doubts, "limit": 2})
    assert (filled["added"], filled["matching"]) == (2, 3)
    items = world.admin.ask("GET", f"/review/queues/{other}/items")["items"]
    assert {frozenset(t["span_id"] for t in i["targets"]) for i in items} < {
        frozenset(t.span_id for t in pair) for pair in tied
    }
