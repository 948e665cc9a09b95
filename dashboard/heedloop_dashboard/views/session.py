"""One conversation: its turns oldest first, with the feedback at each, what it cost and how long it took."""

from __future__ import annotations

from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Conversation, Turn
from heedloop_dashboard import components, judgements, panels, words
from heedloop_dashboard.fetch import read_one
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.views import erase


def show() -> None:
    """Draw the session that the URL names."""
    session_id = st.query_params.get("session_id", "")
    title = st.container(horizontal=True, vertical_alignment="center")
    with title:
        st.subheader("Conversation", anchor=False, width="stretch")
    answer = read_one(Client.conversation, session_id)
    if panels.failed(answer):
        return
    found = answer.value
    with title:
        components.links("up", _links(found), label="Conversation")
        erase.button("session_id", session_id)
    components.cards("session_cards", _cards(found))
    with panels.panel("turns"):
        panels.header(
            "Turns",
            "The first 500 turns, oldest first"
            if found.truncated
            else "Oldest first; the feedback on a turn is under its answer",
        )
        if found.feedback:
            components.feedback("session_feedback", [_judgement(f) for f in found.feedback])
        messages = [message for turn in found.turns for message in _messages(turn)]
        if messages:
            components.conversation("turns", messages)
        else:
            panels.empty("Feedback on this session has arrived, its answers have not (yet).")


def _links(found: Conversation) -> list[tuple[str, Open | None] | dict[str, Any]]:
    users: list[tuple[str, Open | None] | dict[str, Any]] = [
        (f"User {user}", Open("user", {"user_id": user})) for user in found.user_ids[:3]
    ]
    return [*users, ("As a list", Open("traces", {"session_id": found.session_id, "period": "All"}))]


def _cards(found: Conversation) -> list[components.Card]:
    took = (found.last_at - found.first_at).total_seconds()
    thumbs = [t.call.thumb for t in found.turns if t.call.thumb is not None]
    up = sum(thumbs)
    rated = f"{up} up, {len(thumbs) - up} down" if thumbs else words.NONE
    tokens = f"{words.count(found.input_tokens + found.output_tokens)} tokens"
    duration = words.duration(took * 1e9) if took else words.NONE
    turns = words.plural(len(found.turns), "turn")
    return [
        components.Card(
            "turns", "Turns", words.count(len(found.turns)), words.plural(found.num_calls, "model call")
        ),
        components.Card("time", "From first to last", duration, f"{words.clock(found.first_at)} UTC"),
        components.Card("rated", "Thumbs", rated, f"{len(thumbs)} of {turns} rated"),
        components.Card("cost", "Cost", words.dollars(found.cost or None), tokens),
    ]


def _messages(turn: Turn) -> list[dict[str, Any]]:
    call = turn.call
    tokens = turn.input_tokens + turn.output_tokens
    note = [
        words.clock(call.start_time), call.prompt_version, call.model, words.duration(call.duration_ns),
        f"{tokens:,} tokens" if tokens else None, words.dollars(turn.cost) if turn.cost else None,
    ]  # fmt: skip
    trace = Open("trace", {"trace_id": call.trace_id, "span_id": call.span_id})
    answer = {
        "role": "assistant",
        "text": turn.answer,
        "error": (call.error_message or "The answer failed without a message.") if call.status == "error" else None,
        "note": " · ".join(p for p in note if p),
        "open": trace.to_json(),
        "feedback": [_judgement(f) for f in turn.feedback],
    }  # fmt: skip
    return [{"role": "user", "text": turn.question}, answer] if turn.question else [answer]


def _judgement(feedback: Any) -> dict[str, Any]:
    shown = judgements.entry(feedback)
    texts = [t for t in (shown["text"], feedback.correction) if t]
    target = Open("feedback", {"feedback_id": feedback.feedback_id})
    return {**shown, "text": "\n".join(texts) or None, "open": target.to_json()}
