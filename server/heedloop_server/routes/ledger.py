"""The ledger, and what SDKs say of their own deliveries."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Body, Depends

from heedloop.responses import Delivered, Ledger, Tally
from heedloop.schema import utc_now
from heedloop_server.errors import Invalid
from heedloop_server.http.auth import scoped
from heedloop_server.http.responses import Router
from heedloop_server.http.services import Intakes, ReadProject
from heedloop_server.store.admin.ledger import Tally as StoredTally
from heedloop_server.store.admin.ledger import insert_delivery, newest_arrival, read_deliveries
from heedloop_server.store.connection import ProjectStore

router = Router()

_MAX_COUNTS_CHARS = 20_000


@router.get("/v1/ledger")
def get_ledger(intake: Intakes, project: ReadProject) -> Ledger:
    """received = stored + rejected + duplicate + pending, for spans and, below `feedback`, for feedback."""
    spans, pending = intake.span_tally(project)
    return Ledger(
        **_counts(spans, pending),
        feedback=Tally(**_counts(intake.feedback_tally(project), 0)),
        sdk=read_deliveries(project),
        lag_s=intake.lag_s() if pending else 0.0,
        last_received_at=newest_arrival(project),
    )


def _counts(tally: StoredTally, pending: int) -> dict[str, Any]:
    return {
        "received": tally.received + pending,
        "stored": tally.stored,
        "rejected": tally.rejected,
        "duplicate": tally.duplicate,
        "pending": pending,
        "rejected_reasons": dict(tally.reasons),
    }


@router.post("/v1/delivery")
def post_delivery(
    project: Annotated[ProjectStore, Depends(scoped("ingest"))], body: Annotated[dict[str, Any], Body()]
) -> Delivered:
    """Keep an SDK's own counts; `sdk_id` names the process, the newest post of each counts."""
    sdk_id = body.get("sdk_id", "")
    if not isinstance(sdk_id, str) or len(sdk_id) > 256:
        raise Invalid("sdk_id must be text of at most 256 characters", field="sdk_id")
    text = json.dumps(body, ensure_ascii=False)
    if len(text) > _MAX_COUNTS_CHARS:
        raise Invalid(f"the counts are {len(text):,} characters; at most {_MAX_COUNTS_CHARS:,} are accepted")
    insert_delivery(project, sdk_id, text, utc_now())
    return Delivered()
