"""The open interchange format: its JSON Schema is that of the server's records, and takes what an export writes."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from heedloop.responses import StoredFeedback
from heedloop.schema import THUMB, Call, Message, Target, ToolCall, Usage, to_json
from heedloop_server.app import create_app
from heedloop_server.http.responses import json_value
from heedloop_server.settings import Settings

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/interchange.schema.json").read_text("utf-8"))
AT = datetime(2026, 10, 3, tzinfo=timezone.utc)
CALL = Call("0a" * 16, "1b" * 8, AT, usage=Usage(input=3), cost=0.5, tags=("web",),
            output_messages=(Message("assistant", "Hi", "hm", (ToolCall("f", "{}", "c"),)),))  # fmt: skip
FEEDBACK = StoredFeedback(
    "rating",
    Target("0a" * 16),
    value=1.0,
    scale=THUMB,
    created_at=AT,
    feedback_id="f",
    version=1,
    received_at=AT,
    id="i",
)


def test_the_schema_is_that_of_the_records() -> None:
    records = create_app(Settings()).openapi()["components"]["schemas"]
    text = json.dumps({n: records[n] for n in SCHEMA["$defs"]}).replace("#/components/schemas/", "#/$defs/")
    expected = json.loads(text)
    for name in ("Call", "StoredFeedback"):  # an export adds what was said of a call
        expected[name].pop("additionalProperties", None)
    assert expected == SCHEMA["$defs"]


@pytest.mark.parametrize(
    "line", [{**to_json(CALL), "num_feedback": 1}, json_value(FEEDBACK)], ids=["call", "feedback"]
)
def test_the_schema_takes_what_an_export_writes(line) -> None:
    validator = Draft202012Validator(SCHEMA)
    assert list(validator.iter_errors(line)) == []
    assert list(validator.iter_errors({k: v for k, v in line.items() if k not in ("span_id", "target")}))
