"""Judgements in other systems' forms come back as the same judgements through those systems' readers."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timezone

import pytest

from heedloop.responses import StoredFeedback
from heedloop.schema import THUMB, Author, Feedback, Ranking, Scale, Target, from_json, to_json
from heedloop_cli.commands.write_back import WRITERS, requests_of
from heedloop_cli.importers import BadLine, read

TRACE, SPAN = "0a" * 16, "1b" * 8
AT = datetime(2026, 10, 3, 8, 15, 2, 120000, tzinfo=timezone.utc)
USER, ANNOTATOR, MODEL = Author("end_user", "u-17"), Author("annotator", "ada"), Author("model", "judge-1")


def feedback(kind, author=USER, target=None, **fields) -> StoredFeedback:
    known = {"feedback_id": "f", "version": 1, "received_at": AT, "id": f"id-{kind}-{fields.get('name')}"}
    return StoredFeedback(
        kind, target or Target(TRACE, SPAN), author=author, created_at=AT, **known, **fields
    )


ALL = [
    feedback("rating", value=1.0, scale=THUMB, comment="Clear."),
    feedback("rating", ANNOTATOR, name="quality", value=4.0, scale=Scale(1, 5)),
    feedback("rating", MODEL, name="tone", value="rude", scale=Scale(categories=("rude", "kind"))),
    feedback("flag", ANNOTATOR, name="labels", category="incomplete"),
    feedback("comment", ANNOTATOR, name="note", comment="Winter?"),
    feedback("correction", ANNOTATOR, correction="Less in winter."),
    feedback("comparison", ranking=Ranking((Target(TRACE, SPAN), Target("0c" * 16, SPAN)), (1, 2))),
    feedback("rating", target=Target(session_id="s1"), name="csat", value=4.0, scale=Scale(1, 5)),
]


def written(to: str) -> tuple[list, Counter]:
    left_out = Counter[str]()
    return list(requests_of(ALL, to, left_out)), left_out


def rows_of(to: str, requests: list) -> list[dict]:
    """What the system would give back of what was sent."""
    if to == "langfuse":
        return [{"source": "API", "timestamp": "2026-10-03T08:15:02.120Z", **r.body} for r in requests]
    if to == "phoenix":
        span = {"context": {"trace_id": TRACE, "span_id": SPAN}, "span_kind": "LLM", "attributes": {}}
        return [
            span,
            *(
                {"source": "API", "created_at": "2026-10-03T08:15:02.120Z", **a}
                for r in requests
                for a in r.body["data"]
            ),
        ]
    entries = [{**r.body["assessment"], "assessment_id": str(n)} for n, r in enumerate(requests)]
    head = {
        "trace_id": f"tr-{TRACE}",
        "trace_metadata": {"mlflow.trace.user": "u-17"},
        "assessments": entries,
    }
    return [{"info": head, "data": {"spans": [{"span_id": SPAN, "attributes": {}}]}}]


@pytest.mark.parametrize(
    ("to", "without"),
    [
        ("langfuse", {"comparison": "a comparison of several answers"}),
        ("phoenix", {"comparison": "a comparison of several answers", "correction": "a correction",
                     "csat": "about a session or a response: no trace is named"}),
        ("mlflow", {"comparison": "a comparison of several answers", "csat": "about a session or a response: no trace is named"}),
    ],
)  # fmt: skip
def test_what_goes_out_comes_back(tmp_path, to, without):
    requests, left_out = written(to)
    assert left_out == Counter(without.values())
    (tmp_path / "f.json").write_text(json.dumps(rows_of(to, requests)))
    found = list(read(tmp_path / "f.json", scales={"quality": Scale(1, 5), "csat": Scale(1, 5)}))
    assert not [x for x in found if isinstance(x, BadLine)], found
    back = [f for x in found for f in x.feedback]
    kept = [f for f in ALL if f.kind not in without and f.name not in without]
    assert back == [from_json(Feedback, to_json(f), strict=False) for f in kept]


def test_what_went_out_without_its_metadata_is_read_by_its_form(tmp_path):
    requests, _ = written("langfuse")
    rows = [{**r, "metadata": {"user_id": "u-17"}} for r in rows_of("langfuse", requests)]
    (tmp_path / "f.json").write_text(json.dumps(rows))
    back = [
        f
        for x in read(tmp_path / "f.json", scales={"quality": Scale(1, 5), "csat": Scale(1, 5)})
        for f in x.feedback
    ]
    assert [(f.kind, f.value or f.correction or f.comment) for f in back] == [
        ("rating", 1.0), ("rating", 4.0), ("rating", "rude"), ("rating", "incomplete"), ("comment", "Winter?"),
        ("correction", "Less in winter."), ("rating", 4.0),
    ]  # fmt: skip


def test_opentelemetry_events_name_span_score_and_author():
    requests, _ = written("otel")
    (record,) = requests[0].body["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    values = {a["key"]: next(iter(a["value"].values())) for a in record["attributes"]}
    assert (record["eventName"], record["traceId"], record["spanId"]) == (
        "gen_ai.evaluation.result",
        TRACE,
        SPAN,
    )
    assert record["timeUnixNano"] == "1791015302120000000"
    assert values["gen_ai.evaluation.name"] == "thumb"
    assert values["gen_ai.evaluation.score.value"] == 1.0
    assert (values["gen_ai.evaluation.explanation"], values["user.id"]) == ("Clear.", "u-17")
    assert set(WRITERS) == {"langfuse", "phoenix", "mlflow", "otel"}
