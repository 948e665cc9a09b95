"""Migrations: forward only, checksummed, harmless to run twice, and readable by the engine also as a cluster's."""

import re
from pathlib import Path

import pytest

from heedloop_server.store.connection import StoreError
from heedloop_server.store.migrate import Migration, load_migrations, migrate, render
from heedloop_server.testing import temporary_store

CLUSTER = [s for m in load_migrations() for s in render(m.sql, database="heedloop", cluster="c1")]


def test_every_statement_of_a_cluster_is_parsed_by_the_engine() -> None:
    assert len(CLUSTER) > 20
    with temporary_store() as store:
        for statement in CLUSTER:
            row = store.rows("SELECT formatQuery({sql:String}) AS formatted", {"sql": statement})[0]
            assert "ON CLUSTER" in row["formatted"], statement


def test_a_cluster_has_replicated_tables_below_distributed_ones() -> None:
    text = "\n".join(CLUSTER)
    local = set(re.findall(r"CREATE TABLE IF NOT EXISTS heedloop\.(\w+)_local ", text))
    spread = set(re.findall(r"CREATE TABLE IF NOT EXISTS heedloop\.(\w+) ON CLUSTER 'c1' AS", text))
    assert local == spread
    assert {"spans", "feedback", "keys", "ledger", "snapshots", "runs"} <= local
    assert not re.findall(r"ENGINE = (?!Replicated|Distributed)\w+", text)
    assert "{" not in re.sub(r"'\{[^']*\}'", "", text)


def test_running_again_changes_nothing_and_every_file_twice_is_harmless() -> None:
    with temporary_store() as store:
        assert migrate(store) == 0
        for m in load_migrations():  # a crash before the file's row is written runs it again
            for statement in render(m.sql, database=store.address.database):
                store.command(statement)


def test_an_edited_file_a_newer_store_and_a_doubled_number_are_refused(tmp_path: Path) -> None:
    table = "CREATE TABLE IF NOT EXISTS {db}.extra (x UInt8) ENGINE = MergeTree ORDER BY x;"
    with temporary_store() as store:
        known = load_migrations()
        assert migrate(store, [*known, Migration(9001, "extra", table)]) == 1
        with pytest.raises(StoreError, match="edited"):
            migrate(store, [*known, Migration(9001, "extra", table + " ")])
        with pytest.raises(StoreError, match="newer version"):
            migrate(store, known)
    for name in ("0001_a.sql", "0001_b.sql"):
        (tmp_path / name).write_text("SELECT 1;\n")
    with pytest.raises(StoreError, match="share the number 1"):
        load_migrations(tmp_path)


def test_the_numbers_keep_to_their_parts() -> None:
    assert all(m.id <= 40 for m in load_migrations())
