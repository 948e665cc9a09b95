"""Streaming import of feedback: `POST /v1/feedback` with `application/x-ndjson`, one Feedback a line, as many as there are.

The answer is a line per entry and a last line with the counts. It begins when everything was read, because many clients read no
answer while they send; until then the results wait in a temporary file. So a store that goes away half-way is still answered with
503, and sending everything again is harmless: what was stored is a `duplicate` then.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import IO, cast

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from heedloop.responses import FeedbackResult, FieldError
from heedloop.schema import Author, Feedback, SchemaError, feedback_from_json
from heedloop_server.errors import TooLarge, UnsupportedMedia
from heedloop_server.http.auth import Principal
from heedloop_server.http.responses import json_value
from heedloop_server.ingest.feedback_writer import Outcome
from heedloop_server.ingest.intake import Intake

MEDIA_TYPE = "application/x-ndjson"
MAX_LINE_BYTES = 8 << 20
"""The longest line: a comment and a correction of a million characters each fit in."""
_AT_ONCE = 500
_IN_MEMORY = 1 << 20
_PIECE = 64 << 10


def by_person(feedback: Feedback, author_id: str) -> Feedback:
    """What is said with a person's key is said by them, whatever the entry says; as an annotator, where not as an end user."""
    kind = "end_user" if feedback.author.kind == "end_user" else "annotator"
    return replace(feedback, author=Author(kind, author_id))


def result_of(client_id: str, outcome: Outcome) -> FeedbackResult:
    """What an entry's sender is told of it."""
    if outcome.status != "erased":
        return FeedbackResult(id=client_id, status=outcome.status, feedback_id=str(outcome.feedback_id))
    return rejected(
        client_id, SchemaError("target", "the trace was erased; nothing that is said of it is kept")
    )


def rejected(client_id: str | None, reason: SchemaError) -> FeedbackResult:
    """What the sender of an entry is told that is not stored."""
    error = FieldError(field=reason.field, message=str(reason))
    return FeedbackResult(id=client_id, status="rejected", error=error)


def without_erased(counts: Counter[str], outcomes: Sequence[Outcome]) -> Counter[str]:
    """Counts for the ledger, which tells what is wrong from what is about an erased trace."""
    num = sum(o.status == "erased" for o in outcomes)
    return Counter({**counts, "rejected": counts["rejected"] - num, "erased": num})


async def import_lines(request: Request, who: Principal) -> StreamingResponse:
    """Store every line; raises `TooLarge` for a line without an end, `Unavailable` where the store goes away."""
    if request.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise UnsupportedMedia("lines are read as they come: send them without a Content-Encoding")
    intake = cast(Intake, request.app.state.intake)
    results = cast(IO[bytes], tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115  # the answer closes it
    counts, told = Counter[str](), Counter[str]()
    number = 0
    try:
        async for lines in _groups(request):
            stored, outcomes = await _store(intake, who, lines, number)
            number += len(lines)
            told.update(r.status for r in stored)
            counts.update(without_erased(Counter(r.status for r in stored), outcomes))
            text = "".join(f"{json.dumps(json_value(r))}\n" for r in stored)
            await run_in_threadpool(results.write, text.encode())
    except BaseException:
        results.close()
        raise
    finally:
        intake.count_feedback(who.project, counts)
    total = {n: told[n] for n in ("stored", "replaced", "duplicate", "rejected")}
    results.write(f"{json.dumps(total)}\n".encode())
    results.seek(0)
    return StreamingResponse(_pieces(results), media_type=MEDIA_TYPE)


async def _store(
    intake: Intake, who: Principal, lines: list[bytes], first: int
) -> tuple[list[FeedbackResult], list[Outcome]]:
    parsed, taken = await run_in_threadpool(_take, intake, who, lines, first)
    outcomes = await asyncio.wrap_future(taken) if taken else []
    left = iter(outcomes)
    results = [result_of(e.id, next(left)) if isinstance(e, Feedback) else rejected(None, e) for e in parsed]
    return [replace(r, line=number) for number, r in enumerate(results, first + 1)], outcomes


def _take(
    intake: Intake, who: Principal, lines: list[bytes], first: int
) -> tuple[list[Feedback | SchemaError], Future[list[Outcome]] | None]:
    """The lines as they were understood, and what becomes of those that are feedback; for a thread, as it computes for long."""
    parsed = [_parse(line, first + i + 1, who.author_id) for i, line in enumerate(lines)]
    good = [p for p in parsed if isinstance(p, Feedback)]
    return parsed, intake.take(who.project, good, key_id=who.key_id) if good else None


def _parse(line: bytes, number: int, author_id: str) -> Feedback | SchemaError:
    try:
        entry = feedback_from_json(json.loads(line))
        return by_person(entry, author_id) if author_id else entry
    except SchemaError as err:
        return err
    except (ValueError, RecursionError) as err:
        return SchemaError(f"line {number}", f"is no JSON: {err}")


async def _groups(request: Request) -> AsyncIterator[list[bytes]]:
    """The body's lines that are not blank, some hundred at a time."""
    waiting: list[bytes] = []
    async for line in _lines(request):
        if line.strip():
            waiting.append(line)
        if len(waiting) >= _AT_ONCE:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


async def _lines(request: Request) -> AsyncIterator[bytes]:
    rest = b""
    async for part in request.stream():
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > MAX_LINE_BYTES:
            raise TooLarge(f"a line has more than {MAX_LINE_BYTES:,} bytes; one line is one feedback")
    yield rest


def _pieces(results: IO[bytes]) -> Iterator[bytes]:
    with results:
        while piece := results.read(_PIECE):
            yield piece
