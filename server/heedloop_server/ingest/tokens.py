"""Feedback tokens: what a browser may say about one answer (docs/api.md, "Feedback tokens"). Pure: the caller finds the key.

A token names the key that signed it; the mac is over the payload with a secret derived from the stored hash of that key.

A token is good for one post. Who posts may reserve the next one for themselves by sending the hash of a secret that only they
know (`next`), and shows the secret with that next post (`proof`). So a person can change their mind, a lost answer can be asked for
again with the very same post, and whoever gets hold of the token, or even of a whole recorded post, can do nothing with it any more.
The uses of a token form a chain: each has the `link` that the one before named as its `next`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, cast

from heedloop.schema import (
    FEEDBACK_KINDS,
    Author,
    Feedback,
    SchemaError,
    Target,
    canonical_json,
    feedback_from_json,
)
from heedloop_server.errors import Forbidden, Unauthorized
from heedloop_server.store.admin.token_uses import TokenUse

_PREFIX = "hlt1"
_CONTEXT = b"heedloop feedback token v1"
_KEY_ID = re.compile(r"[0-9a-f]{12}")
_MAX_CHARS = 4096
_LATEST = 4_102_444_800
"""Expiry at the latest: 2100, which every column of the store can hold."""
_MAX_USES = 100
"""Posts with one token: more than a person makes, few enough to look through at each."""
_NEXT = re.compile(r"[0-9a-f]{64}|plain\.[A-Za-z0-9_-]{16,128}")
_PROOF = re.compile(r"[A-Za-z0-9_-]{16,128}")
_WRONG = "the feedback token is not valid; ask the app for a new one"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows: `subject` may judge `target` in these ways until it expires. `token` is the SHA-256 of what is signed."""

    target: Target
    subject: str
    kinds: frozenset[str]
    token: str
    expires_at: datetime


def key_id_of(token: str) -> str:
    """The id of the key that a token says it was signed with; raises `Unauthorized` where it is no token."""
    return cast(str, _payload(token)["p"])


def read_token(token: str, secret_hash: str, *, now_s: float) -> Grant:
    """What the token allows, checked against the stored hash (hex) of the key that it names.

    Raises:
        Unauthorized: the mac is wrong, or the token has expired.
    """
    signed, _, mac = token.rpartition(".")
    secret = hmac.digest(bytes.fromhex(secret_hash), _CONTEXT, "sha256")
    if not hmac.compare_digest(_decode(mac), hmac.digest(secret, signed.encode(), "sha256")):
        raise Unauthorized(_WRONG)
    payload = _payload(token)
    if now_s >= payload["e"]:
        raise Unauthorized("the feedback token has expired; ask the app for a new one")
    try:
        target = Target.from_handle(payload["t"])
    except SchemaError:
        raise Unauthorized(_WRONG) from None
    return Grant(
        target,
        payload["j"],
        frozenset(payload["k"]),
        _sha256(signed),  # not of the whole text: base64 can write one mac in several ways
        datetime.fromtimestamp(payload["e"], timezone.utc),
    )


def _payload(token: str) -> Mapping[str, Any]:
    prefix, _, rest = token.partition(".")
    body, _, mac = rest.partition(".")
    if prefix != _PREFIX or not mac or len(token) > _MAX_CHARS:
        raise Unauthorized(_WRONG)
    try:
        payload = json.loads(_decode(body))
    except (ValueError, RecursionError):
        raise Unauthorized(_WRONG) from None
    if not isinstance(payload, dict) or not _well_formed(cast(dict[str, Any], payload)):
        raise Unauthorized(_WRONG)
    return cast(dict[str, Any], payload)


def _well_formed(payload: dict[str, Any]) -> bool:
    expiry, subject, kinds = payload.get("e"), payload.get("j"), payload.get("k")
    return (
        isinstance(expiry, int)
        and 0 < expiry <= _LATEST
        and isinstance(subject, str)
        and 0 < len(subject) <= 256
        and isinstance(kinds, list)
        and all(k in FEEDBACK_KINDS for k in cast(list[Any], kinds))
        and isinstance(payload.get("p"), str)
        and _KEY_ID.fullmatch(payload["p"]) is not None
        and isinstance(payload.get("t"), str)
    )


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Unauthorized(_WRONG) from None


def token_use(grant: Grant, body: object, *, proof: str, next_proof: str) -> TokenUse:
    """What a post with a token amounts to: `body` parsed, `proof` and `next_proof` as they came in the headers, or empty.

    Raises:
        SchemaError: a header is not of its form.
    """
    if proof and not _PROOF.fullmatch(proof):
        raise SchemaError("x-heedloop-proof", "must be 16 to 128 characters of A-Z, a-z, 0-9, _ and -")
    if next_proof and not _NEXT.fullmatch(next_proof):
        raise SchemaError("x-heedloop-next", "must be the SHA-256, in hex, of the next post's proof")
    reserved = _sha256(next_proof.removeprefix("plain.")) if next_proof.startswith("plain.") else next_proof
    digest = _sha256(canonical_json([body, proof, next_proof]))
    return TokenUse(grant.token, _sha256(proof) if proof else "", digest, reserved, grant.expires_at)


def may_use(known: Sequence[TokenUse], use: TokenUse) -> bool:
    """Whether `use` follows from the token's known uses: it is the next link of their chain, or one of them once more.

    Where two different posts share a link (they came to two servers at the same moment), neither is followed by another.
    """
    link, seen = "", set[str]()
    while True:
        here = [u for u in known if u.link == link]
        if link == use.link:
            return all(u.digest == use.digest for u in here) and (bool(here) or len(known) < _MAX_USES)
        if len({u.digest for u in here}) != 1 or not here[0].next or here[0].next in seen:
            return False
        link = here[0].next
        seen.add(link)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def judge(grant: Grant, entry: object, *, use: TokenUse, position: int = 0, field: str = "") -> Feedback:
    """The feedback of one entry under a grant: its author is the subject, its target the token's (which may be left out).

    An entry without an id gets one made of the post and its `position` in it, so that the same post again changes nothing.

    Raises:
        SchemaError: a field is wrong.
        Forbidden: it is about another answer, or of a kind that the token does not allow.
    """
    if isinstance(entry, dict):
        given = cast(dict[str, Any], entry)
        base = {"trace_id": grant.target.trace_id, "span_id": grant.target.span_id}
        own = {k: v for k, v in given.items() if k != "author" and v is not None}
        where = {} if "handle" in own else {"target": base}
        entry = {"id": f"{use.digest[:32]}-{position}", **where, **own}
    feedback = feedback_from_json(entry, field=field)
    if feedback.kind not in grant.kinds:
        raise Forbidden(f"the token allows {', '.join(sorted(grant.kinds))}, not {feedback.kind}")
    answers = feedback.ranking.answers if feedback.ranking is not None else (feedback.target,)
    if all(replace(a, range=None).key != grant.target.key for a in answers):
        raise Forbidden("the token is for another answer")
    return replace(
        feedback,
        author=Author("end_user", grant.subject),
        queue_item=None,
        sampling_probability=None,
        guideline=None,
    )
