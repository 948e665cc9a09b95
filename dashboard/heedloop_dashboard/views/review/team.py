"""The people of the project: their groups and languages, and links with which they sign in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

import streamlit as st

from heedloop.client import Client
from heedloop.responses import Key, SignInLink, TeamMember
from heedloop_dashboard import components, panels, words
from heedloop_dashboard.fetch import ask, read_page, write
from heedloop_dashboard.review.questions import lines

ROLES = {"annotator": "Annotator", "reviewer": "Reviewer", "viewer": "Viewer", "admin": "Admin"}
_MADE = "heedloop_link_made"
_SIGN_IN = "sign-in:"


def show() -> None:
    """Draw everybody with a key, the form of a link, and what is known of each."""
    st.subheader("People", anchor=False)
    answers = read_page(keys=ask(Client.keys), team=ask(Client.review_team))
    for answer in answers.values():
        if panels.failed(answer):
            return
    members: Sequence[TeamMember] = answers["team"].value
    made: SignInLink | None = st.session_state.pop(_MADE, None)
    if made is not None:
        _show_link(made)
    left, right = st.columns([1, 1], gap="small")
    with left:
        _invite()
    with right:
        _member()
    _list(answers["keys"].value, {m.author_id: m for m in members})


def _show_link(made: SignInLink) -> None:
    here = urlsplit(st.context.url or "")
    address = f"{here.scheme}://{here.netloc}/sign-in/link?{urlencode({'token': made.token})}"
    with panels.panel("link"):
        panels.header("The link", "Send it to that person only. It works once and is shown only now")
        st.text(f"{made.author_id}, {made.role}, until {words.clock(made.expires_at)}")
        st.code(address, language=None)


def _invite() -> None:
    with panels.panel("invite"), st.form("invite", border=False, clear_on_submit=True):
        panels.header("Invite", "A link to create their own key, which you never see")
        who = st.text_input(
            "Who", max_chars=256, placeholder="ada@example.org", help="Their judgements are stored under it."
        )
        role = st.selectbox("Role", list(ROLES), format_func=lambda r: ROLES[r])
        if not st.form_submit_button("Create sign-in link", type="primary"):
            return
    if not who.strip():
        st.text("Enter who it is for.")
        return
    answer = write(Client.create_link, who.strip(), role=role)
    _then(answer, answer.value)


def _member() -> None:
    with panels.panel("member"), st.form("member", border=False, clear_on_submit=True):
        panels.header(
            "Groups and languages", "Queues name groups as group:NAME; no languages means all of them"
        )
        who = st.text_input("Who", max_chars=256, placeholder="ada@example.org", key="member_who")
        groups = st.text_input("Groups", placeholder="legal, seniors")
        languages = st.text_input("Languages", placeholder="de, en")
        if not st.form_submit_button("Save"):
            return
    if not who.strip():
        st.text("Enter who it is.")
        return
    answer = write(Client.set_team_member, who.strip(), groups=_names(groups), languages=_names(languages))
    _then(answer, None)


def _names(text: str) -> list[str]:
    return lines(text.replace(",", "\n"))


def _then(answer: Any, made: SignInLink | None) -> None:
    if panels.failed(answer):
        return
    st.session_state[_MADE] = made
    st.rerun()


def _list(keys: Sequence[Key], members: dict[str, TeamMember]) -> None:
    """Everybody with a usable key or link of their own, and those of whom something else is known."""
    rows: dict[str, list[str | None]] = {}
    for key in keys:
        if key.revoked_at is None and (key.author_id or key.role == "annotator"):
            rows.setdefault(key.author_id or key.name, _cells(key, members.get(key.author_id or key.name)))
    for name, member in members.items():
        rows.setdefault(name, [name, None, ", ".join(member.groups), ", ".join(member.languages), None])
    with panels.panel("team"):
        panels.header("Team", "Each person's newest key. Keys are revoked on the page Keys")
        heads = components.columns(["Who", "Role", "Groups", "Languages", "Last used"], [])
        shown = [{"key": who, "cells": cells} for who, cells in sorted(rows.items())]
        if shown:
            components.table("team_rows", heads, shown, caption="People", link=-1)
        else:
            panels.empty("Nobody yet. Invite someone above.")


def _cells(key: Key, member: TeamMember | None) -> list[str | None]:
    link = next((s.removeprefix(_SIGN_IN) for s in key.scopes if s.startswith(_SIGN_IN)), None)
    return [
        key.author_id or key.name,
        f"link for {link}" if link else key.role or ", ".join(key.scopes),
        ", ".join(member.groups) if member else None,
        ", ".join(member.languages) if member else None,
        words.clock(key.last_used_at) if key.last_used_at else None,
    ]
