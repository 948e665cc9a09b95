"""The two sides of an evaluation: annotators with a judge, pairs, an earlier evaluation, slices, and the order of cases."""

import random
from dataclasses import replace

import pytest
from temporary_stores import temporary_store

from heedloop.responses import EvaluationRow
from heedloop.schema import Author, Feedback, JudgeSpec, Ranking, Target, utc_now
from heedloop_server.errors import Invalid
from heedloop_server.evaluations.comparison import differences, in_order, read_sides, slice_differences
from heedloop_server.review.questions import read_questions
from heedloop_server.review.queue import Queue
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.evaluations import insert_evaluation_rows
from heedloop_server.store.feedback import StoredFeedback, insert_feedback
from heedloop_server.store.judges import insert_judge
from heedloop_server.store.review.queues import insert_queue

NUM = 120
WORDS = {"prompt": "{question} {answer}", "verdicts": {"YES": 1.0, "NO": 0.0}}
RATES = JudgeSpec("rates", "pointwise", "endpoint", "m", **WORDS)
COMPARES = JudgeSpec("compares", "pairwise", "endpoint", "m", question="preference", **WORDS)


def row(n: int, **more) -> EvaluationRow:
    own = {"trace_id": f"{n + 1:032x}", "span_id": f"{n + 1:016x}"}
    before = {"baseline_trace_id": f"{n + 5000:032x}", "baseline_span_id": f"{n + 5000:016x}"}
    scores = {"scores": {"token_f1": 0.5 + n % 2 / 2}, "baseline_scores": {"token_f1": 0.5}}
    return EvaluationRow(case_id=f"c{n:03}", group=f"g{n // 2}", **own, **before, **scores, **more)


def said(project: ProjectStore, feedback: list[Feedback]) -> None:
    insert_feedback(
        project,
        [StoredFeedback(f, f.identity(project.project), 1, f.created_at) for f in feedback],
    )


def rating(trace: str, span: str, value: float, author: Author, **more) -> Feedback:
    target = Target(trace_id=trace, span_id=span)
    return Feedback("rating", target, value=value, scale=RATES.scale, author=author, **more)


@pytest.fixture
def project():
    with temporary_store() as store:
        one = store.project("p")
        rows = [row(n, slices={"language": "en" if n < NUM // 2 else "de"}) for n in range(NUM)]
        insert_evaluation_rows(one, "new", rows)
        insert_evaluation_rows(one, "old", [replace(r, scores={"token_f1": 1.0}) for r in rows[: NUM // 2]])
        for spec in (RATES, COMPARES):
            insert_judge(one, spec, "a")
        yield one


def test_a_judge_that_flatters_the_new_answers_is_corrected_by_annotators(project) -> None:
    """The judge likes all new answers and half of the old ones; annotators find both alike."""
    rng, judge, feedback = random.Random(2), Author("model", RATES.id), list[Feedback]()
    for n in range(NUM):
        r = row(n)
        feedback.append(rating(r.trace_id, r.span_id, 1.0, judge))
        feedback.append(rating(r.baseline_trace_id, r.baseline_span_id, float(n % 2), judge))
    said(project, feedback)
    alone = differences(read_sides(project, "new", "", [RATES.id]))[0]
    assert alone.name == RATES.id
    assert (alone.new, alone.baseline, alone.verdict, alone.num_people) == (1.0, 0.5, "better", 0)
    drawn = {"sampling_probability": 0.3, "queue_item": "i"}
    insert_queue(
        project, Queue("q", "q", read_questions([{"name": "thumb", "kind": "thumb"}]), utc_now(), seed="s")
    )
    project.insert("review_items", [{"queue_id": "q", "item_id": "i", "version": 1}])
    for n in range(0, NUM, 3):
        for trace, span in (
            (row(n).trace_id, row(n).span_id),
            (row(n).baseline_trace_id, row(n).baseline_span_id),
        ):
            feedback.append(rating(trace, span, float(rng.random() < 0.7), Author("annotator", "ann"), **drawn))  # fmt: skip
    said(project, feedback)
    corrected = differences(read_sides(project, "new", "", [RATES.id]))[0]
    assert corrected.num_people == NUM // 3
    assert corrected.verdict == "undecided"
    assert corrected.difference is not None
    assert corrected.difference.low < 0 < corrected.difference.high


def test_pairs_count_as_wins_whichever_answer_has_the_smaller_id(project) -> None:
    """The new answer wins in three of four; of every second pair the annotator named production's answer first."""
    feedback: list[Feedback] = []
    for n in range(NUM):
        r = row(n)
        own, other = Target(trace_id=r.trace_id, span_id=r.span_id), Target(trace_id=r.baseline_trace_id, span_id=r.baseline_span_id)  # fmt: skip
        wins = n % 4 > 0
        ranking = Ranking((own, other), (1, 2) if wins else (2, 1))
        if n % 2:
            ranking = Ranking((other, own), (2, 1) if wins else (1, 2))
        feedback.append(
            Feedback(
                "comparison",
                ranking.answers[0],
                name="preference",
                ranking=ranking,
                author=Author("model", COMPARES.id),
            )
        )
    said(project, feedback)
    found = differences(read_sides(project, "new", "", [COMPARES.id]))[0]
    assert (found.new, found.baseline, found.verdict) == (0.75, 0.5, "better")


def test_an_earlier_evaluation_takes_productions_place(project) -> None:
    found = differences(read_sides(project, "new", "old", []))
    assert [(m.name, m.num_cases, m.new, m.baseline, m.verdict) for m in found] == [
        ("token_f1", NUM // 2, 0.75, 1.0, "worse")
    ]


def test_slices_and_orders(project) -> None:
    sides = read_sides(project, "new", "", [])
    assert [(s.name, s.value, s.num_cases) for s in slice_differences(sides)] == [
        ("language", "de", 60),
        ("language", "en", 60),
    ]
    metric = sides.metric("token_f1")
    assert [r.case_id for r in in_order(sides, metric, "best")][:2] == ["c001", "c003"]
    assert [r.case_id for r in in_order(sides, metric, "worst")][:2] == ["c000", "c002"]
    with pytest.raises(Invalid, match="there are token_f1"):
        sides.metric("tone")
