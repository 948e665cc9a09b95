"""The project's keys: who works with which, a new one for a person or an app, and revoking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from heedloop.client import Client
from heedloop.responses import CreatedKey, Key
from heedloop_dashboard import components, lists, panels, words
from heedloop_dashboard.fetch import current, read_one, write
from heedloop_dashboard.navigation import Open

_NEW = "heedloop_new_key"
ROLES = {
    "viewer": "Viewer: reads everything",
    "annotator": "Annotator: works in review queues",
    "reviewer": "Reviewer: sees and adjudicates all judgements",
    "admin": "Admin: everything of this project",
    "app": "App: sends traces and feedback",
}
SCOPES_OF_APP = ["ingest", "feedback"]


def show() -> None:
    """Draw the list, the form, and the key that was just created."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Keys", anchor=False, width="stretch")
        if current().can("admin"):
            components.links(
                "invite", [("Invite by sign-in link", Open("team"))], label="People", framed=True
            )
    if not current().can("admin"):
        panels.empty("Your key may not see the project's keys: that needs the scope admin.")
        return
    _new_key()
    answer = read_one(Client.keys)
    lists.panel(
        "keys",
        "Keys of this project",
        "A key's text is shown once, when it is created; lost ones are replaced",
        answer,
        COLUMNS,
        empty_text="No keys yet.",
        row_key=lambda k: k.key_id,
        tall=True,
    )
    if answer.error is not None:
        return
    usable = [k for k in answer.value if k.revoked_at is None]
    left, right = st.columns(2, gap="small")
    with left, panels.panel("new_key", stretch=True):
        _form()
    with right, panels.panel("revoke_key", stretch=True):
        _revoke(usable)


COLUMNS: Sequence[lists.Column[Key]] = (
    lists.Column("Name", lambda k: k.name),
    lists.Column("May", lambda k: k.role or ", ".join(k.scopes)),
    lists.Column("Person", lambda k: k.author_id),
    lists.Column("Last used", lambda k: words.clock(k.last_used_at)),
    lists.Column("Created", lambda k: words.clock(k.created_at)),
    lists.Column("State", lambda k: "Revoked" if k.revoked_at else "Ok", "state"),
    lists.Column("Key id", lambda k: k.key_id, "mono"),
)


def _form() -> None:
    panels.header("New key", "For a person, or for an app that sends")
    with st.form("new_key", border=False, clear_on_submit=True):
        name = st.text_input("Name", placeholder="Ana's laptop, or checkout-service", max_chars=256)
        role = st.selectbox("May", list(ROLES), format_func=lambda r: ROLES[r])
        person = st.text_input(
            "Person",
            placeholder="Annotators and reviewers only",
            max_chars=256,
        )
        if not st.form_submit_button("Create key", type="primary"):
            return
    if not name.strip():
        st.text("Give the key a name.")
        return
    chosen: dict[str, Any] = {"scopes": SCOPES_OF_APP} if role == "app" else {"role": role}
    answer = write(Client.create_key, name.strip(), author_id=person.strip() or None, **chosen)
    if panels.failed(answer):
        return
    st.session_state[_NEW] = answer.value
    st.rerun()


def _new_key() -> None:
    """The new key, until another page is opened or this one is left."""
    made: CreatedKey | None = st.session_state.pop(_NEW, None)
    if made is None:
        return
    with panels.panel("created_key"):
        panels.header(f"New key: {made.name}", "Copy it now; it is not shown again")
        st.code(made.key, language=None)
        if "read" in made.scopes or "annotate" in made.scopes:
            st.text("To sign in, open this dashboard's /sign-in page and enter the key there.")
        else:
            st.text("Set it as HEEDLOOP_API_KEY where the app runs.")


def _revoke(keys: list[Key]) -> None:
    panels.header("Revoke a key", "It stops working at once, everywhere")
    me = read_one(Client.me)
    own = "" if me.error is not None else me.value.key_id
    names = {k.key_id: f"{k.name} ({k.key_id})" for k in keys if k.key_id != own}
    if not names:
        panels.empty("There is no other key than yours.")
        return
    chosen = st.selectbox(
        "Key", list(names), format_func=lambda i: names[i], index=None, placeholder="Choose a key"
    )
    if st.button("Revoke", disabled=chosen is None, key="revoke") and chosen is not None:
        answer = write(Client.delete_key, chosen)
        if panels.failed(answer):
            return
        st.rerun()
