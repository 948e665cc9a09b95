"""Making a snapshot: from what the store holds to frozen rows, here or in a process of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from heedloop.responses.datasets import ReportedSnapshot
from heedloop.schema import DATASET_FORMS, DatasetForm, canonical_json, format_time, to_json, utc_now
from heedloop_server.curate import Curated, Rules, count_rows, curate
from heedloop_server.curate.report import describe
from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.datasets.snapshot_calls import (
    count_calls,
    read_calls,
    read_compared,
    read_relatives,
)
from heedloop_server.store.datasets.snapshots import (
    find_snapshot,
    read_judgements,
    row_texts,
    write_snapshot,
)
from heedloop_server.store.worker_process import run_in_process

IN_PROCESS_FROM = 5_000
"""Calls from which a snapshot is made by a process of its own: fewer take less time than its start."""


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """What to freeze.

    Attributes:
        as_of: what had not arrived by then is not in it.
        begun: when it was asked for; what is erased from then on is taken out of its rows.
    """

    name: str
    filters: CallFilters
    rules: Rules
    as_of: datetime
    begun: datetime

    @property
    def query(self) -> dict[str, Any]:
        """Filters and rules as JSON in one form: of the filters what differs from the default, times in UTC."""
        given = self.filters.model_dump(exclude_defaults=True)
        filters = {k: format_time(v) if isinstance(v, datetime) else v for k, v in sorted(given.items())}
        return {"filters": filters, "rules": to_json(self.rules)}


def freeze(project: ProjectStore, asked: SnapshotRequest) -> tuple[ReportedSnapshot, bool]:
    """The snapshot, and whether it is new. Many calls are read and made into rows beside the server's own process.

    Raises:
        TooLarge: more than 500,000 calls.
        Unavailable: the store is away, or the process was ended from outside.
    """
    if count_calls(project, asked.filters, asked.as_of) < IN_PROCESS_FROM:
        return make_snapshot(project, asked)
    return run_in_process(project, make_snapshot, asked)


def make_snapshot(project: ProjectStore, asked: SnapshotRequest) -> tuple[ReportedSnapshot, bool]:
    """The snapshot, and whether it is new."""
    judgements = read_judgements(project, asked.filters, asked.as_of)
    calls = list(read_calls(project, asked.filters, asked.as_of))
    calls += read_compared(project, calls, judgements, asked.as_of)
    relatives = read_relatives(project, calls, judgements, asked.as_of)
    made = curate(calls, judgements, asked.rules, relatives=relatives)
    texts: dict[DatasetForm, list[str]] = {form: row_texts(r) for form, r in made.rows.items()}
    snapshot = _snapshot(project.project, asked, made, texts)
    known = find_snapshot(project, snapshot.id)
    if known is not None:
        return known, False
    return write_snapshot(project, snapshot, rows=made.rows, texts=texts, since=asked.begun), True


def _snapshot(
    project: str, asked: SnapshotRequest, made: Curated, texts: Mapping[DatasetForm, Sequence[str]]
) -> ReportedSnapshot:
    """The snapshot; its id is a hash of the project, the query, the feedback and the rows themselves."""
    feedback = hashlib.sha256()
    for judgement in sorted(made.used, key=lambda j: j.feedback_id):
        feedback.update(f"{judgement.feedback_id}:{judgement.version}\n".encode())
    rows = hashlib.sha256()
    for form in DATASET_FORMS:
        for text in texts.get(form, ()):
            rows.update(f"{form}\n{text}\n".encode("utf-8", "replace"))
    query = asked.query
    parts = [project, canonical_json(query), feedback.hexdigest(), rows.hexdigest()]
    return ReportedSnapshot(
        id=hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32],
        name=asked.name,
        created_at=utc_now(),
        as_of=asked.as_of,
        query=query,
        feedback_hash=feedback.hexdigest(),
        num_feedback=len(made.used),
        num_rows=count_rows(made.rows),
        report=describe(made),
        num_erased=0,
    )
