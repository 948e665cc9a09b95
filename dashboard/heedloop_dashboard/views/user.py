"""One user: how satisfied, with what comments, in which sessions; and erasing all of it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from heedloop.client import Client
from heedloop.responses import FeedbackPage, SessionSummary, User
from heedloop_dashboard import components, lists, panels, words
from heedloop_dashboard.fetch import Answer, ask, read
from heedloop_dashboard.navigation import Open
from heedloop_dashboard.state import ALL
from heedloop_dashboard.views import erase, feedback


def show() -> None:
    """Draw the user that the URL names."""
    user_id = st.query_params.get("user_id", "")
    title = st.container(horizontal=True, vertical_alignment="center")
    with title:
        st.subheader("User", anchor=False, width="stretch")
    answers = read(
        user=ask(Client.user, user_id),
        comments=ask(Client.feedback, user_id=user_id, has_comment=True, limit=50),
    )
    if panels.failed(answers["user"]):
        return
    found: User = answers["user"].value
    with title:
        components.links("up", [("All answers", _answers(found))], label="User")
        erase.button("user_id", user_id)
    st.text(user_id)
    components.cards("user_cards", _cards(found))
    with panels.panel("sessions"):
        panels.header("Sessions", "Newest first. Select one to read the conversation")
        lists.show(
            "session_rows",
            found.sessions,
            SESSIONS,
            caption="Sessions, newest first",
            open=_open_session,
            row_key=lambda s: s.session_id,
            tall=True,
        )
    _comments(answers["comments"])


def _answers(found: User, **more: str) -> Open:
    return Open("traces", {"user_id": found.user_id, "period": ALL, **more})


def _cards(found: User) -> list[components.Card]:
    tokens = f"{words.count(found.input_tokens + found.output_tokens)} tokens"
    rate = words.percent(words.estimate(found.rate))
    return [
        components.Card(
            "rate",
            "Thumbs-up rate",
            rate,
            words.spread(found.rate, "no ratings"),
            open=_answers(found, rating="any"),
        ),
        components.Card(
            "answers",
            "Answers",
            words.count(found.num_answers),
            f"{found.num_errors:,} failed",
            open=_answers(found),
        ),
        components.Card(
            "seen", "Last seen", words.day(found.last_at), f"since {words.clock(found.first_at)} UTC"
        ),
        components.Card("cost", "Cost", words.dollars(found.cost or None), tokens),
    ]


def _open_session(session: SessionSummary) -> Open | None:
    return Open("session", {"session_id": session.session_id}) if session.session_id else None


SESSIONS: Sequence[lists.Column[SessionSummary]] = (
    lists.Column("Last answer", lambda s: words.clock(s.last_at)),
    lists.Column("First question", lambda s: s.first_question, "wide"),
    lists.Column("Answers", lambda s: words.count(s.num_answers), "number"),
    lists.Column(
        "Thumbs", lambda s: f"{s.num_up} up, {s.num_rated - s.num_up} down" if s.num_rated else None
    ),
    lists.Column("Failed", lambda s: words.count(s.num_errors), "number"),
    lists.Column("Cost", lambda s: words.dollars(s.cost or None), "number"),
    lists.Column("Session", lambda s: s.session_id or "no session", "mono"),
)


def _comments(answer: Answer[FeedbackPage]) -> None:
    with panels.panel("comments"):
        panels.header("Comments", "On this user's answers, newest first")
        if answer.error is not None:
            panels.problem(answer.error)
        elif answer.value.feedback:
            feedback.rows("user_comments", answer.value.feedback)
        else:
            panels.empty("No comment yet.")
