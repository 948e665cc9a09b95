"""The project at the head of every page, with the others that this browser is signed in to; who is signed in, and sign-out."""

from __future__ import annotations

import streamlit as st

from heedloop_dashboard.auth.sessions import COOKIE, SESSIONS, Session
from heedloop_dashboard.navigation import start_over


def choice(session: Session) -> None:
    """Draw the project, or the choice of one where there are keys of several."""
    cookie = st.context.cookies.get(COOKIE)
    projects = SESSIONS.projects(cookie)
    if len(projects) > 1:
        chosen = st.selectbox(
            "Project",
            projects,
            index=projects.index(session.project),
            key="project",
            label_visibility="collapsed",
            width=150,
        )
        if chosen != session.project:
            SESSIONS.switch(cookie, chosen)
            start_over()
    else:
        st.container(key="project", width="content").text(session.project)


def account(session: Session) -> None:
    """Draw who is signed in, and the ways out and to another project."""
    if SESSIONS.is_local:
        return
    st.text(f'Signed in with "{session.name}" ({session.role})' if session.name else session.role)
    links = '<a class="hl-out" href="/sign-out" target="_self">Sign out</a>'
    if session.via == "key":
        links = '<a class="hl-out" href="/sign-in?add=1" target="_self">Add a project</a>' + links
    st.html(f'<nav class="hl-account" aria-label="Account">{links}</nav>')
