"""Judgements that cannot be joined back to their annotators: ids replaced, times rounded, nothing in an order that tells."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

from heedloop_server.review.control.labels import Judged
from heedloop_server.review.formats.record import Reviewed

ROUNDED_MS = 10_000


def pseudonym(one: Judged, secret: str) -> Judged:
    """The judgement under its annotator's pseudonym, which is the same within a queue; its day, and its time taken to ten seconds."""
    day = one.submitted_at.replace(hour=0, minute=0, second=0, microsecond=0)
    duration = None if one.duration_ms is None else round(one.duration_ms / ROUNDED_MS) * ROUNDED_MS
    return replace(
        one,
        annotator=f"annotator-{_keyed(one.annotator, secret)[:12]}",
        submitted_at=day,
        duration_ms=duration,
        shown_order=tuple(range(one.num_answers)),  # drawn from an id that names item and annotator
    )


def without_identities(item: Reviewed, secret: str) -> Reviewed:
    """The item under an id of its own, without its trace ids and what was expected of annotators."""
    judgements = sorted((pseudonym(j, secret) for j in item.judgements), key=lambda j: j.annotator)
    item_id = _keyed(item.item_id, secret)[:32]
    return replace(item, item_id=item_id, targets=[], expected=None, judgements=judgements)


def without_order(item_id: str, secret: str) -> str:
    """What to sort items by, so that their order says nothing."""
    return _keyed(item_id, secret)


def _keyed(text: str, secret: str) -> str:
    """HMAC-SHA256 with the queue's secret, hexadecimal."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
