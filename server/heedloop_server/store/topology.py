"""How a store's tables are laid out: one server, a cluster of shards and replicas, or a database that replicates itself.

| mode | tables | statements that change them |
|---|---|---|
| plain | `ReplacingMergeTree` | as they are |
| cluster | `Replicated…` tables `x_local` below `Distributed` tables `x` | `ON CLUSTER 'name'` |
| replicated | `Replicated…` in a database of engine `Replicated`, or of ClickHouse Cloud | as they are; the database repeats them |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Topology:
    """Which of the three modes a store is in.

    Attributes:
        cluster: the cluster whose shards hold the tables; empty in the other modes.
        is_replicated: the database itself repeats statements and rows on its replicas.

    Raises:
        ValueError: both are set.
    """

    cluster: str = ""
    is_replicated: bool = False

    def __post_init__(self) -> None:
        if self.cluster and self.is_replicated:
            raise ValueError(
                "a store has --cluster NAME (tables made ON CLUSTER) or --replicated-database (the database repeats "
                "every statement by itself), not both"
            )

    @property
    def mode(self) -> Literal["plain", "cluster", "replicated"]:
        if self.cluster:
            return "cluster"
        return "replicated" if self.is_replicated else "plain"

    @property
    def on_cluster(self) -> str:
        """The clause of statements that every server of a cluster runs; empty in the other modes."""
        return f"ON CLUSTER '{self.cluster}'" if self.cluster else ""

    def altered(self, table: str) -> str:
        """What follows `ALTER TABLE`: the table that holds the rows, on every server."""
        return f"{table}_local {self.on_cluster}" if self.cluster else table

    def all_replicas(self, system_table: str, database: str) -> str:
        """A system table of every replica as a source of rows; a Replicated database is a cluster of its own name."""
        if self.mode == "plain":
            return system_table
        return f"clusterAllReplicas('{self.cluster or database}', {system_table})"

    @property
    def connection_settings(self) -> dict[str, Any]:
        """Settings of every statement: an insert is answered when it is stored, and a slow replica does not fail a change of tables."""
        settings: dict[str, Any] = {"async_insert": 0, "wait_for_async_insert": 1}
        if self.cluster:
            # a subquery over a distributed table is refused where nothing says which shards it means: all of them
            settings |= {"distributed_foreground_insert": 1, "distributed_product_mode": "global"}
        if self.mode != "plain":
            settings["distributed_ddl_output_mode"] = "null_status_on_timeout"
        return settings

    @property
    def stored(self) -> dict[str, Any]:
        """Settings of an insert that is answered when a majority of the replicas has it."""
        return {} if self.mode == "plain" else {"insert_quorum": "auto"}

    @property
    def lasting(self) -> dict[str, Any]:
        """As `stored`, one insert at a time, so that `fresh` reads see it whichever replica they ask."""
        return self.stored and {**self.stored, "insert_quorum_parallel": 0}

    @property
    def fresh(self) -> dict[str, Any]:
        """Settings of a read that sees every `lasting` insert that was answered before."""
        return {} if self.mode == "plain" else {"select_sequential_consistency": 1}
