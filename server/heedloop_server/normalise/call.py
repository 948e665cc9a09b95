"""One decoded span -> one `heedloop.schema.Call`: the conventions' readers in their order, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, make_dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from heedloop.schema import Call
from heedloop_server.normalise import (
    adk,
    claude_code,
    context,
    detect,
    failure,
    genai,
    genkit,
    heedloop_sdk,
    langfuse,
    langsmith,
    litellm,
    logfire,
    mlflow,
    openinference,
    pydantic_ai,
    vercel,
)
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.span import SpanView

Reader = Callable[[SpanView, Draft], None]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

# the first word of a convention's attributes -> its reader; a client's own names are read before the shared ones
_READERS: tuple[tuple[str, Reader], ...] = (
    ("langfuse", langfuse.read),
    ("openinference", openinference.read),
    ("mlflow", mlflow.read),
    ("langsmith", langsmith.read),
    ("ai", vercel.read),
    ("request_data", logfire.read),
    ("model_request_parameters", pydantic_ai.read),
    ("gcp", adk.read),
    ("span", claude_code.read),
    ("genkit:metadata:subtype", genkit.read),
)
_NUMBERED = frozenset(
    {
        "gen_ai.prompt.0.role",
        "gen_ai.prompt.0.content",
        "gen_ai.completion.0.role",
        "gen_ai.completion.0.content",
    }
)
_FOREIGN = frozenset(root for root, _ in _READERS)


def call_of(span: SpanView) -> Call:
    """The call that a span is; `operation` is empty and nothing but names, times and context is read where it is none."""
    draft = Draft()
    operation = detect.operation(span)
    if operation:
        _read(span, draft, embeds=operation == detect.EMBEDDINGS)
        if operation == detect.EMBEDDINGS:
            _texts_to_embed(draft)
        elif span.resource.scope == "logfire.openai" or "request_data" in span.roots:
            operation = "" if logfire.is_request_half(span, draft) else operation
        elif "openinference" in span.roots and openinference.answers_nothing(span, draft):
            operation = ""
    context.read(span.attrs, span.shape, draft)
    failure.read(span, draft)
    return _assemble(span, draft, operation)


def _read(span: SpanView, draft: Draft, *, embeds: bool) -> None:
    if not span.roots.isdisjoint(_FOREIGN):
        for root, reader in _READERS:
            if root in span.roots:
                reader(span, draft)
    scope = span.resource.scope
    if scope == mlflow.SCOPE and "mlflow" not in span.roots:
        mlflow.read_arguments(span, draft, embeddings=embeds)
    genai.read(span, draft)
    if scope == "litellm":
        litellm.read(span, draft)
    if "llm.request.type" in span.attrs or not _NUMBERED.isdisjoint(span.attrs):
        genai.read_indexed(span, draft)
    if "heedloop" in span.roots:
        heedloop_sdk.read(span, draft)
    if not embeds and not (draft.input_messages and draft.output_messages):
        genai.read_plain(span.attrs, draft)


def _texts_to_embed(draft: Draft) -> None:
    """Some clients put the texts of an embedding call into messages: they are no conversation."""
    if not draft.embedding_inputs:
        draft.embedding_inputs = tuple(m.text for m in draft.input_messages if m.text)
    draft.input_messages = draft.output_messages = ()


_UnfrozenCall: Any = make_dataclass("_UnfrozenCall", [f.name for f in fields(Call)], slots=True)
"""`Call` while its fields are set: a frozen class sets each by a call of its own, which takes a tenth of all normalising."""


def _assemble(span: SpanView, draft: Draft, operation: str) -> Call:
    flag = heedloop_sdk.answer_flag(span.attrs)
    duration = max(0, span.end_ns - span.start_ns) if span.end_ns else 0
    call: Any = _UnfrozenCall(
        trace_id=span.trace_id,
        span_id=span.span_id,
        start_time=_EPOCH + timedelta(microseconds=span.start_ns // 1000),
        duration_ns=draft.duration_ns if draft.duration_ns is not None else duration,
        parent_span_id=span.parent_span_id,
        name=span.name,
        service=span.resource.service,
        environment=span.resource.environment or _langfuse_environment(span.attrs),
        operation=operation,
        is_answer=operation not in ("", detect.EMBEDDINGS) if flag is None else flag,
        provider=draft.provider,
        model_requested=draft.model_requested,
        model_answered=draft.model_answered,
        params=draft.params,
        input_messages=draft.input_messages,
        output_messages=genai.nonempty_messages(draft.output_messages)
        if draft.failed
        else draft.output_messages,
        tool_definitions=draft.tool_definitions,
        finish_reasons=_lower(draft.finish_reasons),
        usage=draft.usage,
        cost=draft.cost,
        status="error" if draft.failed else "ok",
        error_message=draft.error_message,
        http_status=draft.http_status,
        response_id=draft.response_id,
        stream=draft.stream,
        embedding_inputs=draft.embedding_inputs,
        prompt_name=draft.prompt_name,
        prompt_version=draft.prompt_version,
        session_id=draft.session_id,
        user_id=draft.user_id,
        tags=draft.tags,
        sampling_probability=heedloop_sdk.sampling_probability(span),
        attributes=span.texts(),
    )
    call.__class__ = Call
    return call


def _langfuse_environment(attrs: dict[str, Any]) -> str:
    value = attrs.get("langfuse.environment")
    return value if isinstance(value, str) else ""


def _lower(reasons: tuple[str, ...]) -> tuple[str, ...]:
    """Finish reasons without Google's capitals and enum name: `FinishReason.STOP` is `stop`."""
    if all(r.islower() for r in reasons):
        return reasons
    return tuple(r.rpartition(".")[2].lower() for r in reasons)
