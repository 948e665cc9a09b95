"""Erasing a user or a session: a button that asks again, and the receipt."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from heedloop.client import Client
from heedloop_dashboard import panels
from heedloop_dashboard.fetch import current, write

_WORDS = {"user_id": "user", "session_id": "session"}


def button(by: Literal["user_id", "session_id"], value: str) -> None:
    """For keys that may: everything of this user or session goes, for good."""
    if not current().can("admin"):
        return
    with st.popover("Erase", icon=":material/delete_forever:", key=f"erase_{by}"):
        st.text(f"Everything of this {_WORDS[by]} is erased from the store: calls, feedback, review items.")
        typed = st.text_input(f"Enter the {_WORDS[by]} id to confirm", key=f"erase_{by}_typed")
        if st.button("Erase for good", type="primary", key=f"erase_{by}_yes", disabled=typed != value):
            answer = write(Client.erase, **{by: value})
            if panels.failed(answer):
                return
            st.text(f"Erased. The receipt is {answer.value.erasure_id}.")
