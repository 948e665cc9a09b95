"""The members of the team that reviews: their groups and languages, by author id."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from heedloop_server.store.connection import ProjectStore

GROUP = "group:"
"""How the name of a group begins where annotators are named."""


@dataclass(frozen=True, slots=True)
class Member:
    """One annotator; no languages means all of them."""

    author_id: str
    groups: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()

    def is_among(self, names: Collection[str]) -> bool:
        """True where they or a group of theirs is named, or nobody is."""
        return not names or self.author_id in names or any(GROUP + g in names for g in self.groups)

    def reads(self, language: str) -> bool:
        """True where an answer in this language may be given to them."""
        return not language or not self.languages or language in self.languages


def list_members(project: ProjectStore) -> dict[str, Member]:
    """Author id -> member, of those of whom something is known."""
    rows = project.rows(
        """
        SELECT
            author_id,
            groups,
            languages
        FROM review_team FINAL
        WHERE project_id = {project:String}
        ORDER BY author_id
        """,
        **project.fresh,
    )
    return {r["author_id"]: Member(r["author_id"], tuple(r["groups"]), tuple(r["languages"])) for r in rows}


def save_member(project: ProjectStore, member: Member) -> None:
    """Store a member, new or changed."""
    row = {
        "author_id": member.author_id,
        "groups": list(member.groups),
        "languages": list(member.languages),
        "version": time.time_ns(),
    }
    project.insert("review_team", [row], **project.lasting)
