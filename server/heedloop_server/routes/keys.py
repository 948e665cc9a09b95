"""Keys of the caller's project, and who the caller is."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from heedloop.responses import picked
from heedloop.responses import projects as responses
from heedloop.schema import SchemaError
from heedloop_server.errors import Forbidden, NotFound
from heedloop_server.http.auth import (
    any_key_route,
    caller,
    check_scopes,
    make_key,
    role_of,
    scopes_of_role,
)
from heedloop_server.http.responses import Router
from heedloop_server.http.services import AdminKey, AdminProject, AnyStore, Keys
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.admin.keys import StoredKey, find_key, list_keys, revoke_key

router = Router()


class NewKey(BaseModel):
    """A key to make: with the scopes of a role, or with scopes one by one."""

    model_config = ConfigDict(extra="forbid")

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
    request: Request, store: AnyStore, of_key: Annotated[str | None, Query(pattern=r"^[0-9a-f]{12}$")] = None
) -> responses.Me:
    """Whose key this is. Any usable key may ask, whatever its scopes.

    With `of_key`, the id of another key: whether that is (or was, before it was revoked) one of the same project.
    """
    who = caller(request)
    same_project = None
    if of_key is not None:
        other = find_key(store, of_key)
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
def get_keys(project: AdminProject) -> responses.KeyList:
    """The project's keys, newest first, without their secrets."""
    keys = [responses.Key(**row, role=role_of(row["scopes"])) for row in list_keys(project)]
    return responses.KeyList(keys=keys)


@router.post("/v1/keys", status_code=201)
def post_key(store: AnyStore, who: AdminKey, body: NewKey) -> responses.CreatedKey:
    """Make a key of this project; its text is in this response and nowhere else, ever."""
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
    return created_key(text, key)


def created_key(text: str, key: StoredKey) -> responses.CreatedKey:
    """What the caller is told of a key that was made for them, once."""
    more = {"key": text, "scopes": list(key.scopes), "role": role_of(key.scopes)}
    return picked(responses.CreatedKey, key, **more, author_id=key.author_id or None)


@router.delete("/v1/keys/{key_id}")
def delete_key(store: AnyStore, ring: Keys, who: AdminKey, key_id: str) -> responses.RevokedKey:
    """Revoke a key of this project at once."""
    ring.forget(key_id)
    key = ring.find(key_id)
    if key is None or key.project_id != who.project:
        raise NotFound(f"there is no key {key_id} in this project")
    revoke_key(store, key)
    ring.forget(key_id)
    write_audit(store, who, "revoke_key", key_id, {})
    return responses.RevokedKey(key_id=key_id, revoked=True)
