"""The registry of prompts: versions, labels, scopes, and what an app is served with the server away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from review_people import World, review_server

import heedloop
from heedloop import Prompt, _prompts, testing
from heedloop.schema import Message, SchemaError, from_json

Projects = Callable[[], World]


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Projects]:
    with review_server(tmp_path_factory.mktemp("prompts")) as world:
        yield world


def push(world: World, text: str, *, status: int = 201, **more: object) -> int:
    body = {"name": "support", "text": text, **more}
    return int(world.admin.ask("POST", "/prompts", body, status=status)["prompt"]["version"])


def test_versions_never_change_and_labels_move(projects: Projects) -> None:
    world = projects()
    assert [push(world, "Be kind."), push(world, "Be kind, {{name}}.", note="greets")] == [1, 2]
    assert push(world, "Be kind.", status=200) == 1, "the same words are the same version"
    path = "/prompts/support/labels/production"
    world.admin.ask("PUT", path, {"version": 1})
    found = world.admin.ask("PUT", path, {"version": 2})
    assert [(v["prompt"]["version"], v["labels"]) for v in found["versions"]] == [
        (2, ["production"]),
        (1, []),
    ]
    assert found["versions"][0]["variables"] == ["name"]
    assert found["versions"][0]["note"] == "greets"
    assert found["versions"][0]["created_by"] == "root"
    (row,) = world.admin.ask("GET", "/prompts")["prompts"]
    assert (row["newest"], row["labels"]) == (2, {"production": 2})
    log = [(a["action"], a["details"].get("version")) for a in world.admin.ask("GET", "/audit")["entries"]]
    assert log == [("label_prompt", 2), ("label_prompt", 1), ("create_prompt", 2), ("create_prompt", 1)]
    assert world.admin.ask("PUT", path, {"version": None})["labels"] == []


def test_two_who_store_at_once_get_two_versions(projects: Projects) -> None:
    world = projects()
    made: list[int] = []
    threads = [threading.Thread(target=lambda i=i: made.append(push(world, f"Text {i}"))) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [1, 2, 3, 4, 5, 6]


def test_what_is_wrong_is_named(projects: Projects) -> None:
    world = projects()
    for body in (
        {"name": "a b", "text": "x"},
        {"name": "a"},
        {"name": "a", "text": "x", "messages": [{"role": "user", "text": "y"}]},
        {"name": "a", "text": "x", "version": 3},
    ):
        world.admin.ask("POST", "/prompts", body, status=422)
    push(world, "x")
    world.admin.ask("PUT", "/prompts/support/labels/production", {"version": 9}, status=404)
    world.admin.ask("PUT", "/prompts/support/labels/latest", {"version": 1}, status=422)
    world.admin.ask("GET", "/prompts/other", status=404)


def test_scopes(projects: Projects) -> None:
    world = projects()
    push(world, "x")
    app, viewer = world.person("app", ("ingest", "feedback")), world.person("viewer", ("read",))
    assert app.ask("GET", "/prompts/served")["prompts"][0]["labels"] == ["latest"]
    app.ask("GET", "/prompts/support", status=403)
    viewer.ask("POST", "/prompts", {"name": "support", "text": "y"}, status=403)
    viewer.ask("PUT", "/prompts/support/labels/production", {"version": 1}, status=403)
    assert projects().admin.ask("GET", "/prompts")["prompts"] == []


# ------------------------------------------------------------------------------------------------------- in an app


@heedloop.trace
def answer(question: str) -> str:
    return heedloop.prompt("support").as_text(question=question)


def test_an_app_is_served_the_label_and_its_calls_say_so(projects: Projects) -> None:
    world = projects()
    push(world, "One: {{question}}")
    push(world, "Two: {{question}}")
    world.admin.ask("PUT", "/prompts/support/labels/production", {"version": 1})
    with testing.recording() as seen:
        seen.transport.documents[_prompts.PATH] = world.admin.ask("GET", "/prompts/served")
        assert answer("{{name}}?") == "One: {{name}}?", "what is filled in is no template"
        world.admin.ask("PUT", "/prompts/support/labels/production", {"version": 2})
        seen.transport.documents[_prompts.PATH] = world.admin.ask("GET", "/prompts/served")
        seen.runtime.settings.refresh()
        seen.runtime.settings.wait(_prompts.PATH, 10)
        assert answer("Why?") == "Two: Why?"
        assert heedloop.prompt("support", label="latest").version == 2
        versions = [a.attributes["gen_ai.prompt.version"] for a in seen.answers]
        assert versions == ["1", "2"]
        assert {a.attributes["gen_ai.prompt.name"] for a in seen.answers} == {"support"}


def test_a_prompt_that_is_not_known_has_a_fallback_or_raises() -> None:
    with testing.recording() as seen:
        seen.transport.documents[_prompts.PATH] = {"prompts": [{"prompt": {"name": "?"}, "labels": []}]}
        assert heedloop.prompt("support", fallback="Hello {{name}}").as_text(name="Ada") == "Hello Ada"
        with pytest.raises(LookupError, match="support"):
            heedloop.prompt("support")
    with pytest.raises(LookupError):  # heedloop is off
        heedloop.prompt("support")


def test_holes_and_variables_must_agree() -> None:
    chat = Prompt("c", messages=(Message("system", "You are {{role}}."), Message("user", "{{ question }}")))
    assert chat.variables == ("role", "question")
    assert chat.as_messages(role="kind", question="{{role}}") == [
        {"role": "system", "content": "You are kind."},
        {"role": "user", "content": "{{role}}"},
    ]
    with pytest.raises(ValueError, match="no value for question"):
        chat.as_messages(role="kind")
    with pytest.raises(ValueError, match="no hole tone"):
        chat.as_messages(role="kind", question="?", tone="warm")
    with pytest.raises(ValueError, match="as_messages"):
        chat.as_text(role="kind", question="?")
    with pytest.raises(SchemaError):
        from_json(Prompt, {"name": "c"})
