"""Migrations: forward only, checksummed, harmless to run twice, readable by the engine and made by it in all three modes.

The statements of each mode are in tests/golden/migrations; HEEDLOOP_WRITE_GOLDEN=1 writes the files again: read the difference.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from temporary_stores import temporary_store

from heedloop_server.store.connection import StoreError, create_database
from heedloop_server.store.migrate import Migration, load_migrations, migrate, render
from heedloop_server.store.topology import Topology

GOLDEN = Path(__file__).parents[2] / "golden/migrations"
MODES = {"plain": Topology(), "cluster": Topology("c1"), "replicated": Topology(is_replicated=True)}
LONGEST = 3000


def statements(mode: str) -> list[str]:
    topology = MODES[mode]
    made = [s for m in load_migrations() for s in render(m.sql, database="heedloop", topology=topology)]
    return [create_database("heedloop", topology), *made]


def shortened(statement: str) -> str:
    """As it is; the text of search in every script (30 kB) as its hash."""
    if len(statement) <= LONGEST:
        return statement
    return f"{statement[:300]} … {hashlib.sha256(statement.encode()).hexdigest()}"


@pytest.mark.parametrize("mode", MODES)
def test_every_statement_of_a_mode_is_as_it_was(mode: str) -> None:
    text = ";\n\n".join(shortened(s) for s in statements(mode)) + ";\n"
    file = GOLDEN / f"{mode}.sql"
    if os.environ.get("HEEDLOOP_WRITE_GOLDEN") == "1":
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("mode", MODES)
def test_every_statement_of_a_mode_is_parsed_by_the_engine(mode: str) -> None:
    with temporary_store() as store:
        for statement in statements(mode):
            row = store.rows("SELECT formatQuery({sql:String}) AS formatted", {"sql": statement})[0]
            assert ("ON CLUSTER" in row["formatted"]) == (mode == "cluster"), statement


def test_a_cluster_has_replicated_tables_below_distributed_ones() -> None:
    text = "\n".join(statements("cluster")[1:])
    local = set(re.findall(r"CREATE TABLE IF NOT EXISTS heedloop\.(\w+)_local ", text))
    spread = set(re.findall(r"CREATE TABLE IF NOT EXISTS heedloop\.(\w+) ON CLUSTER 'c1' AS", text))
    assert local == spread
    assert {"spans", "feedback", "keys", "ledger", "snapshots", "runs"} <= local
    assert not re.findall(r"ENGINE = (?!Replicated|Distributed)\w+", text)
    assert "{" not in re.sub(r"'\{[^']*\}'", "", text)


def test_a_replicated_database_has_replicated_tables_and_no_others() -> None:
    text = "\n".join(statements("replicated")[1:])
    assert not re.findall(r"ENGINE = (?!Replicated)\w+", text)
    assert "_local" not in text and "non_replicated" not in text


KEEPER = """<clickhouse>
  <zookeeper><implementation>testkeeper</implementation></zookeeper>
  <macros><shard>1</shard><replica>r1</replica></macros>
  <default_replica_path>/clickhouse/tables/{database}/{table}/{shard}</default_replica_path>
  <default_replica_name>{replica}</default_replica_name>
  <remote_servers><c1><shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard></c1></remote_servers>
</clickhouse>
"""


@pytest.mark.parametrize("mode", ["cluster", "replicated"])
def test_the_engine_makes_the_replicated_and_distributed_tables(mode: str, tmp_path: Path) -> None:
    """With a keeper in the engine. Its replicas stay read-only and it refuses ON CLUSTER and databases that replicate themselves:
    statements that change a table are parsed only, the clause is taken out, and the database is an ordinary one."""
    (tmp_path / "keeper.xml").write_text(KEEPER)
    made = [re.sub(" ON CLUSTER 'c1'", "", s) for s in statements(mode)[1:] if s.startswith("CREATE")]
    (tmp_path / "statements.json").write_text(json.dumps(made))
    code = f"""
        import json, os
        from chdb import session
        store = session.Session({str(tmp_path / "store")!r} + "?config-file=" + {str(tmp_path / "keeper.xml")!r})
        store.query("CREATE DATABASE heedloop ENGINE = Atomic")
        for statement in json.load(open({str(tmp_path / "statements.json")!r})):
            store.query(statement)
        print(store.query("SELECT engine, count() FROM system.tables WHERE database = 'heedloop' GROUP BY engine", "JSONCompactEachRow"), flush=True)
        os._exit(0)  # the engine's own end with a keeper of tests aborts
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    engines = {row[0]: int(row[1]) for line in done.stdout.split("\n") if line for row in [json.loads(line)]}
    replicated = sum(n for engine, n in engines.items() if engine.startswith("Replicated"))
    assert replicated == sum("ENGINE = Replicated" in s for s in made) > 20
    assert engines.get("Distributed", 0) == (replicated if mode == "cluster" else 0)
    assert sum(engines.values()) == len(made)


def test_settings_of_the_modes() -> None:
    for topology in MODES.values():
        assert topology.connection_settings["async_insert"] == 0
    assert Topology().lasting == Topology().fresh == Topology().stored == {}
    for mode in ("cluster", "replicated"):
        assert MODES[mode].lasting == {"insert_quorum": "auto", "insert_quorum_parallel": 0}
        assert MODES[mode].fresh == {"select_sequential_consistency": 1}
    assert MODES["cluster"].altered("spans") == "spans_local ON CLUSTER 'c1'"
    assert MODES["replicated"].altered("spans") == MODES["plain"].altered("spans") == "spans"
    assert MODES["replicated"].all_replicas("system.parts", "db") == "clusterAllReplicas('db', system.parts)"
    with pytest.raises(ValueError, match="not both"):
        Topology("c1", is_replicated=True)


def test_a_database_that_does_not_replicate_is_refused_where_it_should() -> None:
    with temporary_store() as store:
        store.topology = MODES["replicated"]
        with pytest.raises(StoreError, match="has the engine Atomic"):
            store.create_database()


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
    assert all(m.id <= 69 for m in load_migrations())
