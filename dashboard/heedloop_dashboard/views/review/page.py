"""Review, as an annotator sees it: the queues they may work in, and one answer after another."""

from __future__ import annotations

import streamlit as st

from heedloop.client import Client
from heedloop.responses.projects import Me
from heedloop_dashboard import panels
from heedloop_dashboard.components import review
from heedloop_dashboard.fetch import read_one


def show() -> None:
    """Draw the queue in the URL, else the list of queues."""
    who = reader()
    if who is not None:
        review.work((st.query_params.get("queue") or "").strip() or None, who=who)


def reader() -> str | None:
    """A name for this person that nobody else's drafts in this browser stand under; None where the server does not answer."""
    me = read_one(Client.me)
    if me.error is not None:
        panels.problem(me.error)
        return None
    found: Me = me.value
    return f"{found.project}/{found.key_id}"
