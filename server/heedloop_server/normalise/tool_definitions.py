"""The tools that a request offered to the model, in any client's form -> `heedloop.schema.ToolDefinition`s.

The one place that knows the attributes and the forms: OpenTelemetry's and OpenAI's (chat, Responses, legacy functions),
Anthropic's, Gemini's function declarations, Bedrock's tool specifications, MCP's listings, LangChain's, the Vercel AI SDK's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import ToolDefinition
from heedloop_server.normalise.indexed import unflatten
from heedloop_server.normalise.tool_calls import first_of
from heedloop_server.normalise.values import as_name, as_text, read_json, read_object

HOLDERS = (
    "gen_ai.tool.definitions",
    "gen_ai.request.tools",
    "gen_ai.tools",
    "ai.prompt.tools",
    "mlflow.chat.tools",
    "langfuse.observation.metadata.tools",
    "tools",
    "functions",
    "llm.invocation_parameters",
    "model_request_parameters",
)
"""Attributes that hold a list of tools, or (the last two) a request with one, the best first."""
_REQUESTS = HOLDERS[-2:]
NUMBERED = ("llm.tools.", "llm.request.functions.", "gen_ai.request.tools.")
"""Prefixes of lists that were flattened into numbered attributes."""
_LISTS = (
    "tools",
    "functions",
    "function_tools",
    "output_tools",
    "function_declarations",
    "functionDeclarations",
)
_SCHEMAS = (
    "parameters",
    "input_schema",
    "inputSchema",
    "parameters_json_schema",
    "parametersJsonSchema",
    "args_schema",
)
_FUNCTION_TYPES = ("function", "tool", "function_tool")
_FUNCTION_KEYS = ("function", "toolSpec", "tool_spec", "json_schema", "tool")


def definitions_in_attributes(attrs: Mapping[str, Any]) -> tuple[ToolDefinition, ...]:
    """The tools that a span's or log record's attributes name; none where they name none."""
    for name in HOLDERS:
        if name in attrs:
            value = attrs[name]
            found = (
                definitions_in_request(read_object(value)) if name in _REQUESTS else read_definitions(value)
            )
            if found:
                return found
    for prefix in NUMBERED:
        if found := read_definitions(unflatten(attrs, prefix)):
            return found
    return ()


def definitions_in_request(request: Mapping[str, Any]) -> tuple[ToolDefinition, ...]:
    """The tools of a provider's request: under its own key, or in its configuration."""
    for holder in (request, *(read_object(request.get(k)) for k in ("toolConfig", "tool_config", "config"))):
        tools = [t for key in _LISTS for t in _entries(holder.get(key))]
        if found := read_definitions(tools):
            return found
    return ()


def read_definitions(value: Any) -> tuple[ToolDefinition, ...]:
    """The tools that a value holds: JSON text or parsed JSON, a list, one tool, or an object with such a list; each once."""
    parsed = read_json(value)
    if isinstance(parsed, dict) and any(k in parsed for k in _LISTS) and "name" not in parsed:
        return definitions_in_request(parsed)
    return tuple(dict.fromkeys(t for entry in _entries(parsed) for t in _definitions(entry)))


def _entries(value: Any) -> list[Any]:
    parsed = read_json(value)
    if isinstance(parsed, dict):
        return [parsed]
    return [read_json(v) for v in parsed] if isinstance(parsed, (list, tuple)) else []


def _definitions(entry: Any) -> Iterator[ToolDefinition]:
    """One entry's tools: several where it is Gemini's list of declarations."""
    if not isinstance(entry, dict):
        return
    declared = first_of(entry, "function_declarations", "functionDeclarations")
    if declared is not None:
        for inner in _entries(declared):
            yield from _definitions(inner)
        return
    for key in _FUNCTION_KEYS:
        inner = read_json(entry.get(key))
        if isinstance(inner, dict) and (found := list(_definitions(inner))):
            yield from found
            return
    definition = _definition(entry)
    if definition is not None:
        yield definition


def _definition(entry: dict[str, Any]) -> ToolDefinition | None:
    schema = _schema(entry)
    kind = as_name(entry.get("type"))
    name = as_name(first_of(entry, "name", "server_label", "toolName", "tool_name"))
    if kind is None and name is None and len(entry) == 1:  # Gemini's own: {"google_search": {}}
        only = next(iter(entry))
        kind = name = only if only not in _FUNCTION_KEYS and isinstance(entry[only], dict) else None
    # Anthropic calls the app's own tools `custom`; OpenAI calls those so that take free text, which have no schema
    if kind is None or kind in _FUNCTION_TYPES or (kind == "custom" and schema):
        kind = "function"
    name = name or (kind if kind != "function" else None)
    return None if name is None else ToolDefinition(name, as_text(entry.get("description")), schema, kind)


def _schema(entry: dict[str, Any]) -> str:
    value = read_json(first_of(entry, *_SCHEMAS))
    if isinstance(value, dict) and set(value) == {"json"}:  # Bedrock Converse
        value = read_json(value["json"])
    return (
        json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=as_text)
        if isinstance(value, dict)
        else ""
    )
