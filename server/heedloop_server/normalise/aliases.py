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
    OO  ollama API; CO cohere API; BR Amazon Bedrock runtime
"""

from __future__ import annotations

import re
from typing import Final

# ---------------------------------------------------------------------------------------------------- tokens

TOKEN_NAMES: Final = (
    ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens"),  # S OL
    ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens"),  # S OL
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


def token_field(name: str) -> int | None:
    """The field of `Usage` that a name counts, by its words; None where one of them is no word of ours.

    `cachedContentTokenCount` (Gemini), `prompt_tokens_details.cached_tokens` (OpenAI), `input_tokens.cached` (SE),
    `cache_read_tokens` and `cache_creation_tokens` (CC), `experimental.reasoning_tokens` (AD), `prompt_eval_count` (OO).
    """
    words = [w.lower() for w in _SPLIT.split(name) if w]
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
    "text.completions": "text_completion",
    "embeddings": "embeddings",
    "embedding": "embeddings",
    "embed": "embeddings",
    "aembedding": "embeddings",  # LL
}
"""`gen_ai.operation.name` -> the operation of a call."""

RESPONSE_IDS: Final = ("gen_ai.response.id", "gen_ai.request.id")  # S, VL: an inference server's own span
NO_NAMES: Final = frozenset({"none", "null", "undefined", "nan", "n/a"})
"""What clients write in the place of a name that they do not have (MM: `KeyValue.NONE_VALUE`)."""

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

SESSION: Final = (
    "gen_ai.conversation.id",  # S
    "session.id",  # OI
    "langfuse.session.id",
    "traceloop.association.properties.session_id",
    "traceloop.association.properties.thread_id",
    "ai.telemetry.metadata.sessionId",
    "ai.settings.context.sessionId",
    "langsmith.metadata.session_id",
    "langsmith.metadata.thread_id",
    "langsmith.metadata.conversation_id",
    "session_id",  # LG
    "metadata.session_id",  # LL
    "thread_id",
    "thread.id",
    "gcp.vertex.agent.session_id",  # AD
    "genkit:sessionId",  # GK
)
USER: Final = (
    "user.id",  # OI
    "enduser.id",  # S
    "langfuse.user.id",
    "traceloop.association.properties.user_id",
    "ai.telemetry.metadata.userId",
    "ai.settings.context.userId",
    "langsmith.metadata.user_id",
    "llm.user",  # LL
    "gen_ai.user",
    "gen_ai.request.user",
    "user_id",  # LG
    "metadata.user_id",  # LL
    "metadata.user_api_key_end_user_id",  # LL
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
COST_OBJECTS: Final = (
    ("total_cost", "total"),
    ("input_cost", "output_cost"),
    ("input", "output"),
    ("prompt", "completion"),
)
"""Keys of a JSON object of costs: the sum, else two parts of it (ML, LF)."""
