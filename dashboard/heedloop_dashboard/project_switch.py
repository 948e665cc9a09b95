"""The project at the head of the navigation: which one is shown, the others that this browser is signed in to, sign-out."""

from __future__ import annotations

import streamlit as st

from heedloop_dashboard.auth.sessions import COOKIE, SESSIONS, Session
from heedloop_dashboard.navigation import start_over


def show(session: Session) -> None:
    """Draw the project, or the choice of one where there are keys of several."""
    cookie = st.context.cookies.get(COOKIE)
    projects = SESSIONS.projects(cookie)
    if len(projects) > 1:
        chosen = st.selectbox("Project", projects, index=projects.index(session.project), key="project")
        if chosen != session.project:
            SESSIONS.switch(cookie, chosen)
            start_over()
    else:
        with st.container(border=True, key="project"):
            st.text(session.project)
    if SESSIONS.is_local:
        return
    st.text(f'Signed in with "{session.name}" ({session.role})' if session.name else session.role)
    links = '<a class="hl-out" href="/sign-out" target="_self">Sign out</a>'
    if session.via == "key":
        links = '<a class="hl-out" href="/sign-in?add=1" target="_self">Add a project</a>' + links
    st.html(f'<nav class="hl-account" aria-label="Account">{links}</nav>')
