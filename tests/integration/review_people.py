"""A server with answers in it, people's keys and a queue: what the review tests share."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from fastapi.testclient import TestClient
from temporary_stores import temporary_store

from heedloop.schema import Call, Message, utc_now
from heedloop_server.app import create_app
from heedloop_server.http.auth import PROJECT_SCOPES, make_key
from heedloop_server.settings import Settings
from heedloop_server.store.connection import Store
from heedloop_server.store.spans import insert_calls

QUESTIONS = [
    {"name": "thumb", "kind": "thumb"},
    {
        "name": "helpfulness",
        "kind": "scale",
        "min": 1,
        "max": 5,
        "anchors": [{"value": 1, "label": "useless"}, {"value": 5, "label": "solves it"}],
        "required": False,
    },
    {"name": "what_is_wrong", "kind": "flags", "categories": ["wrong fact", "tone"], "severity": True},
    {"name": "parts", "kind": "ranges", "labels": ["inaccurate", "misleading"], "severity": True},
    {"name": "better", "kind": "correction", "required": False},
    {"name": "note", "kind": "text", "required": False},
]
THUMB_ONLY = [{"name": "thumb", "kind": "thumb"}]
COMPARE = [
    {"name": "preference", "kind": "comparison", "strength": True},
    {"name": "accuracy", "kind": "scale", "min": 1, "max": 5},
    {"name": "why", "kind": "text", "per_answer": False, "required": False},
]


def call(question: str = "How are you?", answer: str = "Fine, thanks.", *, at_s: float = 60, **more) -> Call:
    """An answer that started `at_s` seconds ago."""
    return Call(
        trace_id=uuid.uuid4().hex,
        span_id=uuid.uuid4().hex[:16],
        start_time=utc_now() - timedelta(seconds=at_s),
        model_answered=more.pop("model", "model-a"),
        input_messages=(Message("user", question),),
        output_messages=(Message("assistant", answer),),
        **more,
    )


class Person:
    """Somebody with a key."""

    def __init__(self, client: TestClient, key: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {key}"}
        self.key = key

    def ask(self, method: str, path: str, body=None, /, *, status: int = 200, **params):
        """The JSON of an answer, whose status must be the expected one."""
        answer = self._client.request(method, f"/v1{path}", json=body, params=params, headers=self._headers)
        assert answer.status_code == status, (answer.status_code, answer.text)
        return answer.json()

    def next(self, queue_id: str, count: int = 1, holding=(), **more):
        body = {"count": count, "holding": list(holding)}
        return self.ask("POST", f"/review/queues/{queue_id}/next", body, **more)

    def take(self, queue_id: str):
        """The next assignment, None where nothing is left."""
        return next(iter(self.next(queue_id)["assignments"]), None)

    def submit(self, assignment, answers, *, status: int = 200, **more):
        body = {"answers": answers, **more}
        path = f"/review/assignments/{assignment['assignment_id']}/submit"
        return self.ask("POST", path, body, status=status)

    def skip(self, assignment, reason="", **more):
        return self.ask(
            "POST", f"/review/assignments/{assignment['assignment_id']}/skip", {"reason": reason}, **more
        )

    def reopen(self, assignment, **more):
        return self.ask("POST", f"/review/assignments/{assignment['assignment_id']}/reopen", **more)

    def draft(self, assignment, answers, **more):
        path = f"/review/assignments/{assignment['assignment_id']}/draft"
        return self.ask("PUT", path, {"answers": answers}, **more)

    def feedback(self, **filters):
        return self.ask("GET", "/feedback", limit=500, **filters)["feedback"]


class World:
    """A project of its own: `admin`, annotators by name, and the store behind them."""

    def __init__(self, client: TestClient, store: Store) -> None:
        self.client, self.store = client, store
        self.app = client.app
        name = f"p{uuid.uuid4().hex[:12]}"
        self.project = store.project(name)
        self.admin = Person(client, make_key(store, name, name="root", scopes=PROJECT_SCOPES)[0])

    def person(self, author: str, scopes=("annotate",), project: str = "") -> Person:
        key, _ = make_key(
            self.store,
            project or self.project.project,
            name=f"{author}'s key",
            scopes=scopes,
            author_id=author,
        )
        return Person(self.client, key)

    def calls(self, num: int, **more) -> list[Call]:
        made = [call(f"Question {i}?", f"Answer {i}.", at_s=60 + i, **more) for i in range(num)]
        insert_calls(self.project, made)
        return made

    def queue(self, questions=THUMB_ONLY, *, fill: bool = True, **settings) -> str:
        made = self.admin.ask(
            "POST", "/review/queues", {"name": "q", "questions": questions, **settings}, status=201
        )
        if fill:
            self.admin.ask("POST", f"/review/queues/{made['queue_id']}/items", {"source": "filter"})
        return made["queue_id"]


@contextmanager
def review_server(folder: Path) -> Iterator[Callable[[], World]]:
    """A server in this process on a store of its own; every call makes a new project in it."""
    with temporary_store() as store, TestClient(create_app(Settings(data=folder), store=store)) as client:
        yield lambda: World(client, store)
