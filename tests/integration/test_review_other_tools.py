"""Judgements through the real Label Studio and through Argilla's own models, and back: nothing changes.

Each tool lives in an environment of its own: `HEEDLOOP_LABEL_STUDIO` names its `label-studio` command (1.23), or the
address of one that runs already with the user token below, and `HEEDLOOP_ARGILLA` the Python that has argilla (2.8) and requests, which it imports and does not ask for.
Without them these tests are skipped.
"""

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from review_people import World, call, review_server
from test_review_control_routes import post, read

from heedloop_server.store.spans import insert_calls

LABEL_STUDIO = os.environ.get("HEEDLOOP_LABEL_STUDIO", "")
ARGILLA = os.environ.get("HEEDLOOP_ARGILLA", "")
TOKEN = "0123456789abcdef0123456789abcdef01234567"
PEOPLE = ("ada", "bo@example.org", "Ünal 👩‍🔬", "dee")
QUESTIONS = [
    {"name": "thumb", "kind": "thumb"},
    {"name": "accuracy", "kind": "scale", "min": 1, "max": 5},
    {"name": "tone", "kind": "scale", "min": -3, "max": 3},
    {"name": "topic", "kind": "category", "categories": ["refund & return", "<delivery>", "other"]},
    {
        "name": "wrong",
        "kind": "flags",
        "categories": ["fact 🔥", "tone"],
        "severity": True,
        "required": False,
    },
    {"name": "parts", "kind": "ranges", "labels": ["bad", "odd"], "severity": True, "required": False},
    {"name": "note", "kind": "text", "required": False},
    {"name": "better", "kind": "correction", "required": False},
    {"name": "choice", "kind": "comparison", "strength": True},
    {"name": "order", "kind": "ranking"},
]
ANSWER = "Fall 👨‍👩‍👧 Müller: zurück in 30 Tagen.\nZweite Zeile, e\u0301 am Ende."
NUM_ITEMS = 50


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with review_server(tmp_path_factory.mktemp("tools")) as new_world:
        yield new_world()


@pytest.fixture(scope="module")
def queue(world: World) -> str:
    """50 items of one, two or three answers; four people each: judgements, with drafts and skips between them."""
    calls = [call(f"Question {n}?", ANSWER, at_s=60 + n) for n in range(2 * NUM_ITEMS)]
    insert_calls(world.project, calls)
    sizes = [(1, 2, 3)[n % 3] for n in range(NUM_ITEMS)]
    targets = iter([{"trace_id": c.trace_id, "span_id": c.span_id} for c in calls])
    items = [[next(targets) for _ in range(size)] for size in sizes]
    made = world.queue(QUESTIONS, fill=False, judgements_per_item=len(PEOPLE))
    world.admin.ask("POST", f"/review/queues/{made}/items", {"source": "targets", "items": items})
    rng = random.Random(5)
    found = world.admin.ask("GET", f"/review/queues/{made}/items", limit=500)["items"]
    lines = [
        {"item_id": item["item_id"], "judgements": [entry(item, number, who, rng) for who in PEOPLE]}
        for number, item in enumerate(found)
    ]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    done = post(world.admin, f"/review/queues/{made}/import", body)
    assert (done["stored"], done["rejected"]) == (NUM_ITEMS * len(PEOPLE), 0), done
    return made


def entry(item: dict[str, Any], number: int, who: str, rng: random.Random) -> dict[str, Any]:
    """A judgement; every seventh item is skipped, and the last one stays a draft."""
    shown = {"answers": [{"text": ANSWER}] * len(item["targets"])}
    answers, state = judgement(shown, rng), "done"
    if number % 7 == 3:
        answers, state = {}, "skipped"
    elif number == NUM_ITEMS - 1:
        answers, state = {"thumb": answers["thumb"], "note": "half a th"}, "draft"
    return {
        "annotator": who,
        "state": state,
        "answers": answers,
        "reason": "no idea 🤷" if state == "skipped" else "",
        "submitted_at": f"2026-05-04T12:{number:02d}:01.500000Z",
        "duration_ms": 1000 + number,
    }


def judgement(one: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    num = len(one["answers"])
    texts = [a["text"] for a in one["answers"]]

    def each(answer: Any) -> Any:
        return [answer(t) for t in texts] if num > 1 else answer(texts[0])

    found: dict[str, Any] = {
        "thumb": each(lambda _: rng.randint(0, 1)),
        "accuracy": each(lambda _: rng.randint(1, 5)),
        "tone": each(lambda _: rng.randint(-3, 3)),
        "topic": each(lambda _: rng.choice(QUESTIONS[3]["categories"])),
        "wrong": each(lambda _: flags(rng)),
        "parts": each(lambda t: ranges(t, rng)),
    }
    if rng.random() < 0.5:
        found["note"] = each(lambda _: f"“{rng.random():.3f}” 👍\nzweite Zeile")
        found["better"] = each(lambda t: t.replace("30", "14"))
    if num == 2:
        found["choice"] = rng.choice([{"preferred": 0, "strength": 0.5}, {"preferred": 1, "strength": 1}, {"preferred": None, "all_bad": True}])  # fmt: skip
    if num > 1:
        found["order"] = {"ranks": rng.choice([[1, 1, 2], [3, 1, 2], [2, 2, 1], [1, 2, 3]])[:num]}
        found["order"]["ranks"] = [sorted(set(found["order"]["ranks"])).index(r) + 1 for r in found["order"]["ranks"]]  # fmt: skip
    return found


def flags(rng: random.Random) -> list[dict[str, Any]]:
    some = [{"category": "fact 🔥", "severity": "high"}, {"category": "tone", "comment": "harsh"}]
    return rng.choice([[], some, some[:1]])


def ranges(text: str, rng: random.Random) -> list[dict[str, Any]]:
    at = text.index("Müller")
    mark = {"start": at, "end": at + 6, "label": "bad", "severity": "low"}
    return rng.choice([[], [mark], [mark, {"start": 5, "end": at, "label": "odd", "comment": "👨‍👩‍👧?"}]])


def test_two_hundred_judgements_are_there(world: World, queue: str) -> None:
    lines = [json.loads(t) for t in read(world.admin, f"/review/queues/{queue}/export").splitlines()]
    states = [j["state"] for e in lines for j in (*e["judgements"], *e.get("unfinished", ()))]
    assert len(states) == NUM_ITEMS * len(PEOPLE)
    assert (states.count("skipped"), states.count("draft")) == (28, 4)


def round_trip(world: World, queue: str, format: str, there_and_back: Any) -> list[dict[str, Any]]:
    """Export, through the tool, import: everything is a duplicate and nothing has changed."""
    path = f"/review/queues/{queue}"
    before = read(world.admin, f"{path}/export")
    entries = json.loads(read(world.admin, f"{path}/export", format=format))
    settings = read(world.admin, f"{path}/export/settings", format=format)
    back = there_and_back(entries, settings)
    done = post(world.admin, f"{path}/import", json.dumps(back).encode(), format=format)
    assert [r for r in done["results"] if r["status"] != "duplicate"] == []
    assert done["duplicate"] >= NUM_ITEMS * len(PEOPLE) - 4
    assert read(world.admin, f"{path}/export") == before
    return back


@pytest.mark.parametrize("format", ["jsonl", "label_studio", "argilla"])
def test_a_file_that_nobody_touched_is_all_duplicates(world: World, queue: str, format: str) -> None:
    if format == "jsonl":
        text = read(world.admin, f"/review/queues/{queue}/export")
        done = post(world.admin, f"/review/queues/{queue}/import", text.encode())
        assert (done["stored"], done["rejected"], done["duplicate"]) == (0, 0, 200)
    else:
        round_trip(world, queue, format, lambda entries, _: entries)


def test_drafts_and_skips_arrive_as_what_they_are(world: World, queue: str) -> None:
    """The same items in a second queue: drafts stay drafts, skips stay skips."""
    lines = [json.loads(t) for t in read(world.admin, f"/review/queues/{queue}/export").splitlines()]
    second = world.queue(QUESTIONS, fill=False, judgements_per_item=4)
    items = [e["targets"] for e in lines]
    world.admin.ask("POST", f"/review/queues/{second}/items", {"source": "targets", "items": items})
    ids = {json.dumps(e["targets"]): e["item_id"] for e in world.admin.ask("GET", f"/review/queues/{second}/items", limit=500)["items"]}  # fmt: skip
    moved = [e | {"item_id": ids[json.dumps(e["targets"])]} for e in lines]
    body = "\n".join(json.dumps(e) for e in moved).encode()
    done = post(world.admin, f"/review/queues/{second}/import", body)
    assert (done["stored"], done["rejected"]) == (200, 0)
    again = [json.loads(t) for t in read(world.admin, f"/review/queues/{second}/export").splitlines()]
    for old, new in zip(moved, again, strict=True):
        for name in ("judgements", "unfinished"):
            assert [(j["annotator"], j["state"], j["answers"], j["reason"]) for j in old.get(name, [])] == [
                (j["annotator"], j["state"], j["answers"], j["reason"]) for j in new.get(name, [])
            ]


# ----------------------------------------------------------------------------------------------------- Label Studio


class LabelStudio:
    """Label Studio's REST API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        headers = {"Authorization": f"Token {TOKEN}"}
        answer = requests.request(
            method, f"{self.url}/api/{path}", json=body, params=params, headers=headers, timeout=300
        )
        assert answer.ok, (answer.status_code, answer.text[:2000])
        return answer.json()

    def project(self, config: str) -> str:
        made = self.ask("POST", "projects/", {"title": "from heedloop", "label_config": config})
        return f"projects/{made['id']}"

    def there_and_back(self, entries: list[Any], config: str) -> list[Any]:
        project = self.project(config)
        self.ask("POST", f"{project}/import", entries)
        return self.ask("GET", f"{project}/export", exportType="JSON", download_all_tasks="true")


class OwnLabelStudio(LabelStudio):
    """A Label Studio server of its own on a free port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        env = os.environ | {
            "HOME": str(folder),
            "COLLECT_ANALYTICS": "0",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
        }
        command = [LABEL_STUDIO, "start", "--init", "-b", "--data-dir", str(folder), "-p", str(self.port)]
        command += [
            "--internal-host",
            "127.0.0.1",
            "--username",
            "lead@example.org",
            "--password",
            "pw12345678",
        ]
        command += ["--user-token", TOKEN, "--enable-legacy-api-token"]
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(command, env=env, stdout=self.log, stderr=subprocess.STDOUT)

        super().__init__(f"http://127.0.0.1:{self.port}")

    def wait(self, timeout_s: float = 300) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            try:
                if requests.get(f"{self.url}/health", timeout=5).ok:
                    return
            except requests.ConnectionError:
                assert self.process.poll() is None, "Label Studio ended"
            time.sleep(0.5)
        raise TimeoutError("Label Studio does not answer")


@pytest.fixture(scope="module")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    if not LABEL_STUDIO:
        pytest.skip("HEEDLOOP_LABEL_STUDIO names no label-studio command: the real tool is not tested")
    if LABEL_STUDIO.startswith("http"):
        yield LabelStudio(LABEL_STUDIO)
        return
    started = OwnLabelStudio(tmp_path_factory.mktemp("label-studio"))
    try:
        started.wait()
        yield started
    finally:
        started.process.kill()
        started.process.wait()
        started.log.close()


def test_through_label_studio_and_back(world: World, queue: str, label_studio: LabelStudio) -> None:
    back = round_trip(world, queue, "label_studio", label_studio.there_and_back)
    assert len(back) == NUM_ITEMS


def test_what_is_changed_in_label_studio_counts(world: World, queue: str, label_studio: LabelStudio) -> None:
    """One annotation changed, one made there, by its own user: two judgements are stored, all else is a duplicate."""
    path = f"/review/queues/{queue}"
    project = label_studio.project(read(world.admin, f"{path}/export/settings", format="label_studio"))
    label_studio.ask(
        "POST", f"{project}/import", json.loads(read(world.admin, f"{path}/export", format="label_studio"))
    )
    tasks = label_studio.ask("GET", f"{project}/export", exportType="JSON", download_all_tasks="true")
    task = next(t for t in tasks if "answers" not in t["data"] or not t["data"]["answer_2"])
    changed = next(a for a in task["annotations"] if not a["was_cancelled"])
    result = [
        r | {"value": {"rating": 1 if r["value"]["rating"] > 1 else 5}} if r["type"] == "rating" else r
        for r in changed["result"]
    ]
    label_studio.ask("PATCH", f"annotations/{changed['id']}/", {"result": result})
    own = [r for r in result if r["from_name"] in ("thumb", "accuracy", "tone", "topic")]
    label_studio.ask("POST", f"tasks/{task['id']}/annotations/", {"result": own})
    tasks = label_studio.ask("GET", f"{project}/export", exportType="JSON", download_all_tasks="true")
    users = json.dumps({"lead": "1"})
    done = post(world.admin, f"{path}/import", json.dumps(tasks).encode(), format="label_studio", users=users)
    stored = [r["annotator"] for r in done["results"] if r["status"] == "stored"]
    assert done["rejected"] == 0 and len(stored) == 2 and "lead" in stored
    [item] = [i for i in world.admin.ask("GET", f"{path}/items", limit=500)["items"] if i["item_id"] == task["data"]["item_id"]]  # fmt: skip
    said = {j["annotator"]: j["answers"] for j in item["judgements"]}
    name = next(a for a in stored if a != "lead")
    original = next(j for j in task["meta"]["heedloop"]["judgements"] if j["annotator"] == name)
    assert said[name]["accuracy"] == (1 if original["answers"]["accuracy"] > 1 else 5)
    assert said[name]["parts"] == original["answers"]["parts"], "severity and comments stay"


def test_as_predictions_label_studio_takes_them(world: World, queue: str, label_studio: LabelStudio) -> None:
    path = f"/review/queues/{queue}"
    project = label_studio.project(read(world.admin, f"{path}/export/settings", format="label_studio"))
    entries = json.loads(read(world.admin, f"{path}/export", format="label_studio", as_predictions="true"))
    label_studio.ask("POST", f"{project}/import", entries)
    tasks = label_studio.ask("GET", f"{project}/export", exportType="JSON", download_all_tasks="true")
    found = label_studio.ask("GET", "predictions/", project=project.split("/")[1])
    assert {p["model_version"] for p in found} >= set(PEOPLE)
    assert all(not t["annotations"] for t in tasks)


# ---------------------------------------------------------------------------------------------------------- Argilla

THROUGH_ARGILLA = """
import json, sys
from types import SimpleNamespace
import argilla as rg
rg.Argilla._default_client = SimpleNamespace(api=SimpleNamespace(**{n: None for n in ("questions", "fields", "datasets", "vectors", "metadata")}))
from argilla._models import RecordModel
folder = sys.argv[1]
settings = rg.Settings.from_json(folder + "/settings.json")
settings.validate()
dataset = SimpleNamespace(settings=settings, name="d", _client=None)
back = []
for entry in json.load(open(folder + "/records.json")):
    record = rg.Record.from_dict(entry, dataset=dataset)
    model = record.api_model()
    wire = json.loads(model.model_dump_json())
    names = {q.name for q in settings.questions}
    assert all(set(r["values"]) <= names for r in wire["responses"]), wire["responses"]
    kept = RecordModel(**{**wire, "vectors": []})
    back.append(rg.Record.from_model(kept, dataset=dataset).to_dict())
json.dump(back, open(folder + "/back.json", "w"))
"""


def test_through_argillas_models_and_back(world: World, queue: str, tmp_path: Path) -> None:
    if not ARGILLA:
        pytest.skip("HEEDLOOP_ARGILLA names no Python with argilla: its models are not tested")

    def there_and_back(entries: list[Any], settings: str) -> list[Any]:
        (tmp_path / "records.json").write_text(json.dumps(entries))
        (tmp_path / "settings.json").write_text(settings)
        program = [ARGILLA, "-c", THROUGH_ARGILLA, str(tmp_path)]
        done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        print(done.stderr[-500:], file=sys.stderr)
        return json.loads((tmp_path / "back.json").read_text())

    round_trip(world, queue, "argilla", there_and_back)
