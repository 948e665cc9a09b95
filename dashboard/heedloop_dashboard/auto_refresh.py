"""The switch that reads a page again every half minute."""

from __future__ import annotations

import time

import streamlit as st

EVERY_S = 30.0
_DRAWN = "heedloop_drawn_at"


def switch() -> None:
    """Draw the switch; while it is on, the whole page is drawn again with new numbers."""
    st.session_state[_DRAWN] = time.monotonic()
    if st.toggle("Auto-refresh", key="auto_refresh", help=f"Reads the page again every {EVERY_S:g} seconds"):
        st.fragment(_draw_again, run_every=EVERY_S)()


def _draw_again() -> None:
    # the fragment also runs with the page itself, which was drawn just now
    if time.monotonic() - st.session_state[_DRAWN] > EVERY_S / 2:
        st.rerun(scope="app")
