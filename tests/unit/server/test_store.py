"""The door to the store: addresses, projects, bound values, errors in our own words."""

from datetime import datetime, timedelta, timezone

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from hypothesis import given, settings
from hypothesis import strategies as st
from temporary_stores import temporary_store

from heedloop.schema import Call, Message, ToolCall, Usage
from heedloop_server.store.connection import Address, StoreError, StoreOverloaded, parse_dsn
from heedloop_server.store.engine_errors import translate
from heedloop_server.store.open import open_store
from heedloop_server.store.spans import insert_calls, trace_calls

NOW = datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=timezone.utc)


def test_addresses() -> None:
    assert parse_dsn("chdb:///var/data") == Address("chdb", path="/var/data")
    assert parse_dsn("chdb://:memory:?database=t").database == "t"
    full = parse_dsn("clickhouses://me:p%40ss@db.example:9440/quality")
    assert (full.user, full.password, full.host, full.port, full.database, full.secure) == (
        "me",
        "p@ss",
        "db.example",
        9440,
        "quality",
        True,
    )
    assert parse_dsn("clickhouse://db").port == 8123
    assert "p@ss" not in repr(full)
    for wrong in ("postgres://x", "/folder", "", "chdb://:memory:?database=a-b", "clickhouse://h/drop table"):
        with pytest.raises(ValueError, match=r"chdb:///folder|database name"):
            parse_dsn(wrong)


@pytest.fixture(scope="module")
def store():
    with temporary_store() as one:
        yield one


def test_a_query_of_a_project_must_use_the_project(store) -> None:
    with pytest.raises(StoreError, match="must filter by"):
        store.project("p").rows("SELECT count() FROM spans")


def test_a_project_cannot_be_named_by_the_caller(store) -> None:
    row = store.project("mine").row("SELECT {project:String} AS p", {"project": "theirs"})
    assert row == {"p": "mine"}


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=50))
def test_texts_bind_as_they_are(store, text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    row = store.project("p").row(
        "SELECT {x:String} AS x, {xs:Array(String)} AS xs, {project:String} AS p",
        {"x": text, "xs": [text, "a"]},
    )
    assert (row["x"], row["xs"]) == (text, [text, "a"])


def test_times_keep_their_microseconds_and_zone(store) -> None:
    given_at = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    row = store.project(" ").row(
        "SELECT {t:DateTime64(6,'UTC')} AS t WHERE {project:String} != ''", {"t": given_at}
    )
    assert row["t"] == NOW
    assert row["t"].tzinfo is not None


def test_a_refused_statement_is_a_store_error(store) -> None:
    with pytest.raises(StoreError, match="UNKNOWN_TABLE"):
        store.rows("SELECT * FROM nowhere")


def test_stores_side_by_side_do_not_see_each_other(store) -> None:
    store.insert("projects", [{"project_id": "a", "created_at": NOW, "version": 1}])
    with temporary_store() as other:
        assert other.rows("SELECT count() AS n FROM projects") == [{"n": 0}]


def test_a_server_that_is_not_there_is_worth_a_retry() -> None:
    from heedloop_server.errors import Unavailable

    with pytest.raises(Unavailable):
        open_store("clickhouse://127.0.0.1:1/heedloop")


FULL = Call(
    trace_id="ab" * 16,
    span_id="cd" * 8,
    start_time=NOW,
    duration_ns=123,
    parent_span_id="ef" * 8,
    name="n",
    service="s",
    environment="e",
    operation="chat",
    is_answer=False,
    provider="openai",
    model_requested="m",
    model_answered="m-1",
    params={"temperature": 0.5, "stop": ["x"], "nested": {"a": None}},
    input_messages=(
        Message("system", "be brief"),
        Message("user", "q\n\"'\\ é 日本 \x00", media=("image/png",)),
    ),
    output_messages=(
        Message("assistant", "a", reasoning="hm", tool_calls=(ToolCall("f", "{}", "id1"),)),
        Message("assistant", "b"),
    ),
    finish_reasons=("stop", "length"),
    usage=Usage(1, 0, None, 4_000_000_000, 5),
    cost=0.0,
    status="error",
    error_message="boom",
    http_status=500,
    response_id="r",
    stream=True,
    prompt_name="p",
    prompt_version="7",
    session_id="sess",
    user_id="u",
    tags=("x", "y"),
    sampling_probability=0.25,
    attributes={"a": "1", "heedloop.metadata.team": "blue"},
)
PLAIN = Call(
    trace_id="ab" * 16,
    span_id="12" * 8,
    start_time=NOW + timedelta(seconds=1),
    output_messages=(Message("assistant", "only text"),),
)


def test_a_call_comes_back_as_it_went_in(store) -> None:
    project = store.project("round")
    insert_calls(project, [FULL, PLAIN])
    assert trace_calls(project, "ab" * 16) == [FULL, PLAIN]
    row = project.row(
        "SELECT question, answer, metadata, model FROM spans WHERE project_id = {project:String} AND status = 'error'"
    )
    assert row == {
        "question": FULL.input_messages[1].text,
        "answer": "a\nb",
        "metadata": {"team": "blue"},
        "model": "m-1",
    }


@pytest.mark.parametrize("code", [252, 241, 242, 999, 225, 236, 279, 285, 286, 289, 319, 341, 517])
def test_what_a_cluster_can_do_later_is_tried_again(code: int) -> None:
    """A replica or keeper that is away says nothing of the records; a refusal does, and sets them aside."""
    error = DatabaseError(f"Code: {code}. DB::Exception: later (SOME_NAME)")
    assert isinstance(translate(error), StoreOverloaded)
    assert isinstance(translate(DatabaseError("Code: 53. DB::Exception: TYPE_MISMATCH")), StoreError)
