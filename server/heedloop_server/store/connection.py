"""Opening a store and asking it: the one place through which every query goes.

`open.open_store(dsn)` opens an embedded chDB folder or a ClickHouse server; both speak the same SQL. Routes get a
`ProjectStore`, which binds `{project:String}` from the key and refuses a query that does not use it, so that no query can
forget its tenant. `Store.rows` asks without a project and is for the server's own work: keys, ledger, doctor.

Values are always bound: write `{name:Type}` in the SQL and pass `name`. Aware datetimes bind to
`{x:DateTime64(6,'UTC')}`; ids are stored as bytes, so write `unhex({trace_id:String})` in and `lower(hex(trace_id))` out.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal, cast
from urllib.parse import parse_qs, unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_connect.driver.exceptions import Error as DriverError
from prometheus_client import Counter, Histogram

from heedloop_server.errors import Unavailable

__all__ = [
    "Address",
    "ArrowTable",
    "ProjectStore",
    "Row",
    "Store",
    "StoreBusy",
    "StoreError",
    "StoreOverloaded",
    "parse_dsn",
]

log = logging.getLogger("heedloop.store")

Row = dict[str, Any]
ArrowTable = Any
"""A `pyarrow.Table`; pyarrow ships no types."""

DATABASE = "heedloop"
PROJECT_PARAMETER = "{project:String}"
_DATABASE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class StoreError(Exception):
    """The store refused a statement: our SQL or schema is wrong, or its data is damaged."""


class StoreOverloaded(Unavailable):
    """The store answered that it cannot do this now: too many parts, no memory, no space, a timeout."""


class StoreBusy(StoreError):
    """Another process has the embedded folder open."""


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


class Store:
    """A pool of clients of one ClickHouse; safe to share between threads, closed with `close()`.

    Args:
        address: where it is.
        cluster: name of the cluster the tables are spread over; empty for one server.
        num_clients: most clients at once; a caller waits for a free one.
        threads: threads one query may use in the embedded engine.
    """

    def __init__(
        self, address: Address, *, cluster: str = "", num_clients: int = 8, threads: int = 2
    ) -> None:
        self.address = address
        self.cluster = cluster
        self._threads = threads
        self._idle: queue.LifoQueue[Client] = queue.LifoQueue()
        self._permits = threading.BoundedSemaphore(num_clients)
        self._closed = False
        self._root: Client | None = None
        self._types: dict[str, dict[str, str]] = {}
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

    def command(self, sql: str, params: Mapping[str, Any] | None = None, **settings: Any) -> None:
        """Run a statement that gives no rows."""
        with self.client("command") as client:
            client.command(sql, parameters=_bind(params), settings=settings or None)

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]], **settings: Any) -> None:
        """Insert rows that all have the keys of the first; returns when the store has them on disk."""
        if not rows:
            return
        names = list(rows[0])
        with self.client("insert") as client:
            values = [[row[n] for n in names] for row in rows]
            types = self._types_of(client, table)
            client.insert(
                table,
                values,
                column_names=names,
                column_type_names=[types[n] for n in names],
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
        settings: dict[str, Any] = {"insert_deduplication_token": token} if token else {}
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
        with self.durations.labels(kind).time(), self._permits:
            client = self._take()
            try:
                yield client
            except DriverError as err:
                self._drop(client)
                error = _translate(err)
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
                    path=where.path or None,
                    database=name,
                    tz_mode="aware",
                    settings={"max_threads": self._threads},
                )
            # a subquery over a distributed table is refused where nothing says which shards it means: all of them
            spread = {"distributed_foreground_insert": 1, "distributed_product_mode": "global"}
            settings = spread if self.cluster else {}
            return clickhouse_connect.get_client(
                host=where.host,
                port=where.port,
                username=where.user,
                password=where.password,
                secure=where.secure,
                database=name,
                tz_mode="aware",
                settings=settings,
                autogenerate_session_id=False,
                form_encode_query_params=True,
                connect_timeout=5,
                send_receive_timeout=300,
                query_retries=0,
            )
        except DriverError as err:
            raise _translate_open(err, where) from err

    def create_database(self) -> None:
        """Create the database where it is missing. Atomic, because chDB's own default has no refreshable views."""
        on_cluster = f"ON CLUSTER '{self.cluster}'" if self.cluster else ""
        client = self._open(database="default")
        try:
            client.command(
                f"CREATE DATABASE IF NOT EXISTS {self.address.database} {on_cluster} ENGINE = Atomic"
            )
        except DriverError as err:
            raise _translate(err) from err
        # an embedded engine lives as long as one client of it is open: in memory, everything would be gone in between
        self._root = client


@dataclass(frozen=True, slots=True)
class ProjectStore:
    """The store as one project sees it: every query binds `{project:String}`, every inserted row gets `project_id`."""

    store: Store
    project: str

    def rows(self, sql: str, params: Mapping[str, Any] | None = None, **settings: Any) -> list[Row]:
        """All rows of a query as dictionaries by column name; the SQL must use `{project:String}`."""
        return self.store.rows(_scoped(sql), {**(params or {}), "project": self.project}, **settings)

    def row(self, sql: str, params: Mapping[str, Any] | None = None, **settings: Any) -> Row | None:
        """The first row, or None."""
        found = self.rows(sql, params, **settings)
        return found[0] if found else None

    def arrow(self, sql: str, params: Mapping[str, Any] | None = None, **settings: Any) -> ArrowTable:
        """The rows of a query as an Arrow table; the SQL must use `{project:String}`."""
        return self.store.arrow(_scoped(sql), {**(params or {}), "project": self.project}, **settings)

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]], **settings: Any) -> None:
        """Insert rows into this project."""
        self.store.insert(table, [{**row, "project_id": self.project} for row in rows], **settings)

    @property
    def lasting(self) -> dict[str, Any]:
        """Settings of an insert that, on a cluster, a majority of the replicas has, so that `fresh` reads see it."""
        return {"insert_quorum": "auto", "insert_quorum_parallel": 0} if self.store.cluster else {}

    @property
    def fresh(self) -> dict[str, Any]:
        """Settings of a read that, on a cluster, sees every `lasting` insert that was answered before."""
        return {"select_sequential_consistency": 1} if self.store.cluster else {}


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


def _translate(err: DriverError) -> Exception:
    """Our word for a driver's error: connection trouble is worth a retry, a refused statement is not."""
    text = str(err)
    found = _ENGINE_ERROR.search(text)
    if found is None:
        if err.__class__.__name__ in ("ProgrammingError", "DataError"):
            return StoreError(f"the store's client refuses a statement: {text[:2000]}")
        log.warning("the store does not answer: %s", text[:1000])
        return Unavailable("the store does not answer; send again later")
    code, engine_text = found["code"], found["message"].strip()
    reasons = [_RETRYABLE[c] for c in re.findall(r"Code: (\d+)", text) if c in _RETRYABLE]
    if isinstance(err, ClickHouseError) and not reasons:
        return StoreError(f"the store refuses a statement (ClickHouse error {code}: {engine_text[:2000]})")
    # the engine's words may quote a statement and what others sent: they are for the log, not for the caller
    log.warning("the store cannot do this now: ClickHouse error %s: %s", code, engine_text[:1000])
    reason = reasons[0] if reasons else "it is busy or cannot be reached"
    return StoreOverloaded(
        f"the store cannot do this now: {reason} (ClickHouse error {code}); send again later"
    )


_ENGINE_ERROR = re.compile(r"Code: (?P<code>\d+)\.? ?(?:DB::Exception: )?(?P<message>.*)", re.DOTALL)
_NO_MAJORITY = "too few of its replicas answer"
_SLOW = "it took too long or the connection broke"
_RETRYABLE = {
    "159": _SLOW,
    "160": _SLOW,
    "198": "the name of one of its servers cannot be resolved",
    "202": "it runs too many queries",
    "209": _SLOW,
    "210": _SLOW,
    "225": "its keeper is away",
    "236": "another statement interrupted it",
    "241": "it has no memory left for this",
    "242": "a table can only be read at present",
    "243": "its disk is full",
    "252": "too many parts wait to be merged",
    "279": _NO_MAJORITY,
    "285": _NO_MAJORITY,
    "286": "an insert before has not reached a majority of its replicas yet",
    "289": "a replica has not caught up",
    "319": "whether the insert is stored is unknown",
    "341": "a statement has not ended on every replica",
    "425": "it has no room or files left",
    "517": "a statement on the table has not ended",
    "999": "its keeper is away",
}
"""ClickHouse's error codes that a later attempt may not meet, in our words.

https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
"""


def _translate_open(err: DriverError, where: Address) -> Exception:
    text = str(err)
    if where.kind == "chdb" and "EmbeddedServer" in text:
        return StoreBusy(
            f"the store {where.path or 'in memory'} is open in another process, or in this one under another path. An embedded store "
            "belongs to one server; for several, run a ClickHouse server and start each with "
            "--store clickhouse://user:password@host:8123/heedloop"
        )
    translated = _translate(err)
    if where.kind == "http" and isinstance(translated, Unavailable) and "Code:" not in text:
        return Unavailable(
            f"no ClickHouse answers on {where.host}:{where.port}; is it running, and is --store right?"
        )
    if where.kind == "http" and "Code: 516" in text:
        return StoreError(
            f"the ClickHouse on {where.host}:{where.port} refuses the user {where.user!r} or its password"
        )
    return translated
