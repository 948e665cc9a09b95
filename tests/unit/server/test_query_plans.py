"""How much of the tables the pages' questions read: the plan, not the clock."""

import re
from datetime import datetime, timedelta, timezone
from typing import ClassVar

import pytest
from temporary_stores import temporary_store

from heedloop.schema import Target
from heedloop_server.filters import CallFilters
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.feedback import find_calls
from heedloop_server.store.spans import list_calls, trace_calls

END = datetime(2026, 11, 1, tzinfo=timezone.utc)
NUM = 60_000
"""59 granules of spans, a minute apart."""


class Watched(ProjectStore):
    """A project's store that notes the plan of every question."""

    __slots__ = ()
    plans: ClassVar[list[str]] = []

    def rows(self, sql, params=None, **settings):
        explained = super().rows(f"EXPLAIN indexes = 1 {sql}", params, **settings)
        self.plans.append("\n".join(str(r["explain"]) for r in explained))
        return super().rows(sql, params, **settings)

    def read(self) -> list[int]:
        """Granules that each question since the last call reads of `spans`."""
        found = [
            int(n) for plan in self.plans for n in re.findall(r"spans\)(?:.*\n)+?.*Granules: (\d+)", plan)
        ]
        self.plans.clear()
        return found


@pytest.fixture(scope="module")
def project():
    with temporary_store() as store:
        store.command(
            """
            INSERT INTO spans (project_id, trace_id, span_id, start_time, name, operation, is_answer, user_id, answer, ingested_at)
            SELECT 'p', unhex(hex(sipHash128(number))), unhex(hex(sipHash64(number))),
                fromUnixTimestamp64Micro({start:Int64} + number * 40000000, 'UTC'), 'a', 'chat', true,
                concat('u', toString(sipHash64(number, 1) % 20000)), if(number % 30011 = 7, 'zanzibar 返金がまだ', 'plain'), now64(6)
            FROM numbers({num:UInt32})
            """,
            {"start": int((END - timedelta(days=29)).timestamp() * 1e6), "num": NUM},
        )
        store.command("OPTIMIZE TABLE spans FINAL")
        yield Watched(store, "p")


MONTH = {"since": END - timedelta(days=30), "until": END}


def test_a_trace_is_read_from_a_few_granules(project: Watched) -> None:
    one = project.rows(
        "SELECT lower(hex(trace_id)) AS t FROM spans WHERE project_id = {project:String} LIMIT 1 OFFSET 30000"
    )[0]["t"]
    project.read()
    assert len(trace_calls(project, one)) == 1
    assert max(project.read()) <= 8
    assert len(find_calls(project, [Target(trace_id=one)])) == 1
    assert max(project.read()) <= 8


@pytest.mark.parametrize(
    "given", [{}, {"user_id": "u77"}, {"text": "zanzibar"}, {"text": "anzi"}, {"text": "返金"}], ids=str
)
def test_a_page_reads_what_it_shows(project: Watched, given) -> None:
    project.read()
    rows = list_calls(project, CallFilters(**MONTH, **given), limit=5, after=None)
    read = project.read()
    assert rows
    assert len(read) >= 2
    assert read[-1] <= len(rows)
    if given:
        assert max(read) <= 12


def test_the_newest_page_stops_early(project: Watched) -> None:
    project.plans.clear()
    list_calls(project, CallFilters(**MONTH), limit=5, after=None)
    assert "InReverseOrder" in project.plans[0]
