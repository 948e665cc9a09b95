"""Verdicts over REST: a paradox planted in any field is found before anything is called decided, and none where there is none."""

import random
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest
from fastapi.testclient import TestClient
from temporary_stores import temporary_store

from heedloop.schema import Author, Call, Feedback, Message, Target, format_time
from heedloop_server.app import create_app
from heedloop_server.http.auth import make_key
from heedloop_server.ingest.feedback_writer import FeedbackWriter
from heedloop_server.settings import Settings
from heedloop_server.store.spans import insert_calls

SINCE = datetime(2026, 11, 1, tzinfo=timezone.utc)
UNTIL = SINCE + timedelta(days=10)
# A is better in either half and was given the hard half four times out of five
RATES = {("a", "easy"): 0.99, ("b", "easy"): 0.9, ("a", "hard"): 0.4, ("b", "hard"): 0.2}
FIELDS = (
    "tag",
    "prompt_name",
    "model",
    "service",
    "environment",
    "user_id",
    "language",
    "answer_chars",
    "metadata.plan",
)


def _attributes(field, half):
    """The call's attributes with which one field tells the halves apart."""
    made = {"tags": ("vip",), "prompt_name": "p", "model_requested": "m", "service": "s", "environment": "e",
            "user_id": "u", "attributes": {"heedloop.metadata.plan": "free"}, "text": "It is on its way."}  # fmt: skip
    if field == "tag":
        return made | {"tags": ("vip", half)}
    if field == "answer_chars":
        return made | {"text": "It is on its way. " * (2 if half == "easy" else 20)}
    if field in ("language", "metadata.plan"):
        return made | {"attributes": {f"heedloop.metadata.{field.removeprefix('metadata.')}": half}}
    return made | {"model_requested" if field == "model" else field: half}


def _call(rng, at, version, field, half):
    given = _attributes(field, half)
    text = given.pop("text")
    return Call(
        trace_id=f"{rng.getrandbits(128):032x}", span_id=f"{rng.getrandbits(64):016x}", start_time=at, name="answer",
        prompt_version=version, input_messages=(Message("user", "Where is it?"),),
        output_messages=(Message("assistant", text),), **given,
    )  # fmt: skip


def _falls(num, key, share):
    """Whether the next of this kind is one of the share, so that it is kept to at every moment."""
    num[key] += 1
    return int(num[key] * share + 1e-9) > int((num[key] - 1) * share + 1e-9)


def _world(rng, field, *, share_hard):
    """600 rated answers over ten days, at exactly the planted rates; `share_hard`: version -> its share of hard questions."""
    calls, said, num = [], [], Counter()
    for i in range(600):
        version = "ab"[i % 2]
        half = "hard" if _falls(num, version, share_hard[version]) else "easy"
        call = _call(rng, SINCE + timedelta(minutes=24 * i), version, field, half)
        up = float(_falls(num, (version, half), RATES[version, half]))
        calls.append(call)
        target = Target(trace_id=call.trace_id, span_id=call.span_id)
        said.append(
            Feedback(
                "rating",
                target,
                value=up,
                author=Author("end_user", call.span_id),
                created_at=call.start_time,
            )
        )
    return calls, said


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A store with a project for each planted field, and one where A and B were given the same questions."""
    rng = random.Random(11)
    worlds = {f: _world(rng, f, share_hard={"a": 0.8, "b": 0.2}) for f in FIELDS}
    worlds["honest"] = _world(rng, "tag", share_hard={"a": 0.5, "b": 0.5})
    with temporary_store() as store:
        desk = FeedbackWriter(store)
        desk.start()
        for name, (calls, said) in worlds.items():
            insert_calls(store.project(name.replace(".", "-")), calls)
            desk.submit(name.replace(".", "-"), said).result()
        desk.stop()
        app = create_app(Settings(data=tmp_path_factory.mktemp("data")), store=store)
        keys = {
            name: make_key(store, name.replace(".", "-"), name="reader", scopes=["read"])[0]
            for name in worlds
        }
        with TestClient(app) as client:
            yield client, keys


def _get(server, name, what, **params):
    client, keys = server
    period = {"since": format_time(SINCE), "until": format_time(UNTIL)}
    found = client.get(
        f"/v1/quality/{what}", params={**period, **params}, headers={"Authorization": f"Bearer {keys[name]}"}
    )
    assert found.status_code == 200, found.text
    return found.json()


@pytest.mark.parametrize("field", FIELDS)
def test_a_paradox_in_any_field_is_found_before_anything_is_decided(server, field):
    found = _get(server, field, "compare", field="prompt_version", a="a", b="b")
    assert found["e_value"] >= 20
    assert found["difference"]["high"] < 0
    assert found["decided"] is None
    assert found["confounding"]["kind"] == "reversed"
    assert found["confounding"]["field"].partition(" ")[0] in (field, f"metadata.{field}")
    assert found["confounding"]["difference"]["low"] > 0
    assert found["sentence"].startswith("The segments reverse the total")
    (version,) = _get(server, field, "versions", field="prompt_version", baseline="b")["versions"]
    assert version["decided"] is version["decided_alone"] is None
    assert version["difference"] == found["difference"]
    assert version["compared"] == found["compared"]


def test_no_paradox_where_both_were_asked_the_same(server):
    found = _get(server, "honest", "compare", field="prompt_version", a="a", b="b", stratify="tag")
    assert found["decided"] == "a"
    assert found["confounding"] is None
    rates = found["compared"]["a"]["estimate"], found["compared"]["b"]["estimate"]
    assert found["difference"]["estimate"] == pytest.approx(rates[0] - rates[1])
    assert found["compared"]["num_days"] == 10


def test_strata_by_tags_share_no_answer(server):
    found = _get(server, "honest", "compare", field="prompt_version", a="a", b="b", stratify="tag")[
        "stratified"
    ]
    assert {s["value"] for s in found["strata"]} == {"easy + vip", "hard + vip"}
    assert sum(s[side]["n"] for s in found["strata"] for side in ("a", "b")) == 600
    assert found["p_value"] is not None


def test_answers_with_both_tags_are_on_neither_side(server):
    """Every answer is `vip`: against `hard`, what is both says nothing."""
    found = _get(server, "honest", "compare", field="tag", a="vip", b="hard")
    assert found["b"]["num_rated"] > 0
    assert found["compared"] is None
    assert found["decided"] is None
