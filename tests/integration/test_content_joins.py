"""Log content, duplicates and the store: whatever the order of arrival, the stored call is the same."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from temporary_stores import temporary_store

from heedloop.schema import Call, Message, Usage
from heedloop_server.filters import CallFilters
from heedloop_server.ingest.decode import marked_rows
from heedloop_server.normalise import LogContent
from heedloop_server.normalise.duplicates import fold
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.joins import Arrived, insert_contents, join_with_stored
from heedloop_server.store.spans import list_calls, stored_in_traces, trace_calls

START = datetime(2026, 11, 21, 10, 0, tzinfo=timezone.utc)
TRACE, OTHER_TRACE = "ab" * 16, "cd" * 16
START_NS = int(START.timestamp() * 1e9)


def _call(span_id: str = "11" * 8, **fields: object) -> Call:
    known: dict[str, object] = {
        "trace_id": TRACE,
        "span_id": span_id,
        "start_time": START,
        "duration_ns": 5,
        "operation": "chat",
    }
    return Call(**{**known, **fields})  # type: ignore[arg-type]


QUESTION = LogContent(TRACE, "11" * 8, "gen_ai.user.message", START_NS + 1, 0, {}, {"content": "Why?"})
SYSTEM = LogContent(TRACE, "11" * 8, "gen_ai.system.message", START_NS, 0, {}, {"content": "Be terse."})
ANSWER = LogContent(
    TRACE,
    "11" * 8,
    "gen_ai.choice",
    START_NS + 2,
    1,
    {},
    {"finish_reason": "stop", "message": {"content": "Because."}},
)


def _load(project: ProjectStore, *parts: Call | LogContent) -> None:
    """One segment of the loader, each span from a request of its own: contents first, then the spans as `join_with_stored` gives them."""
    now = datetime.now(timezone.utc)
    contents = [p for p in parts if isinstance(p, LogContent)]
    insert_contents(project.store, [(project.project, c) for c in contents], received_at=now)
    calls = [p for p in parts if isinstance(p, Call)]
    rows = marked_rows((project.project, c, now + timedelta(microseconds=i)) for i, c in enumerate(calls))
    known = {span[:16].hex() for span in stored_in_traces(project, rows)}
    project.store.insert_arrow("spans", join_with_stored(project, Arrived(rows, contents, known)))


@pytest.mark.parametrize("order", list(itertools.permutations([_call(), SYSTEM, QUESTION, ANSWER]))[::3])
def test_content_joins_its_call_in_any_order(order: tuple[Call | LogContent, ...]) -> None:
    with temporary_store() as store:
        project = store.project("p")
        for part in order:
            _load(project, part)
        (call,) = trace_calls(project, TRACE)
    assert call.input_messages == (Message("system", "Be terse."), Message("user", "Why?"))
    assert call.output_messages == (Message("assistant", "Because."),)
    assert call.finish_reasons == ("stop",)


def test_content_twice_is_content_once() -> None:
    again = replace(QUESTION, index=7)  # sent again in another request
    with temporary_store() as store:
        project = store.project("p")
        for parts in ((QUESTION,), (again, _call()), (ANSWER, QUESTION), (again, ANSWER)):
            _load(project, *parts)
        (call,) = trace_calls(project, TRACE)
    assert [m.text for m in (*call.input_messages, *call.output_messages)] == ["Why?", "Because."]


def test_another_project_s_content_stays_there() -> None:
    with temporary_store() as store:
        _load(store.project("a"), QUESTION)
        _load(store.project("b"), _call())
        (call,) = trace_calls(store.project("b"), TRACE)
    assert call.input_messages == ()


BARE = _call("22" * 8, trace_id=OTHER_TRACE, response_id="msg_1", provider="anthropic", usage=Usage(19, 16))
FULL = _call(
    response_id="msg_1",
    start_time=START - timedelta(milliseconds=3),
    output_messages=(Message("assistant", "4"),),
    usage=Usage(19, 16),
)


@pytest.mark.parametrize("order", list(itertools.permutations([BARE, FULL])))
def test_one_provider_call_in_two_traces_counts_once(order: tuple[Call, ...]) -> None:
    with temporary_store() as store:
        project = store.project("p")
        for part in order:
            _load(project, part)
        rows = project.rows(
            """
            SELECT count() AS spans, countIf(is_answer) AS answers, sum(input_tokens) AS tokens, countIf(operation != '') AS calls
            FROM spans FINAL WHERE project_id = {project:String}
            """
        )
        (kept,) = trace_calls(project, TRACE)
        (folded,) = trace_calls(project, OTHER_TRACE)
    assert rows == [{"spans": 2, "answers": 1, "tokens": 19, "calls": 1}]
    assert kept.provider == "anthropic" and kept.is_answer
    assert folded.attributes["heedloop.duplicate_of"] == f"{TRACE}:{'11' * 8}"


def test_content_of_a_folded_span_reaches_the_call_that_stands_for_it() -> None:
    bare = _call(response_id="msg_1", trace_id=TRACE)
    other = _call(
        "22" * 8,
        trace_id=OTHER_TRACE,
        response_id="msg_1",
        model_requested="m",
        model_answered="m-1",
        provider="x",
    )
    with temporary_store() as store:
        project = store.project("p")
        for part in (bare, other, QUESTION, ANSWER, SYSTEM):
            _load(project, part)
        found = [c for t in (TRACE, OTHER_TRACE) for c in trace_calls(project, t) if c.operation]
    assert [c.output_text for c in found] == ["Because."]
    assert [m.text for c in found for m in c.input_messages] == ["Be terse.", "Why?"]


def test_a_failed_call_s_inner_span_is_no_second_call() -> None:
    outer = _call(status="error", input_messages=(Message("user", "Why?"),))
    inner = _call("22" * 8, parent_span_id="11" * 8, status="error", http_status=429)
    for order in ((outer, inner), (inner, outer)):
        with temporary_store() as store:
            project = store.project("p")
            for part in order:
                _load(project, part)
            (call,) = [c for c in trace_calls(project, TRACE) if c.operation]
        assert call.http_status == 429 and call.span_id == "11" * 8


def _answer(text: str, **fields: object) -> dict[str, object]:
    return {"output_messages": (Message("assistant", text),), "usage": Usage(10, 5), **fields}


HTTP = {"operation": "", "attributes": {"http.request.method": "POST"}}
AGENT = {"operation": "invoke_agent", "usage": Usage(20, 10)}
FAMILIES: dict[str, tuple[list[dict[str, object]], int]] = {
    "a server's span behind HTTP": ([_answer("A"), HTTP, {"response_id": "chatcmpl-1", "usage": Usage(10, 5)}], 1),
    "three instrumentations": ([_answer("A"), _answer("A"), _answer("A", response_id="chatcmpl-1")], 1),
    "a call of an agent, behind a step": ([AGENT, {"operation": ""}, _answer("A", response_id="chatcmpl-1")], 1),
    "a call of another model behind HTTP": ([_answer("A", response_id="chatcmpl-1"), HTTP, _answer("B", response_id="chatcmpl-2")], 2),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_spans_within_each_other_are_counted_right_in_any_order(family: str, order: tuple[int, ...]) -> None:
    spans, num_calls = FAMILIES[family]
    with temporary_store() as store:
        project = store.project("p")
        for i in order:
            parent = {"parent_span_id": f"{i:016x}"} if i else {}
            _load(project, _call(f"{i + 1:016x}", **parent, **spans[i]))
        calls = [c for c in trace_calls(project, TRACE) if c.operation]
    assert len(calls) == num_calls and all(c.usage == Usage(10, 5) for c in calls)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_an_agent_whose_calls_came_in_other_requests_is_none_of_them(order: tuple[int, ...]) -> None:
    spans = [AGENT, {"operation": ""}, _answer("A", response_id="r1"), _answer("B", response_id="r2")]
    with temporary_store() as store:
        project = store.project("p")
        for i in order:
            parent = {"parent_span_id": f"{min(i, 2):016x}"} if i else {}
            _load(project, _call(f"{i + 1:016x}", **parent, **spans[i]))
        calls = [c for c in trace_calls(project, TRACE) if c.operation]
    assert sorted(c.output_text for c in calls) == ["A", "B"]


def test_a_list_shows_the_newest_version_before_any_merge() -> None:
    with temporary_store() as store:
        project = store.project("p")
        store.command("SYSTEM STOP MERGES spans")
        for part in (BARE, FULL, _call("33" * 8, start_time=START - timedelta(seconds=1))):
            _load(project, part)
        everything = CallFilters(since=START - timedelta(days=1), until=START + timedelta(days=1))
        pages = [list_calls(project, everything, limit=1, after=None)]
        first = pages[0][0]
        pages += [
            list_calls(
                project,
                everything,
                limit=50,
                after=(first["start_time"], first["trace_id_hex"], first["span_id_hex"]),
            )
        ]
    assert [[r["span_id_hex"] for r in page] for page in pages] == [["11" * 8], ["33" * 8]]


def test_a_log_that_came_before_its_span_was_folded_joins_the_span_that_stands_for_it() -> None:
    """Two clients see one call; the one whose log comes first is the poorer."""
    told = replace(QUESTION, span_id="22" * 8)
    poor = _call("22" * 8, response_id="r", parent_span_id="11" * 8)
    rich = _call(response_id="r", output_messages=(Message("assistant", "Because."),))
    with temporary_store() as store:
        project = store.project("p")
        _load(project, told)
        _load(project, *fold([poor, rich]))
        (call,) = [c for c in trace_calls(project, TRACE) if c.operation]
    assert call.input_messages == (Message("user", "Why?"),)


@pytest.mark.parametrize("together", [True, False])
def test_an_agent_s_session_reaches_the_calls_that_were_stored_before_it(together: bool) -> None:
    agent = _call("aa" * 8, operation="", session_id="s", user_id="u", tags=("t",), duration_ns=10**9)
    step = _call("bb" * 8, operation="", parent_span_id="aa" * 8)
    call = _call(parent_span_id="bb" * 8, response_id="r")
    elsewhere = _call("cc" * 8, trace_id=OTHER_TRACE)
    with temporary_store() as store:
        project = store.project("p")
        for parts in [(call, step, elsewhere, agent)] if together else [(call, elsewhere), (step,), (agent,)]:
            _load(project, *parts)
        stored = [*trace_calls(project, TRACE), *trace_calls(project, OTHER_TRACE)]
    found = {c.span_id: (c.session_id, c.user_id, c.tags) for c in stored}
    assert found["11" * 8] == ("s", "u", ("t",))
    assert found["cc" * 8] == (None, None, ())
