"""Imports: what came from elsewhere, with its balance, and undoing one."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Import
from heedloop_dashboard import lists, panels, words
from heedloop_dashboard.fetch import ask, current, read, write


def show() -> None:
    """Draw the list and, for keys that may, the form that undoes one."""
    st.subheader("Imports", anchor=False)
    answer = read(all=ask(Client.imports))["all"]
    lists.panel(
        "imports",
        "Imports, newest first",
        "read = stored + known + left out, of judgements",
        answer,
        COLUMNS,
        empty_text="No imports yet. Import existing data with: heedloop import FILE",
        row_key=lambda i: i.id,
    )
    for one in answer.value or ():
        if one.left_out:
            reasons = "; ".join(f"{n:,} {reason}" for reason, n in sorted(one.left_out.items()))
            st.caption(f"{one.id} left out: {reasons}")
    undoable = [i for i in answer.value or () if i.status != "undone"]
    if undoable and current().can("admin"):
        _undo(undoable)


COLUMNS: Sequence[lists.Column[Import]] = (
    lists.Column("Started", lambda i: words.clock(i.started_at)),
    lists.Column("Source", lambda i: i.source),
    lists.Column("Files", lambda i: ", ".join(i.names)),
    lists.Column("Status", lambda i: i.status),
    lists.Column("Import id", lambda i: i.id, "mono"),
    lists.Column("Read", lambda i: f"{i.num_read:,}", "number"),
    lists.Column("Stored", lambda i: f"{i.num_stored:,}", "number"),
    lists.Column("Known", lambda i: f"{i.num_known:,}", "number"),
    lists.Column("Left out", lambda i: f"{sum(i.left_out.values()):,}", "number"),
    lists.Column("Calls", lambda i: f"{i.num_calls:,}", "number"),
)


def _undo(imports: Sequence[Import]) -> None:
    with st.popover("Undo an import", icon=":material/undo:", key="undo_import"):
        st.text("Its calls and feedback are removed; earlier feedback that it replaced counts again.")
        chosen = st.selectbox("Import", [i.id for i in imports], key="undo_import_id")
        typed = st.text_input("Enter the import id to confirm", key="undo_import_typed")
        if st.button("Undo", type="primary", key="undo_import_yes", disabled=typed != chosen):
            answer = write(Client.undo_import, chosen)
            if panels.failed(answer):
                return
            st.text(f"Removed {answer.value.num_calls:,} calls and {answer.value.num_feedback:,} judgements.")
