"""schemathesis against the whole API: every operation of /openapi.json is called with what the description allows and with what
it forbids, on a server with a real store, and every answer must be one that the description names, in the form it names."""

import dataclasses
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings, strategies
from schemathesis.config import SchemathesisConfig
from server_process import wait_for
from server_requests import traces_request

from heedloop.client import Client
from heedloop.schema import Author, Call, Demonstration, Feedback, Message, Run, Snapshot, Target, utc_now
from heedloop_server.app import create_app
from heedloop_server.auth import SCOPES, make_key
from heedloop_server.settings import Settings
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.keys import insert_key, insert_project
from heedloop_server.store.snapshots import row_texts, write_snapshot
from heedloop_server.store.spans import insert_calls
from heedloop_server.testing import temporary_store

EXAMPLES = 10
"""Random cases per operation, beside those that schemathesis makes for each keyword of the description."""

TRACE, SPAN = "5ca1ab1e" * 4, "5ca1ab1e" * 2
TARGET = Target(trace_id=TRACE, span_id=SPAN)
UP = Feedback(kind="rating", target=TARGET, value=1, author=Author("end_user", "ada"), comment="good")
KNOWN = {
    "trace_id": TRACE,
    "feedback_id": str(UP.identity("mine")),
    "snapshot_id": "0ddba11" * 4,
    "run_id": "run-1",
    "key_id": "5ca1ab1e0000",
}
"""Path parameter -> the id of something that is there."""


def _with_examples(spec: dict[str, Any]) -> dict[str, Any]:
    """The description, with ids that are there as examples of path parameters."""
    for path in spec["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    parameter["example"] = KNOWN[parameter["name"]]
    return spec


# Some rules stand between fields ("since is before until", "a flag has a category"), which no JSON Schema says: 422 is then right.
ACCEPTED = ["2xx", "304", "401", "403", "404", "409", "422"]

# an export of nothing is a valid request of every signal
EMPTY = traces_request([]).SerializeToString()
schemathesis.openapi.media_type("application/x-protobuf", strategies.sampled_from([b"", EMPTY]))

CONFIG = SchemathesisConfig.from_dict(
    {
        "generation": {"max-examples": EXAMPLES, "deterministic": True},
        "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}},
    }
)
schema = schemathesis.openapi.from_dict(_with_examples(create_app(Settings()).openapi()), config=CONFIG)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(address, key with every scope) of a server in this process whose project holds one of everything."""
    with temporary_store() as store:
        insert_project(store, "mine")
        app = create_app(Settings(data=tmp_path_factory.mktemp("schemathesis")), store=store)
        listener = socket.create_server(("127.0.0.1", 0))
        one = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=one.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: one.started, what="the server to start")
            key, made = make_key(store, "mine", name="all", scopes=SCOPES)
            insert_key(store, dataclasses.replace(made, key_id=KNOWN["key_id"], secret_hash="0" * 64))
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            _furnish(store.project("mine"), Client(address, key))
            yield address, key
        finally:
            one.should_exit = True
            thread.join()


def _furnish(project: ProjectStore, client: Client) -> None:
    """One of everything that has an id."""
    insert_calls(project, _calls())
    better = Feedback(kind="correction", target=TARGET, correction="Five.", author=Author("annotator", "bob"))
    assert client.send_feedback([UP, better])["results"][0]["feedback_id"] == KNOWN["feedback_id"]
    client.create_run(Run(id=KNOWN["run_id"], method="sft"))
    client.add_run_history(KNOWN["run_id"], [{"step": 1, "loss": 0.5}])
    frozen = Snapshot(KNOWN["snapshot_id"], "all", utc_now(), utc_now())
    row = Demonstration((Message("user", "2+3?"),), "Five.", trace_ids=(TRACE,))
    write_snapshot(
        project, frozen, rows={"demonstrations": [row]}, texts={"demonstrations": row_texts([row])}, report={}
    )


def _calls() -> list[Call]:
    """A few calls; the first is judged."""
    more = {
        "model_answered": "model-a",
        "service": "app",
        "tags": ("news",),
        "user_id": "ada",
        "session_id": "s",
    }
    talk = {"input_messages": (Message("user", "2+3?"),), "output_messages": (Message("assistant", "Five"),)}
    spans = [f"{i:016x}" for i in range(1, 30)]
    return [
        Call(trace_id=TRACE, span_id=SPAN, start_time=utc_now(), **more, **talk),
        *(Call(trace_id=s * 2, span_id=s, start_time=utc_now(), **more, **talk) for s in spans),
    ]


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_answers_as_described(case: Any, server: tuple[str, str]) -> None:
    address, key = server
    case.call_and_validate(base_url=address, headers={"Authorization": f"Bearer {key}"})
