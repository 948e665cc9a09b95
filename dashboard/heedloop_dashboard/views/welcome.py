"""What an empty project shows: three ways to send a first answer, with address and key, and lights that turn green."""

from __future__ import annotations

import streamlit as st

from heedloop.client import Client
from heedloop_dashboard import components, panels
from heedloop_dashboard.fetch import current, read_one, write
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views.keys import SCOPES_OF_APP

_KEY = "heedloop_app_key"
_EVERY_S = 2.0

SDK = """pip install heedloop
export HEEDLOOP_URL={url} HEEDLOOP_API_KEY={key}
cat > app.py <<'END'
import heedloop

heedloop.configure(service="my-app")

@heedloop.trace
def answer(question):
    return "Within thirty days."  # your model

text, handle = heedloop.with_handle(answer, "When do I get my refund?")
heedloop.thumbs_up(handle, user_id="ana")
heedloop.flush()
END
python app.py"""

OTLP = """# any OpenTelemetry client or instrumentation sends here
export OTEL_EXPORTER_OTLP_ENDPOINT={url}
export OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer {key}"
export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"""

CURL = """now=$(date +%s)
curl -fsS {url}/v1/traces -H "Authorization: Bearer {key}" -H "Content-Type: application/json" -d '{{
  "resourceSpans": [{{"scopeSpans": [{{"spans": [{{
    "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "answer",
    "startTimeUnixNano": "'$now'000000000", "endTimeUnixNano": "'$now'900000000",
    "attributes": [
      {{"key": "gen_ai.operation.name", "value": {{"stringValue": "chat"}}}},
      {{"key": "gen_ai.request.model", "value": {{"stringValue": "my-model"}}}},
      {{"key": "gen_ai.prompt", "value": {{"stringValue": "When do I get my refund?"}}}},
      {{"key": "gen_ai.completion", "value": {{"stringValue": "Within thirty days."}}}}]}}]}}]}}]}}'
curl -fsS {url}/v1/feedback -H "Authorization: Bearer {key}" -H "Content-Type: application/json" -d '{{
  "kind": "rating", "value": 1, "author": {{"kind": "end_user", "id": "ana"}},
  "handle": "00-5b8efff798038103d269b633813fc60c-eee19b7ec3c1b174-01"}}'"""


def is_empty() -> bool:
    """True where the project has received nothing at all."""
    found = read_one(Client.ledger)
    return found.error is None and not found.value.received and not found.value.feedback.received


def show() -> None:
    """Draw the snippets and the lights; the page shows quality as soon as both are green."""
    st.fragment(_lights, run_every=_EVERY_S)()
    with panels.panel("snippets"):
        panels.header("Send a first answer", "Choose one, copy it, and run it where your app runs")
        url = current().client.url
        key = _app_key()
        tabs = st.tabs(["Python SDK", "Any OTLP client", "curl"])
        for tab, text in zip(tabs, (SDK, OTLP, CURL), strict=True):
            with tab:
                st.code(text.format(url=url, key=key), language=None, wrap_lines=True)
    with panels.panel("sample"):
        panels.header("Only looking?", "Starts a separate server with the conversations of a simulated shop")
        st.code("heedloop demo", language=None)


def _app_key() -> str:
    """A key for the app, created on request and shown in the snippets until this session ends."""
    made: str | None = st.session_state.get(_KEY)
    if made is None and current().can("admin"):
        if st.button("Create a key for the app", icon=":material/key:", key="create_app_key"):
            answer = write(Client.create_key, "first app", scopes=SCOPES_OF_APP)
            if answer.error is not None:
                panels.problem(answer.error)
            else:
                st.session_state[_KEY] = made = answer.value.key
        else:
            st.caption("It can send traces and feedback but read nothing. It is shown in the snippets once.")
    return made or "hl_…"


def _lights() -> None:
    found = read_one(Client.ledger)
    if panels.failed(found):
        return
    traces, feedback = found.value.received > 0, found.value.feedback.received > 0
    if traces and feedback:
        st.rerun(scope="app")
    rows = [
        {"cells": ["Ok" if arrived else "Waiting", name]}
        for name, arrived in (("First answer received", traces), ("First feedback received", feedback))
    ]
    heads = [
        {"key": "state", "label": "State", "kind": "state"},
        {"key": "what", "label": "What", "kind": ""},
    ]
    with panels.panel("lights"):
        panels.header(
            "Nothing has arrived yet" if not traces else "Your first answer has arrived",
            "Checked every two seconds",
        )
        components.table("light_rows", heads, rows, caption="What has arrived", link=-1, plain=True)
        if traces:
            components.links("first", [("See it in Traces", Open("traces"))], label="First answer", left=True)
