"""MLflow tracing: `mlflow.*`, every value JSON-encoded, the raw request and response in `spanInputs/spanOutputs`."""

from __future__ import annotations

from heedloop_server.normalise.context import as_cost, cost_in
from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.payload import read_request, read_response
from heedloop_server.normalise.providers import provider_id
from heedloop_server.normalise.span import STATUS_ERROR, SpanView
from heedloop_server.normalise.usage import read_usage
from heedloop_server.normalise.values import as_name, read_json, read_object

SCOPE = "mlflow.tracing.provider"


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft from a CHAT_MODEL, LLM or EMBEDDING span."""
    attrs = span.attrs
    embeds = str(read_json(attrs.get("mlflow.spanType"))).upper() == "EMBEDDING"
    draft.provider = draft.provider or provider_id(attrs.get("mlflow.llm.provider"))
    draft.add_usage(read_usage(attrs.get("mlflow.chat.tokenUsage")))
    cost = read_json(attrs.get("mlflow.llm.cost"))
    cost = cost_in(cost) if isinstance(cost, dict) else as_cost(cost)
    draft.cost = draft.cost if draft.cost is not None else cost
    read_request(draft, attrs.get("mlflow.spanInputs"), embeddings=embeds)
    read_response(draft, attrs.get("mlflow.spanOutputs"), embeddings=embeds)
    if not draft.failed and span.status_code != STATUS_ERROR:  # some flavours name the model asked for here
        draft.model_answered = draft.model_answered or as_name(attrs.get("mlflow.llm.model"))
    read_arguments(span, draft, embeddings=embeds)
    prompts = read_json(attrs.get("mlflow.linkedPrompts"))
    if isinstance(prompts, list) and prompts and draft.prompt_name is None:
        first = read_object(prompts[0])
        draft.prompt_name, draft.prompt_version = as_name(first.get("name")), as_name(first.get("version"))


def read_arguments(span: SpanView, draft: Draft, *, embeddings: bool) -> None:
    """Fills a draft from the arguments that stand as attributes of their own, each JSON-encoded.

    They come beside the standard names as well (`MLFLOW_ENABLE_OTEL_GENAI_SEMCONV`), and only they have the model asked
    for then.
    """
    arguments = {k: read_json(v) for k, v in span.attrs.items() if "." not in k}
    read_request(draft, arguments, embeddings=embeddings)
