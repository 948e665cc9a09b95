"""Keys of the caller's project, and who the caller is."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, Field

from heedloop.responses import projects as responses
from heedloop.schema import SchemaError
from heedloop_server.errors import Forbidden, NotFound
from heedloop_server.http.auth import (
    KeyRing,
    Principal,
    any_key_route,
    caller,
    check_scopes,
    make_key,
    require,
    role_of,
    scopes_of_role,
)
from heedloop_server.http.responses import Router
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.admin.keys import find_key, list_keys, revoke_key
from heedloop_server.store.connection import Store

router = Router()

Admin = Annotated[Principal, Depends(require("admin"))]


class NewKey(BaseModel):
    """A key to make: with the scopes of a role, or with scopes one by one."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    scopes: list[str] | None = None
    role: str | None = None
    author_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    expires_at: AwareDatetime | None = None

    def chosen_scopes(self) -> tuple[str, ...]:
        """The scopes asked for; raises `SchemaError` where there is not exactly one of role and scopes."""
        if (self.role is None) == (self.scopes is None):
            raise SchemaError("role", "give either a role or scopes")
        return check_scopes(self.scopes) if self.scopes is not None else scopes_of_role(self.role or "")


@router.get("/v1/me")
@any_key_route
def get_me(
    request: Request, of_key: Annotated[str | None, Query(pattern=r"^[0-9a-f]{12}$")] = None
) -> responses.Me:
    """Whose key this is. Any usable key may ask, whatever its scopes.

    With `of_key`, the id of another key: whether that is (or was, before it was revoked) one of the same project.
    """
    who = caller(request)
    same_project = None
    if of_key is not None:
        other = find_key(cast(Store, request.app.state.store), of_key)
        same_project = other is not None and other.project_id == who.project
    return responses.Me(
        project=who.project,
        scopes=sorted(who.scopes),
        role=role_of(who.scopes),
        author_id=who.author_id or None,
        key_id=who.key_id,
        name=who.name,
        same_project=same_project,
    )


@router.get("/v1/keys")
def get_keys(request: Request, who: Admin) -> responses.KeyList:
    """The project's keys, newest first, without their secrets."""
    rows = list_keys(cast(Store, request.app.state.store).project(who.project))
    return responses.KeyList(keys=[responses.Key(**row, role=role_of(row["scopes"])) for row in rows])


@router.post("/v1/keys", status_code=201)
def post_key(request: Request, who: Admin, body: NewKey) -> responses.CreatedKey:
    """Make a key of this project; its text is in this response and nowhere else, ever."""
    store = cast(Store, request.app.state.store)
    scopes = body.chosen_scopes()
    if "instance" in scopes and "instance" not in who.scopes:
        raise Forbidden("only a key with the scope 'instance' can give it")
    if body.expires_at is not None and body.expires_at.year > 2200:
        raise SchemaError(
            "expires_at", "is later than the year 2200; leave it out for a key that never expires"
        )
    text, key = make_key(
        store,
        who.project,
        name=body.name,
        scopes=scopes,
        expires_at=body.expires_at,
        author_id=body.author_id or "",
    )
    noted = {"name": body.name, "scopes": list(scopes), "author_id": key.author_id or None}
    write_audit(store, who, "create_key", key.key_id, noted)
    return responses.CreatedKey(
        key=text,
        key_id=key.key_id,
        name=key.name,
        scopes=list(key.scopes),
        role=role_of(key.scopes),
        author_id=key.author_id or None,
        created_at=key.created_at,
        expires_at=key.expires_at,
    )


@router.delete("/v1/keys/{key_id}")
def delete_key(request: Request, who: Admin, key_id: str) -> responses.RevokedKey:
    """Revoke a key of this project at once."""
    store = cast(Store, request.app.state.store)
    ring = cast(KeyRing, request.app.state.keys)
    ring.forget(key_id)
    key = ring.find(key_id)
    if key is None or key.project_id != who.project:
        raise NotFound(f"there is no key {key_id} in this project")
    revoke_key(store, key)
    ring.forget(key_id)
    write_audit(store, who, "revoke_key", key_id, {})
    return responses.RevokedKey(key_id=key_id, revoked=True)
