"""The members of the team that reviews: their groups and languages; and sign-in links, each good for one key."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from heedloop.responses import CreatedKey, ReviewTeam, SignInLink, TeamMember, extended
from heedloop.schema import utc_now
from heedloop_server.errors import Forbidden
from heedloop_server.http.auth import (
    INVITED,
    any_key_route,
    caller,
    make_key,
    scopes_of_role,
)
from heedloop_server.http.responses import Router
from heedloop_server.http.services import AdminKey, AnyStore, Keys, Queues, ReviewKey
from heedloop_server.routes.keys import created_key
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.admin.keys import revoke_key
from heedloop_server.store.review.team import Member, list_members, save_member

router = Router()

Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^\S(.*\S)?$")]
Names = Annotated[list[Name], Field(max_length=100)]
MAX_LINK_HOURS = 14 * 24


class MemberChanges(BaseModel):
    """What is to be known of a member."""

    model_config = ConfigDict(extra="forbid")
    author_id: Name
    groups: Names = []
    languages: Names = []


@router.get("/v1/review/team")
def get_team(store: AnyStore, who: ReviewKey) -> ReviewTeam:
    """Everybody of whom groups or languages are known."""
    members = list_members(store.project(who.project))
    return ReviewTeam(members=[_response(p) for p in members.values()])


@router.put("/v1/review/team")
def put_member(store: AnyStore, queues: Queues, who: AdminKey, body: MemberChanges) -> TeamMember:
    """Say which groups somebody is in and which languages they read: queues name groups as `group:NAME`."""
    member = Member(body.author_id, tuple(dict.fromkeys(body.groups)), tuple(dict.fromkeys(body.languages)))
    save_member(store.project(who.project), member)
    queues.set_members(who.project)
    noted = {"groups": list(member.groups), "languages": list(member.languages)}
    write_audit(store, who, "change_member", body.author_id, noted)
    return _response(member)


def _response(member: Member) -> TeamMember:
    return extended(TeamMember, member, groups=list(member.groups), languages=list(member.languages))


class NewLink(BaseModel):
    """Whom a sign-in link is for, and what their key will be able to do."""

    model_config = ConfigDict(extra="forbid")
    author_id: Name
    role: str = "annotator"
    hours: Annotated[int, Field(ge=1, le=MAX_LINK_HOURS, strict=True)] = 7 * 24


@router.post("/v1/keys/links", status_code=201)
def post_link(store: AnyStore, who: AdminKey, body: NewLink) -> SignInLink:
    """A token for one member, once: with it they make their own key. It can do nothing else, and ends by itself."""
    scopes_of_role(body.role)
    expires_at = utc_now() + timedelta(hours=body.hours)
    text, key = make_key(
        store,
        who.project,
        name=f"link for {body.author_id}"[:256],
        scopes=(INVITED + body.role,),
        expires_at=expires_at,
        author_id=body.author_id,
    )
    write_audit(store, who, "create_link", key.key_id, {"author_id": body.author_id, "role": body.role})
    return SignInLink(
        token=text,
        key_id=key.key_id,
        author_id=body.author_id,
        role=body.role,
        expires_at=expires_at,
    )


@router.post("/v1/keys/accept", status_code=201)
@any_key_route
def accept_link(request: Request, store: AnyStore, ring: Keys) -> CreatedKey:
    """Make the key that a link stands for; the link, sent as the key of this request, is used up."""
    who = caller(request)
    role = next((s.removeprefix(INVITED) for s in who.scopes if s.startswith(INVITED)), None)
    link = ring.find(who.key_id)
    if role is None or link is None:
        raise Forbidden("this is a key already, not a sign-in link")
    revoke_key(store, link)
    ring.forget(who.key_id)
    text, key = make_key(
        store, who.project, name=who.author_id, scopes=scopes_of_role(role), author_id=who.author_id
    )
    write_audit(store, who, "accept_link", who.key_id, {"key_id": key.key_id, "role": role})
    return created_key(text, key)
