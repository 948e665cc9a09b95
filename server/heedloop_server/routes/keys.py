"""Keys of the caller's project, and who the caller is."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, Field

from heedloop.schema import SchemaError, format_time
from heedloop_server.answers.projects import KeyList, Me, NewKeyAnswer, RevokedKey
from heedloop_server.errors import Forbidden, NotFound
from heedloop_server.http.auth import (
    KeyRing,
    Principal,
    caller,
    check_scopes,
    make_key,
    open_route,
    require,
    role_of,
    scopes_of_role,
)
from heedloop_server.http.openapi import responds
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.admin.keys import StoredKey, find_key, list_keys, revoke_key
from heedloop_server.store.connection import Row, Store

router = APIRouter()

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
@open_route
@responds(Me)
def get_me(
    request: Request, of_key: Annotated[str | None, Query(pattern=r"^[0-9a-f]{12}$")] = None
) -> dict[str, Any]:
    """Whose key this is. Any usable key may ask, whatever its scopes.

    With `of_key`, the id of another key: whether that is (or was, before it was revoked) one of the same project.
    """
    who = caller(request)
    more: dict[str, Any] = {}
    if of_key is not None:
        other = find_key(cast(Store, request.app.state.store), of_key)
        more["same_project"] = other is not None and other.project_id == who.project
    return {
        **more,
        "project": who.project,
        "scopes": sorted(who.scopes),
        "role": role_of(who.scopes),
        "key_id": who.key_id,
        "name": who.name,
        "author_id": who.author_id or None,
    }


get_me.heedloop_checks = ""  # type: ignore[attr-defined]  # a key, whatever its scopes


@router.get("/v1/keys")
@responds(KeyList)
def get_keys(request: Request, who: Admin) -> dict[str, Any]:
    """The project's keys, newest first, without their secrets."""
    store = cast(Store, request.app.state.store)
    return {"keys": [_plain(row) for row in list_keys(store.project(who.project))]}


def _plain(row: Row) -> dict[str, Any]:
    times = {n: v for n, v in row.items() if n.endswith("_at")}
    more = {"role": role_of(row["scopes"]), "author_id": row["author_id"] or None}
    return row | more | {n: format_time(v) if v is not None else None for n, v in times.items()}


@router.post("/v1/keys", status_code=201)
@responds(NewKeyAnswer, status=201)
def post_key(request: Request, who: Admin, body: NewKey) -> dict[str, Any]:
    """Make a key of this project; its text is in this answer and nowhere else, ever."""
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
    return {"key": text, **_described(key)}


def _described(key: StoredKey) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "scopes": list(key.scopes),
        "role": role_of(key.scopes),
        "author_id": key.author_id or None,
        "created_at": format_time(key.created_at),
        "expires_at": format_time(key.expires_at) if key.expires_at else None,
    }


@router.delete("/v1/keys/{key_id}")
@responds(RevokedKey)
def delete_key(request: Request, who: Admin, key_id: str) -> dict[str, Any]:
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
    return {"key_id": key_id, "revoked": True}
