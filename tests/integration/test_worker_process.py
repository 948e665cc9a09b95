"""Work in a process of its own gives what it gives here: rows of every type, snapshots, errors; and its death keeps nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from temporary_stores import temporary_store

from heedloop.schema import THUMB, Author, Call, Feedback, Message, Target, ToolCall
from heedloop_server import snapshots
from heedloop_server.curate import Rules
from heedloop_server.errors import Invalid, Unavailable
from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import ProjectStore, Row, StoreError
from heedloop_server.store.datasets.snapshots import find_snapshot, snapshot_rows
from heedloop_server.store.feedback import StoredFeedback, insert_feedback, insert_history
from heedloop_server.store.spans import insert_calls
from heedloop_server.store.worker_process import run_in_process

NOW = datetime.now(timezone.utc)
TEXTS = ("Two days.", "ใช้เวลาสองวัน", "需要两天。", 'quoted "text"\n\t\\', "\U0001f60a e\u0301", "")


@pytest.fixture(scope="module")
def project() -> Iterator[ProjectStore]:
    with temporary_store() as store:
        project = store.project("shop")
        calls = [a_call(n, text) for n, text in enumerate(TEXTS * 3)]
        insert_calls(project, calls)
        said = [
            Feedback("rating", Target(c.trace_id, c.span_id), value=float(n % 2), scale=THUMB, author=Author("end_user", f"u{n}"))
            for n, c in enumerate(calls)
        ]  # fmt: skip
        stored = [StoredFeedback.of("shop", f, NOW) for f in said]
        insert_feedback(project, stored)
        insert_history(project, stored)
        yield project


@pytest.fixture
def functions_of_this_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process finds the functions of this file."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)


def a_call(n: int, text: str) -> Call:
    asked = (ToolCall(id="c1", name="look_up", arguments='{"order": 4711}'),) if n % 3 == 0 else ()
    return Call(
        trace_id=f"{n + 1:032x}",
        span_id=f"{n + 1:016x}",
        start_time=NOW - timedelta(minutes=n, microseconds=n),
        input_messages=(Message("system", "Be brief."), Message("user", f"How long, order {n // 6}?")),
        output_messages=(Message("assistant", text, tool_calls=asked),),
        attributes={"heedloop.metadata.region": "südwest", "heedloop.metadata.tier": str(n)},
        tags=("a", "b") if n % 2 else (),
    )


def asked_for(**filters: object) -> snapshots.SnapshotRequest:
    return snapshots.SnapshotRequest("all", CallFilters(**filters), Rules(), NOW + timedelta(hours=1), NOW)


def frozen_rows(project: ProjectStore, snapshot_id: str) -> list[str]:
    return [
        row
        for form in ("comparisons", "unpaired", "rated")
        for row in snapshot_rows(project, snapshot_id, form=form)
    ]


def answers(project: ProjectStore, selects: list[str], at: datetime) -> list[list[Row]]:
    return [project.rows(sql, {"at": at}) for sql in selects]


@pytest.mark.usefixtures("functions_of_this_file")
def test_rows_of_every_type_are_the_same(project: ProjectStore) -> None:
    tables = project.store.rows(
        "SELECT DISTINCT table FROM system.columns WHERE database = {database:String} AND name = 'project_id'",
        {"database": project.store.address.database},
    )
    selects = [f"SELECT * FROM {t['table']} WHERE project_id = {{project:String}}" for t in tables]
    selects.append(
        """
        SELECT
            {project:String} AS text,
            {at:DateTime64(6, 'UTC')} AS at,
            toDateTime('2026-01-02 03:04:05', 'UTC') AS second,
            toDate('2026-01-02') AS day,
            map('a', 'b') AS pairs,
            [[1, 2], []] AS nested,
            (1, 'x') AS two,
            CAST(NULL AS Nullable(Float64)) AS nothing,
            toUUID('0f2f9f1e-3f0c-4f6e-9b1a-0a8f6a2d7c11') AS id,
            toFixedString(unhex('00ff10'), 3) AS bytes,
            toDecimal64('1.50', 2) AS money,
            toLowCardinality('low') AS low,
            nan AS not_a_number
        """
    )
    assert len(selects) > 20
    there = run_in_process(project, answers, selects, NOW)
    for sql, of_process, of_server in zip(selects, there, answers(project, selects, NOW), strict=True):
        assert repr(of_process) == repr(of_server), sql


def test_a_process_makes_the_same_snapshot(project: ProjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "IN_PROCESS_FROM", 0)
    there, is_new = snapshots.freeze(project, asked_for())
    rows = frozen_rows(project, there.id)
    assert is_new and rows and find_snapshot(project, there.id) == there
    monkeypatch.setattr(snapshots, "IN_PROCESS_FROM", 1_000_000)
    here, is_new = snapshots.freeze(project, asked_for())
    assert not is_new and here == there and frozen_rows(project, here.id) == rows


def refuse(_project: ProjectStore) -> None:
    raise Invalid("three is no half", field="share")


class Unsendable(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def raise_what_cannot_be_sent(_project: ProjectStore) -> None:
    raise Unsendable("salt", "pepper")


def die(project: ProjectStore) -> None:
    snapshots.make_snapshot(project, asked_for())
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("functions_of_this_file")
def test_errors_are_those_of_the_work(project: ProjectStore) -> None:
    with pytest.raises(StoreError, match="must filter by"):
        run_in_process(project, ProjectStore.rows, "SELECT 1 AS one")
    with pytest.raises(StoreError):
        run_in_process(project, ProjectStore.rows, "SELECT nobody_knows_this({project:String})")
    with pytest.raises(Invalid, match="three is no half") as refused:
        run_in_process(project, refuse)
    assert refused.value.field == "share"
    with pytest.raises(RuntimeError, match="Unsendable: salt and pepper"):
        run_in_process(project, raise_what_cannot_be_sent)


@pytest.mark.usefixtures("functions_of_this_file")
def test_a_process_that_is_killed_is_told_and_the_next_one_works(project: ProjectStore) -> None:
    with pytest.raises(Unavailable, match=r"die ended \(-9\)"):
        run_in_process(project, die)
    assert run_in_process(project, ProjectStore.rows, "SELECT {project:String} AS p") == [{"p": "shop"}]
