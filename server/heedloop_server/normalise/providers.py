"""Provider names -> the ids of the OpenTelemetry GenAI conventions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from heedloop_server.normalise.values import as_name

_STANDARD = frozenset(
    {
        "openai",
        "anthropic",
        "aws.bedrock",
        "azure.ai.openai",
        "azure.ai.inference",
        "gcp.gemini",
        "gcp.vertex_ai",
        "gcp.gen_ai",
        "cohere",
        "deepseek",
        "groq",
        "mistral_ai",
        "moonshot_ai",
        "perplexity",
        "x_ai",
        "ibm.watsonx.ai",
    }
)
_SYNONYMS = {
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "google-genai": "gcp.gemini",
    "google_ai": "gcp.gemini",
    "gcp": "gcp.gemini",
    "vertexai": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertex": "gcp.vertex_ai",
    "google_vertexai": "gcp.vertex_ai",
    "google-vertex": "gcp.vertex_ai",
    "bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "amazon": "aws.bedrock",
    "amazon-bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "azure-openai": "azure.ai.openai",
    "az": "azure.ai.inference",
    "az.ai.openai": "azure.ai.openai",
    "az.ai.inference": "azure.ai.inference",
    "azure_ai": "azure.ai.inference",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
    "x-ai": "x_ai",
    "moonshot": "moonshot_ai",
    "watsonx": "ibm.watsonx.ai",
    "ibm": "ibm.watsonx.ai",
    "openai-chat": "openai",
    "openai_chat": "openai",
    "togetherai": "together_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "mistral_azure": "mistral_ai",
}
_FRAMEWORKS = frozenset(
    {
        "langchain",
        "langgraph",
        "strands-agents",
        "strands",
        "langchain_core",
        "llamaindex",
        "llama_index",
        "llama-index",
        "crewai",
        "haystack",
        "litellm",
        "openai_agents",
        "autogen",
        "traceloop",
        "gcp.vertex.agent",
        "_other",
        "none",
        "unknown",
    }
)


def provider_id(value: Any) -> str | None:
    """The standard's id of a provider; an unknown one in lower case up to its first dot; None for a framework."""
    if value.__class__ is str and value in _STANDARD:
        return value
    name = as_name(value)
    if name is None:
        return None
    name = name.lower().replace(" ", "_")
    head = name.partition(".")[0]
    if name in _FRAMEWORKS or (head in _FRAMEWORKS and name not in _STANDARD):
        return None
    words = name.split(".")
    known = (_SQUEEZED.get(_squeezed(words[:n])) for n in range(min(len(words), 4), 0, -1))
    return next((k for k in known if k), head) or None


def _squeezed(words: Iterable[str]) -> str:
    """Words without the signs that clients put between them: `azure_openai`, `azure-openai` and `AzureOpenAI` are one."""
    return "".join(c for word in words for c in word if c.isalnum())


_SQUEEZED = {_squeezed(k): v for k, v in (*((s, s) for s in _STANDARD), *_SYNONYMS.items())}
