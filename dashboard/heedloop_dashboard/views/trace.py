"""One trace."""

import streamlit as st


def show() -> None:
    st.text(st.query_params.get("trace_id"))
