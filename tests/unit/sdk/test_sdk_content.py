"""What is captured is what was asked: prompt and answer by name, shape or field; long content keeps its question."""

import base64
import dataclasses
import json
import os
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import numpy as np
import pydantic
import pytest

import heedloop
from heedloop import testing
from heedloop._secrets import is_secret

QUESTION = {"role": "user", "content": "How long?"}
SYSTEM = {"role": "system", "content": "be kind"}


class Body(pydantic.BaseModel):
    question: str
    user: str = "u"
    api_key: pydantic.SecretStr = pydantic.SecretStr("s3cret-1")
    internal: str = pydantic.Field("s3cret-2", exclude=True)
    hidden: str = pydantic.Field("s3cret-3", repr=False)


class Chat(pydantic.BaseModel):
    class Message(pydantic.BaseModel):
        role: str
        content: str

    messages: list[Message]


@dataclasses.dataclass
class Reply:
    text: str
    sources: list[str]
    trace: str = dataclasses.field(default="s3cret-4", repr=False)


def langchain(kind, text, **more):
    """A message object of LangChain's shape."""
    return SimpleNamespace(type=kind, content=text, additional_kwargs={}, **more)


def record(function, *args, options=None, decorate=None, **kwargs):
    with testing.recording(options=options) as seen:
        heedloop.trace(**(decorate or {}))(function)(*args, **kwargs)
    return seen.spans[0]


def conversation(chat):
    return "x"


@pytest.mark.parametrize(
    ("function", "arguments", "options"),
    [
        (lambda history: "x", ([SYSTEM, QUESTION],), {}),
        (lambda model, chat: "x", ("m", [SYSTEM, QUESTION]), {}),
        (lambda body: "x", (Body(question="How long?"),), {}),
        (lambda body: "x", ({"user": "u", "question": "How long?"},), {}),
        (lambda body: "x", (Chat(messages=[{"role": "user", "content": "How long?"}]),), {}),
        (lambda turns: "x", ([langchain("human", "How long?")],), {}),
        (lambda turns: "x", ([("system", "be kind"), ("human", "How long?")],), {}),
        (lambda message: "x", (langchain("human", "How long?"),), {}),
        (lambda user, question: "x", ("u", "How long?"), {"prompt": "question"}),
        (lambda user, body: "x", ("u", Body(question="How long?")), {"prompt": "body.question"}),
        (lambda user, turns: "x", ("u", [SYSTEM, QUESTION]), {"prompt": "turns.1.content"}),
        (lambda question, history: "x", ("How long?", [QUESTION, {"role": "assistant", "content": "A"}]), {}),
        (lambda api_key, question: "x", ("k", "How long?"), {}),
        (lambda user_id, question: "x", ("u", "How long?"), {}),
        (lambda q, user: "x", ("How long?", "u"), {}),
        (lambda question="How long?": "x", (), {}),
    ],
)
def test_the_prompt_is_found_by_shape_or_name(function, arguments, options):
    span = record(function, *arguments, decorate=options)
    assert span.input_text.split("\n")[-1] == "How long?"


@pytest.mark.parametrize(
    ("result", "options"),
    [
        ("Thirty days.", {}),
        (("Thirty days.", ["page 4"]), {}),
        (Reply("Thirty days.", ["page 4"]), {}),
        ({"answer": "Thirty days.", "sources": []}, {}),
        ({"role": "assistant", "content": "Thirty days."}, {}),
        ({"input": "How long?", "final_output": "Thirty days."}, {}),  # openai-agents
        (langchain("ai", "Thirty days."), {}),
        ({"out": {"said": ["Thirty days."]}}, {"answer": "out.said.0"}),
        ((["page 4"], "Thirty days."), {"answer": "1"}),
        (Reply("other", ["Thirty days."]), {"answer": "sources.0"}),
    ],
)
def test_the_answer_is_found_by_shape_or_name(result, options):
    assert record(lambda q: result, "q", decorate=options).output_text == "Thirty days."


def test_what_is_no_answer_stays_json_and_a_result_is_kept_whole():
    span = record(lambda q: (1, 2), "q")
    assert span.output_text == "" and span.attributes["heedloop.output"] == "[1,2]"
    span = record(lambda q: Reply("A", ["page 4"]), "q")
    assert json.loads(span.attributes["heedloop.output"])["sources"] == ["page 4"]


def test_the_prompt_does_not_depend_on_the_order_of_keywords():
    """FastAPI gives dependencies first, whatever the signature says."""

    def ask(q: str, user: str, *, limit: int = 3):
        return "x"

    span = record(ask, limit=1, user="u", q="How long?")
    assert span.input_text == "How long?"
    assert list(json.loads(span.attributes["heedloop.input"])) == ["user", "limit"]


def test_arguments_are_bound_with_their_defaults_and_as_python_binds_them():
    def ask(question, /, *rest, top_k=3, **more):
        return "x"

    span = record(ask, "q", "a", "b", colour="red")
    assert json.loads(span.attributes["heedloop.input"]) == {"rest": ["a", "b"], "colour": "red", "top_k": 3}
    span = record(ask, "q", question="other")
    assert span.input_text == "q"
    assert json.loads(span.attributes["heedloop.input"])["more"] == {"question": "other"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tags": "beta"}, r"tags: must be a list of texts, not 'beta'; write tags=\['beta'\]"),
        ({"capture": "inputs"}, "capture: 'inputs' is not True, False, 'input' or 'output'"),
        ({"capture": None}, "capture: None is not"),
        ({"prompt": "qestion"}, "prompt: 'qestion' is not an argument; there are question"),
        ({"promt_name": "x"}, "has no argument promt_name; did you mean prompt_name"),
    ],
)
def test_wrong_options_are_refused_with_a_sentence(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        heedloop.trace(**options)(lambda question: question)


def test_a_class_is_refused():
    with pytest.raises(ValueError, match="not the class Bot; decorate the method that answers"):

        @heedloop.trace
        class Bot:
            pass


@pytest.mark.parametrize(
    "name",
    ["api_key", "apiKey", "X-Api-Key", "OPENAI_API_KEY", "password", "db_password", "token", "accessToken"]
    + [
        "authorization",
        "Authorization",
        "client_secret",
        "private_key",
        "cookie",
        "credentials",
        "auth_header",
        "openai_key",
        "AZURE_KEY",
        "jwt",
        "dsn",
        "connectionString",
    ],
)
def test_secrets_are_known_by_their_name(name):
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "max_tokens",
        "tokens",
        "token_count",
        "input_tokens",
        "key",
        "cache_key",
        "keyboard",
        "author",
        "secretary",
        "monkey",
    ],
)
def test_other_names_are_no_secrets(name):
    assert not is_secret(name)


SECRETIVE = Reply("t", [])


def test_no_secret_is_sent():
    def ask(question, api_key, headers, body, config=SECRETIVE, **more):
        heedloop.set(metadata={"session_token": "s3cret-9", "plan": "pro"})
        return {"answer": "x", "refresh_token": "s3cret-8", "reply": Reply("t", [])}

    span = record(
        ask,
        "q",
        "s3cret-5",
        {"Authorization": "s3cret-6", "nested": [{"password": "s3cret-7"}]},
        Body(question="q"),
        secret="s3cret-10",
    )
    assert "s3cret" not in json.dumps(dict(span.attributes))
    assert json.loads(span.attributes["heedloop.input"])["api_key"] == "[masked]"
    assert span.attributes["heedloop.metadata.plan"] == "pro"


def test_no_secret_is_sent_in_what_the_app_says():
    secretive = {
        "nested": {"api_key": "s3cret-1", "plan": "pro"},
        "listed": [{"Authorization": "s3cret-2"}],
        "fields": Body(question="q"),
        "record": SECRETIVE,
        "token": "s3cret-3",
    }
    for value in (Body(question="q"), SECRETIVE):
        assert "s3cret" in str(vars(value))
    with testing.recording() as recorded:

        @heedloop.trace
        def ask(question):
            heedloop.set(metadata=secretive, prompt_variables=secretive, parameters=secretive)
            with heedloop.span("step", **secretive):
                return "x"

        with heedloop.context(metadata=secretive):
            _, handle = ask.with_handle("q")
        heedloop.flag(handle, "rude", author="u", metadata=secretive)
    attributes = [dict(s.attributes) for s in recorded.spans]
    sent = json.dumps([attributes, [f.metadata for f in recorded.feedback]])
    assert "s3cret" not in sent and len(attributes) == 2
    for span in attributes:
        assert json.loads(span["heedloop.metadata.nested"]) == {"api_key": "[masked]", "plan": "pro"}
        assert span["heedloop.metadata.token"] == "[masked]"


def test_values_read_as_people_write_them():
    def ask(question, **values):
        return "x"

    span = record(
        ask,
        "q",
        at=datetime(2026, 11, 29, 9, 30, tzinfo=timezone.utc),
        day=date(2026, 11, 29),
        price=Decimal("1.50"),
        path=Path("/srv/data.csv"),
        id=UUID(int=7),
        score=np.float32(0.5),
        count=np.int64(3),
        flag=np.bool_(True),
        array=np.zeros((3, 4)),
    )
    assert json.loads(span.attributes["heedloop.input"]) == {
        "at": "2026-11-29T09:30:00+00:00",
        "day": "2026-11-29",
        "price": "1.50",
        "path": "/srv/data.csv",
        "id": "00000000-0000-0000-0000-000000000007",
        "score": 0.5,
        "count": 3,
        "flag": True,
        "array": "<numpy.ndarray of shape (3, 4)>",
    }


# ------------------------------------------------------------------------------------------------ long content

LIMIT = heedloop.Options(max_value_chars=1000)


def user(text):
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "s" * 300_000}, user("CLAUSE 7?")],
        [user("x" * 900)] * 500 + [user("CLAUSE 7?")],
        [user("short")] * 20_000 + [user("CLAUSE 7?")],
        [{"role": "system", "content": "s" * 5000}, user("x" * 50_000 + "CLAUSE 7?")],
        [user([{"type": "text", "text": "x" * 5000}, {"type": "text", "text": "CLAUSE 7?"}])] * 50,
    ],
)
def test_the_question_survives_and_messages_stay_messages(messages):
    span = record(conversation, messages, options=LIMIT)
    kept = json.loads(span.attributes["gen_ai.input.messages"])
    assert "CLAUSE 7?" in json.dumps(kept[-1]) and all("role" in m for m in kept)
    assert len(span.attributes["gen_ai.input.messages"]) < 400_000
    assert "gen_ai.input.messages" in span.attributes["heedloop.truncated"]
    left_out = [m for m in kept if "messages left out" in json.dumps(m, ensure_ascii=False)]
    if len(kept) != len(messages):
        num = len(messages) - (len(kept) - 1)
        assert len(left_out) == 1 and f"{num:,} of {len(messages):,}" in left_out[0]["parts"][0]["content"]
    else:
        assert left_out == []


def test_the_system_message_and_the_last_one_are_kept_whole_where_they_fit():
    messages = [{"role": "system", "content": "be kind"}, *[user("x" * 900)] * 100, user("y" * 900)]
    kept = json.loads(record(conversation, messages, options=LIMIT).attributes["gen_ai.input.messages"])
    assert kept[0]["parts"][0]["content"] == "be kind" and kept[-1]["parts"][0]["content"] == "y" * 900


def test_each_text_has_its_own_budget():
    span = record(lambda question, a, b: "x", "q", "a" * 900, "b" * 900, options=LIMIT)
    kept = json.loads(span.attributes["heedloop.input"])
    assert kept == {"a": "a" * 900, "b": "b" * 900}
    assert "heedloop.truncated" not in span.attributes


def test_long_lists_and_mappings_say_how_much_is_missing():
    span = record(lambda question, rows, table: "x", "q", list(range(5000)), {str(i): i for i in range(5000)})
    kept = json.loads(span.attributes["heedloop.input"])
    assert kept["rows"][:2] == [0, 1] and "of 5,000 entries left out" in json.dumps(kept["rows"])
    assert "of 5,000 entries left out" in kept["table"]["…"]


BINARY = os.urandom(300_000)
ENCODED = base64.b64encode(BINARY).decode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"data:image/png;base64,{ENCODED}", "data:image/png;<300,000 bytes>"),
        (
            f"look ![x](data:image/jpeg;base64,{ENCODED}) here",
            "look ![x](data:image/jpeg;<300,000 bytes>) here",
        ),
        (f"data:text/csv;charset=utf-8;base64,{ENCODED}", "data:text/csv;<300,000 bytes>"),
        (ENCODED, "<base64, 300,000 bytes>"),
        (base64.b64encode(b"\x89PNG\r\n\x1a\n" + BINARY).decode(), "<image/png, 300,008 bytes>"),
    ],
    ids=["uri", "inside a text", "with a parameter", "bare", "png"],
)
def test_files_are_replaced_by_type_and_size_before_anything_is_measured(content, said):
    question = user([{"type": "text", "text": "What is this?"}, {"type": "file", "data": content}])
    span = record(conversation, [question], options=LIMIT)
    (kept,) = json.loads(span.attributes["gen_ai.input.messages"])
    assert kept["parts"] == [
        {"type": "text", "content": "What is this?"},
        {"type": "file", "data": said},
    ]
    assert "heedloop.truncated" not in span.attributes


@pytest.mark.parametrize(
    "text", ["a" * 1000, "https://example.com/" + "a1B" * 300, "Привет" * 100, "word " * 200]
)
def test_texts_that_only_look_long_are_left_alone(text):
    assert record(lambda q: "x", text).input_text == text


def test_a_long_stream_keeps_its_head_and_its_tail():
    def stream(q):
        for n in range(10_000):
            yield f"{n} "

    with testing.recording(options=LIMIT) as seen:
        list(heedloop.trace(stream)("q"))
    text = seen.spans[0].output_text
    assert text.startswith("0 1 2 ") and text.endswith("9998 9999 ")
    assert "of 10,000 pieces left out" in text and len(text) < 1100
