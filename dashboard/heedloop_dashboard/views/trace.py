"""One trace: the conversation as the model saw it, what people said about it, its spans, and what was trained on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import streamlit as st

from heedloop.changes import compare
from heedloop.client import Client
from heedloop.responses.calls import CallSummary, Trace
from heedloop.responses.feedback import StoredFeedback
from heedloop.responses.runs import RunSummary
from heedloop.schema import Call, Run, Usage, format_time
from heedloop_dashboard import (
    components,
    filters,
    judgements,
    panels,
    ranges,
    span_images,
    spans,
    words,
)
from heedloop_dashboard.fetch import Answer, ask, read, read_one
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views import judge_panel, similar

NEIGHBOURS = 200
"""How many answers of the list are looked through for the one before this."""


def show() -> None:
    """Draw the page for `trace_id`, `span_id` in the URL."""
    trace_id = (st.query_params.get("trace_id") or "").strip().lower()
    if not trace_id:
        _ask_for_id()
        return
    answer = read_one(Client.trace, trace_id)
    if answer.error is not None:
        st.subheader("Trace", anchor=False)
        panels.problem(answer.error)
        _ask_for_id()
        return
    trace: Trace = answer.value
    span = spans.answer_span(trace, st.query_params.get("span_id"))
    around = _around(trace_id, span)
    _title(trace_id, around)
    parts = (trace, span, around)
    if len(trace.spans) > 1:
        tree, middle, right = st.columns([1.15, 1.75, 1], gap="small")
        with tree:
            _spans(trace, span)
    else:
        middle, right = st.columns([1.9, 1], gap="small")
    with middle:
        _middle(*parts)
    with right:
        _feedback(trace, span)
        judge_panel.show(span)
        _details(trace_id, span)


def _middle(trace: Trace, span: Call | None, around: Mapping[str, Answer]) -> None:
    _conversation(span, trace.feedback)
    _corrections(trace)
    if "similar" in around and span is not None and span.input_messages:
        similar.show(around["similar"])
    _used_by(trace)
    _raw(span)


def _ask_for_id() -> None:
    with st.form("find_trace", border=True):
        text = st.text_input(
            "Trace id", placeholder="32 hexadecimal digits, or a whole traceparent", max_chars=80
        )
        if st.form_submit_button("Open"):
            parts = text.strip().lower().split("-")
            st.query_params["trace_id"] = parts[1] if len(parts) == 4 else parts[0]
            st.rerun()


def _title(trace_id: str, around: Mapping[str, Answer]) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader("Trace", anchor=False, width="stretch")
        newer, older = _neighbours(trace_id, around)
        links = [
            ("All answers", Open("traces", filters.link_params())),
            ("\u2190 Newer", _neighbour(newer)),
            ("Older \u2192", _neighbour(older)),
        ]
        components.links("steps", links, label="Other answers of this list")


def _neighbour(call: CallSummary | None) -> Open | None:
    return (
        None
        if call is None
        else Open("trace", filters.link_params(trace_id=call.trace_id, span_id=call.span_id))
    )


def _around(trace_id: str, span: Call | None) -> dict[str, Answer]:
    """The list this page was opened from, as far as it is looked through, and liked answers to alike questions."""
    if span is None:
        return {}
    chosen = filters.filters()
    until = format_time(span.start_time + timedelta(microseconds=1))
    return read(
        page=ask(Client.calls, limit=NEIGHBOURS, **chosen),
        rest=ask(Client.calls, limit=3, **{**chosen, "until": min(until, chosen["until"])}),
        similar=ask(Client.quality_similar, trace_id, span.span_id),
    )


def _neighbours(trace_id: str, around: Mapping[str, Answer]) -> tuple[CallSummary | None, CallSummary | None]:
    """The newer and the older answer in the list this page was opened from, as far as they can be found."""
    page, rest = (_calls(around.get(name)) for name in ("page", "rest"))
    here = next((i for i, c in enumerate(page) if c.trace_id == trace_id), None)
    newer = page[here - 1] if here else None
    if here is not None and here + 1 < len(page):
        return newer, page[here + 1]
    return newer, next((c for c in rest if c.trace_id != trace_id), None)


def _calls(answer: Answer | None) -> Sequence[CallSummary]:
    return answer.value.calls if answer is not None and answer.error is None else []


# --------------------------------------------------------------------------------------------------------- left


def _conversation(span: Call | None, feedback: Sequence[StoredFeedback]) -> None:
    with panels.panel("conversation"):
        if span is None:
            panels.header("Conversation", "Feedback has arrived, the trace has not (yet)")
            panels.empty(
                "No span of this trace is stored. The feedback is kept and will be attached when the trace arrives."
            )
            return
        messages = judgements.marked_messages(span, feedback) or spans.sent_messages(span)
        if messages:
            _add_images(messages, span)
            panels.header("Conversation", "What the model saw, and what it answered")
            messages[-1]["note"] = _note(span)
        else:
            panels.header(_title_of(span), _note(span))
        error = span.error_message
        if span.status == "error" and not error:
            error = "The span failed without an error message."
        # of a conversation the messages are its input and output
        shown = spans.payloads(span) if not messages or spans.is_tool(span) else []
        if not (messages or shown or error):
            panels.empty("No content was sent with this span.")
        components.conversation("messages", messages, error=error, payloads=shown)


def _add_images(messages: Sequence[dict[str, Any]], span: Call) -> None:
    """The content's pictures at the last message with media that was given, and at the one that came back."""
    num_given = len(span.input_messages) or len(messages)
    for side, images in (
        (messages[:num_given], span_images.input_images(span)),
        (messages[num_given:], span_images.output_images(span)),
    ):
        place = next((m for m in reversed(side) if m.get("media")), side[-1] if side else None)
        if images and place is not None:
            place["images"] = images


def _title_of(span: Call) -> str:
    name = span.name or span.operation or "Span"
    return f"Tool call: {name}" if spans.is_tool(span) else name


def _note(span: Call) -> str:
    tokens = (span.usage.input or 0) + (span.usage.output or 0)
    parts = [
        span.prompt_version,
        span.model,
        words.duration(span.duration_ns),
        f"{tokens:,} tokens" if tokens else None,
        words.dollars(span.cost) if span.cost is not None else None,
    ]
    return " · ".join(p for p in parts if p)


def _corrections(trace: Trace) -> None:
    found = [f for f in trace.feedback if f.correction and not f.retracted]
    if not found:
        return
    with panels.panel("corrections"):
        panels.header("Corrections", "Removed text is struck through, added text highlighted")
        for i, f in enumerate(found[:20]):
            before = _answer_text(spans.judged_span(trace, f.target))
            st.text(f"{judgements.author_text(f)}, {words.clock(f.created_at)}")
            components.diff(f"correction_{i}", compare(before, f.correction or ""), label="Correction")


def _answer_text(span: Call | None) -> str:
    return "" if span is None else span.output_text


def _spans(trace: Trace, span: Call | None) -> None:
    rows = spans.waterfall(trace.spans)
    if not rows:
        return
    failed = sum(row["status"] == "error" for row in rows)
    about = words.plural(len(trace.spans), "span") + (f" · {failed:,} failed" if failed else "")
    with panels.panel("spans"):
        panels.header("Spans", about)
        components.tree(
            "tree",
            rows,
            selected=span.span_id if span else "",
            open=Open("trace", filters.link_params(trace_id=trace.trace_id)),
        )


def _raw(span: Call | None) -> None:
    if span is None:
        return
    attributes = span.attributes
    with st.expander(f"Raw attributes ({len(attributes)})", icon=":material/data_object:", key="raw"):
        heads = [
            {"key": "name", "label": "Attribute", "kind": "mono"},
            {"key": "value", "label": "Value", "kind": "wrap"},
        ]
        rows = [{"cells": [k, v[:20_000]]} for k, v in sorted(attributes.items())]
        if rows:
            components.table("attributes", heads, rows, caption="Raw span attributes", link=-1, tall=True)
        else:
            st.caption("This span was sent without attributes.")


# -------------------------------------------------------------------------------------------------------- right


def _feedback(trace: Trace, span: Call | None) -> None:
    with panels.panel("feedback"):
        given = trace.feedback
        panels.header(
            "Feedback",
            f"{words.plural(len(given), 'judgement')} · open an id for its history"
            if given
            else "No feedback yet",
        )
        answer = _answer_text(span)
        entries = []
        for f in given:
            target = Open("feedback", {"feedback_id": f.feedback_id}).to_json()
            entries.append({**judgements.entry(f, answer=answer), "open": target})
        if entries:
            components.feedback("judgements", entries)


def _used_by(trace: Trace) -> None:
    with st.expander("Used for training", icon=":material/model_training:", key="panel_used_by"):
        components.lineage(
            "used",
            [
                {
                    "kind": "Snapshot",
                    "entries": [snapshot_entry(s) for s in trace.snapshots],
                    "none": "in no snapshot yet",
                },
                {"kind": "Run", "entries": [run_entry(r) for r in trace.runs], "none": "no run yet"},
            ],
        )


def snapshot_entry(snapshot_id: str, name: str | None = None) -> dict[str, Any]:
    """A snapshot as a lineage entry."""
    target = Open("datasets", {"snapshot_id": snapshot_id})
    return {"id": snapshot_id, "about": name, "open": target.to_json()}


def run_entry(run: Run | RunSummary) -> dict[str, Any]:
    """A run as a lineage entry."""
    about = " · ".join(p for p in (run.method, run.model_name, run.status) if p)
    return {"id": run.id, "about": about, "open": Open("runs", {"run_id": run.id}).to_json()}


def _tokens(usage: Usage) -> str | None:
    if usage.input is None and usage.output is None:
        return None
    return f"{words.count(usage.input)} in, {words.count(usage.output)} out"


def _details(trace_id: str, span: Call | None) -> None:
    rows: list[tuple[str, Any, Open | None]] = [("Trace", trace_id, None)]
    if span is not None:
        rows += [
            ("Span", span.span_id, None),
            ("Time", ranges.local_time(span.start_time), None),
            ("Took", words.duration(span.duration_ns), None),
            ("Model", span.model, None),
            ("Prompt", " ".join(v for v in (span.prompt_name, span.prompt_version) if v), None),
            ("Tokens", _tokens(span.usage), None),
            ("Cost", None if span.cost is None else words.dollars(span.cost), None),
            ("Service", " ".join(v for v in (span.service, span.environment) if v), None),
            ("Session", span.session_id, Open("session", {"session_id": span.session_id})),
            ("User", span.user_id, Open("user", {"user_id": span.user_id})),
            ("Tags", ", ".join(span.tags), None),
        ]
    with panels.panel("details"):
        panels.header("Details", "Times are UTC")
        panels.facts("details", rows, caption="Details of the span")
