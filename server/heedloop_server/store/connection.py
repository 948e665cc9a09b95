"""Opening a store and asking it: the one place through which every query goes.

`open.open_store(dsn)` opens an embedded chDB folder or a ClickHouse server; both speak the same SQL. Routes get a
`ProjectStore`, which binds `{project:String}` from the key and refuses a query that does not use it, so that no query can
forget its tenant. `Store.rows` asks without a project and is for the server's own work: keys, ledger, doctor.

Values are always bound: write `{name:Type}` in the SQL and pass `name`. Aware datetimes bind to
`{x:DateTime64(6,'UTC')}`; ids are stored as bytes, so write `unhex({trace_id:String})` in and `lower(hex(trace_id))` out.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error as DriverError
from prometheus_client import Counter, Histogram

from heedloop_server.errors import Unavailable
from heedloop_server.store.engine_errors import StoreBusy as StoreBusy
from heedloop_server.store.engine_errors import StoreError as StoreError
from heedloop_server.store.engine_errors import StoreOverloaded as StoreOverloaded
from heedloop_server.store.engine_errors import translate, translate_open
from heedloop_server.store.erasure_mask import ErasureMasks
from heedloop_server.store.job_statements import before_statement
from heedloop_server.store.topology import Topology

Row = dict[str, Any]
ArrowTable = Any
"""A `pyarrow.Table`; pyarrow ships no types."""

DATABASE = "heedloop"
PROJECT_PARAMETER = "{project:String}"
_DATABASE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed DSN.

    Attributes:
        kind: `chdb` (embedded) or `http`.
        path: folder of the embedded store; empty in memory.
    """

    kind: str
    database: str = DATABASE
    path: str = ""
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    secure: bool = False

    @property
    def named(self) -> dict[str, str]:
        """What an error names of it."""
        return (
            {"path": self.path}
            if self.kind == "chdb"
            else {"server": f"{self.host}:{self.port}", "user": self.user}
        )

    @property
    def backups(self) -> Path:
        """Folder, next to an embedded store's, that the engine may write backups to."""
        return Path(self.path).parent / "backups"

    @property
    def engine_path(self) -> str | None:
        """What the embedded engine opens: the folder, with a configuration (written here) that allows the folder of backups."""
        if not self.path:
            return None
        config = Path(self.path).parent / "engine.xml"
        text = f"<clickhouse><backups><allowed_path>{escape(str(self.backups.absolute()))}/</allowed_path></backups></clickhouse>\n"
        if not config.is_file() or config.read_text() != text:
            config.write_text(text)
        return f"{self.path}?config-file={config}"


def parse_dsn(dsn: str) -> Address:
    """The address that a DSN names: `chdb:///folder`, `chdb://:memory:`, `clickhouse://user:pw@host:port/db`, `clickhouses://…`.

    `?database=name` names the database of an embedded store. Raises `ValueError` with what would be right.
    """
    scheme, sep, rest = dsn.partition("://")
    if scheme == "chdb" and sep:
        location, _, query = rest.partition("?")
        database = parse_qs(query).get("database", [DATABASE])[0]
        path = "" if location in (":memory:", "") else unquote(location)
        return Address("chdb", _database(database), path=path)
    if scheme in ("clickhouse", "clickhouses") and sep:
        parts = urlsplit(dsn)
        secure = scheme == "clickhouses"
        return Address(
            "http",
            _database(unquote(parts.path.strip("/")) or DATABASE),
            host=parts.hostname or "localhost",
            port=parts.port or (8443 if secure else 8123),
            user=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            secure=secure,
        )
    raise ValueError(
        f"{dsn!r} is no store address; use chdb:///folder or clickhouse://user:password@host:8123/heedloop"
    )


def _database(name: str) -> str:
    if not _DATABASE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no database name: letters, digits and underscores, at most 64")
    return name


PLAIN = Topology()


class Store:
    """A pool of clients of one ClickHouse; safe to share between threads, closed with `close()`.

    Args:
        address: where it is.
        topology: one server, a cluster, or a database that replicates itself.
        num_clients: most clients at once; a caller waits for a free one.
        threads: threads one query may use in the embedded engine.
    """

    def __init__(
        self,
        address: Address,
        *,
        topology: Topology = PLAIN,
        num_clients: int = 8,
        threads: int = 2,
    ) -> None:
        self.address = address
        self.topology = topology
        self._threads = threads
        self._idle: queue.LifoQueue[Client] = queue.LifoQueue()
        self._permits = threading.BoundedSemaphore(num_clients)
        self._closed = False
        self._root: Client | None = None
        self._types: dict[str, dict[str, str]] = {}
        self.masks = ErasureMasks(self.rows, is_alone=self.is_embedded)
        self.durations = Histogram(
            "heedloop_store_duration_seconds",
            "statements by kind, and how long each took with its wait for a free connection",
            ("kind",),
            registry=None,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0),
        )
        self.errors = Counter(
            "heedloop_store_errors",
            "statements that failed: no answer or not now (unavailable), or not at all (refused)",
            ("kind",),
            registry=None,
        )
        for kind in ("unavailable", "refused"):  # a rate needs the series before the first failure
            self.errors.labels(kind)

    # ----------------------------------------------------------------------------------------------------- asking

    @property
    def is_embedded(self) -> bool:
        """True where the engine runs in this process, and so reads our files."""
        return self.address.kind == "chdb"

    def project(self, project: str) -> ProjectStore:
        """The store as one project sees it."""
        return ProjectStore(self, project)

    def rows(self, sql: str, params: Mapping[str, Any] | None = None, **settings: Any) -> list[Row]:
        """All rows of a query as dictionaries by column name, without any project. Times are aware UTC."""
        with self.client("read") as client:
            found = client.query(sql, parameters=_bind(params), settings=settings or None)
            names = found.column_names
            return [dict(zip(names, r, strict=True)) for r in found.result_rows]

    def arrow(self, sql: str, params: Mapping[str, Any] | None = None, **settings: Any) -> ArrowTable:
        """The rows of a query as an Arrow table."""
        with self.client("read") as client:
            return cast(
                ArrowTable, client.query_arrow(sql, parameters=_bind(params), settings=settings or None)
            )

    def native(self, sql: str, params: Mapping[str, Any] | None = None, **settings: Any) -> bytes:
        """The rows of a query as the engine's Native format: for another process (`worker_process`)."""
        with self.client("read") as client:
            return client.raw_query(sql, parameters=_bind(params), settings=settings or None, fmt="Native")

    def command(self, sql: str, params: Mapping[str, Any] | None = None, **settings: Any) -> None:
        """Run a statement that gives no rows."""
        with self.client("command") as client:
            client.command(sql, parameters=_bind(params), settings=settings or None)

    def insert(
        self,
        table: str,
        rows: Sequence[Mapping[str, Any]],
        constants: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """Insert rows that all have the keys of the first, and the constants; returns when the store has them on disk."""
        if not rows:
            return
        columns = {n: [row[n] for row in rows] for n in rows[0]}
        columns |= {n: [value] * len(rows) for n, value in (constants or {}).items()}
        with self.client("insert") as client:
            types = self._types_of(client, table)
            client.insert(
                table,
                list(columns.values()),
                column_names=list(columns),
                column_type_names=[types[n] for n in columns],
                column_oriented=True,
                settings=settings or None,
            )

    def _types_of(self, client: Client, table: str) -> dict[str, str]:
        """The types of a table's columns; asked once, because the client asks for every insert where it is not told."""
        known = self._types.get(table)
        if known is None:
            rows = client.query(f"DESCRIBE TABLE {table}").result_rows
            known = self._types[table] = {str(r[0]): str(r[1]) for r in rows}
        return known

    def insert_arrow(self, table: str, rows: ArrowTable, *, token: str = "", unindexed: str = "") -> None:
        """Insert an Arrow table; a second insert with the same token (of the last 1,000) changes nothing.

        Args:
            unindexed: names of skip indices, by commas, that an embedded engine makes when it merges the rows with others.
        """
        settings: dict[str, Any] = dict(self.topology.stored)
        if token:
            settings["insert_deduplication_token"] = token
        if unindexed and self.is_embedded:
            settings["exclude_materialize_skip_indexes_on_insert"] = unindexed
        with self.client("insert") as client:
            client.insert_arrow(table, rows, settings=settings or None)

    # ---------------------------------------------------------------------------------------------------- clients

    @contextlib.contextmanager
    def client(self, kind: Literal["read", "command", "insert"]) -> Generator[Client]:
        """A client for the caller alone, and errors in our own words.

        Args:
            kind: what it is for, in the metrics.

        Raises:
            Unavailable: the store does not answer; worth a retry.
            StoreError: it answered with an error.
        """
        if self._closed:
            raise Unavailable("the server is stopping")
        before_statement(kind)
        with self.durations.labels(kind).time(), self._permits:
            client = self._take()
            try:
                yield client
            except DriverError as err:
                self._drop(client)
                error = translate(err)
                self.errors.labels("unavailable" if isinstance(error, Unavailable) else "refused").inc()
                raise error from err
            except BaseException:
                self._drop(client)
                raise
            self._idle.put(client)

    def close(self) -> None:
        """Close every idle client; those in use close as they come back."""
        self._closed = True
        while True:
            try:
                self._drop(self._idle.get_nowait())
            except queue.Empty:
                break
        if self._root is not None:
            self._drop(self._root)
            self._root = None

    def now(self) -> datetime:
        """The store's own clock; those of servers differ."""
        return self.rows("SELECT now64(6, 'UTC') AS now")[0]["now"]

    def ping(self) -> bool:
        """True where the store answers."""
        try:
            return self.rows("SELECT 1 AS one") == [{"one": 1}]
        except (Unavailable, StoreError):
            return False

    def _take(self) -> Client:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._open()

    def _drop(self, client: Client) -> None:
        with contextlib.suppress(Exception):
            client.close()

    def _open(self, database: str | None = None) -> Client:
        where = self.address
        name = where.database if database is None else database
        try:
            if where.kind == "chdb":
                return clickhouse_connect.get_client(
                    interface="chdb",
                    path=where.engine_path,
                    database=name,
                    tz_mode="aware",
                    settings={"max_threads": self._threads},
                )
            return clickhouse_connect.get_client(
                host=where.host,
                port=where.port,
                username=where.user,
                password=where.password,
                secure=where.secure,
                database=name,
                tz_mode="aware",
                settings=self.topology.connection_settings,
                autogenerate_session_id=False,
                form_encode_query_params=True,
                connect_timeout=5,
                send_receive_timeout=300,
                query_retries=0,
            )
        except DriverError as err:
            raise translate_open(err, **where.named) from err

    def put_back(self, backup: str) -> None:
        """Restore the database, which must not be there, from a backup in `Address.backups`."""
        client = self._open(database="default")
        try:
            client.command(f"RESTORE DATABASE {self.address.database} FROM File('{backup}')")
        except DriverError as err:
            raise translate(err) from err
        finally:
            self._drop(client)

    def create_database(self) -> None:
        """Create the database where it is missing. Atomic, because chDB's own default has no refreshable views.

        Raises:
            StoreError: `--replicated-database`, and the database is there with an engine that does not repeat statements.
        """
        name = self.address.database
        client = self._open(database="default")
        try:
            client.command(create_database(name, self.topology, is_cloud=_is_cloud(client)))
            engine = client.command(
                "SELECT engine FROM system.databases WHERE name = {name:String}", parameters={"name": name}
            )
        except DriverError as err:
            raise translate(err) from err
        if self.topology.is_replicated and engine not in ("Replicated", "Shared"):
            raise StoreError(
                f"the database {name} has the engine {engine}: --replicated-database needs Replicated or Shared, which repeat "
                "every statement on their replicas; name a database that is not there yet, or leave the option out"
            )
        # an embedded engine lives as long as one client of it is open: in memory, everything would be gone in between
        self._root = client


def create_database(name: str, topology: Topology, *, is_cloud: bool = False) -> str:
    """The statement that makes a database. ClickHouse Cloud chooses the engine itself (Shared) and refuses another."""
    engine = "ENGINE = Atomic"
    if topology.is_replicated:
        engine = f"ENGINE = Replicated('/clickhouse/databases/{name}', '{{shard}}', '{{replica}}')"
    return f"CREATE DATABASE IF NOT EXISTS {name} {topology.on_cluster} {'' if is_cloud else engine}"


def _is_cloud(client: Client) -> bool:
    return (
        str(client.command("SELECT count() FROM system.settings WHERE name = 'cloud_mode' AND value = '1'"))
        == "1"
    )


@dataclass(frozen=True, slots=True)
class ProjectStore:
    """The store as one project sees it: every query binds `{project:String}` and hides what is being erased, every inserted
    row gets `project_id`."""

    store: Store
    project: str

    def rows(self, sql: str, params: Mapping[str, Any] | None = None, **settings: Any) -> list[Row]:
        """All rows of a query as dictionaries by column name; the SQL must use `{project:String}`."""
        bound = {**(params or {}), "project": self.project}
        return self.store.rows(_scoped(sql), bound, **self._mask, **settings)

    def row(self, sql: str, params: Mapping[str, Any] | None = None, **settings: Any) -> Row | None:
        """The first row, or None."""
        found = self.rows(sql, params, **settings)
        return found[0] if found else None

    def arrow(self, sql: str, params: Mapping[str, Any] | None = None, **settings: Any) -> ArrowTable:
        """The rows of a query as an Arrow table; the SQL must use `{project:String}`."""
        bound = {**(params or {}), "project": self.project}
        return self.store.arrow(_scoped(sql), bound, **self._mask, **settings)

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]], **settings: Any) -> None:
        """Insert rows into this project."""
        self.store.insert(table, rows, {"project_id": self.project}, **settings)

    @property
    def _mask(self) -> Mapping[str, str]:
        """Settings that hide what is being erased; on a cluster nothing is hidden, an erasure is waited for."""
        return {} if self.store.topology.cluster else self.store.masks.settings(self.project)

    @property
    def stored(self) -> dict[str, Any]:
        """`Topology.stored`."""
        return self.store.topology.stored

    @property
    def lasting(self) -> dict[str, Any]:
        """`Topology.lasting`."""
        return self.store.topology.lasting

    @property
    def fresh(self) -> dict[str, Any]:
        """`Topology.fresh`."""
        return self.store.topology.fresh


def _scoped(sql: str) -> str:
    if PROJECT_PARAMETER not in sql:
        raise StoreError(f"a query of a project must filter by {PROJECT_PARAMETER}: {sql.strip()[:200]}")
    return sql


def _bind(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if params is None:
        return None
    return {k: _bindable(v) for k, v in params.items()}


def _bindable(value: Any) -> Any:
    if isinstance(value, datetime):
        utc = value.astimezone(timezone.utc)
        return f"{utc.year:04}-{utc:%m-%d %H:%M:%S.%f}"  # %Y writes the year 419 with three digits
    if isinstance(value, (tuple, set, frozenset)):
        return list(cast(Sequence[Any], value))
    return value
