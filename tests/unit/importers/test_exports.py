"""The traps of other systems' exports, each with cases of its kind: what a reader keeps, joins and leaves out by name."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from datetime import datetime, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heedloop.schema import Message, Scale, ToolCall
from heedloop_cli.importers import BadLine, Line, detect, read
from heedloop_cli.importers.messages import messages, usage
from heedloop_cli.importers.record import time_of

NOW = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
TRACE, SPAN = "0a" * 16, "1b" * 8
UUID = "0199c000-7777-7abc-8123-0000000000{:02x}"


@pytest.fixture
def read_rows(tmp_path):
    """Reads rows that are given as files: name -> rows, or rows alone."""

    def reading(*rows, **options) -> list[Line | BadLine]:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        path.write_text(json.dumps(list(rows)), encoding="utf-8")
        return list(read(path, **{"now": NOW, "pseudonym_key": "key", **options}))

    return reading


def feedback_of(found):
    assert not [x for x in found if isinstance(x, BadLine)], found
    return [f for x in found for f in x.feedback]


def calls_of(found):
    return [c for x in found for c in x.calls]


def left_out(found) -> Counter:
    return sum((Counter(x.left_out) for x in found), Counter())


# --------------------------------------------------------------------------------------------------------- langfuse


def score(name="helpful", value=1, data_type="NUMERIC", **changes):
    row = {"id": f"sc-{name}-{value}", "projectId": "p", "name": name, "source": "API", "dataType": data_type}
    row |= {"timestamp": "2026-05-01T10:00:00Z", "value": value, "authorUserId": None, "metadata": {}}
    return row | {"subject": {"kind": "trace", "id": TRACE}} | changes


@pytest.mark.parametrize("order", [1, -1])
def test_a_number_is_a_thumb_where_its_name_has_truth_values_elsewhere(read_rows, order):
    rows = [score("helpful", 0), score("helpful", True, "BOOLEAN"), score("other", 0)][::order]
    found = read_rows(*rows)
    assert sorted(f.value for f in feedback_of(found)) == [0.0, 1.0]
    assert all(f.is_thumb for f in feedback_of(found))
    assert [r.split("'")[1] for r in left_out(found)] == ["other"]


@pytest.mark.parametrize(
    ("changes", "kind", "author"),
    [
        ({"source": "ANNOTATION", "authorUserId": "usr_1"}, "annotator", "usr_1"),
        ({"source": "ANNOTATION"}, "code", None),
        ({"source": "EVAL"}, "model", None),
        ({"source": "API", "metadata": {"userId": "u1"}}, "end_user", "u1"),
        ({"source": "API"}, "end_user", None),
    ],
)
def test_a_score_has_the_author_that_its_source_names(read_rows, changes, kind, author):
    (one,) = feedback_of(read_rows(score(value=True, data_type="BOOLEAN", **changes)))
    assert (one.author.kind, one.author.id) == (kind, author)


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ({"traceId": TRACE, "observationId": SPAN}, f"span:{TRACE}:{SPAN}"),
        ({"traceId": TRACE, "observationId": None}, f"trace:{TRACE}"),
        ({"traceId": None, "sessionId": "s1"}, "session:s1"),
    ],
)
def test_scores_of_older_routes_name_their_target_in_fields(read_rows, place, key):
    row = {k: v for k, v in score(value=0, data_type="CATEGORICAL").items() if k != "subject"}
    (one,) = feedback_of(read_rows(row | place | {"stringValue": "bad"}))
    assert (one.target.key, one.value, one.scale.categories) == (key, "bad", ("bad",))


def test_categories_are_ordered_by_their_number_and_bounds_are_the_scale(read_rows):
    configs = [
        {"id": "c1", "name": "tone", "dataType": "CATEGORICAL", "isArchived": True,
         "categories": [{"value": 9, "label": "kind"}, {"value": -1, "label": "rude"}]},
        {"id": "c2", "name": "depth", "dataType": "NUMERIC", "isArchived": False, "minValue": 0, "maxValue": 10},
    ]  # fmt: skip
    rows = [
        score("tone", "kind", "CATEGORICAL", configId="c1"),
        score("depth", 7, configId="c2"),
        score("depth", 12, configId="c2"),
        score("x", 3, subject={"kind": "experiment", "id": "e"}),
    ]
    found = read_rows(*rows, *configs)
    tone, depth = feedback_of(found)
    assert tone.scale.categories == ("rude", "kind")
    assert (depth.scale.min, depth.scale.max) == (0, 10)
    assert set(left_out(found)) == {"value: 12 is outside its scale, 0 to 10", "a score of an experiment"}


# ----------------------------------------------------------------------------------------- ids, authors and scales


def test_hex_ids_are_kept_and_others_are_made_of_project_and_id(read_rows):
    rows = [
        score(value=True, data_type="BOOLEAN", subject={"kind": "trace", "id": i}, id=i)
        for i in (TRACE, "o-1")
    ]
    first, second = feedback_of(read_rows(*rows))
    assert first.target.trace_id == TRACE
    assert second.target.trace_id == feedback_of(read_rows(*rows[::-1]))[0].target.trace_id
    other = feedback_of(read_rows(*[r | {"projectId": "q"} for r in rows]))
    assert other[1].target.trace_id != second.target.trace_id
    assert {first.id, second.id}.isdisjoint(f.id for f in other)
    assert second.metadata["source_id"] == "o-1"


@pytest.mark.parametrize("address", ["Ben@Example.org", "192.0.2.7", "2001:db8::7"])
def test_addresses_become_hashes_of_one_key(read_rows, address):
    row = score(value=True, data_type="BOOLEAN", metadata={"user_id": address})
    (one,), (again,) = feedback_of(read_rows(row)), feedback_of(read_rows(row))
    assert one.author.id == again.author.id
    assert address.lower() not in one.author.id
    assert feedback_of(read_rows(row, pseudonym_key="other"))[0].author.id != one.author.id
    assert feedback_of(read_rows(row, keep_addresses=True))[0].author.id == address


def test_a_stated_scale_is_marked_and_may_have_its_best_end_below(read_rows):
    scales = {"mistakes": Scale(0, 10), "csat": Scale(1, 5)}
    rows = [score("mistakes", 2), score("csat", 5)]
    mistakes, csat = feedback_of(read_rows(*rows, scales=scales, reversed_scales=frozenset({"mistakes"})))
    assert (mistakes.value, mistakes.metadata["source_value"], mistakes.metadata["scale"]) == (
        8,
        "2.0",
        "assumed",
    )
    assert csat.value == 5


# ---------------------------------------------------------------------------------------------------- other systems


def langsmith(key="user_score", number=1, run=1, **changes):
    row = {
        "id": UUID.format(number),
        "run_id": UUID.format(run),
        "trace_id": UUID.format(9),
        "key": key,
        "score": 1,
    }
    row |= {"value": None, "comment": None, "correction": None, "created_at": "2026-10-02T11:20:05.123456"}
    return row | {"feedback_source": {"type": "api", "metadata": {}}, "session_id": "p"} | changes


def test_runs_that_share_their_first_bytes_stay_two(read_rows):
    rows = [langsmith(number=n, run=n) for n in (1, 2)]
    assert len({f.target.span_id for f in feedback_of(read_rows(*rows))}) == 2


@pytest.mark.parametrize(("scores", "ranks"), [((1, 0), [1, 2]), ((0, 1), [1, 2]), ((0.5, 0.5), [1, 1])])
def test_the_halves_of_a_comparison_are_joined(read_rows, scores, ranks):
    rows = [
        langsmith("pref", n, n, score=s, feedback_group_id="g", comparative_experiment_id="c")
        for n, s in zip((1, 2), scores, strict=True)
    ]
    found = read_rows(*rows)
    (one,) = feedback_of(found)
    best = one.ranking.answers[0].span_id
    assert list(one.ranking.ranks) == ranks
    winner = 1 if scores[0] >= scores[1] else 2
    thumbs = feedback_of(read_rows(langsmith(number=5, run=winner)))
    assert ranks == [1, 1] or best == thumbs[0].target.span_id
    assert left_out(found) == {"another half of a comparison that is stored": 1}
    assert left_out(read_rows(rows[0])) == {"a comparison whose other half is not in the files": 1}


def test_an_override_is_a_second_author_and_a_correction_has_three_forms(read_rows):
    judge = {"type": "model", "metadata": {}}
    rows = [langsmith("ok", 1, score=False, correction={"score": True}, feedback_source=judge)]
    rows += [
        langsmith("fix", n, score=None, correction=c)
        for n, c in ((2, "A"), (3, {"output": "B"}), (4, {"answer": "C"}))
    ]
    found = feedback_of(read_rows(*rows))
    assert [(f.author.kind, f.value) for f in found[:2]] == [("model", 0.0), ("annotator", 1.0)]
    assert [f.correction for f in found[2:]] == ["A", "B", "C"]


def test_a_mean_over_authors_is_refused_and_each_author_kept(read_rows):
    def opik(**fields):
        base = {
            "name": "user_feedback",
            "value": 0.5,
            "source": "sdk",
            "created_by": "a",
            "last_updated_by": "b",
        }
        return {"trace": {"id": UUID.format(1), "project_id": "p", "start_time": "2026-10-03 08:14:55+00:00",
                          "input": {"q": 1}, "output": "x", "feedback_scores": [base | fields]}, "spans": []}  # fmt: skip

    by = {a: {"value": v, "source": "sdk"} for a, v in (("a", 1.0), ("b", 0.0), ("c", 1.0))}
    assert [(f.author.id, f.value) for f in feedback_of(read_rows(opik(value_by_author=by)))] == [
        ("a", 1), ("b", 0), ("c", 1),
    ]  # fmt: skip
    assert left_out(read_rows(opik(value_by_author=None))) == {"a mean over several authors": 1}
    (single,) = feedback_of(read_rows(opik(value=1.0, last_updated_by="a")))
    assert single.author.id == "a"


def mlflow(value, source="HUMAN", **changes):
    feedback = changes.pop("feedback", {"value": value})
    one = {
        "assessment_id": "a",
        "assessment_name": "labels",
        "source": {"source_type": source, "source_id": "ada"},
    }
    one |= {"create_time": "2026-10-03T09:00:00Z", "feedback": feedback} | changes
    return {"info": {"trace_id": f"tr-{TRACE}", "request_time": "2026-10-03T08:00:00Z", "assessments": [one],
                     "request_preview": "Q", "response_preview": "A"}, "data": {"spans": []}}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (mlflow(["a", "b"]), [("flag", "a"), ("flag", "b")]),
        (mlflow(True), [("rating", 1.0)]),
        (mlflow("yes", "LLM_JUDGE"), [("rating", "yes")]),
        (mlflow(None, feedback={"error": {"error_code": "X"}}), []),
        (mlflow(None, feedback=None, expectation={"value": "So."}, assessment_name="ground_truth"), [("correction", "So.")]),
        (mlflow(None, feedback=None, expectation={"serialized_value": {"value": '"So."'}}, assessment_name="expected_response"),
         [("correction", "So.")]),
        (mlflow(None, feedback=None, expectation={"value": ["fact"]}, assessment_name="expected_facts"), []),
    ],
)  # fmt: skip
def test_an_assessment_by_what_its_value_is(read_rows, row, expected):
    found = read_rows(row)
    assert [(f.kind, f.category or f.correction or f.value) for f in feedback_of(found)] == expected
    assert left_out(found).total() == (not expected)
    assert calls_of(found)[0].output_text == "A"


def test_attributes_of_the_rest_api_are_otlp_values(read_rows):
    text = {
        "kvlist_value": {
            "values": [
                {"key": "content", "value": {"string_value": "Q"}},
                {"key": "role", "value": {"string_value": "user"}},
            ]
        }
    }
    asked = {"kvlist_value": {"values": [{"key": "messages", "value": {"array_value": {"values": [text]}}}]}}
    attributes = {"mlflow.spanInputs": asked, "mlflow.spanType": {"string_value": "LLM"}}
    span = {"span_id": "GxsbGxsbGxs=", "attributes": [{"key": k, "value": v} for k, v in attributes.items()]}
    row = {"trace": {"trace_info": mlflow(True)["info"], "spans": [span]}}
    assert calls_of(read_rows(row))[0].input_messages == (Message("user", "Q"),)


@pytest.mark.parametrize("span_id", ["GxsbGxsbGxs=", "0x1b1b1b1b1b1b1b1b", "1b1b1b1b1b1b1b1b"])
def test_span_ids_are_read_from_base64_and_hexadecimal(read_rows, span_id):
    row = mlflow(True, span_id=span_id)
    row["data"]["spans"] = [
        {"span_id": span_id, "attributes": {"mlflow.spanType": '"LLM"'}, "start_time": 1791015295 * 10**9}
    ]
    found = read_rows(row)
    assert calls_of(found)[0].span_id == SPAN == feedback_of(found)[0].target.span_id


@pytest.mark.parametrize(
    ("kind", "payload", "expected"),
    [
        ("wandb.reaction.1", {"emoji": "👎🏿"}, ("rating", 0.0)),
        ("wandb.reaction.2", {"emoji": "👍"}, ("rating", 1.0)),
        ("wandb.annotation.is-it.right", {"value": True}, ("rating", 1.0)),
        ("wandb.note.1", {"note": "n"}, ("comment", "n")),
        ("survey", {"score": 3, "max": 4}, ("rating", 3.0)),
        ("survey", {"text": "words"}, ("comment", "words")),
    ],
)
def test_a_reaction_note_or_payload(read_rows, kind, payload, expected):
    call = {
        "id": UUID.format(1),
        "op_name": "weave:///a/b/op/chat:1",
        "trace_id": UUID.format(2),
        "project_id": "a/b",
    }
    call |= {"started_at": "2026-10-03T08:14:55Z", "inputs": {"messages": []}, "output": {}}
    row = {
        "id": "f",
        "feedback_type": kind,
        "weave_ref": f"weave:///a/b/call/{UUID.format(1)}",
        "payload": payload,
    }
    (one,) = feedback_of(
        read_rows(
            call, row | {"created_at": "2026-10-03T08:15:00Z", "wb_user_id": "ada", "project_id": "a/b"}
        )
    )
    value = one.comment if one.kind == "comment" else one.value
    assert (one.kind, value, one.author.id) == (*expected, "ada")


def test_a_target_is_an_inference_or_an_episode_and_times_are_in_the_ids(read_rows):
    inference, episode = UUID.format(1), UUID.format(2)
    call = {"id": inference, "function_name": "f", "variant_name": "v", "episode_id": episode, "output": "hi"}
    metric = {"id": UUID.format(3), "metric_name": "good", "value": True, "tags": {}}
    targets = (inference, episode, UUID.format(7))
    rows = [metric | {"target_id": t, "id": UUID.format(n)} for n, t in enumerate(targets, 10)]
    found = read_rows(*rows, call | {"input": '{"messages": []}'})
    first, second = feedback_of(found)
    assert first.target.trace_id == inference.replace("-", "")
    assert second.target.session_id == episode
    assert first.created_at == datetime.fromtimestamp(int("0199c0007777", 16) / 1000, timezone.utc)
    assert left_out(found) == {"about an inference or episode that is not in the files": 1}


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [(6, 10, "fine"), (7, 11, "fine"), (0, 3, "fine"), (5, 6, "🌿"), (5, 7, "🌿")],
)
def test_marks_are_where_their_words_are_whatever_they_count(read_rows, start, end, words):
    text = "Rain 🌿fine day"
    mark = {"start": start, "end": end, "text": words, "labels": ["bad"]}
    result = [{"from_name": "m", "to_name": "answer", "type": "labels", "value": mark}]
    task = {"id": 1, "data": {"question": "Q", "answer": text}}
    task["annotations"] = [{"id": 1, "completed_by": {"id": 4, "email": "b@example.org"}, "result": result}]
    (one,) = feedback_of(read_rows(task))
    place = one.target.range
    assert text[place.start : place.end] == words
    assert one.author.id == "4"


def test_a_cancelled_annotation_and_a_draft_are_left_out_by_name(read_rows):
    result = [{"from_name": "q", "to_name": "answer", "type": "rating", "value": {"rating": 4}}]
    task = {"id": 1, "data": {"question": "Q", "answer": "A"}, "drafts": [{"user": 1, "result": result}]}
    task["annotations"] = [{"id": 1, "completed_by": 3, "was_cancelled": True, "result": result * 2}]
    assert left_out(read_rows(task)) == {"a cancelled annotation": 2, "a draft": 1}
    record = {"id": "r", "fields": {"prompt": "Q", "response": "A"}, "suggestions": {}}
    values = {"values": {"quality": {"value": 4}}, "user_id": "u"}
    record["responses"] = [values | {"status": s} for s in ("submitted", "draft", "discarded")]
    found = read_rows(record, scales={"quality": Scale(1, 5)})
    assert left_out(found) == {"a draft": 1, "a response that was discarded": 1}
    assert len(feedback_of(found)) == 1


def test_an_eval_is_no_answer_of_production_and_its_graders_are_no_people(read_rows):
    row = {
        "object": "eval.run.output_item",
        "id": "o",
        "created_at": 1791015300,
        "eval_id": "e",
        "datasource_item": {},
    }
    results = [
        {"name": n, "type": t, "passed": n == "a", "score": 0.2}
        for n, t in (("a", "score_model"), ("b", "python"))
    ]
    found = read_rows(
        row | {"results": results, "sample": {"input": [], "output": [{"role": "assistant", "content": "x"}]}}
    )
    assert [(f.author.kind, f.value) for f in feedback_of(found)] == [("model", 1.0), ("code", 0.0)]
    assert calls_of(found)[0].environment == "evaluation"


def test_braintrust_events_and_their_experiments(read_rows):
    row = {
        "id": "e",
        "span_id": "s",
        "root_span_id": "s",
        "project_id": "p",
        "created": "2026-10-03T08:14:55Z",
    }
    row |= {
        "input": [{"role": "user", "content": "Q"}],
        "output": "A",
        "scores": {"quality": 0.5, "none": None},
    }
    found = read_rows(row | {"expected": "B"})
    assert [(f.kind, f.author.kind) for f in feedback_of(found)] == [
        ("rating", "code"),
        ("correction", "code"),
    ]
    person = {"audit_data": [{"source": "app", "metadata": {"user_id": "ada"}}]}
    assert feedback_of(read_rows(row | person))[0].author.id == "ada"
    assert left_out(read_rows(row | {"experiment_id": "x"})) == {"a score of an experiment": 1}


# ------------------------------------------------------------------------------------------- messages, times, files


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Hi", (Message("user", "Hi"),)),
        ('[{"role": "user", "content": "Hi"}]', (Message("user", "Hi"),)),
        ({"system": "S", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
         (Message("system", "S"), Message("user", "Hi"))),
        ({"choices": [{"message": {"role": "assistant", "content": "Yo"}}]}, (Message("assistant", "Yo"),)),
        ([[{"lc": 1, "id": ["x", "HumanMessage"], "kwargs": {"content": "Hi", "type": "human"}}]], (Message("user", "Hi"),)),
        ([{"from": "gpt", "value": "Yo"}], (Message("assistant", "Yo"),)),
        ([{"role": "model", "parts": [{"text": "Yo"}]}], (Message("assistant", "Yo"),)),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], (Message("user", media=("image",)),)),
        ([{"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}],
         (Message("assistant", tool_calls=(ToolCall("f", "{}", "c"),)),)),
        ([{"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Yo"}]}],
         (Message("assistant", "Yo", "hm"),)),
        ([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "4"}]}],
         (Message("tool", "4", tool_call_id="c"),)),
        ([{"type": "text", "value": "Yo"}], (Message("user", "Yo"),)),
        (None, ()), ("", ()), ([], ()),
    ],
)  # fmt: skip
def test_messages_in_the_forms_of_their_sources(value, expected):
    assert messages(value) == expected


def test_token_counts_under_their_sources_names():
    assert (
        usage(
            {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
        ).cache_read_input
        == 1
    )
    assert usage({"input": 3, "output": 2, "cache_read_input_tokens": 1}).input == 3


@pytest.mark.parametrize(
    "value",
    [
        "2026-10-03 08:15:02.120", "2026-10-03T08:15:02.12Z", "2026-10-03T10:15:02.120+02:00", 1791015302.12, 1791015302120,
        1791015302120 * 1000, 1791015302120 * 10**6, "1791015302120", {"$date": "2026-10-03T08:15:02.120Z"},
        {"$date": {"$numberLong": "1791015302120"}}, "2026/10/03 08:15:02.120",
    ],
)  # fmt: skip
def test_one_moment_in_every_form(value):
    moment = time_of(value, "t").replace(microsecond=120000)
    assert moment == datetime(2026, 10, 3, 8, 15, 2, 120000, tzinfo=timezone.utc)


ROWS = [{"prompt": f"Q{n} ä", "chosen": "A", "rejected": "B"} for n in range(3)]


def _files(tmp_path):
    lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in ROWS)
    yield "lines.jsonl", lines.encode()
    yield "windows.jsonl", lines.replace("\n", "\r\n").encode("utf-8-sig")
    yield "lines16.jsonl", lines.encode("utf-16")
    yield "array.json", json.dumps(ROWS, indent=1).encode()
    yield "array16.json", json.dumps(ROWS).encode("utf-16")
    yield "page.json", json.dumps({"data": ROWS, "meta": {"page": 1}}).encode()
    yield "keyed.json", json.dumps({str(i): r for i, r in enumerate(ROWS)}).encode()
    yield "jq.json", "".join(json.dumps(r, indent=1) + "\n" for r in ROWS).encode()
    yield "glued.json", "".join(map(json.dumps, ROWS)).encode()
    yield "comma.json", (json.dumps(ROWS)[:-1] + ",]").encode()
    yield "lines", gzip.compress(lines.encode())
    table = tmp_path / "t.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["prompt", "chosen", "rejected"])
        writer.writeheader()
        writer.writerows(ROWS)
    yield "table.csv", table.read_bytes()
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "t.parquet")
    yield "rows.parquet", (tmp_path / "t.parquet").read_bytes()


def test_one_set_of_rows_in_every_kind_of_file(tmp_path):
    expected = None
    for name, content in _files(tmp_path):
        (tmp_path / name).write_bytes(content)
        found = list(read(tmp_path / name, now=NOW))
        assert len(found) == 3, name
        expected = expected or found
        assert [x.feedback for x in found] == [x.feedback for x in expected], name
        assert calls_of(found) == calls_of(expected), name


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
def test_a_cut_off_array_gives_what_it_holds_and_says_where_it_ends(tmp_path, cut):
    whole = json.dumps([{**ROWS[0], "id": n} for n in range(100)])
    (tmp_path / "f.json").write_text(whole[: int(len(whole) * cut)])
    *good, last = read(tmp_path / "f.json")
    assert len(good) == int(100 * cut) or abs(len(good) - 100 * cut) < 3
    assert isinstance(last, BadLine)
    assert "cut off" in last.reason


def test_mixed_forms_and_wrong_rows_are_named_and_the_others_are_read(read_rows, tmp_path):
    found = read_rows(
        score(value=True, data_type="BOOLEAN"), {"colour": 1}, score(value=False, data_type="BOOLEAN")
    )
    assert [type(x).__name__ for x in found] == ["Line", "BadLine", "Line"]
    assert "no record of langfuse" in found[1].reason
    broken = langsmith("user_score", score=1) | {"created_at": "soon"}
    found = read_rows(langsmith(), broken)
    assert len(feedback_of(found)) == 1
    assert any("soon" in r for r in left_out(found))
    (tmp_path / "big.jsonl").write_text(
        json.dumps({**ROWS[0], "chosen": "x" * 10_000_000}) + "\n" + json.dumps(ROWS[1]) + "\n"
    )
    assert len(list(read(tmp_path / "big.jsonl"))) == 2


def test_a_dated_set_keeps_its_time_and_an_undated_one_has_the_imports(read_rows):
    (assumed,) = feedback_of(read_rows(ROWS[0]))
    assert (assumed.created_at, assumed.metadata["time"]) == (NOW, "assumed")
    (dated,) = feedback_of(read_rows({**ROWS[0], "created_at": "2024-02-03"}))
    assert (dated.created_at.year, "time" in dated.metadata) == (2024, False)
    (later,) = feedback_of(read_rows(ROWS[0], now=datetime(2027, 1, 1, tzinfo=timezone.utc)))
    assert later.id == assumed.id
    given = datetime(2020, 1, 1, tzinfo=timezone.utc)
    (stated,) = feedback_of(read_rows(ROWS[0], default_time=given))
    assert (stated.created_at, "time" in stated.metadata) == (given, False)


def test_an_unknown_file_says_its_fields(tmp_path):
    (tmp_path / "f.json").write_text('[{"colour": 1, "size": 2}]')
    with pytest.raises(ValueError, match="colour, size"):
        detect(tmp_path / "f.json")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"[]", "is empty"),
        (b"<!doctype html>", "is no JSON"),
        ("prompt,chosen\nGr\u00fc\u00dfe,b\n".encode("latin-1"), "no UTF-8"),
        (b'{"prompt":' + b"[" * 3000 + b"]" * 3000 + b"}", "recursion"),
    ],
)
def test_a_file_without_a_record_says_what_it_is(tmp_path, content, what):
    path = tmp_path / ("x.csv" if b"," in content else "x.json")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=what):
        detect(path)
