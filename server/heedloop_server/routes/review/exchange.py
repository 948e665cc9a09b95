"""Judgements out to other tools and back in, with their annotators' identities."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, cast

from fastapi import Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from heedloop.responses import FieldError, ImportedJudgements, ImportResult
from heedloop.schema import Call, Feedback, SchemaError
from heedloop_server.errors import Conflict, Invalid, NotFound, TooLarge
from heedloop_server.http.openapi import accepts, responds
from heedloop_server.http.responses import Router
from heedloop_server.http.services import AdminKey, Queues, ReviewProject
from heedloop_server.review.control.labels import Judged
from heedloop_server.review.control.pseudonyms import without_identities, without_order
from heedloop_server.review.control.reviewed import ReviewedQueue
from heedloop_server.review.external_judgements import take_in
from heedloop_server.review.formats import Format, Reviewed, Users, read_entry, settings_file, write_entry
from heedloop_server.review.item_view import facts_of
from heedloop_server.review.open_queue import OpenQueue
from heedloop_server.review.submission import Submitted
from heedloop_server.routes.review.control import reviewed
from heedloop_server.routes.review.items import SHOWN_FACTS
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.review.assignments import ReviewItem
from heedloop_server.store.review.content import calls_at
from heedloop_server.store.review.queues import guidelines_of

router = Router()

UsersJson = Annotated[str, Query(max_length=20_000)]
"""Of an address, which a server takes up to 64 KiB of, with three bytes for most signs."""
MAX_ENTRIES = 10_000
_AT_ONCE = 500
_TEXT = {"type": "string"}
_ENTRIES: dict[str, Any] = {"type": "array", "items": {"type": "object"}}
_GIVEN: dict[str, Any] = {
    "description": "a list of entries, or lines of them; one that is none is answered as that"
}


@router.get("/v1/review/queues/{queue_id}/export")
@responds(media={"application/x-ndjson": _TEXT, "application/json": _ENTRIES})
def export(
    project: ReviewProject,
    queue_id: str,
    format: Format = "jsonl",
    pseudonyms: bool = False,
    users: UsersJson = "",
    as_predictions: bool = False,
) -> StreamingResponse:
    """Items with their judgements: JSON Lines, or the JSON array that Label Studio and Argilla read.

    With `pseudonyms` nothing can be joined back: annotators and items have other ids, days take the place of times, and
    trace ids and expected answers are left out; such a file is not for `import`. `users` names the tool's users (e-mail, or UUID) by
    annotator; `as_predictions` writes judgements as what a model would say.
    """
    found = reviewed(project, queue_id)
    how = _Writing(format, pseudonyms, _users(users), as_predictions)
    entries = (json.dumps(e, ensure_ascii=False) for e in _entries(project, found, how))
    if format == "jsonl":
        return StreamingResponse((e + "\n" for e in entries), media_type="application/x-ndjson")
    return StreamingResponse(_array(entries), media_type="application/json")


def _array(entries: Iterator[str]) -> Iterator[str]:
    between = "[\n"
    for entry in entries:
        yield between + entry
        between = ",\n"
    yield "[]\n" if between == "[\n" else "\n]\n"


@router.get("/v1/review/queues/{queue_id}/export/settings")
@responds(media={"application/xml": _TEXT, "application/json": {"type": "object"}})
def export_settings(
    project: ReviewProject, queue_id: str, format: Literal["label_studio", "argilla"]
) -> Response:
    """The project's settings that go with an export: Label Studio's labelling config, or Argilla's `settings.json`."""
    found = reviewed(project, queue_id)
    guideline = guidelines_of(project, queue_id)[0].text
    text = settings_file(format, found.queue.questions, _most_answers(found), guideline)
    kind = "application/xml" if format == "label_studio" else "application/json"
    return Response(text, media_type=kind)


@dataclass(frozen=True, slots=True)
class _Writing:
    """How entries are written."""

    format: Format
    pseudonyms: bool
    users: Users
    as_predictions: bool


def _users(text: str) -> Users:
    """From a JSON object of annotator -> the tool's user; raises `Invalid`."""
    if not text:
        return Users()
    try:
        names: Any = json.loads(text)
    except ValueError as err:
        raise Invalid(f"users is no JSON: {str(err)[:200]}", field="users") from None
    if not isinstance(names, dict) or not all(
        isinstance(v, str) for v in cast(dict[str, Any], names).values()
    ):
        raise Invalid("users must be an object: annotator -> e-mail or id of the tool's user", field="users")
    return Users(cast(dict[str, str], names))


def _most_answers(found: ReviewedQueue) -> int:
    return max((len(i.targets) for i in found.items.values()), default=1)


def _entries(project: ProjectStore, found: ReviewedQueue, how: _Writing) -> Iterator[dict[str, Any]]:
    judged: dict[str, list[Judged]] = {}
    for one in sorted([*found.judged, *found.unfinished], key=lambda j: (j.item_id, j.annotator)):
        judged.setdefault(one.item_id, []).append(one)
    most, secret = _most_answers(found), found.queue.seed or found.queue.queue_id
    items = sorted(found.items.values(), key=lambda i: (i.position, i.item_id))
    if how.pseudonyms:
        items.sort(key=lambda i: without_order(i.item_id, secret))
    for first in range(0, len(items), _AT_ONCE):
        part = items[first : first + _AT_ONCE]
        calls = calls_at(project, [w for i in part for w in zip(i.targets, i.call_times, strict=True)])
        for item in part:
            if all(t in calls for t in item.targets):
                of_item = judged.get(item.item_id, [])
                entry = replace(_reviewed(item, [calls[t] for t in item.targets], of_item), most_answers=most)
                if how.pseudonyms:
                    entry = without_identities(entry, secret)
                yield write_entry(
                    how.format, found.queue.questions, entry, how.users, as_predictions=how.as_predictions
                )


def _reviewed(item: ReviewItem, calls: Sequence[Call], judged: Sequence[Judged]) -> Reviewed:
    return Reviewed(
        item.item_id,
        [{"trace_id": t, "span_id": s} for t, s in item.targets],
        [{"role": m.role, "text": m.text} for m in calls[0].input_messages],
        [c.output_text for c in calls],
        [{k: str(v) for k, v in facts_of(c, SHOWN_FACTS).items()} for c in calls],
        judged,
        item.sampling_probability,
        item.expected,
    )


# ----------------------------------------------------------------------------------------------------------- import


async def _body(request: Request) -> bytes:
    return await request.body()


@router.post("/v1/review/queues/{queue_id}/import")
@accepts(_GIVEN, media={"application/x-ndjson": _TEXT})
def import_judgements(
    queues: Queues,
    who: AdminKey,
    queue_id: str,
    body: Annotated[bytes, Depends(_body)],
    format: Format = "jsonl",
    users: UsersJson = "",
) -> ImportedJudgements:
    """Judgements made elsewhere: a JSON array, or an object a line. A result per judgement; the same again is a duplicate."""
    entries = _parsed(body)
    names = _users(users)
    results: list[ImportResult] = []
    said: list[Feedback] = []
    with queues.locked_queue(who.project, queue_id) as opened, opened.together():
        for number, entry in enumerate(entries):
            for result, judgement in _take_entry(opened, format, entry, number, who.key_id, names):
                results.append(result)
                said += judgement.feedback if judgement is not None else []
    queues.record_all(who.project, queue_id, said, who.key_id)
    counts = Counter(r.status for r in results)
    return ImportedJudgements(
        results=results,
        stored=counts["stored"],
        duplicate=counts["duplicate"],
        rejected=counts["rejected"],
    )


def _parsed(body: bytes) -> list[Any]:
    try:
        text = body.decode("utf-8")
        found = (
            json.loads(text)
            if text.lstrip()[:1] == "["
            # not splitlines(): an answer may hold U+2028, which JSON leaves as it is
            else [json.loads(t) for t in text.split("\n") if t.strip()]
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as err:
        raise Invalid(f"the body is neither a JSON array nor an object a line: {str(err)[:200]}") from None
    if not found:
        raise Invalid("the body holds no entries: send a JSON array, or an object a line")
    if len(found) > MAX_ENTRIES:
        raise TooLarge(f"{len(found):,} entries; at most {MAX_ENTRIES:,} are accepted in one post")
    return found


def _take_entry(
    opened: OpenQueue,
    format: Format,
    entry: Any,
    number: int,
    key_id: str,
    users: Users,
) -> Iterator[tuple[ImportResult, Submitted | None]]:
    """(what is answered, what was stored) for every judgement of an entry."""
    try:
        if not isinstance(entry, Mapping):
            raise SchemaError("", f"must be an object, not {str(entry)[:80]!r}")
        given = cast(Mapping[str, Any], entry)
        questions = opened.queue.questions
        found = read_entry(format, questions, given, lambda item: _known(opened, item), users)
    except (SchemaError, NotFound, Conflict) as err:
        yield _rejected(None, None, err, number), None
        return
    for external in found:
        try:
            judgement = take_in(opened, external, key_id=key_id)
        except (SchemaError, Conflict) as err:
            yield _rejected(external.item_id, external.annotator, err, number), None
        else:
            yield (
                ImportResult(
                    item_id=external.item_id,
                    annotator=external.annotator,
                    status="duplicate" if judgement is None else "stored",
                ),
                judgement,
            )


def _rejected(item_id: str | None, annotator: str | None, err: Exception, number: int) -> ImportResult:
    field = f"[{number}]" + (f".{err.field}" if isinstance(err, SchemaError) and err.field else "")
    error = FieldError(field=field, message=str(err))
    return ImportResult(item_id=item_id, annotator=annotator, status="rejected", error=error)


def _known(opened: OpenQueue, item_id: str) -> Reviewed:
    item = opened.work.items.get(item_id)
    calls = opened.contents([item_id]).get(item_id) if item is not None else None
    if item is None or calls is None:
        raise NotFound(f"there is no item {item_id[:80]!r} in this queue")
    return _reviewed(item, calls, [])
