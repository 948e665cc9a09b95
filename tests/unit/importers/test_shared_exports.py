"""Every line of the table of exports: what each synthetic export of another system must give."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timezone

import pytest

from heedloop.schema import Scale
from heedloop_cli.importers import BadLine, detect, read

pytestmark = pytest.mark.shared

SCALES = {
    **dict.fromkeys(("correctness", "relevance"), Scale(0, 1)),
    **dict.fromkeys(("csat", "quality", "helpfulness"), Scale(1, 5)),
    "readability": Scale(0, 100),
    "num_mistakes": Scale(0, 10),
}
EXPERIMENT = "a score of an experiment"
CASES = {
    "langfuse": (
        ("langfuse_scores_v3.json", "langfuse_score_configs.json", "langfuse_observations_v2.json"),
        1,
        [
            "thumb 1 u-17", "thumb 0 u-18", "thumb 1 u-18", "rating 4 usr_ada", "rating rude usr_ada", "rating 0.72 model",
            "comment usr_ben", "correction usr_ben", "rating 5 end_user", "thumb 0 end_user", "rating 2 code",
        ],
        {EXPERIMENT: 1},
    ),
    "langfuse blob": (("langfuse_blob_scores.jsonl",), 0, ["thumb 1 end_user", "rating rude annotator"], {}),
    "langsmith": (
        ("langsmith_feedback.json", "langsmith_runs.json"),
        3,
        [
            "thumb 1 u-17", "thumb 0 end_user", "comment ada0", "rating rude ada0", "thumb 0 model", "thumb 1 override",
            "correction ada0", "comparison 1,2 ada0",
        ],
        {"about a whole project: no run is named": 1, "another half of a comparison that is stored": 1},
    ),
    "phoenix": (
        ("phoenix_span_annotations.json", "phoenix_spans.json"),
        1,
        [
            "thumb 1 u-17", "thumb 0 u-18", "rating 3.5 VXNlcjox", "comment VXNlcjox", "rating factual model",
            "rating 61.2 code",
        ],
        {"about a span whose trace is not in the files": 1},
    ),
    "opik": (
        ("opik_trace.json",),
        1,
        ["thumb 1 u-17", "thumb 0 u-18", "rating rude ada", "rating 0.8 model", "comment ada"],
        {},
    ),
    "mlflow": (
        ("mlflow_trace.json",),
        1,
        ["thumb 1 u-17", "rating 4 judge-1", "rating 2 ada", "correction ada", "flag incomplete ada", "flag rude ada"],
        {"an assessment that failed: an error is no value": 1},
    ),
    "weave": (
        ("weave_calls.jsonl",),
        1,
        ["thumb 1 u-17", "comment ada", "comment ada", "rating 4 ada", "thumb 0 ada", "rating 0.8 model", "rating 5 u-17"],
        {},
    ),
    "helicone": (("helicone_requests.json",), 2, ["thumb 1 end_user", "rating 92 code", "thumb 0 code"], {}),
    "tensorzero": (
        tuple(f"tensorzero_{n}Feedback.jsonl" for n in ("BooleanMetric", "Comment", "Demonstration", "FloatMetric"))
        + ("tensorzero_ChatInference.jsonl",),
        1,
        [
            "thumb 1 u-17", "thumb 1 u-17", "thumb 0 end_user", "comment u-17", "correction annotator", "rating 2 end_user",
        ],
        {},
    ),
    "label_studio": (
        ("label_studio_project.json",),
        2,
        [
            "comparison 1,2 3", "rating 4 3", "flag incomplete 3", "comparison 2,1 4", "correction 4", "flag misleading 4",
            "comparison 2,1 judge-1",
        ],
        {"a cancelled annotation": 1},
    ),
    "argilla": (
        ("argilla_records.json",),
        2,
        ["comparison 1,2 0001", "comparison 1,2 0002", "rating 4 0001", "correction 0001", "flag misleading 0002",
         "comparison 1,2 judge-1"],
        {},
    ),
    "humanloop": (("humanloop_logs.json",), 1, ["rating good u-17", "correction u-17", "thumb 1 model", "thumb 0 code"], {}),
    "openai": (("openai_stored_completions.json",), 1, ["thumb 1 u-17"], {}),
    "openai evals": (("openai_eval_output_items.json",), 1, ["thumb 1 correct-winter", "thumb 0 similarity"], {}),
    "openwebui": (
        ("openwebui_feedbacks.json",),
        4,
        ["thumb 1 usr-17", "comparison 1,2 usr-17", "rating 9 usr-17", "thumb 0 usr-18", "rating 2 usr-18"],
        {},
    ),
    "librechat": (
        ("librechat_messages.jsonl",),
        2,
        ["thumb 0 0u17", "flag inaccurate 0u17", "thumb 1 0u17"],
        {"a message that is an error, no answer": 1},
    ),
    "fastchat": (
        ("fastchat_conv.jsonl",),
        7,
        ["comparison 1,2", "comparison 1,1", "comparison 1,1", "thumb 0"],
        {"a vote on answers that the file does not hold": 1},
    ),
}  # fmt: skip


def lines(shared, *names, **options):
    found = list(read([shared / "exports" / n for n in names], scales=SCALES, pseudonym_key="k", **options))
    assert not [x for x in found if isinstance(x, BadLine)], found
    return found


def in_short(feedback) -> str:
    kind = "thumb" if feedback.is_thumb else feedback.kind
    value = feedback.value if feedback.value is not None else feedback.category
    if isinstance(value, float):
        value = f"{value:g}"
    if feedback.ranking:
        value = ",".join(map(str, feedback.ranking.ranks))
    return " ".join(
        str(x) for x in (kind, value, feedback.author.id or feedback.author.kind) if x is not None
    )


@pytest.mark.parametrize("name", CASES)
def test_an_export_gives_what_it_holds(shared, name):
    files, num_calls, expected, left_out = CASES[name]
    found = lines(shared, *files, feedback_keys=("thumb",))
    calls = {(c.trace_id, c.span_id) for x in found for c in x.calls}
    assert len(calls) == num_calls
    got = [in_short(f) for x in found for f in x.feedback]
    assert len(got) == len(expected)
    for wanted in expected:
        *head, author = (
            wanted.split(" ")
            if not wanted.startswith(("comparison 1,", "thumb 0")) or name != "fastchat"
            else (*wanted.split(" "), "")
        )
        match = next((g for g in got if g.startswith(" ".join(head)) and g.endswith(author)), None)
        assert match is not None, (wanted, got)
        got.remove(match)
    assert sum((Counter(x.left_out) for x in found), Counter()) == left_out


def test_every_export_is_known_by_its_fields(shared):
    for path in (shared / "exports").glob("*.json*"):
        assert detect(path)


def test_without_a_scale_a_rating_is_left_out_by_its_name(shared):
    unknown: dict[str, None] = {}
    files = [shared / "exports" / n for n in ("langfuse_scores_v3.json", "langfuse_score_configs.json")]
    found = list(read(files, unknown_scales=unknown))
    assert set(unknown) == {"correctness", "csat"}
    reasons = Counter(r for x in found for r in x.left_out)
    assert sum("--scale 'csat=LOW..HIGH'" in r for r in reasons) == 1
    assert sum(len(x.feedback) for x in found) == 9


def test_marks_times_and_texts_are_where_the_sources_have_them(shared):
    (task,) = lines(shared, "label_studio_project.json")
    mark = next(f for f in task.feedback if f.category == "misleading").target
    text = next(c for c in task.calls if c.span_id == mark.span_id).output_text
    assert text[mark.range.start : mark.range.end] == "is fine"
    assert not any("@" in (f.author.id or "") for f in task.feedback)
    blob = lines(shared, "langfuse_blob_scores.jsonl")
    assert blob[0].feedback[0].created_at == datetime(2026, 10, 3, 8, 15, 2, 120000, tzinfo=timezone.utc)
    web = [c for x in lines(shared, "openwebui_feedbacks.json") for c in x.calls if c.model == "blue-2"]
    assert {(c.output_text, c.output_messages[0].reasoning) for c in web} == {("Every day.", "ferns")}
    fast = [f for x in lines(shared, "fastchat_conv.jsonl") for f in x.feedback]
    assert not any("192." in (f.author.id or "") for f in fast)
    assert len({f.author.id for f in fast}) == 3
    langfuse = [c for x in lines(shared, *CASES["langfuse"][0]) for c in x.calls]
    (call,) = langfuse
    assert (call.usage.input, call.usage.output, call.usage.cache_read_input, call.cost) == (
        31,
        9,
        16,
        0.0004,
    )
    assert (call.prompt_name, call.prompt_version, call.session_id) == ("plant-answer", "3", "chat-44")
    assert [m.role for m in call.input_messages] == ["system", "user"]


def test_every_public_form_gives_what_a_reader_expects(shared, tmp_path):
    variants = json.loads((shared / "exports" / "hf_preference_variants.json").read_text())
    rated = {"helpsteer2": 5, "ultrafeedback": 3}
    for name, row in variants.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps([row]))
        (line,) = lines(tmp_path.parent, path)
        kinds = Counter(f.kind for f in line.feedback)
        expected = (
            {"rating": rated.get(name, 1)} if name in rated or name.startswith("kto") else {"comparison": 1}
        )
        assert kinds == expected, name
        assert line.calls[0].output_text == (
            "The same." if name == "mt_bench_human" else "About fifteen centimetres."
        )
        assert line.calls[0].input_messages[-1].role == "user"
        dated = name in ("shp", "stack_exchange", "arena_140k")
        assert (line.feedback[0].metadata.get("time") == "assumed") is not dated, name
