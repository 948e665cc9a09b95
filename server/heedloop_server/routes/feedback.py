"""Feedback in and out."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, cast
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from typing_extensions import TypedDict

from heedloop.responses import FeedbackHistory, FeedbackPage, FeedbackRefused, FeedbackResult, FeedbackResults
from heedloop.schema import (
    AuthorKind,
    Feedback,
    FeedbackKind,
    SchemaError,
    Target,
    feedback_from_json,
    utc_now,
)
from heedloop_server.errors import (
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
    Unauthorized,
    Unreadable,
    UnsupportedMedia,
)
from heedloop_server.filters import Time
from heedloop_server.http.auth import KeyRing, Principal, caller_with, counted
from heedloop_server.http.cursors import read_cursor, write_cursor
from heedloop_server.http.openapi import accepts, responds
from heedloop_server.http.responses import Router, json_response, json_value
from heedloop_server.http.services import ReadProject
from heedloop_server.ingest.feedback_writer import Outcome
from heedloop_server.ingest.intake import Intake
from heedloop_server.ingest.token_claims import TokenClaims
from heedloop_server.ingest.tokens import Grant, judge, key_id_of, read_token, token_use
from heedloop_server.routes.feedback_lines import (
    MEDIA_TYPE,
    by_person,
    import_lines,
    rejected,
    result_of,
    without_erased,
)
from heedloop_server.store.admin.token_uses import TokenUse
from heedloop_server.store.datasets.runs import summaries_of_runs
from heedloop_server.store.datasets.snapshots import snapshots_of_feedback
from heedloop_server.store.feedback import get_feedback, list_feedback

router = Router()


P = ParamSpec("P")
T = TypeVar("T")

_INLINE_BYTES = 4 << 10
"""Posts up to this size are read on the event loop: a thread costs more. At worst, a thousand entries that are none, it is 25 ms."""
MAX_BATCH = 10_000
"""Entries of one post."""
MAX_TOKEN_BATCH = 100
"""Entries of one post with a feedback token: one person about one answer."""


_LINES = {
    "type": "string",
    "description": "one Feedback a line; the answer has a line for each, and a last one with the counts",
}


@dataclass(frozen=True, kw_only=True)
class NewFeedback(Feedback):
    """A feedback as it is sent, whose answer is named by a target or by a handle; for the description of the API alone."""

    target: Target | None = None  # type: ignore[assignment]
    handle: str | None = None


class FeedbackBatch(TypedDict):
    """Many at once: at most 10,000."""

    feedback: list[NewFeedback]


Short = Annotated[str | None, Field(max_length=1024)]


class FeedbackFilters(BaseModel):
    """Which feedback; `text` is words of the comment or the correction, `category` a rating's or flag's."""

    kind: FeedbackKind | None = None
    name: str | None = None
    author_id: str | None = None
    author_kind: AuthorKind | None = None
    trace_id: Annotated[str | None, Field(pattern="^[0-9a-f]{32}$")] = None
    span_id: Annotated[str | None, Field(pattern="^[0-9a-f]{16}$")] = None
    user_id: Short = None
    session_id: Short = None
    model: Short = None
    prompt_version: Short = None
    category: Short = None
    rating: Literal["up", "down"] | None = None
    has_comment: bool | None = None
    text: Short = None
    since: Time | None = None
    until: Time | None = None


class FeedbackQuery(FeedbackFilters):
    """Filters with a page."""

    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: str | None = None


async def _author(request: Request) -> tuple[Principal, Grant | None]:
    """Who posts: a feedback token's subject, or a key with the scope `feedback`."""
    token = request.headers.get("x-heedloop-token", "").strip()
    if not token:
        return await caller_with(request, "feedback"), None
    return await run_in_threadpool(_by_token, request, token)


def _by_token(request: Request, token: str) -> tuple[Principal, Grant]:
    ring = cast(KeyRing, request.app.state.keys)
    key_id = key_id_of(token)
    with counted(request, known=ring.cached_key(key_id) is not None):
        key = ring.find(key_id)
        if key is None or not key.usable(utc_now()) or "feedback" not in key.scopes:
            raise Unauthorized(
                "the feedback token's key is unknown, revoked, expired or lacks the scope 'feedback'"
            )
    grant = read_token(token, key.secret_hash, now_s=time.time())
    request.app.state.rates.check(f"{key.key_id}/{grant.subject}")
    return Principal(key.project_id, frozenset({"feedback"}), key.key_id, key.name), grant


_author.heedloop_scope = "feedback"  # type: ignore[attr-defined]  # the walk over all routes reads it


@router.post("/v1/feedback")
@responds(FeedbackResults, refused=FeedbackRefused)
@accepts(NewFeedback | FeedbackBatch, media={MEDIA_TYPE: _LINES})
async def post_feedback(
    request: Request, author: Annotated[tuple[Principal, Grant | None], Depends(_author)]
) -> Response:
    """Store one feedback, a batch, or lines; the answer has one result per entry, in order, and is given when they are on disk."""
    who, grant = author
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind == MEDIA_TYPE:
        if grant is not None:
            raise Forbidden("a feedback token posts JSON; lines need a key with the scope 'feedback'")
        return await import_lines(request, who)
    if kind != "application/json":
        raise UnsupportedMedia(
            f"Content-Type {kind!r:.80} is not read here; send application/json or {MEDIA_TYPE}"
        )
    return await _store(request, who, grant, await request.body())


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as err:
        raise Unreadable(f"the body is no JSON: {err}") from None


async def _store(request: Request, who: Principal, grant: Grant | None, body: bytes) -> Response:
    """A small post with a key never leaves the event loop but to wait for the disk; a token is looked up in the store."""
    small = grant is None and len(body) <= _INLINE_BYTES
    run = _inline if small else run_in_threadpool
    raw, parsed = await run(_read, request, who, grant, body)
    good = [p for p in parsed if isinstance(p, Feedback)]
    intake = cast(Intake, request.app.state.intake)
    outcomes: list[Outcome] = []
    if good:
        taken = await run(intake.take, who.project, good, key_id=who.key_id)
        outcomes = await asyncio.wrap_future(taken)
    results = _results(raw, parsed, outcomes)
    counts = Counter(r.status for r in results)
    intake.count_feedback(who.project, without_erased(counts, outcomes))
    made = FeedbackResults(
        results=results,
        stored=counts["stored"],
        replaced=counts["replaced"],
        duplicate=counts["duplicate"],
        rejected=counts["rejected"],
    )
    if good or not raw:
        return json_response(FeedbackResults, made)
    first = cast(SchemaError, parsed[0])
    raise Invalid(str(first), field=first.field, body=json_value(made))


async def _inline(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return work(*args, **kwargs)


def _read(
    request: Request, who: Principal, grant: Grant | None, body: bytes
) -> tuple[list[Any], list[Feedback | SchemaError]]:
    """The entries of a post as they came, and as they were understood; a token is used from now on."""
    whole = _json(body)
    raw, single = _entries(whole)
    use = _token_use(request, grant, whole, len(raw)) if grant else None
    parsed = [_parse(entry, i, grant, use, single=single) for i, entry in enumerate(raw)]
    if who.author_id:
        parsed = [by_person(p, who.author_id) if isinstance(p, Feedback) else p for p in parsed]
    if use is not None and any(isinstance(p, Feedback) for p in parsed):
        cast(TokenClaims, request.app.state.claims).claim(who.project, use)
    return raw, parsed


def _entries(body: Any) -> tuple[list[Any], bool]:
    """The entries of a post, and whether it was one object alone."""
    if not isinstance(body, dict):
        raise Invalid('send one Feedback object, or {"feedback": [...]}', field="feedback")
    given = cast(dict[str, Any], body)
    if "feedback" not in given:
        return [given], True
    unknown = sorted(set(given) - {"feedback"})
    if unknown:
        raise Invalid(
            f"{unknown[0]!r:.80} stands beside feedback; a batch is that list alone", field=unknown[0]
        )
    entries = given["feedback"]
    if not isinstance(entries, list):
        raise Invalid("feedback must be a list of Feedback objects", field="feedback")
    many = cast(list[Any], entries)
    if len(many) > MAX_BATCH:
        raise TooLarge(f"{len(many):,} entries; at most {MAX_BATCH:,} are accepted in one post")
    return many, False


def _token_use(request: Request, grant: Grant, body: Any, num_entries: int) -> TokenUse:
    """What this post uses the token for; see `heedloop_server.ingest.tokens`."""
    if num_entries > MAX_TOKEN_BATCH:
        raise TooLarge(
            f"{num_entries:,} entries; at most {MAX_TOKEN_BATCH} are accepted with a feedback token"
        )
    headers = request.headers
    return token_use(
        grant,
        body,
        proof=headers.get("x-heedloop-proof", "").strip(),
        next_proof=headers.get("x-heedloop-next", "").strip(),
    )


def _parse(
    entry: Any, position: int, grant: Grant | None, use: TokenUse | None, *, single: bool
) -> Feedback | SchemaError:
    field = "" if single else f"feedback[{position}]"
    try:
        if grant is not None and use is not None:
            return judge(grant, entry, use=use, position=position, field=field)
        return feedback_from_json(entry, field=field)
    except SchemaError as err:
        return err


def _results(
    raw: list[Any], parsed: list[Feedback | SchemaError], outcomes: list[Outcome]
) -> list[FeedbackResult]:
    results: list[FeedbackResult] = []
    left = iter(outcomes)
    for entry, feedback in zip(raw, parsed, strict=True):
        if isinstance(feedback, Feedback):
            results.append(result_of(feedback.id, next(left)))
            continue
        given = cast(dict[str, Any], entry) if isinstance(entry, dict) else {}
        client_id = given.get("id")
        results.append(rejected(client_id if isinstance(client_id, str) else None, feedback))
    return results


@router.get("/v1/feedback")
def get_feedback_list(project: ReadProject, query: Annotated[FeedbackQuery, Query()]) -> FeedbackPage:
    """Feedback as it counts now, newest first."""
    filters = query.model_dump(exclude={"limit", "cursor"})
    found = list_feedback(project, filters, limit=query.limit, after=_after(query.cursor))
    page = [f.response() for f in found]
    last = page[-1] if len(page) == query.limit else None
    cursor = write_cursor(last.created_at, last.feedback_id) if last else None
    return FeedbackPage(feedback=page, next_cursor=cursor)


def _after(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    at, (feedback_id,) = read_cursor(cursor, 1)
    try:
        UUID(feedback_id)
    except ValueError:
        raise SchemaError("cursor", "is no cursor of feedback") from None
    return at, feedback_id


@router.get("/v1/feedback/{feedback_id}")
def get_one_feedback(project: ReadProject, feedback_id: UUID) -> FeedbackHistory:
    """One thumb: as it counts now, every version of it, and the snapshots and runs that used it."""
    now, history = get_feedback(project, feedback_id)
    if now is None and not history:
        raise NotFound(f"there is no feedback {feedback_id} in this project")
    snapshots = snapshots_of_feedback(project, str(feedback_id))
    return FeedbackHistory(
        feedback=(now or history[0]).response(),
        history=[h.response() for h in history],
        snapshots=snapshots,
        runs=summaries_of_runs(project, [s.id for s in snapshots]),
    )
