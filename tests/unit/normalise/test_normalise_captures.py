"""The captured clients: the scorer beside them, and what must hold of every capture."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heedloop.schema import Call, from_json, to_json
from heedloop_server.ingest.otlp import decompress, encoding_of, parse_logs, parse_traces
from heedloop_server.ingest.scored import records
from heedloop_server.normalise import normalise_logs, normalise_request

pytestmark = pytest.mark.shared

Body = tuple[str, dict[str, str], bytes]


@pytest.fixture(scope="module")
def captures(shared: Path) -> dict[str, list[Body]]:
    """Per scenario: (signal, headers, body) in the order received."""
    found: dict[str, list[Body]] = {}
    for path in sorted((shared / "otlp").glob("*/expected.json")):
        files = {f["file"]: f for f in json.loads((path.parent / "meta.json").read_text())["files"]}
        for name, scenario in json.loads(path.read_text())["scenarios"].items():
            found[f"{path.parent.name}/{name}"] = [
                (
                    files[f]["signal"],
                    {k.lower(): v for k, v in files[f]["headers"]},
                    (path.parent / f).read_bytes(),
                )
                for f in scenario["files"]
            ]
    return found


def traces_of(bodies: list[Body]) -> Iterator[ExportTraceServiceRequest]:
    for signal, headers, body in bodies:
        if signal == "traces":
            plain = decompress(body, headers.get("content-encoding", ""), limit=1 << 28)
            yield parse_traces(plain, encoding_of(headers["content-type"]))


def test_the_scoreboard_is_full_for_every_client(shared: Path) -> None:
    """One line a client, printed with `pytest -rP`: fields read right of fields sent."""
    command = [sys.executable, "score.py", "-v", "heedloop_server.ingest.scored:records"]
    said = subprocess.run(command, cwd=shared / "otlp", capture_output=True, text=True, check=True).stdout
    print(said)
    lines = dict(re.findall(r"^ +([\w.-]+) +(\d+/\d+)", said, re.M))
    clients = {p.parent.name for p in (shared / "otlp").glob("*/expected.json")}
    assert clients - set(lines) <= {"feedback", "otel-genai-openai-agents"}  # which send no calls
    assert [c for c, n in lines.items() if len(set(n.split("/"))) > 1] == []
    last = said.strip().splitlines()[-1]
    assert "= 100.0%   scenarios" in last and last.count("100.0%") == 2 and last.endswith("inventions 0"), (
        said
    )


def _in_any_order(found: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(r, sort_keys=True) for r in found)


def test_order_and_resends_change_nothing(captures: dict[str, list[Body]]) -> None:
    shuffle = random.Random(7).sample
    for name, bodies in captures.items():
        expected = _in_any_order(records(bodies))
        assert _in_any_order(records(bodies[::-1])) == expected, name
        assert _in_any_order(records(shuffle(bodies, len(bodies)))) == expected, name


def test_every_span_becomes_one_call_that_json_carries(captures: dict[str, list[Body]]) -> None:
    for bodies in captures.values():
        for request in traces_of(bodies):
            calls = normalise_request(request)
            assert len(calls) == sum(len(ss.spans) for rs in request.resource_spans for ss in rs.scope_spans)
            for call in calls:
                assert from_json(Call, json.loads(json.dumps(to_json(call)))).span_id == call.span_id


def test_raw_attributes_stay(captures: dict[str, list[Body]]) -> None:
    for bodies in captures.values():
        for request in traces_of(bodies):
            spans = [s for rs in request.resource_spans for ss in rs.scope_spans for s in ss.spans]
            for span, call in zip(spans, normalise_request(request), strict=True):
                assert {a.key for a in span.attributes} <= set(call.attributes)


def test_damaged_captures_never_raise(captures: dict[str, list[Body]]) -> None:
    """Bits flipped, texts cut and values swapped, in what still parses."""
    dice = random.Random(11)
    for bodies in captures.values():
        for request in traces_of(bodies):
            spans = [s for rs in request.resource_spans for ss in rs.scope_spans for s in ss.spans]
            for span in spans:
                for attribute in span.attributes:
                    _damage(attribute.value, dice)
            normalise_request(request)


def _damage(value: Any, dice: random.Random) -> None:
    kind = dice.randrange(6)
    if kind == 0 and value.WhichOneof("value") == "string_value":
        value.string_value = value.string_value[: dice.randrange(len(value.string_value) + 1)]
    elif kind == 1:
        value.int_value = dice.choice([-1, 0, 2**63 - 1])
    elif kind == 2:
        value.string_value = dice.choice(
            ["", "null", "[]", "{}", '{"a":', "[[[", "None", "\x00", '[{"role": null}]', '{"type": []}']
        )
    elif kind == 3:
        value.array_value.values.add().string_value = '{"role": 1, "content": [null, 7, {"type": {}}]}'
    elif kind == 4:
        value.ClearField(value.WhichOneof("value") or "string_value")


def test_flipped_bits_are_refused_or_read(captures: dict[str, list[Body]]) -> None:
    from heedloop_server.errors import ServerError

    dice = random.Random(13)
    for bodies in captures.values():
        for signal, headers, body in bodies:
            if signal not in ("traces", "logs"):
                continue
            plain = bytearray(decompress(body, headers.get("content-encoding", ""), limit=1 << 28))
            for _ in range(8):
                plain[dice.randrange(len(plain))] ^= 1 << dice.randrange(8)
            try:
                encoding = encoding_of(headers["content-type"])
                if signal == "traces":
                    normalise_request(parse_traces(bytes(plain), encoding))
                else:
                    normalise_logs(parse_logs(bytes(plain), encoding))
            except ServerError:
                continue
