"""Several servers start on one new ClickHouse at once: one makes the tables, the others wait; a lease that ran out is taken over."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from server_process import ShimProcess

from heedloop_server.errors import Unavailable
from heedloop_server.store.connection import Store, parse_dsn
from heedloop_server.store.migrate import load_migrations, migrate
from heedloop_server.store.migration_lease import TABLE, migration_lease
from heedloop_server.store.open import open_store


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    running = ShimProcess(tmp_path_factory.mktemp("shim") / "clickhouse")
    yield running
    running.stop()


@pytest.fixture()
def store(shim, request):
    name = f"lease_{abs(hash(request.node.name))}"
    opened = Store(parse_dsn(shim.dsn.rsplit("/", 1)[0] + "/" + name))
    opened.create_database()
    yield opened
    opened.close()


def leases(store: Store) -> int:
    sql = (
        "SELECT count() AS n FROM system.tables WHERE database = {database:String} AND name = {table:String}"
    )
    return store.rows(sql, {"database": store.address.database, "table": TABLE})[0]["n"]


def test_five_servers_that_start_at_once_make_the_tables_once(shim: ShimProcess) -> None:
    dsn = shim.dsn.rsplit("/", 1)[0] + "/at_once"
    with ThreadPoolExecutor(5) as servers:
        stores = list(servers.map(lambda _: open_store(dsn, num_clients=2), range(5)))
    applied = stores[0].rows("SELECT id, count() AS n FROM schema_migrations GROUP BY id")
    assert [r["n"] for r in applied] == [1] * len(load_migrations())
    assert leases(stores[0]) == 0
    assert migrate(stores[4]) == 0
    for store in stores:
        store.close()


def test_two_never_hold_it_at_once(store: Store) -> None:
    holders, most, lock = [0], [0], threading.Lock()

    def hold(_: int) -> None:
        with migration_lease(store, poll_s=0.01):
            with lock:
                holders[0] += 1
                most[0] = max(most[0], holders[0])
            store.rows("SELECT 1")
            with lock:
                holders[0] -= 1

    with ThreadPoolExecutor(6) as servers:
        list(servers.map(hold, range(18)))
    assert most == [1]
    assert leases(store) == 0


def test_a_server_that_waits_too_long_says_who_holds_it(store: Store) -> None:
    second = migration_lease(store, wait_s=0.02, poll_s=0.01)
    with (
        migration_lease(store),
        pytest.raises(Unavailable, match="another server changes the store's tables"),
    ):
        second.__enter__()


def test_the_lease_of_a_server_that_died_runs_out(store: Store) -> None:
    store.command(
        f"CREATE TABLE {store.address.database}.{TABLE} (x UInt8) ENGINE = Null COMMENT '1 dead 1 ab'"
    )
    with migration_lease(store, wait_s=0):
        assert leases(store) == 1
    assert leases(store) == 0


def test_it_is_given_back_when_a_migration_fails(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"), migration_lease(store):
        raise RuntimeError("broken")
    assert leases(store) == 0
