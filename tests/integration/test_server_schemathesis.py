"""schemathesis against the whole API: every operation of /openapi.json is called with what the description allows and with what
it forbids, on a server with a real store, and every answer must be one that the description names, in the form it names."""

import socket
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, settings, strategies
from schemathesis.config import SchemathesisConfig
from server_process import wait_for
from server_requests import traces_request
from server_world import furnish
from temporary_stores import temporary_store

from heedloop.schema import Call, Message, utc_now
from heedloop_server.app import create_app
from heedloop_server.filters import CallFilters
from heedloop_server.http.auth import SCOPES, make_key
from heedloop_server.settings import Settings
from heedloop_server.store.admin.keys import insert_project
from heedloop_server.store.spans import insert_calls

EXAMPLES = 6
"""Random cases per operation, beside those that schemathesis makes for each keyword of the description."""

FILTERED = ("/v1/calls", "/v1/quality/summary")
"""Routes whose filters are all tried; the twenty others that take the same filters are tried with a few of them, for time's sake."""
SHARED = set(CallFilters.model_fields) - {"since", "until", "rating", "tag"}

known: dict[str, str] = {}
"""Path parameter -> the id of something that is there; filled by the fixture `server`."""


def _placeholder(parameter: dict[str, Any]) -> str:
    """A value of the parameter's form that stands for an id which is not known before the server runs."""
    form = parameter["schema"]
    if form.get("format") == "uuid":
        return str(uuid.uuid5(uuid.NAMESPACE_URL, parameter["name"]))
    return "5ca1ab1e" * 4 if "pattern" in form else f"known-{parameter['name']}"


def _with_examples(spec: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The description with placeholders as examples of path parameters, and placeholder -> parameter."""
    names: dict[str, str] = {}
    for template, path in spec["paths"].items():
        for operation in path.values():
            if (
                "security" in operation
            ):  # one way to show a key: with a good one, what stands in the other header counts for nothing
                operation["security"] = [{"key": []}]
            if template not in FILTERED and "parameters" in operation:
                operation["parameters"] = [
                    p for p in operation["parameters"] if p["in"] == "path" or p["name"] not in SHARED
                ]
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    parameter["example"] = _placeholder(parameter)
                    names[parameter["example"]] = parameter["name"]
    return spec, names


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
SPEC, NAMES = _with_examples(create_app(Settings()).openapi())
schema = schemathesis.openapi.from_dict(SPEC, config=CONFIG)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Put the ids of what is there in the places of their placeholders."""
    for name, value in (case.path_parameters or {}).items():
        case.path_parameters[name] = known.get(NAMES.get(value, ""), value)


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
            key, _ = make_key(store, "mine", name="all", scopes=SCOPES)
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            project = store.project("mine")
            insert_calls(project, _calls())
            with _Sender(address) as sender:
                known.update(furnish(project, sender, key, "spring"))
            yield address, key
        finally:
            one.should_exit = True
            thread.join()


class _Sender(requests.Session):
    """A session whose paths are under one address."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        return super().request(method, self._address + path, timeout=60, **kwargs)


def _calls() -> list[Call]:
    """A page of calls, so that lists, rates and exports have something to show."""
    more = {
        "model_answered": "model-a",
        "service": "app",
        "tags": ("news",),
        "user_id": "ada",
        "session_id": "s",
    }
    talk = {"input_messages": (Message("user", "2+3?"),), "output_messages": (Message("assistant", "Five"),)}
    spans = [f"{i:016x}" for i in range(1, 31)]
    return [Call(trace_id=s * 2, span_id=s, start_time=utc_now(), **more, **talk) for s in spans]


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # a smaller failing case is worth less than the minutes it costs
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_answers_as_described(case: Any, server: tuple[str, str]) -> None:
    address, key = server
    case.call_and_validate(base_url=address, headers={"Authorization": f"Bearer {key}"})
