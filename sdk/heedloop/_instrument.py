"""Switching on well-kept instrumentations of LLM clients, rather than patches of our own.

For each client library the first installed instrumentation of its list is taken, and only that one: two would record
every call twice. A framework that calls such a client (LangChain, LlamaIndex …) is left alone by `"auto"` where the
client's own instrumentation is on, for the same reason; naming it switches it on all the same.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from heedloop._guard import logger, warn


@dataclass(frozen=True, slots=True)
class Library:
    """A client library and the instrumentations that know it, the preferred first, as `module:class`."""

    module: str
    instrumentors: tuple[str, ...]
    covered_by: tuple[str, ...] = ()


def _known(module: str, openinference: str, contrib: str = "", traceloop: str = "") -> tuple[str, ...]:
    places = [f"openinference.instrumentation.{module}:{openinference}"]
    if contrib:
        places.append(contrib)
    if traceloop:
        places.append(f"opentelemetry.instrumentation.{module}:{traceloop}")
    return tuple(places)


LIBRARIES: dict[str, Library] = {
    "openai": Library(
        "openai",
        (
            "openinference.instrumentation.openai:OpenAIInstrumentor",
            "opentelemetry.instrumentation.genai.openai:OpenAIInstrumentor",
            "opentelemetry.instrumentation.openai_v2:OpenAIInstrumentor",
            "opentelemetry.instrumentation.openai:OpenAIInstrumentor",
        ),
    ),
    "anthropic": Library(
        "anthropic",
        _known(
            "anthropic",
            "AnthropicInstrumentor",
            "opentelemetry.instrumentation.genai.anthropic:AnthropicInstrumentor",
            "AnthropicInstrumentor",
        ),
    ),
    "google-genai": Library(
        "google.genai",
        (
            "openinference.instrumentation.google_genai:GoogleGenAIInstrumentor",
            "opentelemetry.instrumentation.google_genai:GoogleGenAiSdkInstrumentor",
            "opentelemetry.instrumentation.google_generativeai:GoogleGenerativeAiInstrumentor",
        ),
    ),
    "vertexai": Library("vertexai", _known("vertexai", "VertexAIInstrumentor", "", "VertexAIInstrumentor")),
    "bedrock": Library("boto3", _known("bedrock", "BedrockInstrumentor", "", "BedrockInstrumentor")),
    "mistralai": Library(
        "mistralai", _known("mistralai", "MistralAIInstrumentor", "", "MistralAiInstrumentor")
    ),
    "groq": Library("groq", _known("groq", "GroqInstrumentor", "", "GroqInstrumentor")),
    "cohere": Library("cohere", ("opentelemetry.instrumentation.cohere:CohereInstrumentor",)),
    "ollama": Library("ollama", ("opentelemetry.instrumentation.ollama:OllamaInstrumentor",)),
    "openai-agents": Library(
        "agents",
        _known(
            "openai_agents",
            "OpenAIAgentsInstrumentor",
            "opentelemetry.instrumentation.genai.openai_agents:OpenAIAgentsInstrumentor",
            "OpenAIAgentsInstrumentor",
        ),
        ("openai",),
    ),
    "litellm": Library(
        "litellm", ("openinference.instrumentation.litellm:LiteLLMInstrumentor",), ("openai",)
    ),
    "langchain": Library(
        "langchain_core",
        _known(
            "langchain",
            "LangChainInstrumentor",
            "opentelemetry.instrumentation.genai.langchain:LangChainInstrumentor",
            "LangchainInstrumentor",
        ),
        ("openai", "anthropic", "google-genai", "mistralai", "groq", "bedrock"),
    ),
    "llama-index": Library(
        "llama_index",
        (
            "openinference.instrumentation.llama_index:LlamaIndexInstrumentor",
            "opentelemetry.instrumentation.llamaindex:LlamaIndexInstrumentor",
        ),
        ("openai", "anthropic", "google-genai", "mistralai", "groq", "bedrock"),
    ),
    "pydantic-ai": Library("pydantic_ai", ("pydantic_ai:Agent",), ("openai", "anthropic", "google-genai")),
}
"""Name -> library. Clients come before the frameworks that call them."""


def instrument(which: Literal["auto"] | Sequence[str]) -> list[str]:
    """Switch instrumentations on; returns what was switched on, as `openai (openinference.instrumentation.openai)`.

    Raises `ValueError` for a name that is not known.
    """
    if isinstance(which, str) and which != "auto":
        raise ValueError(f"instrument: {which!r} is not 'auto' or a list of names")
    chosen = list(LIBRARIES) if which == "auto" else list(which)
    for name in chosen:
        if name not in LIBRARIES:
            raise ValueError(f"instrument: {name!r} is not one of {', '.join(LIBRARIES)}")
    on: dict[str, str] = {}
    for name in chosen:
        covering = [c for c in LIBRARIES[name].covered_by if c in on]
        if which == "auto" and covering:
            logger.info(
                "heedloop: %s is left alone, because %s records the same calls", name, ", ".join(covering)
            )
            continue
        used = _switch_on(LIBRARIES[name])
        if used is not None:
            on[name] = used
        elif which != "auto":
            warn(f"instrument {name}", f"no instrumentation of {name} is installed and works")
    return [f"{name} ({used})" for name, used in on.items()]


def _switch_on(library: Library) -> str | None:
    if not _installed(library.module):
        return None
    for place in library.instrumentors:
        module, name = place.split(":")
        if not _installed(module):
            continue
        if library.module == "anthropic":
            # anthropic 2 makes a span of its own beside the instrumentation's.
            os.environ.setdefault("ANTHROPIC_OPEN_TELEMETRY", "false")
        try:
            kind = getattr(importlib.import_module(module), name)
            if name == "Agent":
                kind.instrument_all()
            elif not kind().is_instrumented_by_opentelemetry:
                kind().instrument()
        except Exception as error:  # noqa: BLE001  third-party packages; a broken one must not stop the app
            warn(f"instrument {module}", f"{module} is installed but cannot be switched on: {error}")
            continue
        return module
    return None


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
