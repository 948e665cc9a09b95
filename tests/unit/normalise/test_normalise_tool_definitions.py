"""The tools that a request offered, in every form that clients send them in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heedloop.schema import ToolDefinition
from heedloop_server.ingest.otlp import decompress, encoding_of, parse_traces
from heedloop_server.normalise import normalise_request
from heedloop_server.normalise.tool_definitions import definitions_in_attributes, read_definitions

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = ToolDefinition("get_weather", "Weather of a city", json.dumps(SCHEMA, separators=(",", ":")))
FLAT = {"name": "get_weather", "description": "Weather of a city"}


@pytest.mark.parametrize(
    "sent",
    [
        [{"type": "function", "function": {**FLAT, "parameters": SCHEMA}}],
        [{"type": "function", **FLAT, "parameters": SCHEMA, "strict": None}],
        [{**FLAT, "parameters": json.dumps(SCHEMA)}],
        [{**FLAT, "input_schema": SCHEMA}],
        [{"type": "custom", **FLAT, "input_schema": SCHEMA}],
        [{**FLAT, "inputSchema": SCHEMA}],
        [{"toolSpec": {**FLAT, "inputSchema": {"json": SCHEMA}}}],
        {"function_declarations": [{**FLAT, "parameters": SCHEMA}]},
        [{"functionDeclarations": [{**FLAT, "parametersJsonSchema": SCHEMA}]}],
        {"tools": [{**FLAT, "parameters": SCHEMA}]},
        [json.dumps({"type": "function", **FLAT, "inputSchema": SCHEMA})],
        json.dumps([{"type": "function", "function": {**FLAT, "parameters": SCHEMA}}]),
        [{"tool": {"json_schema": json.dumps({"type": "function", "function": {**FLAT, "parameters": SCHEMA}})}}],
        [{**FLAT, "parameters": SCHEMA}, {**FLAT, "parameters": SCHEMA}],
    ],
    ids=lambda v: json.dumps(v)[:40],
)  # fmt: skip
def test_one_tool_reads_alike_in_every_form(sent: object) -> None:
    assert read_definitions(sent) == (WEATHER,)


@pytest.mark.parametrize(
    ("sent", "names"),
    [
        ([{"type": "web_search"}], [("web_search", "web_search")]),
        ([{"type": "web_search_20250305", "name": "web_search"}], [("web_search", "web_search_20250305")]),
        ([{"type": "mcp", "server_label": "wiki", "server_url": "u"}], [("wiki", "mcp")]),
        ([{"google_search": {}}, {"functionDeclarations": []}], [("google_search", "google_search")]),
        ([{"type": "custom", "name": "sql"}], [("sql", "custom")]),
    ],
)
def test_a_providers_own_tools_keep_their_type(sent: object, names: list[tuple[str, str]]) -> None:
    assert [(t.name, t.type) for t in read_definitions(sent)] == names


@pytest.mark.parametrize(
    "sent", [None, "", "text", 3, [], {}, ["x"], [{"max_tokens": 4}], [[1]], {"tools": None}]
)
def test_what_is_no_tool_gives_none(sent: object) -> None:
    assert read_definitions(sent) == ()


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.tool.definitions": json.dumps([{**FLAT, "parameters": SCHEMA}])},
        {"llm.tools.0.tool.json_schema": json.dumps({**FLAT, "input_schema": SCHEMA})},
        {f"llm.request.functions.0.{k}": v for k, v in {**FLAT, "parameters": json.dumps(SCHEMA)}.items()},
        {"llm.invocation_parameters": json.dumps({"max_tokens": 3, "tools": [{**FLAT, "parameters": SCHEMA}]})},
        {"model_request_parameters": json.dumps({"function_tools": [{**FLAT, "parameters_json_schema": SCHEMA}]})},
        {"ai.prompt.tools": [json.dumps({"type": "function", **FLAT, "inputSchema": SCHEMA})]},
    ],
    ids=lambda a: next(iter(a)),
)  # fmt: skip
def test_attributes_of_the_conventions(attributes: dict[str, object]) -> None:
    assert definitions_in_attributes(attributes) == (WEATHER,)


def test_parameters_without_tools_name_none() -> None:
    assert definitions_in_attributes({"llm.invocation_parameters": '{"model": "m", "max_tokens": 5}'}) == ()


@pytest.mark.shared
def test_captured_clients_that_send_their_tools(shared: Path) -> None:
    """Every captured body that holds the scenario's tool definition gives a call with it."""
    for meta in sorted((shared / "otlp").glob("*/meta.json")):
        for entry in json.loads(meta.read_text())["files"]:
            headers = {k.lower(): v for k, v in entry.get("headers", [])}
            if entry.get("signal") != "traces":
                continue
            body = (meta.parent / entry["file"]).read_bytes()
            plain = decompress(body, headers.get("content-encoding", ""), limit=1 << 28)
            if b"Current weather for a city" not in plain or meta.parent.name == "strands":
                continue  # strands names its tools on the agent alone
            calls = normalise_request(parse_traces(plain, encoding_of(headers["content-type"])))
            offered = {(t.name, t.type) for c in calls for t in c.tool_definitions}
            assert offered == {("get_weather", "function")}, entry["file"]
