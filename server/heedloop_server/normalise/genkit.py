"""Firebase Genkit: `genkit:*` attributes with the request and response as JSON; the call is the action of the subtype `model`."""

from __future__ import annotations

from heedloop_server.normalise.draft import Draft
from heedloop_server.normalise.messages import read_messages
from heedloop_server.normalise.params import read_params
from heedloop_server.normalise.providers import provider_id
from heedloop_server.normalise.span import SpanView
from heedloop_server.normalise.usage import read_usage
from heedloop_server.normalise.values import as_known, as_name, as_texts, read_object


def read(span: SpanView, draft: Draft) -> None:
    """Fills a draft from a model's or an embedder's action."""
    attrs = span.attrs
    request, response = read_object(attrs.get("genkit:input")), read_object(attrs.get("genkit:output"))
    plugin, _, model = str(attrs.get("genkit:name") or "").partition("/")
    draft.model_requested = draft.model_requested or as_known(model or plugin)
    draft.provider = draft.provider or (provider_id(_PLUGINS.get(plugin, plugin)) if model else None)
    config = request.get("config")
    if isinstance(config, dict):
        draft.add_params(read_params(config))
    draft.add_usage(read_usage(response.get("usage")))
    if str(attrs.get("genkit:metadata:subtype")).lower() == "embedder":
        documents = read_messages(request.get("input"))
        draft.embedding_inputs = draft.embedding_inputs or tuple(m.text for m in documents if m.text)
    else:
        draft.input_messages = draft.input_messages or read_messages(request.get("messages"))
        message = response.get("message") or _first_message(response)
        draft.output_messages = draft.output_messages or read_messages(message, "assistant")
        draft.finish_reasons = draft.finish_reasons or as_texts(response.get("finishReason"))
    if attrs.get("genkit:state") == "error":
        draft.failed = True
        draft.error_message = draft.error_message or as_name(span.status_message)


_PLUGINS = {"googleai": "gcp.gemini", "googlegenai": "gcp.gemini", "vertexai": "gcp.vertex_ai"}


def _first_message(response: dict[str, object]) -> object:
    """The message of the first candidate, where older versions had it."""
    candidates = response.get("candidates")
    return (
        candidates[0].get("message")
        if isinstance(candidates, list) and candidates and isinstance(candidates[0], dict)
        else None
    )
