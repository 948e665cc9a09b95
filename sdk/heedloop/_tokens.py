"""Feedback tokens: what lets a browser judge one answer and nothing else, made without a network call.

The form is that of docs/api.md: `hlt1.<payload>.<mac>`, the mac keyed by what the server can derive from the hash of
the key it keeps.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence

from heedloop.schema import FEEDBACK_KINDS, FeedbackKind, SchemaError, Target, canonical_json

DEFAULT_KINDS: tuple[FeedbackKind, ...] = ("rating", "correction", "flag", "comment")
_KEY = re.compile(r"hl_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_CONTEXT = b"heedloop feedback token v1"
_MAX_LIFETIME_S = 366 * 86_400.0


def sign_token(
    api_key: str,
    handle: str,
    *,
    subject: str,
    kinds: Sequence[FeedbackKind] = DEFAULT_KINDS,
    expires_in_s: float = 7 * 86_400.0,
) -> str:
    """A token for the answer that `handle` names, signed with `api_key`; `subject` is the user who may judge, once.

    Raises `ValueError` where an argument is wrong.
    """
    match = _KEY.fullmatch(api_key)
    if match is None:
        raise ValueError("api_key: is not a heedloop key (hl_<12 hex digits>_<43 characters>)")
    target = Target.from_handle(handle)
    if not subject or len(subject) > 256:
        raise SchemaError("subject", "must be 1 to 256 characters that name the user, such as a user id")
    for kind in kinds:
        if kind not in FEEDBACK_KINDS:
            raise SchemaError("kinds", f"{kind!r:.80} is not one of {', '.join(FEEDBACK_KINDS)}")
    if not kinds or not 0 < expires_in_s <= _MAX_LIFETIME_S:
        raise SchemaError("expires_in_s" if kinds else "kinds", "must be above 0, and up to 366 days")
    payload = {
        "e": int(time.time() + expires_in_s),
        "j": subject,
        "k": list(kinds),
        "n": secrets.token_urlsafe(12),
        "p": match[1],
        "t": f"00-{target.trace_id}-{target.span_id}-01",
    }
    signed = f"hlt1.{_base64url(canonical_json(payload).encode())}"
    secret = hmac.digest(hashlib.sha256(api_key.encode()).digest(), _CONTEXT, "sha256")
    return f"{signed}.{_base64url(hmac.digest(secret, signed.encode(), 'sha256'))}"


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
