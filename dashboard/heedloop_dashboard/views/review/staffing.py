"""The settings of a queue about how often is asked, who gets what, and who is told what happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from heedloop.responses import Queue
from heedloop_dashboard.review.questions import lines

UNTIL = {
    "number": "A fixed number",
    "agreement": "One more while annotators disagree",
    "confidence": "One more until confident enough",
}
ORDERS = {"added": "In the order added", "newest": "Newest first", "random": "At random"}
CARELESS = {"tell": "Notify only", "pause": "Pause", "replace": "Pause and replace their judgements"}


def fields(key: str, queue: Queue | None) -> dict[str, Any]:
    """The fields as of `queue`, or as a new queue begins."""

    def now(name: str, new: Any) -> Any:
        value = getattr(queue, name) if queue is not None else None
        return new if value is None else value

    with st.expander("Number of judgements, assignment, order", key=f"{key}_staffing"):
        until = st.selectbox(
            "Judgements", list(UNTIL), index=list(UNTIL).index(now("until", "number")), format_func=lambda u: UNTIL[u], key=f"{key}_until"
        )  # fmt: skip
        most, sure = st.columns(2)
        order = st.selectbox(
            "Order", list(ORDERS), index=list(ORDERS).index(now("order", "added")), format_func=lambda o: ORDERS[o], key=f"{key}_order",
            help="A higher priority comes first in each order.",
        )  # fmt: skip
        found: dict[str, Any] = {
            "until": until,
            "max_judgements": most.number_input("At most", 0, 1000, now("max_judgements", 0) or 3, key=f"{key}_most", disabled=until == "number"),
            "confidence": sure.slider("Confidence (%)", 50, 100, round(100 * now("confidence", 0.9)), key=f"{key}_sure", disabled=until != "confidence"),
            "order": order,
            "by_language": st.checkbox("Match annotators' languages", value=now("by_language", False), key=f"{key}_language",
                                       help="By metadata.language of the answer, and the languages on the page People."),
            "second_share": st.slider("Second judgement by another annotator (%)", 0, 100, round(100 * now("second_share", 0.0)), key=f"{key}_second",
                                      help="Chosen at random; neither annotator is told."),
            "second_by": st.text_input("Second annotators", value=", ".join(now("second_by", [])), key=f"{key}_second_by", placeholder="Any other annotator, or group:seniors"),
        }  # fmt: skip
    with st.expander("Notifications and careless annotators", key=f"{key}_telling"):
        careless = st.selectbox(
            "When an annotator is careless", list(CARELESS), index=list(CARELESS).index(now("on_careless", "tell")),
            format_func=lambda c: CARELESS[c], key=f"{key}_careless",
        )  # fmt: skip
        found |= {
            "on_careless": careless,
            "webhook_url": st.text_input("Webhook", value=now("webhook_url", ""), key=f"{key}_webhook", max_chars=2000, placeholder="https://…",
                                         help="Notified when answers or the queue are done, the queue is stuck, or an annotator is careless."),
            "stuck_hours": st.number_input("Hours without a judgement until stuck (0: never)", 0, 8760, now("stuck_hours", 0), key=f"{key}_stuck"),
            "suspended": st.text_input("Paused annotators", value=", ".join(now("suspended", [])), key=f"{key}_suspended", placeholder="None"),
            "uncounted": st.text_input("Annotators whose judgements are replaced", value=", ".join(now("uncounted", [])), key=f"{key}_uncounted", placeholder="None"),
        }  # fmt: skip
        if queue is not None and queue.webhook_secret:
            st.text("Messages are signed with this secret:")
            st.code(queue.webhook_secret, language=None)
    return found


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as the API takes them."""
    names = {n: lines(given[n].replace(",", "\n")) for n in ("second_by", "suspended", "uncounted")}
    return {
        **given,
        **names,
        "max_judgements": int(given["max_judgements"]) if given["until"] != "number" else 0,
        "confidence": given["confidence"] / 100,
        "second_share": given["second_share"] / 100,
        "stuck_hours": int(given["stuck_hours"]),
        "webhook_url": given["webhook_url"].strip(),
    }
