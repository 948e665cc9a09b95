"""Judge an answer on its own page: thumb, flag, comment and correction of keys that may send feedback."""

from __future__ import annotations

from typing import get_args

import streamlit as st

from heedloop.client import Client
from heedloop.schema import THUMB, Author, Call, Feedback, Severity, Target
from heedloop_dashboard import filters, panels
from heedloop_dashboard.fetch import current, write

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
_THUMBS = {1: ":material/thumb_up: Good", 0: ":material/thumb_down: Bad"}
_SAVED = "heedloop_judged"


def author() -> Author:
    """Who judges here; the server puts the key's own person in this place where it has one."""
    session = current()
    return Author("annotator", session.person or session.name or session.role)


def flag_fields(key: str) -> tuple[str, Severity, str]:
    """The fields of a flag: category (a known one or a new one), severity and comment."""
    category, severity = st.columns([1.6, 1], gap="small")
    return (
        category.selectbox(
            "Flag", filters.values_of("flag"), index=None, accept_new_options=True, placeholder="Category",
            key=f"{key}_category",
        ) or "",
        severity.selectbox("Severity", SEVERITIES, index=1, key=f"{key}_severity"),
        st.text_area("Comment", height=68, max_chars=10_000, key=f"{key}_comment").strip(),
    )  # fmt: skip


def show(span: Call | None) -> None:
    """Draw the panel for the chosen span, where it is an answer and the key may judge."""
    if span is None or not span.output_text or not current().can("feedback"):
        return
    with st.expander("Judge this answer", icon=":material/rate_review:", key="judge"):
        if st.session_state.pop(_SAVED, None) == span.span_id:
            st.caption("Saved. It is in the list above within seconds.")
        with st.form(f"judge_{span.span_id}", border=False, clear_on_submit=True):
            thumb = st.segmented_control("Rating", list(_THUMBS), format_func=lambda t: _THUMBS[t])
            category, severity, comment = flag_fields("judge")
            correction = st.text_area("Correction", value=span.output_text, height=120, max_chars=100_000)
            if not st.form_submit_button("Save", type="primary"):
                return
        _save(span, feedback_of(span, thumb, category, severity, comment, correction))


def feedback_of(
    span: Call, thumb: int | None, category: str, severity: Severity, comment: str, correction: str
) -> list[Feedback]:
    """The fields as feedback; a correction that is the answer itself is none, a comment stands with what it explains."""
    target = Target(trace_id=span.trace_id, span_id=span.span_id)
    by = author()
    found: list[Feedback] = []
    if thumb is not None:
        found.append(Feedback("rating", target, "thumb", thumb, THUMB, author=by))
    if category:
        found.append(Feedback("flag", target, category=category, severity=severity, author=by))
    if correction.strip() and correction != span.output_text:
        found.append(Feedback("correction", target, correction=correction, author=by))
    if comment:
        found.append(Feedback("comment", target, comment=comment, author=by))
    return found


def _save(span: Call, feedback: list[Feedback]) -> None:
    if not feedback:
        st.caption("Nothing was entered.")
        return
    answer = write(Client.send_feedback, feedback)
    if panels.failed(answer):
        return
    st.session_state[_SAVED] = span.span_id
    st.rerun()
