"""The SDK against a real heedloop server: the whole road of a call and its feedback, tokens, sampling, kills."""

import asyncio
import os
import random
import subprocess
import sys

import pytest
import requests
from forked_server import ForkedServer
from server_process import wait_for

import heedloop
from heedloop._runtime import state
from heedloop.client import Client
from heedloop.schema import Usage

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("HEEDLOOP_KILLS", "2"))
"""How often the app is killed, and the server half as often; `HEEDLOOP_KILLS=20` is the long form."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = ForkedServer(tmp_path_factory.mktemp("server")).start()
    yield one
    one.stop()


@pytest.fixture
def api(server):
    """A reader of a project of its own."""
    name = f"p{random.randrange(10**9)}"
    project = server.client().create_project(name)
    client = Client(server.url, project.key)
    client.project_key = project.key
    return client


@pytest.fixture
def start(server, api, tmp_path):
    def configure(**settings):
        options = heedloop.Options(outbox=tmp_path)
        heedloop.configure(
            server.url, api.project_key, service="app", environment="test", options=options, **settings
        )

    yield configure
    heedloop.shutdown()


@heedloop.trace(name="answer", prompt_name="help", prompt_version="3")
def answer(question):
    heedloop.set(
        model="m-1", usage={"input": 7, "output": 3}, user="u-1", session="s-1", tags=["t"], cost=0.5
    )
    return f"answer to {question}"


def find(api, handle, *, judged=False):
    """The call, once it is stored; with the feedback that came before it, where that is waited for."""
    trace_id = handle.split("-")[1]

    def stored():
        calls = (c for c in api.calls().calls if c.trace_id == trace_id)
        return next((c for c in calls if not judged or c.thumb is not None), None)

    return wait_for(stored, what="the call")


def test_a_call_and_all_that_is_said_about_it(api, start):
    start()
    _, handle = answer.with_handle("why?")
    heedloop.thumbs_down(handle, author="u-1", comment="no")
    heedloop.correct(handle, "because")
    heedloop.flag(handle, "incomplete")
    how = heedloop.flush(10)
    assert how.complete and not how.feedback.dropped and not how.spans.dropped
    call = find(api, handle, judged=True)
    assert (call.model, call.prompt_name, call.prompt_version) == ("m-1", "help", "3")
    assert (call.user_id, call.session_id, call.tags) == ("u-1", "s-1", ["t"])
    assert (call.service, call.environment, call.cost) == ("app", "test", 0.5)
    assert call.usage == Usage(7, 3)
    assert call.output_preview == "answer to why?" and call.input_preview == "why?"
    assert call.thumb == 0 and call.flags == ["incomplete"] and call.has_correction


def test_what_is_no_fault_of_the_model_is_stored_as_no_error(api, start):
    class Forbidden(Exception):
        status_code = 403

    Forbidden.__module__ = "fastapi.exceptions"
    start()
    for error in (Forbidden("not yours"), asyncio.CancelledError(), KeyboardInterrupt(), LookupError("gone")):

        @heedloop.trace(name=type(error).__name__)
        def ask(question, error=error):
            raise error

        with pytest.raises(type(error)):
            ask("q")
    assert heedloop.flush(10).complete
    wait_for(lambda: len(api.calls(service="app").calls) == 4, what="four stored calls")
    failed = {c.name for c in api.calls(service="app").calls if c.status == "error"}
    assert failed == {"LookupError"}


def test_the_last_word_counts_and_a_retraction_takes_it_back(api, start):
    start()
    _, handle = answer.with_handle("q")
    heedloop.thumbs_down(handle, author="u")
    heedloop.thumbs_up(handle, author="u")
    assert heedloop.flush(10).complete
    wait_for(lambda: find(api, handle).thumb == 1, what="the last thumb")
    heedloop.retract(handle, author="u")
    assert heedloop.flush(10).complete
    wait_for(lambda: find(api, handle).thumb is None, what="the retraction")


def test_targets_by_external_id_and_response_id_are_taken(api, start):
    start()
    with heedloop.context(external_id="message-17"):
        _, handle = answer.with_handle("q")
    heedloop.thumbs_up(heedloop.target(external_id="message-17"))
    heedloop.thumbs_up(heedloop.target(response_id="chatcmpl-17"))
    heedloop.rate(heedloop.target(session_id="s-1"), 4, scale=(1, 5))
    how = heedloop.flush(10)
    assert how.feedback.sent == 3 and not how.feedback.dropped
    trace_id = heedloop.target(external="message-17").trace_id
    assert wait_for(lambda: api.feedback(trace_id=trace_id).feedback, what="the feedback")
    assert find(api, handle).trace_id == trace_id


@heedloop.trace(name="reply")
def reply(question, response_id):
    heedloop.set(model="m-1", response_id=response_id, session="s-9")
    return "You can return it within thirty days."


def test_feedback_by_the_providers_response_id_finds_its_call(api, start):
    start()
    said, handle = reply.with_handle("q", "chatcmpl-17")
    _, other = reply.with_handle("other", "chatcmpl-18")
    heedloop.thumbs_down(heedloop.target(response="chatcmpl-17"), author="u")
    heedloop.flag(heedloop.target(handle, start=25, end=36, answer=said), "inaccurate", author="u")
    assert heedloop.flush(10).complete
    wait_for(lambda: find(api, handle).thumb == 0, what="the thumb on its call")
    assert find(api, other).thumb is None
    trace_id = handle.split("-")[1]
    flagged = wait_for(lambda: api.feedback(trace_id=trace_id, kind="flag").feedback, what="the flag")[0]
    place = flagged.target.range
    assert said[place.start : place.end] == "thirty days" and len(place.answer_hash) == 64


def test_a_token_lets_a_browser_rate_one_answer_and_nothing_else(server, api, start):
    start()
    _, handle = answer.with_handle("first")
    token = heedloop.feedback_token(handle, subject="person", kinds=["rating"])
    heedloop.flush(10)
    _, trace_id, span_id, _ = handle.split("-")

    def post(kind="rating", given=token, span=span_id, **values):
        body = {"kind": kind, "target": {"trace_id": trace_id, "span_id": span}, **values}
        return requests.post(
            server.url + "/v1/feedback", json=body, headers={"x-heedloop-token": given}, timeout=10
        )

    assert post(value=1).status_code == 200
    assert post(value=0).status_code == 401  # it is good for one post
    newer = heedloop.feedback_token(handle, subject="person", kinds=["rating"])
    assert post(value=0, given=newer).status_code == 200  # the same person's next word replaces it
    token = heedloop.feedback_token(handle, subject="person", kinds=["rating"])
    assert post("comment", comment="x").status_code == 403
    assert post(value=1, span="f" * 16).status_code == 403
    assert post(value=1, given=token[:-4] + "AAAA").status_code == 401
    expired = heedloop.feedback_token(handle, subject="person", expires_in_s=0.001)
    assert post(value=1, given=expired).status_code == 401
    thumbs = wait_for(lambda: api.feedback(trace_id=trace_id).feedback, what="the thumb")
    assert [(f.value, f.author.id) for f in thumbs] == [(0, "person")]


def test_the_servers_ledger_knows_what_the_sdk_says(api, start):
    start()
    heedloop.thumbs_up(answer.with_handle("q").handle)
    heedloop.shutdown()
    assert wait_for(lambda: api.ledger().sdk, what="the SDK's counts")


def test_one_post_with_the_handle_is_enough(server, api, start):
    start()
    _, first = answer.with_handle("first")
    _, second = answer.with_handle("second")
    heedloop.flush(10)

    def post(body):
        key = {"authorization": f"Bearer {api.project_key}"}
        return requests.post(server.url + "/v1/feedback", json=body, headers=key, timeout=10)

    thumb = {"kind": "rating", "name": "thumb", "value": 0, "author": {"id": "u"}}
    assert post({"handle": first, **thumb}).json()["stored"] == 1
    ranking = {"answers": [first, second], "ranks": [2, 1]}
    assert post({"feedback": [{"kind": "comparison", "ranking": ranking}]}).json()["stored"] == 1
    wait_for(lambda: find(api, first).thumb == 0, what="the thumb on its answer")
    for handle, status in (("undefined", 422), ("", 422), (17, 422)):
        refused = post({"handle": handle, **thumb})
        assert refused.status_code == status and refused.json()["error"]["field"] == "handle"
    both = post({"handle": first, "target": {"session_id": "s"}, **thumb})
    assert both.status_code == 422 and "give one of them" in both.json()["error"]["message"]


def test_what_waited_for_a_revoked_key_comes_with_the_next_key_of_the_project(server, api, tmp_path):
    admin = Client(server.url, api.project_key)
    old, new = (admin.create_key(n, scopes=["ingest", "feedback"]) for n in ("old", "new"))
    admin.delete_key(old.key_id)
    options = heedloop.Options(outbox=tmp_path, exit_timeout_s=0.5)
    try:
        heedloop.configure(server.url + "/", old.key, service="app", options=options)
        _, handle = answer.with_handle("q")
        heedloop.thumbs_down(handle, author="u")
        how = heedloop.flush(5)
        assert not how.complete and "revoked" in how.last_error
        heedloop.configure(server.url, new.key, service="app", options=options)
        how = heedloop.flush(10)
        assert how.complete and (how.spans.sent, how.feedback.sent) == (1, 1)
        wait_for(lambda: find(api, handle).thumb == 0, what="the thumb")
    finally:
        heedloop.shutdown()


@heedloop.trace(name="support")
def support(question):
    with heedloop.span("retrieve"):
        pass
    return answer(question)


def test_rates_from_one_percent_of_the_calls_match_the_truth(api, start):
    """At 1% sampling every rated call has its complete trace, and rate and coverage hold the unsampled truth."""
    start(sample_rate=0.01)
    rng = random.Random(11)
    state.runtime.random_bits = random.Random(12).getrandbits  # the same traces are sampled each time
    num_calls, num_up, rated = 10_000, 0, []
    for i in range(num_calls):
        _, handle = support.with_handle(f"q{i}")
        if rng.random() < 0.04:
            is_up = rng.random() < 0.7
            num_up += is_up
            rated.append(handle)
            (heedloop.thumbs_up if is_up else heedloop.thumbs_down)(handle, author=f"u{i}")
    how = heedloop.flush(30)
    assert how.complete and not how.spans.dropped
    assert how.spans.sent < 3 * (len(rated) + 0.02 * num_calls)  # the others stayed here
    wait_for(lambda: api.quality_summary().num_rated == len(rated), what="all ratings")
    summary = api.quality_summary()
    assert summary.num_up == num_up
    assert summary.rate.low <= num_up / len(rated) <= summary.rate.high
    truth = len(rated) / num_calls
    assert 0 < summary.coverage.low <= truth <= summary.coverage.high < 3 * truth
    for handle in rated:
        names = sorted(s.name for s in api.trace(handle.split("-")[1]).spans)
        assert names == ["answer", "retrieve", "support"]


APP = """
import sys
import heedloop
heedloop.configure({url!r}, {key!r}, options=heedloop.Options(outbox={outbox!r}))
HANDLE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
number = int(sys.argv[1])
while True:
    print(heedloop.thumbs_up(HANDLE, author=str(number)), flush=True)
    number += 1
"""


def test_killed_apps_and_a_killed_server_lose_no_feedback(tmp_path):
    """Feedback calls returned while both sides were killed (-9) again and again: each is stored, exactly once."""
    server = ForkedServer(tmp_path).start()
    program = APP.format(url=server.url, key=server.key, outbox=str(tmp_path / "outbox"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    rng = random.Random(5)
    returned = []
    try:
        for number in range(KILLS):
            command = [sys.executable, "-c", program, str(len(returned))]
            app = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            for _ in range(rng.randint(100, 250)):
                returned.append(app.stdout.readline().strip())
            if number % 2 == 0:
                server.kill()
                server.start()
            app.kill()
            returned += [line.strip() for line in app.stdout if line.endswith("\n")]
            app.wait()
            app.stdout.close()
        last = (
            program.replace("while True:", "while False:")
            + "\nhow = heedloop.flush(60); print(how.complete, how)"
        )
        done = subprocess.run(
            [sys.executable, "-c", last, "0"], capture_output=True, text=True, env=environment
        )
        assert done.stdout.startswith("True"), done.stdout + done.stderr
        api = server.client()
        stored = wait_for(
            lambda: (ids := [f.id for f in api.iter_feedback()]) and set(returned) <= set(ids) and ids,
            what=f"all {len(set(returned))} feedback",
        )
        assert len(stored) == len(set(stored))
        ledger = api.ledger().feedback
        assert ledger.stored >= len(stored), (
            "the ledger forgot what is there"
        )  # an author's word may be said twice
        assert ledger.received == ledger.stored + ledger.duplicate
    finally:
        server.stop()
