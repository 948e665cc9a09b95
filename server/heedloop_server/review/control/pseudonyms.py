"""Annotators without their names: the same annotator keeps one pseudonym within a queue, and none can be turned back."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

from heedloop_server.review.control.labels import Judged

__all__ = ["pseudonym"]


def pseudonym(one: Judged, secret: str) -> Judged:
    """The judgement under its annotator's pseudonym: an HMAC-SHA256 with the queue's secret, 12 hex digits."""
    mac = hmac.new(secret.encode(), one.annotator.encode(), hashlib.sha256).hexdigest()
    return replace(one, annotator=f"annotator-{mac[:12]}")
