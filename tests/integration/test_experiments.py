"""Experiments on a server: defined, assigned by the SDK, measured, and decided or rolled back by their rules."""

from __future__ import annotations

import random
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from forked_server import ForkedServer
from review_people import World, call, review_server
from server_process import wait_for

import heedloop
from heedloop import _assignment, testing
from heedloop import attributes as names
from heedloop._runtime import state
from heedloop.responses import Experiment, Look
from heedloop.schema import (
    Arm,
    Author,
    Call,
    ExperimentMetric,
    ExperimentSpec,
    Feedback,
    Guardrail,
    JudgeSpec,
    Message,
    Run,
    Target,
    from_json,
    to_json,
    utc_now,
)
from heedloop_cli.main import main
from heedloop_server.experiments.upkeep import look_after
from heedloop_server.store.admin.alerts import pending_deliveries
from heedloop_server.store.experiments import find_secret, list_rounds, save_experiment
from heedloop_server.store.spans import insert_calls

SPEC = ExperimentSpec(
    "prompt",
    (Arm("old", {"prompt": "Answer."}), Arm("new", {"prompt": "Answer kindly."})),
    guardrails=(Guardrail(ExperimentMetric("error"), 0.02), Guardrail(ExperimentMetric("latency"), 0.2)),
    ramp=(0.4, 1.0),
    ramp_hours=24,
    promote="rule",
    min_units=30,
)


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory):
    with review_server(tmp_path_factory.mktemp("experiments")) as new_world:
        yield new_world


class Lab:
    """A project with one experiment, whose units come with SDK's own assignment."""

    def __init__(self, world: World, spec: ExperimentSpec = SPEC) -> None:
        self.world, self.spec = world, spec
        self.made = world.admin.ask("POST", "/experiments", to_json(spec), status=201)

    def change(self, action: str, *, status: int = 200, **more):
        return self.world.admin.ask(
            "POST", f"/experiments/{self.spec.name}", {"action": action, **more}, status=status
        )

    def start(self) -> Lab:
        self.change("start")
        self.move(started=timedelta(hours=2))
        return self

    def move(self, started: timedelta) -> None:
        """As if it had been started and ramped so long ago."""
        found = self.experiment()
        at = utc_now() - started
        steps = [replace(s, at=at) for s in found.steps]
        moved = replace(found, started_at=at, steps=steps, salt="5a17")  # the same units in every run
        save_experiment(self.world.project, moved, find_secret(self.world.project, found.name))

    def experiment(self) -> Experiment:
        return list_rounds(self.world.project, self.spec.name)[0]

    def results(self, **params):
        return self.world.admin.ask("GET", f"/experiments/{self.spec.name}/results", **params)

    def serve(self, units, *, up=0.5, error=0.0, latency_s=1.0, calls=2, cost=None) -> None:
        """Calls and thumbs of these units; each number is that of all arms, or a dictionary by arm."""
        rng, made, ratings = random.Random(3), [], []
        plan = self.world.admin.ask("GET", "/assignments")["plans"][0]
        for unit, given in attributes_of(plan, units).items():
            arm = given.get(names.EXPERIMENT_ARM_PREFIX + self.spec.name, "")
            for _ in range(calls):
                call = Call(
                    trace_id=uuid.uuid4().hex,
                    span_id=uuid.uuid4().hex[:16],
                    start_time=utc_now() - timedelta(minutes=30),
                    duration_ns=int(1e9 * of(latency_s, arm) * rng.lognormvariate(0, 0.3)),
                    status="error" if rng.random() < of(error, arm) else "ok",
                    input_messages=(Message("user", "q"),),
                    output_messages=(Message("assistant", "a"),),
                    attributes=given,
                    is_answer=True,
                )
                made.append(call)
                thumb = float(rng.random() < of(up, arm))
                ratings.append(
                    Feedback(
                        kind="rating",
                        target=Target(call.trace_id, call.span_id),
                        author=Author("end_user", unit),
                        name="thumb",
                        value=thumb,
                        scale=heedloop.Scale(0, 1),
                    )
                )
        insert_calls(self.world.project, made)
        self.world.admin.ask("POST", "/feedback", {"feedback": [to_json(f) for f in ratings]})
        self.world.app.state.intake.wait_until_stored()

    def look(self, after: timedelta = timedelta(0)) -> Experiment:
        return look_after(self.world.project, self.experiment(), utc_now() + after)


def of(value, arm: str) -> float:
    return value.get(arm, 0.0) if isinstance(value, dict) else value


def attributes_of(plan, units) -> dict[str, dict[str, str]]:
    """What the SDK writes on the calls of each unit."""
    with testing.recording() as seen:
        seen.transport.documents[_assignment.PLANS] = {"plans": [plan]}
        seen.runtime.settings.wait(_assignment.PLANS, 10)
        for unit in units:
            with heedloop.context(user_id=unit):
                heedloop.assign(plan["name"], unit=unit)
                with heedloop.span("x"):
                    pass
        return {
            s.attributes[names.USER_ID]: {k: v for k, v in s.attributes.items() if "experiment" in k}
            for s in seen.spans
        }


def people(num: int, start: int = 0) -> list[str]:
    return [f"user-{i}" for i in range(start, start + num)]


def test_a_better_arm_is_found_and_promoted(projects):
    lab = Lab(projects()).start()
    lab.serve(people(600), up={"old": 0.4, "new": 0.75})
    found = lab.results()
    (old, new), ratio = found["metrics"][0]["arms"], found["sample_ratio"]
    assert old["num_units"] + new["num_units"] == sum(a["num_units"] for a in ratio["arms"])
    assert 200 < old["num_units"] + new["num_units"] < 280, "four in ten are in the experiment"
    assert new["difference"]["low"] < 0.35 < new["difference"]["high"]
    assert new["decided"] and new["is_better"] and not ratio["alarm"] and ratio["num_mixed"] == 0
    assert found["sentence"].startswith("new is better than old: thumbs up +")
    after = lab.look()
    assert (after.state, after.serving) == ("decided", "new")
    assert after.reason in lab.results()["sentence"]
    (plan,) = lab.world.admin.ask("GET", "/assignments")["plans"]
    assert (plan["ends"], plan["arms"][plan["serving"]]) == ([], "new")
    assert lab.look() == after, "looking again changes nothing"
    looks = [from_json(Look, k) for k in lab.results()["looks"]]
    assert [k.arms[0].decided for k in looks] == [True] and looks[0].share == 0.4
    (line,) = lab.world.admin.ask("GET", "/audit", action="promote_experiment")["entries"]
    assert (line["subject"], line["key_id"], line["details"]["arm"]) == ("prompt", "server", "new")


def test_a_worse_arm_is_rolled_back_though_promotion_is_by_hand(projects):
    lab = Lab(projects(), replace(SPEC, promote="hand")).start()
    lab.serve(people(600), up={"old": 0.75, "new": 0.4})
    after = lab.look()
    assert (after.state, after.serving) == ("decided", "old")
    assert after.reason.startswith("new is worse than old")


@pytest.mark.parametrize("bad", [{"error": {"new": 0.3}}, {"latency_s": {"old": 1.0, "new": 1.6}}])
def test_a_breached_guardrail_rolls_back_and_says_so(projects, bad):
    spec = replace(SPEC, webhook_url="https://example.com/hook")
    lab = Lab(projects(), spec).start()
    lab.serve(people(600), up=0.5, **bad)
    found = lab.results()
    assert [m["breached_by"] for m in found["metrics"]].count(["new"]) == 1
    after = lab.look()
    assert (after.state, after.serving) == ("decided", "old")
    assert (
        f"the guardrail {next(iter(bad)).removesuffix('_s').replace('error', 'errors')} is breached"
        in after.reason
    )
    assert lab.world.admin.ask("GET", "/audit", action="roll_back_experiment")["entries"]
    (told,) = [d for d in pending_deliveries(lab.world.store) if d.project == lab.world.project.project]
    assert told.change["event"] == "roll_back" and told.change["reason"] == after.reason
    assert told.alert_id == "experiment:prompt"


def test_equal_arms_go_up_the_ramp_and_end_with_the_control(projects):
    lab = Lab(projects()).start()
    lab.serve(people(400))
    assert lab.look().steps == lab.experiment().steps and len(lab.experiment().steps) == 1
    ramped = lab.look(timedelta(hours=23))
    assert [s.share for s in ramped.steps] == [0.4, 1.0]
    lab.serve(people(400, 400))
    assert lab.look(timedelta(hours=30)).state == "running"
    ended = lab.look(timedelta(days=29))
    assert (ended.state, ended.serving) == ("decided", "old")
    assert ended.reason == "28 days went by without a decision."


def test_ramping_moves_only_new_units(projects):
    lab = Lab(projects()).start()
    units = people(2000)
    key = names.EXPERIMENT_ARM_PREFIX + "prompt"

    def arms():
        (plan,) = lab.world.admin.ask("GET", "/assignments")["plans"]
        return {u: a.get(key) for u, a in attributes_of(plan, units).items()}

    before = arms()
    lab.change("ramp", share=0.7)
    after = arms()
    inside = {u: a for u, a in before.items() if a}
    assert 720 < len(inside) < 880 and {u: after[u] for u in inside} == inside
    assert 1320 < sum(a is not None for a in after.values()) < 1480
    joined = [a for u, a in after.items() if a and u not in inside]
    assert 0.42 < joined.count("new") / len(joined) < 0.58
    lab.change("ramp", share=0.5, status=422)
    lab.change("pause", reason="somebody asked")
    assert set(arms().values()) == {None}
    lab.change("start")
    assert arms() == after, "after a pause everyone is where they were"


def test_units_that_lack_in_an_arm_pause_the_experiment(projects):
    """The new arm's calls are lost for four in ten of its units: whatever it shows is about the others."""
    lab = Lab(projects()).start()
    plan = lab.world.admin.ask("GET", "/assignments")["plans"][0]
    key = names.EXPERIMENT_ARM_PREFIX + "prompt"
    given = attributes_of(plan, people(1200))
    lost = [u for u, a in given.items() if a.get(key) == "new"]
    lost = lost[: len(lost) * 2 // 5]
    lab.serve([u for u in given if u not in set(lost)])
    found = lab.results()
    assert found["sample_ratio"]["alarm"] and found["sample_ratio"]["e_value"] >= 100
    assert found["sentence"].startswith("Units did not get their arms with the stated probabilities")
    after = lab.look()
    assert (after.state, after.serving) == ("paused", "old")


def test_rounds_states_and_scopes(projects):
    world = projects()
    lab = Lab(world)
    assert lab.world.admin.ask("GET", "/assignments")["plans"] == [], "a draft is served to nobody"
    assert lab.made["experiment"]["state"] == "draft" and lab.made["webhook_secret"].startswith("hlw_")
    lab.change("pause", status=409)
    lab.start()
    world.admin.ask("POST", "/experiments", to_json(SPEC), status=409)
    lab.change("promote", arm="nobody", status=422)
    lab.change("promote", arm="new", reason="we like it")
    again = world.admin.ask("POST", "/experiments", to_json(replace(SPEC, max_days=3)), status=201)
    assert (again["experiment"]["round"], again["experiment"]["state"]) == (2, "draft")
    (plan,) = world.admin.ask("GET", "/assignments")["plans"]
    assert (plan["round"], plan["serving"]) == (1, 1), "the winner is served until the next round starts"
    assert lab.results(round=1)["experiment"]["reason"] == "we like it"
    assert [e["round"] for e in world.admin.ask("GET", "/experiments")["experiments"]] == [2]
    world.admin.ask("GET", "/experiments/prompt", round=7, status=404)
    reader, sender = world.person("r", ("read",)), world.person("s", ("ingest", "feedback"))
    reader.ask("POST", "/experiments", to_json(SPEC), status=403)
    reader.ask("POST", "/experiments/prompt", {"action": "start"}, status=403)
    reader.ask("GET", "/assignments", status=403)
    sender.ask("GET", "/experiments", status=403)
    assert len(sender.ask("GET", "/assignments")["plans"]) == 1


def test_the_plans_have_a_version(projects):
    lab = Lab(projects()).start()
    headers = {"Authorization": f"Bearer {lab.world.admin.key}"}
    first = lab.world.client.get("/v1/assignments", headers=headers)
    again = lab.world.client.get(
        "/v1/assignments", headers=headers | {"If-None-Match": first.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    lab.change("ramp")
    newer = lab.world.client.get(
        "/v1/assignments", headers=headers | {"If-None-Match": first.headers["etag"]}
    )
    assert newer.status_code == 200 and newer.headers["etag"] != first.headers["etag"]


def test_an_arm_names_a_prompt_of_the_registry(projects):
    """A label is its version at the start; apps get the words, the prompt's settings under the arm's own parameters."""
    world = projects()
    arms = (Arm("old", prompt="support@1"), Arm("new", {"temperature": 0.2}, prompt="support@candidate"))
    spec = replace(SPEC, arms=arms, ramp=(1.0,))

    def refused(part: dict, path: str = "/experiments") -> str:
        error = world.admin.ask("POST", path, part, status=422)["error"]
        assert error["field"] == "arms.prompt"
        return error["message"]

    assert "no version or label '1' of a prompt 'support'" in refused(to_json(spec))
    for arm in (
        {"prompt": "support"},
        {"prompt": "support@0"},
        {"parameters": {"prompt": "a"}, "prompt": "a@1"},
    ):
        refused({**to_json(spec), "arms": [{"name": "old"}, {"name": "new", **arm}]})
    settings = {"model": "small", "temperature": 1}
    for text in ("Answer {{question}}.", "Answer {{question}} kindly."):
        world.admin.ask(
            "POST", "/prompts", {"name": "support", "text": text, "settings": settings}, status=201
        )

    def label(version: int | None) -> None:
        world.admin.ask("PUT", "/prompts/support/labels/candidate", {"version": version})

    assert "label 'candidate'" in refused(to_json(spec))
    label(2)
    lab = Lab(world, spec)
    label(None)
    assert "label 'candidate'" in refused({"action": "start"}, "/experiments/prompt")
    label(2)
    lab.start()
    label(1)
    assert [a.prompt for a in lab.experiment().spec.arms] == ["support@1", "support@2"]
    (plan,) = world.person("app", ("ingest", "feedback")).ask("GET", "/assignments")["plans"]
    assert plan["parameters"] == [
        {**settings, "prompt": "Answer {{question}}."},
        {"model": "small", "temperature": 0.2, "prompt": "Answer {{question}} kindly."},
    ]
    with testing.recording() as seen:
        seen.transport.documents[_assignment.PLANS] = {"plans": [plan]}
        seen.runtime.settings.wait(_assignment.PLANS, 10)
        given = [heedloop.assign("prompt", unit=u) for u in people(40)]
    assert {(a.arm, a.prompt.version, a.prompt.as_text(question="it")) for a in given} == {
        ("old", 1, "Answer it."),
        ("new", 2, "Answer it kindly."),
    }
    assert {a.parameters["prompt"] for a in given} == {p["prompt"] for p in plan["parameters"]}


def test_an_arm_may_be_what_a_run_trained(projects):
    world = projects()
    arms = (Arm("base", {"model": "tiny"}), Arm("trained", {"model": "tiny-ppo-1"}, run="run-1"))
    spec = replace(SPEC, arms=arms)
    assert world.admin.ask("POST", "/experiments", to_json(spec), status=422)["error"]["field"] == "arms.run"
    world.admin.ask("POST", "/runs", to_json(Run("run-1", "ppo", model_name="tiny-ppo-1")), status=201)
    lab = Lab(world, spec).start()
    lab.serve(people(600), up={"base": 0.4, "trained": 0.75})
    assert lab.look().serving == "trained"


def test_later_steps_go_to_the_better_arm_and_the_estimate_stays_right(projects):
    spec = replace(SPEC, assignment="thompson", promote="hand", ramp=(0.3, 0.6, 1.0))
    lab = Lab(projects(), spec).start()
    lab.serve(people(500), up={"old": 0.45, "new": 0.65})
    lab.change("ramp")
    first, second = lab.experiment().steps
    assert first.probabilities == [0.5, 0.5]
    assert 0.6 < second.probabilities[1] <= 0.9 and sum(second.probabilities) == pytest.approx(1)
    lab.serve(people(500, 500), up={"old": 0.45, "new": 0.65})
    new = lab.results()["metrics"][0]["arms"][1]
    assert new["difference"]["low"] < 0.2 < new["difference"]["high"]
    assert not lab.results()["sample_ratio"]["alarm"]


# --------------------------------------------------------------------------------------------- by command, over HTTP


def test_the_whole_path_by_command_and_sdk(tmp_path, capsys, monkeypatch):
    """Defined and started by the command, assigned over HTTP and while the server is away, measured, decided."""
    server = ForkedServer(made(tmp_path / "server")).start()
    try:
        key = (tmp_path / "server/key").read_text().strip()
        monkeypatch.setenv("HEEDLOOP_URL", server.url)
        monkeypatch.setenv("HEEDLOOP_API_KEY", key)
        (tmp_path / "prompt.txt").write_text("Answer kindly.")
        assert main(["prompt", "push", "kind", str(tmp_path / "prompt.txt"), "--label", "candidate"]) == 0
        arms = ["--arm", 'old={"prompt": "Answer."}', "--arm", "new", "--prompt", "new=kind@candidate"]
        define = ["experiment", "define", "prompt", *arms, "--guardrail", "error:0.01", "--ramp", "1"]
        assert main([*define, "--min-units", "30"]) == main(["experiment", "start", "prompt"]) == 0
        assert "prompt runs with 100% of units" in capsys.readouterr().out
        first = answered(tmp_path, {"old": 0.2, "new": 0.9})
        wait_for(
            lambda: (
                main(["experiment", "show", "prompt"]) == 0
                and "new is better than old: thumbs up +" in capsys.readouterr().out
            ),
            what="what was delivered to be stored and decide",
        )
        server.kill()
        assert answered(tmp_path, {}, flush=False) == first, "the server is away, the arms stay"
        server.start()
        assert main(["experiment", "promote", "prompt", "new", "--reason", "it won"]) == 0
        assert main(["experiment", "list"]) == 0
        assert "prompt  round 1, decided: old, new; 100% of units; others get new" in capsys.readouterr().out
        assert main(["experiment", "pause", "prompt"]) == 2
        assert "is decided" in capsys.readouterr().err
    finally:
        heedloop.shutdown(0)
        server.stop()


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def answered(folder: Path, up: dict[str, float], *, flush: bool = True) -> list[str]:
    """The arms of 160 users who asked and rated, through a freshly configured SDK."""
    rng = random.Random(5)
    heedloop.configure(service="app", options=heedloop.Options(outbox=folder / "outbox"))

    @heedloop.trace
    def answer(question: str) -> str:
        return heedloop.assign("prompt", unit=question).parameters.get("prompt", "")

    assert state.runtime is not None
    state.runtime.settings.wait(_assignment.PLANS, 20 if flush else 0)
    arms = [heedloop.assign("prompt", unit=unit).arm for unit in people(160)]
    for unit, arm in zip(people(160), arms, strict=True):
        if arm in up:
            text, handle = answer.with_handle(unit)
            assert text == ("Answer kindly." if arm == "new" else "Answer.")
            rate = heedloop.thumbs_up if rng.random() < up[arm] else heedloop.thumbs_down
            rate(handle, author=unit)
    assert not flush or heedloop.flush(60).complete
    heedloop.shutdown(0.5)
    return arms


# ----------------------------------------------------------------------------------------------------- judges


def test_a_judge_decides_by_what_annotators_say(projects):
    """The judge likes the new arm better, annotators do not: its word alone is never the answer."""
    world = projects()
    judge = JudgeSpec("j", "pointwise", "endpoint", "m", prompt="{answer}", verdicts={"YES": 1.0, "NO": 0.0})
    world.admin.ask("POST", "/judges", to_json(judge), status=201)
    lab = Lab(world, replace(SPEC, metric=ExperimentMetric("judge", judge.id), guardrails=())).start()
    key, rng = names.EXPERIMENT_ARM_PREFIX + "prompt", random.Random(2)
    plan = world.admin.ask("GET", "/assignments")["plans"][0]
    given = {u: a for u, a in attributes_of(plan, people(500)).items() if a}
    calls = [replace(call(f"Question of {u}?", f"Answer {u}"), attributes=a) for u, a in given.items()]
    insert_calls(world.project, calls)
    said = [
        Feedback(
            kind="rating",
            target=Target(c.trace_id, c.span_id),
            author=Author("model", judge.id),
            name="thumb",
            value=float(rng.random() < (0.9 if c.attributes[key] == "new" else 0.5)),
            scale=heedloop.Scale(0, 1),
        )
        for c in calls
    ]
    world.admin.ask("POST", "/feedback", {"feedback": [to_json(f) for f in said]})
    assert lab.results()["metrics"][0]["arms"][1]["mean"] is None, "a judge without audits says nothing"
    queue = world.queue(fill=False, judgements_per_item=1)
    audit = {"source": "audit", "judge": judge.id, "size": 120}
    world.admin.ask("POST", f"/review/queues/{queue}/items", audit)
    ann = world.person("ann")
    while (work := ann.take(queue)) is not None:
        ann.submit(work, {"thumb": int(rng.random() < 0.6)})
    old, new = lab.results()["metrics"][0]["arms"]
    assert old["num_units"] + new["num_units"] == len(calls)
    # Sixty audited answers of an arm leave a standard error near 0.065: four of them on either side of 0.6.
    assert 0.34 < old["mean"] < 0.86 and 0.34 < new["mean"] < 0.86
    assert new["difference"]["low"] < 0 < new["difference"]["high"] and not new["decided"]
