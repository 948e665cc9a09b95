"""Views that the project's admins saved for everybody: a page with its filters under a name."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, urlencode

import streamlit as st

from heedloop.client import Client
from heedloop_dashboard import components, panels
from heedloop_dashboard.fetch import ask_seldom, current, read, write
from heedloop_dashboard.navigation import Open


def menu(page: str) -> None:
    """A menu of the saved views; keys that may can save the page as it is, and remove views."""
    # a key of its own for each page: the menu closes once a view of another page is opened
    with st.popover("Views", icon=":material/bookmark:", key=f"views_{page}"):
        answer = read(project=ask_seldom(Client.project))["project"]
        if panels.failed(answer):
            return
        views: Mapping[str, str] = answer.value.views
        for place, (name, link) in enumerate(views.items()):
            _entry(place, name, link, views)
        if not views:
            st.caption("No saved view yet. A view is a page with its period and filters.")
        if current().can("admin"):
            _save_form(page, views)


def _entry(place: int, name: str, link: str, views: Mapping[str, str]) -> None:
    path, _, query = link.partition("?")
    target = Open(path, parse_qs(query, keep_blank_values=True))
    with st.container(horizontal=True, vertical_alignment="center", wrap=False):
        components.links(f"view_{place}", [(name, target)], label=f"Saved view {place + 1}", left=True)
        if current().can("admin") and st.button("Remove", key=f"view_{place}_remove", type="tertiary"):
            _save({n: v for n, v in views.items() if n != name})


def _save_form(page: str, views: Mapping[str, str]) -> None:
    with st.form("save_view", border=False, clear_on_submit=True):
        name = st.text_input("Name", max_chars=80, placeholder="Refunds, thumbs-down").strip()
        if st.form_submit_button("Save this view") and name:
            _save({**views, name: link_of(page)})


def link_of(page: str) -> str:
    """The page as it is, as a link inside the dashboard: its place in a list does not belong to it."""
    names = (n for n in st.query_params if n != "cursor")
    query = urlencode([(n, v) for n in names for v in st.query_params.get_all(n)])
    return page + (f"?{query}" if query else "")


def _save(views: Mapping[str, str]) -> None:
    answer = write(Client.update_project, views=dict(views))
    if panels.failed(answer):
        return
    st.rerun()
