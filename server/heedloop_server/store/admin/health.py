"""How the store is: tables, parts, stuck mutations, parts that the engine set aside."""

from __future__ import annotations

from dataclasses import dataclass

from heedloop.responses import TableSize
from heedloop_server.store.connection import Row, Store

MANY_PARTS = 300
"""Parts of a table from which merges do not keep up."""


@dataclass(frozen=True, slots=True)
class Health:
    """What `read_health` found; times and sizes as the engine says them."""

    version: str
    tables: list[TableSize]
    broken: list[Row]
    stuck: list[Row]

    def problems(self, many_parts: int) -> list[str]:
        """One sentence for each thing that needs a person."""
        wrong = [
            f"{t.table} has {t.parts} parts: merges do not keep up"
            for t in self.tables
            if t.parts > many_parts
        ]
        wrong += [
            f"{b['parts']} damaged parts of {b['table']} were set aside ({b['reason']}): restore them from a backup"
            for b in self.broken
        ]
        wrong += [
            f"a deletion on {s['table']} is not done since {s['since']}: {s['why'] or 'still running'}"
            for s in self.stuck
        ]
        return wrong


def table_sizes(store: Store) -> list[TableSize]:
    """Rows, bytes on disk and parts of each of our tables over all replicas, the largest first."""
    rows = store.rows(
        f"""
        SELECT
            table,
            sum(rows) AS rows,
            sum(bytes_on_disk) AS bytes,
            count() AS parts
        FROM {_everywhere(store, "system.parts")}
        WHERE database = {{database:String}} AND active
        GROUP BY table
        ORDER BY bytes DESC
        """,  # noqa: S608
        {"database": store.address.database},
    )
    return [TableSize(**row) for row in rows]


def _everywhere(store: Store, system_table: str) -> str:
    return store.topology.all_replicas(system_table, store.address.database)


def read_health(store: Store) -> Health:
    """Ask the engine's system tables about our database."""
    names = {"database": store.address.database}
    broken = store.rows(
        f"""
        SELECT
            table,
            reason,
            count() AS parts
        FROM {_everywhere(store, "system.detached_parts")}
        WHERE database = {{database:String}}
        GROUP BY table, reason
        """,  # noqa: S608
        names,
    )
    stuck = store.rows(
        f"""
        SELECT
            table,
            min(create_time) AS since,
            any(latest_fail_reason) AS why
        FROM {_everywhere(store, "system.mutations")}
        WHERE database = {{database:String}} AND NOT is_done
        GROUP BY table
        """,  # noqa: S608
        names,
    )
    return Health(store.rows("SELECT version() AS v")[0]["v"], table_sizes(store), broken, stuck)
