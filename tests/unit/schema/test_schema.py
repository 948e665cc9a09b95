"""The records check themselves, survive JSON, and have an identity without time."""

import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedloop.schema import (
    FEEDBACK_KINDS,
    Author,
    CharRange,
    Comparison,
    Feedback,
    JudgeExample,
    JudgeSpec,
    Message,
    Ranking,
    Run,
    Scale,
    SchemaError,
    Target,
    answer_hash,
    from_json,
    parse_time,
    to_json,
)

TRACE, SPAN = "ab" * 16, "cd" * 8
HANDLE = f"00-{TRACE}-{SPAN}-01"
ANSWER = Target.from_handle(HANDLE)
OTHER = Target(trace_id="ef" * 16, span_id=SPAN)


def one_of_each() -> list[Feedback]:
    marked = Target(trace_id=TRACE, span_id=SPAN, range=CharRange(3, 9, answer_hash("You can't do that")))
    return [
        Feedback("rating", ANSWER, value=1),
        Feedback("rating", ANSWER, name="helpfulness", value=4, scale=Scale(1, 5)),
        Feedback("rating", ANSWER, name="tone", value="polite", scale=Scale(categories=("rude", "polite"))),
        Feedback("correction", ANSWER, correction="You can return it within 30 days."),
        Feedback("flag", marked, category="inaccurate", severity="high"),
        Feedback(
            "comparison", ANSWER, ranking=Ranking((ANSWER, OTHER), (1, 1), shown_order=(1, 0), all_bad=True)
        ),
        Feedback(
            "comment", Target(session_id="s1"), comment="Slow today", author=Author("annotator", "ann-3")
        ),
    ]


@pytest.mark.parametrize("feedback", one_of_each(), ids=lambda f: f"{f.kind}-{f.name}")
def test_every_kind_survives_json(feedback: Feedback) -> None:
    assert from_json(Feedback, to_json(feedback)) == feedback


def test_every_kind_is_covered_above() -> None:
    assert {f.kind for f in one_of_each()} == set(FEEDBACK_KINDS)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"kind": "star", "target": {"trace_id": TRACE}}, "kind"),
        ({"kind": "rating", "target": {"trace_id": TRACE}, "value": 6, "scale": {"min": 1, "max": 5}}, "value"),
        ({"kind": "rating", "target": {"trace_id": TRACE}, "value": True}, "value"),
        ({"kind": "rating", "target": {"trace_id": TRACE}, "value": float("nan")}, "value"),
        ({"kind": "rating", "target": {"trace_id": TRACE}, "value": 2}, "value"),
        ({"kind": "rating", "target": {"trace_id": TRACE.upper()}, "value": 1}, "target.trace_id"),
        ({"kind": "rating", "target": {"trace_id": "0" * 32}, "value": 1}, "target.trace_id"),
        ({"kind": "rating", "target": {"span_id": SPAN}, "value": 1}, "target"),
        ({"kind": "rating", "target": {"trace_id": TRACE, "session_id": "s"}, "value": 1}, "target"),
        ({"kind": "rating", "target": {"trace_id": TRACE}, "value": 1, "stars": 3}, "stars"),
        ({"kind": "rating", "target": {"trace_id": TRACE}, "value": 1, "created_at": "yesterday"}, "created_at"),
        ({"kind": "rating", "target": {"trace_id": TRACE}, "value": 1, "created_at": "2026-01-01T00:00:00"}, "created_at"),
        ({"kind": "rating", "target": {"trace_id": TRACE}, "value": 1, "metadata": "x"}, "metadata"),
        ({"kind": "rating", "target": {"trace_id": TRACE}, "value": 1, "metadata": {"a": 1}}, "metadata.a"),
        ({"kind": "rating", "target": {"trace_id": TRACE}, "value": 1, "retracted": "yes"}, "retracted"),
        ({"kind": "rating", "target": {"trace_id": TRACE}, "value": 1, "solicited": 1}, "solicited"),
        ({"kind": "rating", "target": {"trace_id": TRACE}, "value": 1, "sampling_probability": 0}, "sampling_probability"),
        ({"kind": "rating", "target": {"trace_id": TRACE}, "value": "x", "scale": {"categories": ["a", "b"]}}, "value"),
        ({"kind": "correction", "target": {"trace_id": TRACE}}, "correction"),
        ({"kind": "correction", "target": {"trace_id": TRACE}, "correction": ""}, "correction"),
        ({"kind": "flag", "target": {"trace_id": TRACE}, "severity": "high"}, "category"),
        ({"kind": "flag", "target": {"trace_id": TRACE}, "category": "c", "severity": "huge"}, "severity"),
        ({"kind": "comment", "target": {"trace_id": TRACE}}, "comment"),
        ({"kind": "comparison", "target": {"trace_id": TRACE}}, "ranking"),
        ({"kind": "rating"}, "target"),
        ({"target": {"trace_id": TRACE}}, "kind"),
        ("thumbs up", "feedback"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(wrong: object, field: str) -> None:
    with pytest.raises(SchemaError) as caught:
        from_json(Feedback, wrong)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"ranks": (1,)}, "ranking.ranks"),
        ({"ranks": (0, 1)}, "ranking.ranks"),
        ({"answers": (ANSWER, ANSWER)}, "ranking.answers"),
        ({"answers": (ANSWER,)}, "ranking.answers"),
        ({"shown_order": (0, 0)}, "ranking.shown_order"),
        ({"strength": 2}, "ranking.strength"),
        ({"all_bad": "no"}, "ranking.all_bad"),
    ],
)
def test_a_wrong_ranking_is_named(changes: dict, field: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Ranking(**{"answers": (ANSWER, OTHER), "ranks": (1, 2), **changes})
    assert caught.value.field == field


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.floats()
    | st.sampled_from(["", "x", TRACE, SPAN, "rating"])
)
json_values = (
    scalars
    | st.lists(scalars, max_size=3)
    | st.dictionaries(st.sampled_from(["trace_id", "min", "answers"]), scalars)
)
field_names = st.sampled_from(sorted(Feedback.__dataclass_fields__))


@given(st.dictionaries(field_names, json_values, max_size=6))
def test_arbitrary_json_is_a_record_or_a_schema_error(data: dict) -> None:
    whole = {"kind": "rating", "target": {"trace_id": TRACE}, "value": 1, **data}
    try:
        record = from_json(Feedback, whole)
    except SchemaError as err:
        assert err.field and err.reason
    else:
        assert from_json(Feedback, to_json(record)).kind == record.kind


def test_identity_leaves_time_value_and_client_id_out() -> None:
    now = datetime(2026, 11, 21, tzinfo=timezone.utc)
    first = Feedback("rating", ANSWER, value=1, author=Author(id="u1"), created_at=now)
    later = Feedback("rating", ANSWER, value=0, author=Author(id="u1"), created_at=now + timedelta(days=3))
    assert first.identity("p") == later.identity("p")


def test_identity_tells_project_author_name_and_target_apart() -> None:
    base = Feedback("rating", ANSWER, value=1, author=Author(id="u1"))
    others = [
        Feedback("rating", ANSWER, value=1, author=Author(id="u2")),
        Feedback("rating", ANSWER, value=1, author=Author("annotator", "u1")),
        Feedback("rating", ANSWER, name="tone", value=1, author=Author(id="u1")),
        Feedback("rating", OTHER, value=1, author=Author(id="u1")),
        Feedback("rating", ANSWER, value=1),
        Feedback("rating", ANSWER, value=1),
    ]
    ids = {base.identity("p"), base.identity("q")} | {o.identity("p") for o in others}
    assert len(ids) == 2 + len(others)


def test_a_comparison_of_the_same_answers_is_the_same_whatever_their_order() -> None:
    one = Feedback("comparison", ANSWER, ranking=Ranking((ANSWER, OTHER), (1, 2)), author=Author(id="u"))
    two = Feedback("comparison", OTHER, ranking=Ranking((OTHER, ANSWER), (1, 2)), author=Author(id="u"))
    assert one.identity("p") == two.identity("p")


def test_a_handle_is_a_traceparent_and_nothing_else() -> None:
    assert ANSWER.trace_id == TRACE
    for wrong in ("", TRACE, f"00-{TRACE}-{SPAN}", f"01-{TRACE}-{SPAN}-01x", None):
        with pytest.raises(SchemaError):
            Target.from_handle(wrong)  # type: ignore[arg-type]


def test_times_are_utc() -> None:
    assert parse_time("2026-11-21T10:00:00+01:00") == datetime(2026, 11, 21, 9, tzinfo=timezone.utc)


def test_dataset_rows_and_runs_survive_json() -> None:
    row = Comparison((Message("user", "Hi"),), "Hello!", "No.", margin=0.5, feedback_ids=("f1",))
    assert from_json(Comparison, to_json(row)) == row
    run = Run("r1", "ppo", snapshot_id="s1", config={"lr": 1e-5}, metrics={"kl": 0.3})
    assert from_json(Run, to_json(run)) == run
    with pytest.raises(SchemaError, match="method"):
        Run("r1", "magic")  # type: ignore[arg-type]


JUDGE = {
    "name": "helpful",
    "form": "pointwise",
    "backend": "endpoint",
    "model": "m",
    "prompt": "{answer}",
    "verdicts": {"YES": 1.0, "NO": 0.0},
}


def test_a_judges_hash_is_of_all_that_its_judgements_depend_on() -> None:
    judge = from_json(JudgeSpec, JUDGE)
    assert from_json(JudgeSpec, to_json(judge)) == judge
    assert re.fullmatch(r"helpful@[0-9a-f]{12}", judge.id)
    assert replace(judge, name="other").hash == judge.hash
    example = JudgeExample(Target(trace_id="1" * 32, span_id="2" * 16), "YES")
    others = [
        {"model": "n"}, {"prompt": "{answer}!"}, {"parameters": {"temperature": 1}}, {"parser": "number"}, {"guideline": "q/2"},
        {"verdicts": {"YES": 1.0, "NO": 0.5}}, {"question": "tone"}, {"scale": Scale(0, 2)}, {"examples": (example,)}, {"form": "session"},
    ]  # fmt: skip
    hashes = {judge.hash, *(replace(judge, **change).hash for change in others)}
    assert len(hashes) == len(others) + 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "Not a name"}, "name"),
        ({"form": "triplewise"}, "form"),
        ({"prompt": ""}, "prompt"),
        ({"verdicts": {"YES": 1.0}}, "verdicts"),
        ({"verdicts": {"YES": 2.0, "NO": 0.0}}, "verdicts.YES"),
        ({"form": "rubric"}, "dimensions"),
        ({"dimensions": ["clear"]}, "dimensions"),
        ({"form": "rubric", "dimensions": ["clear"]}, "parser"),
        ({"scale": {"categories": ["bad", "good"]}}, "scale"),
        ({"examples": [{"target": {"session_id": "s"}, "verdict": "YES"}]}, "examples.target"),
    ],
)
def test_wrong_judges_are_refused(change: dict, field: str) -> None:
    with pytest.raises(SchemaError) as caught:
        from_json(JudgeSpec, JUDGE | change)
    assert caught.value.field == field
