"""Bringing the tables up to date: numbered SQL files, forward only, checksummed.

A file `NNNN_name.sql` holds statements that end with `;` at a line's end. Holes:

* `{db}` the database;
* `{on_cluster}` empty, or `ON CLUSTER 'name'`;
* `{R}` empty, or `Replicated` (on a cluster and in a replicated database): write `{R}ReplacingMergeTree(...)`;
* `{local}` empty, or `_local`: write `CREATE TABLE IF NOT EXISTS {db}.spans{local} {on_cluster}`; a line
  `-- distributed: spans cityHash64(trace_id)` then makes, on a cluster only, the table `spans` that spreads over the shards;
* `{dedup}` the setting that remembers insert tokens.

Every statement must be harmless to run twice, because a crash before the file's row is written runs it again.
Numbers: 0001-0009 server, 0010-0019 datasets, 0020-0029 quality, 0030-0049 review, 0050-0059 judges, 0060-0069 experiments, evaluations, prompts.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from heedloop_server.store.connection import PLAIN, Store, StoreError
from heedloop_server.store.migration_lease import migration_lease
from heedloop_server.store.topology import Topology

FOLDER = Path(__file__).parent / "migrations"
_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_DISTRIBUTED = re.compile(r"^-- distributed: (\w+) (.+)$", re.M)

_LEDGER = """CREATE TABLE IF NOT EXISTS {db}.schema_migrations{local} {on_cluster} (
    id UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = {R}ReplacingMergeTree(applied_at)
ORDER BY id;
-- distributed: schema_migrations id
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: `id` from its number, `sql` with holes, `checksum` over the text."""

    id: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()[:16]


def load_migrations(folder: Path = FOLDER) -> list[Migration]:
    """All migrations by number; raises `StoreError` where two files share one."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise StoreError(f"{path.name} is not named NNNN_name.sql")
        number = int(match[1])
        if number in found:
            raise StoreError(f"migrations {found[number].name} and {match[2]} share the number {number}")
        found[number] = Migration(number, match[2], path.read_text(encoding="utf-8"))
    return [found[n] for n in sorted(found)]


def render(sql: str, *, database: str, topology: Topology = PLAIN) -> list[str]:
    """The statements of a file in one of the three modes."""
    cluster = topology.cluster
    holes = {
        "db": database,
        "on_cluster": topology.on_cluster,
        "R": "" if topology.mode == "plain" else "Replicated",
        "local": "_local" if cluster else "",
        "dedup": ("non_replicated" if topology.mode == "plain" else "replicated")
        + "_deduplication_window = 1000",
    }
    text = sql
    for name, value in holes.items():
        text = text.replace("{" + name + "}", value)
    code = re.sub(r"^\s*--.*$", "", text, flags=re.M)
    statements = [s.strip() for s in re.split(r";\s*$", code, flags=re.M) if s.strip()]
    if cluster:
        statements += [_distributed(m[1], m[2], database, cluster) for m in _DISTRIBUTED.finditer(text)]
    return statements


def _distributed(table: str, key: str, database: str, cluster: str) -> str:
    return (
        f"CREATE TABLE IF NOT EXISTS {database}.{table} ON CLUSTER '{cluster}' AS {database}.{table}_local "
        f"ENGINE = Distributed('{cluster}', '{database}', '{table}_local', {key})"
    )


def migrate(store: Store, migrations: list[Migration] | None = None) -> int:
    """Apply what is missing; returns how many files were applied.

    Raises:
        StoreError: the store's schema is newer than this program, or an applied file was edited.
    """
    known = load_migrations() if migrations is None else migrations
    if not _pending(store, known):
        return 0
    with migration_lease(store):
        return _apply(store, _pending(store, known))


def _pending(store: Store, known: list[Migration]) -> list[Migration]:
    """The migrations that are not applied yet, in order."""
    for statement in render(_LEDGER, database=store.address.database, topology=store.topology):
        store.command(statement)
    rows = store.rows("SELECT id, checksum FROM schema_migrations FINAL", **store.topology.fresh)
    done = {r["id"]: r["checksum"] for r in rows}
    unknown = sorted(set(done) - {m.id for m in known})
    if unknown:
        raise StoreError(
            f"the store's schema has migration {unknown[-1]}, which this heedloop does not know; install the newer version again"
        )
    for m in known:
        if m.id in done and done[m.id] != m.checksum:
            raise StoreError(
                f"migration {m.id:04d}_{m.name} was edited after it was applied; write a new one instead"
            )
    return [m for m in known if m.id not in done]


def _apply(store: Store, pending: list[Migration]) -> int:
    for m in pending:
        for statement in render(m.sql, database=store.address.database, topology=store.topology):
            store.command(statement)
        row = {"id": m.id, "name": m.name, "checksum": m.checksum}
        store.insert("schema_migrations", [row], **store.topology.lasting)
    return len(pending)
