"""One trace: the conversation as the model saw it, what people said about it, its spans, and what was trained on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.schema import format_time, parse_time
from heedloop_dashboard import components, corrections, filters, judgements, panels, spans, words
from heedloop_dashboard.fetch import Answer, ask, read, read_one
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views import similar

__all__ = ["show"]

Span = Mapping[str, Any]
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
    trace = answer.value
    span = spans.answer_span(trace, st.query_params.get("span_id"))
    around = _around(trace_id, span)
    _title(trace_id, around)
    parts = (trace, span, around)
    if len(trace["spans"]) > 1:
        tree, middle, right = st.columns([1.15, 1.75, 1], gap="small")
        with tree:
            _spans(trace, span)
    else:
        middle, right = st.columns([1.9, 1], gap="small")
    with middle:
        _middle(*parts)
    with right:
        _feedback(trace, span)
        _details(trace_id, span)


def _middle(trace: Mapping[str, Any], span: Span | None, around: Mapping[str, Answer]) -> None:
    _conversation(span, trace["feedback"])
    _corrections(trace)
    if "similar" in around and span is not None and span.get("input_messages"):
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


def _neighbour(call: Mapping[str, Any] | None) -> Open | None:
    return (
        None
        if call is None
        else Open("trace", filters.link_params(trace_id=call["trace_id"], span_id=call["span_id"]))
    )


def _around(trace_id: str, span: Span | None) -> dict[str, Answer]:
    """The list this page was opened from, as far as it is looked through, and liked answers to alike questions."""
    if span is None:
        return {}
    chosen = filters.filters()
    until = format_time(parse_time(span["start_time"]) + timedelta(microseconds=1))
    return read(
        page=ask(Client.calls, limit=NEIGHBOURS, **chosen),
        rest=ask(Client.calls, limit=3, **{**chosen, "until": min(until, chosen["until"])}),
        similar=ask(Client.quality_similar, trace_id, span["span_id"]),
    )


def _neighbours(
    trace_id: str, around: Mapping[str, Answer]
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """The newer and the older answer in the list this page was opened from, as far as they can be found."""
    page, rest = (_calls(around.get(name)) for name in ("page", "rest"))
    here = next((i for i, c in enumerate(page) if c["trace_id"] == trace_id), None)
    newer = page[here - 1] if here else None
    if here is not None and here + 1 < len(page):
        return newer, page[here + 1]
    return newer, next((c for c in rest if c["trace_id"] != trace_id), None)


def _calls(answer: Answer | None) -> Sequence[Mapping[str, Any]]:
    return answer.value["calls"] if answer is not None and answer.error is None else []


# --------------------------------------------------------------------------------------------------------- left


def _conversation(span: Span | None, feedback: Sequence[Mapping[str, Any]]) -> None:
    with panels.panel("conversation"):
        if span is None:
            panels.header("Conversation", "Feedback has arrived, the trace has not (yet)")
            panels.empty(
                "No span of this trace is stored. The feedback is kept and will be attached when the trace arrives."
            )
            return
        messages = judgements.marked_messages(span, feedback) or spans.sent_messages(span)
        if messages:
            panels.header("Conversation", "What the model saw, and what it answered")
            messages[-1]["note"] = _note(span)
        else:
            panels.header(_title_of(span), _note(span))
        error = str(span["error_message"]) if span.get("error_message") else None
        if span.get("status") == "error" and not error:
            error = "The span failed without an error message."
        # of a conversation the messages are its input and output
        shown = spans.payloads(span) if not messages or spans.is_tool(span) else []
        if not (messages or shown or error):
            panels.empty("No content was sent with this span.")
        components.conversation("messages", messages, error=error, payloads=shown)


def _title_of(span: Span) -> str:
    name = str(span.get("name") or span.get("operation") or "Span")
    return f"Tool call: {name}" if spans.is_tool(span) else name


def _note(span: Span) -> str:
    usage = span.get("usage") or {}
    tokens = sum(usage.get(k) or 0 for k in ("input", "output"))
    parts = [
        span.get("prompt_version"),
        span.get("model_answered") or span.get("model_requested"),
        words.duration(span.get("duration_ns")),
        f"{tokens:,} tokens" if tokens else None,
        words.dollars(span.get("cost")) if span.get("cost") is not None else None,
    ]
    return " · ".join(str(p) for p in parts if p)


def _corrections(trace: Mapping[str, Any]) -> None:
    found = [f for f in trace["feedback"] if f.get("kind") == "correction" and not f.get("retracted")]
    if not found:
        return
    with panels.panel("corrections"):
        panels.header("Corrections", "Removed text is struck through, added text highlighted")
        for i, f in enumerate(found[:20]):
            before = _answer_text(spans.judged_span(trace, f["target"]))
            st.text(f"{judgements.author_text(f)}, {words.clock(f.get('created_at'))}")
            components.diff(
                f"correction_{i}", corrections.compare(before, f["correction"]), label="Correction"
            )


def _answer_text(span: Span | None) -> str:
    messages: Sequence[Mapping[str, Any]] = (span or {}).get("output_messages") or []
    return "\n".join(m["text"] for m in messages if m.get("text"))


def _spans(trace: Mapping[str, Any], span: Span | None) -> None:
    rows = spans.waterfall(trace["spans"])
    if not rows:
        return
    failed = sum(row["status"] == "error" for row in rows)
    about = words.plural(len(trace["spans"]), "span") + (f" · {failed:,} failed" if failed else "")
    with panels.panel("spans"):
        panels.header("Spans", about)
        components.tree(
            "tree",
            rows,
            selected=span["span_id"] if span else "",
            open=Open("trace", filters.link_params(trace_id=trace["trace_id"])),
        )


def _raw(span: Span | None) -> None:
    attributes: Mapping[str, str] = (span or {}).get("attributes") or {}
    if span is None:
        return
    with st.expander(f"Raw attributes ({len(attributes)})", icon=":material/data_object:", key="raw"):
        heads = [
            {"key": "name", "label": "Attribute", "kind": "mono"},
            {"key": "value", "label": "Value", "kind": "wrap"},
        ]
        rows = [{"cells": [k, str(v)[:20_000]]} for k, v in sorted(attributes.items())]
        if rows:
            components.table("attributes", heads, rows, caption="Raw span attributes", link=-1, tall=True)
        else:
            st.caption("This span was sent without attributes.")


# -------------------------------------------------------------------------------------------------------- right


def _feedback(trace: Mapping[str, Any], span: Span | None) -> None:
    with panels.panel("feedback"):
        given: Sequence[Mapping[str, Any]] = trace["feedback"]
        panels.header(
            "Feedback",
            f"{words.plural(len(given), 'judgement')} · open an id for its history"
            if given
            else "No feedback yet",
        )
        answer = _answer_text(span)
        entries = []
        for f in given:
            target = Open("feedback", {"feedback_id": f["feedback_id"]}).to_json()
            entries.append({**judgements.entry(f, answer=answer), "open": target})
        if entries:
            components.feedback("judgements", entries)


def _used_by(trace: Mapping[str, Any]) -> None:
    snapshots: Sequence[Any] = trace.get("snapshots") or []
    runs: Sequence[Mapping[str, Any]] = trace.get("runs") or []
    with st.expander("Used for training", icon=":material/model_training:", key="panel_used_by"):
        components.lineage(
            "used",
            [
                {
                    "kind": "Snapshot",
                    "entries": [snapshot_entry(s) for s in snapshots],
                    "none": "in no snapshot yet",
                },
                {"kind": "Run", "entries": [run_entry(r) for r in runs], "none": "no run yet"},
            ],
        )


def snapshot_entry(snapshot: Any) -> dict[str, Any]:
    """A snapshot (its id, or id and name) as a lineage entry."""
    row: Mapping[str, Any] = snapshot if isinstance(snapshot, Mapping) else {"id": snapshot}
    return {
        "id": row["id"],
        "about": row.get("name"),
        "open": Open("datasets", {"snapshot_id": row["id"]}).to_json(),
    }


def run_entry(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run as a lineage entry."""
    about = " · ".join(str(p) for p in (run.get("method"), run.get("model_name"), run.get("status")) if p)
    return {"id": run["id"], "about": about, "open": Open("runs", {"run_id": run["id"]}).to_json()}


def _tokens(usage: Mapping[str, Any]) -> str | None:
    if usage.get("input") is None and usage.get("output") is None:
        return None
    return f"{words.count(usage.get('input'))} in, {words.count(usage.get('output'))} out"


def _details(trace_id: str, span: Span | None) -> None:
    rows: list[tuple[str, Any]] = [("Trace", trace_id)]
    if span is not None:
        usage = span.get("usage") or {}
        rows += [
            ("Span", span["span_id"]),
            ("Time", f"{words.clock(span['start_time'])} UTC"),
            ("Took", words.duration(span.get("duration_ns"))),
            ("Model", span.get("model_answered") or span.get("model_requested")),
            ("Prompt", " ".join(str(v) for v in (span.get("prompt_name"), span.get("prompt_version")) if v)),
            ("Tokens", _tokens(usage)),
            ("Cost", None if span.get("cost") is None else words.dollars(span["cost"])),
            ("Service", " ".join(str(v) for v in (span.get("service"), span.get("environment")) if v)),
            ("Session", span.get("session_id")),
            ("User", span.get("user_id")),
            ("Tags", ", ".join(span.get("tags") or [])),
        ]
    with panels.panel("details"):
        panels.header("Details", "Times are UTC")
        heads = [
            {"key": "what", "label": "What", "kind": ""},
            {"key": "value", "label": "Value", "kind": "wrap"},
        ]
        components.table(
            "details",
            heads,
            [{"cells": [k, v]} for k, v in rows if v],
            caption="Details of the span",
            link=-1,
            plain=True,
        )
