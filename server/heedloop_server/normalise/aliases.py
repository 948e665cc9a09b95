"""The names under which clients send one thing: the one place to extend when a client uses another name.

Names stand in order of trust, the newest standard first. Sources, by the letters behind the names:

    S   open-telemetry/semantic-conventions(-genai), now and before
    OI  Arize-ai/openinference, spec/semantic_conventions.md
    OL  traceloop/openllmetry, semconv_ai
    LF  langfuse, OpenTelemetry SDKs from 3.0
    AI  vercel/ai, telemetry
    LS  langsmith, OTel mode
    ML  mlflow tracing
    LG  pydantic/logfire and pydantic-ai
    LL  BerriAI/litellm, otel callback
    CC  Claude Code, OpenTelemetry tracing (anthropics/claude-code#50776)
    GK  firebase/genkit, js/core/src/tracing
    VL  vllm-project/vllm, vllm/tracing.py; sgl-project/sglang, tracing
    SE  getsentry/sentry-conventions, gen_ai
    AD  google/adk-python, adk-go#714
    MM  Micrometer (spring-projects/spring-ai#3257)
    HS  deepset-ai/haystack
    AA  mozilla-ai/any-agent
    SK  microsoft/semantic-kernel, ModelDiagnostics
    CF  Cloudflare AI Gateway, OpenTelemetry export
    LW  langwatch SDKs
    LM  lmnr-ai/lmnr
    PH  PostHog, LLM analytics
    AZ  azure-ai-projects, azure-ai-agents
    OO  ollama API; CO cohere API; BR Amazon Bedrock runtime
"""

from __future__ import annotations

import functools
import re
from typing import Final

# ---------------------------------------------------------------------------------------------------- tokens

TOKEN_NAMES: Final = (
    ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens")  # S OL
    + ("gen_ai.response.prompt_tokens",),  # SK
    ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens")  # S OL
    + ("gen_ai.response.completion_tokens",),  # SK
    (
        "gen_ai.usage.cache_read.input_tokens",  # S
        "gen_ai.usage.cache_read_input_tokens",  # OL
        "gen_ai.usage.details.cache_read_tokens",  # LG
        "gen_ai.usage.details.cached_tokens",  # LG
        "cache_read_input_tokens",  # ML
    ),
    (
        "gen_ai.usage.cache_write.input_tokens",  # S
        "gen_ai.usage.cache_creation.input_tokens",  # S
        "gen_ai.usage.cache_creation_input_tokens",  # OL
        "gen_ai.usage.cache_write_input_tokens",
        "gen_ai.usage.details.cache_write_tokens",  # LG
        "cache_creation_input_tokens",  # ML
        "cache_write_input_tokens",
    ),
    (
        "gen_ai.usage.reasoning.output_tokens",  # S
        "gen_ai.usage.reasoning_tokens",  # OL
        "gen_ai.usage.details.reasoning_tokens",  # LG
    ),
)
"""Attributes for each field of `Usage`, in its order; what else looks like one is found by its words (`token_field`)."""

TOKEN_PREFIXES: Final = ("gen_ai.usage.", "gen_ai.token.usage.", "llm.usage.", "llm.token_count.", "usage.")
"""Where attributes that count tokens are; names without any dot must end in `tokens`."""

USAGE_OBJECTS: Final = ("gen_ai.usage", "llm.usage", "langsmith.usage_metadata", "langwatch.metrics", "usage")
"""Attributes that hold all counts as one object, or its JSON (S as a map, LS, LW)."""

INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, REASONING = range(5)
_WORDS: Final = {
    # word -> field it stands for; the more special field wins, which is the greater one
    **dict.fromkeys(("input", "prompt"), INPUT),
    **dict.fromkeys(("output", "completion", "candidates", "generated"), OUTPUT),
    **dict.fromkeys(("cached", "cache"), CACHE_READ),
    **dict.fromkeys(("write", "creation", "created", "written"), CACHE_WRITE),
    **dict.fromkeys(("reasoning", "thoughts", "thinking"), REASONING),
}
_FILLERS: Final = frozenset(
    ("tokens", "token", "count", "counts", "details", "usage", "experimental", "num", "read", "hit", "hits")
    + ("content", "eval", "billed", "units", "metadata")
)
_SPLIT: Final = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")


def words_of(name: str) -> list[str]:
    """The words of a name in lower case, however it is written: `toolCall`, `tool-call` and `TOOL_CALL` are `tool`, `call`."""
    return [w.lower() for w in _SPLIT.split(name) if w]


@functools.lru_cache(1024)
def in_snake_case(name: str) -> str:
    """The words of a short name with underscores between them; the same few names come with every message."""
    return "_".join(words_of(name))


def token_field(name: str) -> int | None:
    """The field of `Usage` that a name counts, by its words; None where one of them is no word of ours.

    `cachedContentTokenCount` (Gemini), `prompt_tokens_details.cached_tokens` (OpenAI), `input_tokens.cached` (SE),
    `cache_read_tokens` and `cache_creation_tokens` (CC), `experimental.reasoning_tokens` (AD), `prompt_eval_count` (OO).
    """
    words = words_of(name)
    if not all(w in _WORDS or w in _FILLERS for w in words):
        return None
    fields = {_WORDS[w] for w in words if w in _WORDS}
    if CACHE_WRITE in fields and CACHE_READ not in fields:
        return None
    if CACHE_READ in fields and REASONING in fields:
        return None
    if not fields:
        return OUTPUT if words == ["eval", "count"] else None  # OO
    return max(fields) if len(fields - {INPUT, OUTPUT}) or len(fields) == 1 else None


# ------------------------------------------------------------------------------------------------------ calls

OPERATIONS: Final = {
    **dict.fromkeys(
        ("chat", "chat_completion", "chat.completion", "chat.completions", "create_chat_completion"), "chat"
    ),
    **dict.fromkeys(("message", "messages", "response", "responses"), "chat"),  # LF LG
    **dict.fromkeys(("acompletion", "completion"), "chat"),  # LL
    **dict.fromkeys(("realtime_inference", "realtime", "inference"), "chat"),  # S
    **dict.fromkeys(("converse", "converse_stream", "invoke_model", "llm_request"), "chat"),  # BR CC
    **dict.fromkeys(("generate", "generation", "generate_text", "stream_text"), "chat"),
    "generate_content": "generate_content",
    "text_completion": "text_completion",
    **dict.fromkeys(("chat.streaming_completions", "beta.chat.completions.parse"), "chat"),  # SK
    "multimodal_completion": "chat",  # S
    **dict.fromkeys(("text.completions", "text.streaming_completions"), "text_completion"),  # SK
    "embeddings": "embeddings",
    "embedding": "embeddings",
    "embed": "embeddings",
    "aembedding": "embeddings",  # LL
}
"""`gen_ai.operation.name` -> the operation of a call."""

RESPONSE_IDS: Final = ("gen_ai.response.id", "gen_ai.request.id")  # S, VL: an inference server's own span
NO_NAMES: Final = frozenset({"none", "null", "undefined", "nan", "n/a"})
"""What clients write in the place of a name that they do not have (MM: `KeyValue.NONE_VALUE`)."""

INPUTS: Final = (
    "gen_ai.input.messages",  # S
    "gen_ai.prompt",  # S, LS
    "gen_ai.content.prompt",
    "gen_ai.request.messages",  # SE
    "gen_ai.prompt_json",  # CF
)
OUTPUTS: Final = (
    "gen_ai.output.messages",  # S
    "gen_ai.completion",  # S, LS
    "gen_ai.content.completion",
    "gen_ai.response.text",  # SE
    "gen_ai.completion_json",  # CF
)
"""Attributes with a whole conversation, and with the answer."""
OUTPUT_TOOL_CALLS: Final = "gen_ai.response.tool_calls"  # SE: beside the text of the answer
PLAIN_INPUTS: Final = (
    "input.value",
    "mlflow.spanInputs",
    "langwatch.input",
    "lmnr.span.input",
    "traceloop.entity.input",
)
PLAIN_OUTPUTS: Final = (
    "output.value",
    "mlflow.spanOutputs",
    "langwatch.output",
    "lmnr.span.output",
    "traceloop.entity.output",
)
"""Attributes with whatever a span was given and gave: read where no other names the conversation (OI, ML, LW, LM, OL)."""

ROLES: Final = {
    **{r: r for r in ("system", "user", "assistant", "tool", "developer")},
    **dict.fromkeys(("human", "humanmessage", "humanmessagechunk", "chatmessage", "end_user"), "user"),
    **dict.fromkeys(("ai", "aimessage", "aimessagechunk", "model", "bot", "tool-call"), "assistant"),
    **dict.fromkeys(("chatbot", "gpt", "llm"), "assistant"),  # CO, ShareGPT
    "systemmessage": "system",
    **dict.fromkeys(("function", "toolmessage", "functionmessage", "tool-response"), "tool"),
}
"""Roles and LangChain's types, in lower case and without the name of an enum."""

# -------------------------------------------------------------------------------------------- who and what for

_BAGS: Final = (
    "traceloop.association.properties.",  # OL
    "ai.telemetry.metadata.",  # AI
    "ai.settings.context.",  # AI
    "langsmith.metadata.",  # LS
    "langfuse.trace.metadata.",  # LF
    "langfuse.observation.metadata.",  # LF
    "lmnr.association.properties.",  # LM
    "metadata.",  # LL
)
"""Prefixes under which clients send what the app itself names."""


def _in_bags(*names: str) -> tuple[str, ...]:
    return tuple(bag + name for bag in _BAGS for name in names)


SESSION: Final = (
    "gen_ai.conversation.id",  # S
    "session.id",  # OI
    "langfuse.session.id",
    "session_id",  # LG
    "thread_id",
    "thread.id",
    "gen_ai.thread.id",  # AZ
    "gen_ai.session.id",
    "conversation_id",
    "conversation.id",
    "sessionId",
    "gcp.vertex.agent.session_id",  # AD
    "genkit:sessionId",  # GK
    "mlflow.trace.session",
    "langwatch.thread.id",
    *_in_bags("session_id", "sessionId", "thread_id", "threadId", "conversation_id", "conversationId"),
    *_in_bags("chat_id", "chatId"),
)
USER: Final = (
    "user.id",  # OI
    "enduser.id",  # S
    "langfuse.user.id",
    "llm.user",  # LL
    "gen_ai.user",
    "gen_ai.user.id",
    "gen_ai.request.user",
    "gen_ai.openai.request.user",
    "user_id",  # LG
    "userId",
    "mlflow.trace.user",
    "langwatch.user.id",
    *_in_bags("user_id", "userId"),
    "metadata.user_api_key_end_user_id",  # LL
    "enduser.pseudo.id",  # S
)
PROMPT_NAME: Final = (
    "gen_ai.prompt.name",  # S
    "langfuse.observation.prompt.name",
    "traceloop.prompt.key",
    "traceloop.prompt.name",
    "llm.prompt_template.name",  # OI
    "prompt.name",
    "prompt.id",  # OI
    "langsmith.metadata.lc_hub_repo",
    "ai.telemetry.metadata.promptName",
)
PROMPT_VERSION: Final = (
    "gen_ai.prompt.version",  # S
    "langfuse.observation.prompt.version",
    "traceloop.prompt.version",
    "llm.prompt_template.version",  # OI
    "prompt.version",
    "langsmith.metadata.lc_hub_commit_hash",
    "ai.telemetry.metadata.promptVersion",
)
TAGS: Final = (
    "heedloop.tags",
    "langfuse.trace.tags",
    "tag.tags",  # OI
    "tags",
    "metadata.tags",  # LL
    "ai.telemetry.metadata.tags",
    "traceloop.association.properties.tags",
    "logfire.tags",
)

# ------------------------------------------------------------------------------------------------------- cost

COST: Final = (
    "heedloop.cost",
    "gen_ai.cost.total_cost",  # LL
    "gen_ai.cost.usd",
    "gen_ai.usage.cost",  # OpenLIT
    "gen_ai.usage.total_cost",
    "operation.cost",  # LG
    "llm.cost.total",  # OI
    "llm.usage.cost",
    "gen_ai.cost.total_tokens",  # SE: dollars, whatever it is called
    "cost_usd",  # CC
)
COST_PARTS: Final = (
    ("llm.cost.prompt", "llm.cost.completion"),  # OI
    ("llm.cost.input", "llm.cost.output"),  # OI
    ("gen_ai.cost.input_cost", "gen_ai.cost.output_cost"),  # LL
    ("gen_ai.usage.input_cost", "gen_ai.usage.output_cost"),  # AA
    ("gen_ai.usage.prompt_cost", "gen_ai.usage.completion_cost"),
    ("gen_ai.cost.input_tokens", "gen_ai.cost.output_tokens"),  # SE
    ("gen_ai.cost.input", "gen_ai.cost.output"),
)
"""Costs of input and output where no client gives the sum."""
COST_DETAILS: Final = ("llm.cost.prompt_details.", "llm.cost.completion_details.")  # OI
"""Prefixes of costs of parts of the input and the output, where there is nothing but these."""
COST_OBJECTS: Final = (
    "langfuse.observation.cost_details",
    "gen_ai.usage.cost",
    "hidden_params",  # LL
    "langsmith.usage_metadata",
    "langsmith.metadata.usage_metadata",
    "langwatch.metrics",
)
"""Attributes whose JSON has a cost in it, among other things."""
COST_SUMS: Final = ("total_cost", "total", "response_cost", "cost", "cost_usd")
"""Keys of the sum in a JSON object with costs."""
_COST_WORDS: Final = frozenset(("cost", "total", "usd", "dollars", "amount", "usage", "response"))
_COST_PLACES: Final = frozenset(("gen", "ai", "llm", "usd"))


def counts_cost(name: str) -> bool:
    """True for a name that by its words is what a call cost: `gen_ai.usage.cost_usd`, `$ai_total_cost_usd` (PH)."""
    words = set(words_of(name))
    return "cost" in words and bool(words & _COST_PLACES) and words <= _COST_WORDS | _COST_PLACES
