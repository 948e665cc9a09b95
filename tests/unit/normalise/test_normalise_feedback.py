"""Judgements over OTLP: evaluation events, OpenInference annotations, Logfire's annotation spans."""

from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from heedloop.schema import THUMB, Author, Feedback, Scale
from heedloop_server.normalise import normalise_logs, normalise_traces

NAMED = "annotations.0.annotation."


def annotated(span: Any, request_of: Any, attributes: dict[str, Any], **fields: Any) -> list[Feedback]:
    return normalise_traces(
        request_of(span({"openinference.span.kind": "EVALUATOR", **attributes}, **fields))
    ).feedback


def evaluated(span: Any, attributes: dict[str, Any], *, ids: bool = True) -> list[Any]:
    request = ExportLogsServiceRequest()
    record = (
        request.resource_logs.add()
        .scope_logs.add()
        .log_records.add(event_name="gen_ai.evaluation.result", time_unix_nano=10**18)
    )
    if ids:
        record.trace_id, record.span_id = (1).to_bytes(16, "big"), (2).to_bytes(8, "big")
    named = {
        k if k.startswith("gen_ai.") or k == "error.type" else f"gen_ai.evaluation.{k}": v
        for k, v in attributes.items()
    }
    record.attributes.extend(span(named).attributes)
    return normalise_logs(request)


def test_a_carrier_span_judges_the_span_it_links_to(span: Any, request_of: Any) -> None:
    said = {
        "name": "user_feedback",
        "score": 1,
        "label": "thumbs_up",
        "explanation": "helpful",
        "annotator_kind": "HUMAN",
        "identifier": "ada",
    }
    (found,) = annotated(span, request_of, {NAMED + k: v for k, v in said.items()}, links=((7, 8),))
    assert found.target.key == f"span:{7:032x}:{8:016x}"
    assert (found.name, found.value, found.scale, found.is_thumb) == ("thumb", 1.0, THUMB, True)
    assert found.author == Author("end_user", "ada")
    assert found.comment == "helpful"
    assert found.metadata == {"label": "thumbs_up", "sent_name": "user_feedback"}


def test_without_a_link_the_span_judges_itself(span: Any, request_of: Any) -> None:
    (found,) = annotated(
        span, request_of, {NAMED + "name": "tone", NAMED + "label": "rude", NAMED + "annotator_kind": "LLM"}
    )
    assert found.target.key == f"span:{1:032x}:{1:016x}"
    assert (found.value, found.scale, found.author.kind) == ("rude", Scale(categories=("rude",)), "model")


def test_evaluations_are_annotations_and_sessions_are_targets(span: Any, request_of: Any) -> None:
    attributes: dict[str, Any] = {"session.id": "s-1"}
    attributes |= {
        "session.evaluations.0.evaluation.name": "csat",
        "session.evaluations.0.evaluation.score": 0.8,
    }
    attributes |= {
        "evaluations.0.evaluation.name": "fluency",
        "evaluations.0.evaluation.score": 3,
        "evaluations.0.evaluation.annotator_kind": "CODE",
    }
    found = {f.name: f for f in annotated(span, request_of, attributes)}
    assert found["csat"].target.key == "session:s-1"
    assert (found["fluency"].value, found["fluency"].scale) == (3.0, Scale(1, 5))
    assert found["fluency"].metadata == {"scale": "assumed"}


def test_an_annotation_that_says_nothing_is_none(span: Any, request_of: Any) -> None:
    assert annotated(span, request_of, {NAMED + "name": "tone"}) == []
    assert annotated(span, request_of, {NAMED + "score": 1}) == []
    assert annotated(span, request_of, {"annotations.x.annotation.name": "tone", "annotations": "?"}) == []


@pytest.mark.parametrize(
    ("value", "rated"),
    [
        (True, (1.0, THUMB)),
        (False, (0.0, THUMB)),
        (4, (4.0, Scale(1, 5))),
        ("off-topic", ("off-topic", Scale(categories=("off-topic",)))),
    ],
)
def test_logfire_s_annotation_judges_its_parent(
    span: Any, request_of: Any, value: Any, rated: tuple[Any, Scale]
) -> None:
    attributes = {
        "logfire.span_type": "annotation",
        "logfire.feedback.name": "mood",
        "mood": value,
        "user_id": "ada",
    }
    (found,) = normalise_traces(request_of(span(attributes, ids=(1, 3, 2)))).feedback
    assert found.target.key == f"span:{1:032x}:{2:016x}"
    assert (found.value, found.scale) == rated
    assert found.author == Author("end_user", "ada")


def test_evaluation_results(span: Any) -> None:
    (found,) = evaluated(
        span, {"name": "relevance", "score.value": 0.25, "score.label": "poor", "explanation": "off"}
    )
    assert found.target.key == f"span:{1:032x}:{2:016x}"
    assert (found.name, found.value, found.comment, found.author.kind) == ("relevance", 0.25, "off", "code")
    assert found.created_at.year == 2001


def test_an_evaluation_without_a_span_is_about_its_response(span: Any) -> None:
    (found,) = evaluated(
        span, {"name": "user_feedback", "score.value": 0.0, "gen_ai.response.id": "chatcmpl-1"}, ids=False
    )
    assert found.target.key == "response:chatcmpl-1"
    assert (found.name, found.value, found.author.kind) == ("thumb", 0.0, "end_user")
    assert evaluated(span, {"name": "user_feedback", "score.value": 1.0}, ids=False) == []


def test_an_evaluation_that_failed_is_no_feedback(span: Any) -> None:
    assert evaluated(span, {"name": "relevance", "error.type": "timeout"}) == []


def test_a_resend_is_the_same_feedback_and_another_value_another(span: Any) -> None:
    first, again, other = (
        evaluated(span, {"name": "relevance", "score.value": v})[0] for v in (0.25, 0.25, 0.5)
    )
    assert first == again
    assert first.id != other.id


@pytest.mark.parametrize("score", [float("nan"), float("inf"), "many", [1], {"a": 1}, -(10**18), 1e300])
def test_odd_scores_never_raise(span: Any, score: Any) -> None:
    evaluated(span, {"name": "relevance", "score.value": score, "score.label": "x" * 5000})
    evaluated(span, {"name": "n" * 5000, "score.value": score})
