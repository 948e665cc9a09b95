"""Feedback tokens: what a browser may say about one answer (docs/api.md, "Feedback tokens"). Pure: the caller finds the key.

A token names the key that signed it; the mac is over the payload with a secret derived from the stored hash of that key.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from heedloop.schema import FEEDBACK_KINDS, Author, Feedback, SchemaError, Target, from_json
from heedloop_server.errors import Forbidden, Unauthorized

__all__ = ["Grant", "judge", "key_id_of", "read_token"]

_PREFIX = "hlt1"
_CONTEXT = b"heedloop feedback token v1"
_KEY_ID = re.compile(r"[0-9a-f]{12}")
_MAX_CHARS = 4096
_WRONG = "the feedback token is not valid; ask the app for a new one"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows: `subject` may judge `target` in these ways."""

    target: Target
    subject: str
    kinds: frozenset[str]


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
    return Grant(target, payload["j"], frozenset(payload["k"]))


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


def judge(grant: Grant, entry: object, *, field: str = "") -> Feedback:
    """The feedback of one entry under a grant: its author is the subject, its target the token's (which may be left out).

    Raises:
        SchemaError: a field is wrong.
        Forbidden: it is about another answer, or of a kind that the token does not allow.
    """
    if isinstance(entry, dict):
        given = cast(dict[str, Any], entry)
        base = {"trace_id": grant.target.trace_id, "span_id": grant.target.span_id}
        entry = {"target": base, **{k: v for k, v in given.items() if k != "author"}}
    feedback = from_json(Feedback, entry, field=field)
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
