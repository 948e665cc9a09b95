"""Which spans are LLM or embedding calls.

The order decides: a client's own word for its span counts before the shared `gen_ai.operation.name`, which frameworks
also put on prompts, chains and agents, whose usage is a sum over their calls.
"""

from __future__ import annotations

from typing import Any

from heedloop_server.normalise.aliases import OPERATIONS
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.values import as_flag, as_name, read_json, read_object

CHAT, EMBEDDINGS, NO_CALL = "chat", "embeddings", ""
REMOTE_AGENT = "invoke_agent"
"""A call of an agent that runs elsewhere: a call as long as no call inside it is known (`duplicates.fold`)."""
_CLIENT = 3  # SpanKind

_LANGFUSE = {"generation": CHAT, "embedding": EMBEDDINGS}
_OPENINFERENCE = {"LLM": CHAT, "EMBEDDING": EMBEDDINGS}
_OTHER_KINDS = frozenset(
    (
        "CHAIN",
        "AGENT",
        "TOOL",
        "TASK",
        "STEP",
        "WORKFLOW",
        "ENTRY",
        "RETRIEVER",
        "RERANKER",
        "GUARDRAIL",
        "EVALUATOR",
    )
)
"""Values of `gen_ai.span.kind`, the word of forks of OpenInference and OpenLLMetry, on spans that are no call."""
_MLFLOW = {"CHAT_MODEL": CHAT, "LLM": CHAT, "EMBEDDING": EMBEDDINGS}
_LANGSMITH = {"llm": CHAT, "embedding": EMBEDDINGS}
_VERCEL = {"doGenerate": CHAT, "doStream": CHAT, "doEmbed": EMBEDDINGS}
_REQUEST_TYPES = {"chat": CHAT, "completion": CHAT, "embedding": EMBEDDINGS, "embeddings": EMBEDDINGS}
_GENKIT = {"model": CHAT, "embedder": EMBEDDINGS}
_FOREIGN_WORDS = frozenset(
    {"langfuse", "openinference", "mlflow", "langsmith", "ai", "traceloop", "logfire", "span"}
    | {"genkit:metadata:subtype"}
)
_OWN_WORDS = _FOREIGN_WORDS | {"heedloop"}


def operation(span: SpanView) -> str:
    """The call's operation (`chat`, `generate_content`, `text_completion`, `embeddings`); empty where it is no call."""
    attrs, roots = span.attrs, span.roots
    if not roots.isdisjoint(_OWN_WORDS):
        own = _nameless(attrs) if roots.isdisjoint(_FOREIGN_WORDS) else _own_word(attrs)
        if own is not None:
            return _refined(own, attrs)
    if "gen_ai" in roots or "llm" in roots:
        return _standard(span)
    return NO_CALL


def _own_word(attrs: dict[str, Any]) -> str | None:
    """What the client's own attribute says; None where it has none, or one that decides nothing."""
    if (kind := attrs.get("langfuse.observation.type")) is not None:
        return _LANGFUSE.get(str(kind).lower(), NO_CALL)
    if (kind := attrs.get("openinference.span.kind")) is not None:
        return _OPENINFERENCE.get(str(kind).upper(), NO_CALL)
    if (kind := attrs.get("mlflow.spanType")) is not None:
        return _MLFLOW.get(str(read_json(kind)).upper(), NO_CALL)
    if (kind := attrs.get("langsmith.span.kind")) is not None:
        return _LANGSMITH.get(str(kind).lower(), NO_CALL)
    if isinstance(kind := attrs.get("ai.operationId"), str):
        return _VERCEL.get(kind.rpartition(".")[2], NO_CALL)
    if (kind := attrs.get("genkit:metadata:subtype")) is not None:
        return _GENKIT.get(str(kind).lower(), NO_CALL)
    if "span.type" in attrs and span_of_claude_code(attrs):
        return CHAT if attrs["span.type"] == "llm_request" else NO_CALL
    if "traceloop.span.kind" in attrs or attrs.get("logfire.span_type") == "pending_span":
        return NO_CALL
    return _nameless(attrs)


def _nameless(attrs: dict[str, Any]) -> str | None:
    if "gen_ai.operation.name" in attrs:
        return None
    if "request_data" in attrs:
        return _logfire(attrs)
    return CHAT if as_flag(attrs.get("heedloop.answer")) else None


def span_of_claude_code(attrs: dict[str, Any]) -> bool:
    """True for the spans of Claude Code's own tracing, whose token counts have no prefix."""
    return isinstance(attrs["span.type"], str) and (
        attrs["span.type"] in ("llm_request", "interaction", "tool", "tool.execution", "tool.blocked_on_user")
    )


def _logfire(attrs: dict[str, Any]) -> str:
    """Logfire's first version names no operation; the message it logs does."""
    if not as_name(read_object(attrs["request_data"]).get("model")):
        return NO_CALL
    template = str(attrs.get("logfire.msg_template") or "")
    if template.startswith("Embedding"):
        return EMBEDDINGS
    return NO_CALL if template.startswith("Image") else CHAT


def _refined(own: str, attrs: dict[str, Any]) -> str:
    """The client's word, made finer by the standard one where both say that it is a call."""
    standard = OPERATIONS.get(str(attrs.get("gen_ai.operation.name") or "").lower(), NO_CALL)
    return standard if own and standard else own


def _standard(span: SpanView) -> str:
    attrs = span.attrs
    kind = as_name(attrs.get("gen_ai.span.kind"))
    if kind is not None and kind.upper() in _OTHER_KINDS:
        return NO_CALL
    name = as_name(attrs.get("gen_ai.operation.name"))
    if name is not None:
        found = OPERATIONS.get(name.lower(), NO_CALL)
        if name.lower() == REMOTE_AGENT and span.kind == _CLIENT and _answers(span):
            return REMOTE_AGENT
        return found if found and _names_a_model(attrs) else NO_CALL
    if _names_a_model(attrs) and read_object(attrs.get("gcp.vertex.agent.llm_request")):
        return "generate_content"
    if kind is not None and kind.upper() in _OPENINFERENCE:
        return _OPENINFERENCE[kind.upper()]
    kind = as_name(attrs.get("llm.request.type"))
    if kind is not None:
        return _REQUEST_TYPES.get(kind.lower(), NO_CALL)
    asks = "gen_ai.prompt.0.content" in attrs or "gen_ai.prompt.0.role" in attrs
    if asks or (span.shape.tokens[1] and _names_a_model(attrs)):
        return CHAT
    return NO_CALL


def _answers(span: SpanView) -> bool:
    """True where a span has what only the call of a model has: tokens or messages."""
    attrs = span.attrs
    return bool(
        span.shape.tokens[1] or attrs.get("gen_ai.output.messages") or attrs.get("gen_ai.response.id")
    )


def _names_a_model(attrs: dict[str, Any]) -> bool:
    """An outer span repeats the operation; only the call itself names its model (a decorated answer need not)."""
    return bool(
        attrs.get("gen_ai.request.model")
        or attrs.get("gen_ai.response.model")
        or attrs.get("model")  # MLflow's standard mode: the argument, all that a failed call has
        or as_flag(attrs.get("heedloop.answer"))
        or attrs.get("heedloop.sampling.probability")
    )
