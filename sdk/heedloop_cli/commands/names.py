"""The queue or judge that a command names."""

from __future__ import annotations

from heedloop.client import Client
from heedloop.schema import JudgeSpec


def find_judge(client: Client, beginning: str) -> JudgeSpec:
    """The judge of this id or only one of this name, else of the only id that begins so; raises `ValueError`."""
    found = [j.spec for j in client.judges() if j.id.startswith(beginning)]
    exact = [s for s in found if beginning in (s.id, s.name)]
    if len(exact or found) == 1:
        return (exact or found)[0]
    names = ", ".join(s.id for s in found[:5])
    raise ValueError(
        f"{beginning!r} names {f'{len(found)} judges: {names}' if found else 'no judge'}; `heedloop judge list` lists them"
    )


def find_queue(client: Client, name_or_id: str) -> str:
    """The id of the queue with this id, the beginning of one, or name; raises `ValueError` where it is none or several."""
    queues = client.review_queues()
    for matches in (
        [q.queue_id for q in queues if q.queue_id == name_or_id],
        [q.queue_id for q in queues if q.name == name_or_id],
        [q.queue_id for q in queues if q.queue_id.startswith(name_or_id)],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise ValueError(
                f"{name_or_id!r} names {len(matches)} queues: {', '.join(matches[:5])}; give the id"
            )
    raise ValueError(f"there is no queue {name_or_id!r}; `heedloop review progress` lists them")
