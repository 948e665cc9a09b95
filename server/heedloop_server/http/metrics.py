"""What `/metrics` tells in the Prometheus text format: the ledger, the log, the store, the process, the requests, the webhooks."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from heedloop_server.alerts.webhooks import DELIVERIES
from heedloop_server.errors import Unavailable
from heedloop_server.http.request_records import RequestRecords
from heedloop_server.ingest.intake import Intake
from heedloop_server.store.admin.health import table_sizes
from heedloop_server.store.connection import Store, StoreError

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_PROCESS = ProcessCollector(registry=None)
disable_created_metrics()  # a second series for each counter, of which nothing here makes use


@dataclass(frozen=True, slots=True)
class _Families:
    """What prometheus_client prints: something that can be collected."""

    families: list[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def exposition(families: Iterable[Metric]) -> bytes:
    """The page: each metric under its heading."""
    return generate_latest(_Families(list(families)))  # type: ignore[arg-type]


def ledger_metrics(intake: Intake, store: Store, projects: Iterable[str]) -> list[Metric]:
    """What became of the projects' records, by signal.

    Raises:
        Unavailable, StoreError: the store does not answer.
    """
    by_signal = ("project", "signal")
    received = CounterMetricFamily("heedloop_received", "records that came in", labels=by_signal)
    stored = CounterMetricFamily("heedloop_stored", "records in the store", labels=by_signal)
    duplicate = CounterMetricFamily("heedloop_duplicate", "records that were there already", labels=by_signal)
    rejected = CounterMetricFamily("heedloop_rejected", "records refused", labels=(*by_signal, "reason"))
    pending = GaugeMetricFamily(
        "heedloop_pending", "records safe in the log, not in the store yet", labels=by_signal
    )
    for project in projects:
        view = store.project(project)
        spans, waiting = intake.span_tally(view)
        for signal, tally, num in (("spans", spans, waiting), ("feedback", intake.feedback_tally(view), 0)):
            received.add_metric((project, signal), tally.received + num)
            stored.add_metric((project, signal), tally.stored)
            duplicate.add_metric((project, signal), tally.duplicate)
            pending.add_metric((project, signal), num)
            for reason, count in sorted(tally.reasons.items()):
                rejected.add_metric((project, signal, reason), count)
    return [received, stored, duplicate, rejected, pending]


def log_metrics(intake: Intake) -> Iterator[Metric]:
    """What waits in this server's log."""
    yield _gauge(
        "heedloop_log_backlog_bytes", "bytes in the log that wait for the store", intake.backlog_bytes
    )
    yield _gauge("heedloop_log_lag_seconds", "how long the oldest of them waits", intake.lag_s())
    yield CounterMetricFamily("heedloop_log_syncs", "fdatasync calls of the log", intake.log.num_syncs)
    yield _gauge("heedloop_loader_failing", "1 while the store refuses the log", int(intake.is_failing))


def process_metrics(
    intake: Intake, records: RequestRecords, *, data: Path, max_backlog_bytes: int, version: str
) -> Iterator[Metric]:
    """This process and its machine: build, CPU, memory, files, disk, queue, requests, webhooks."""
    build = GaugeMetricFamily("heedloop_build_info", "versions that run", labels=("version", "python"))
    build.add_metric((version, platform.python_version()), 1)
    yield build
    yield from _PROCESS.collect()
    disk = shutil.disk_usage(data)
    yield _gauge("heedloop_disk_size_bytes", "size of the disk of the data folder", disk.total)
    yield _gauge("heedloop_disk_free_bytes", "what is free of it", disk.free)
    limit = "bytes in the log from which requests are refused"
    yield _gauge("heedloop_log_backlog_limit_bytes", limit, max_backlog_bytes)
    yield _gauge(
        "heedloop_log_segments", "closed segments of the log that wait for the store", intake.num_segments
    )
    yield _gauge(
        "heedloop_quarantine_records", "records that a person should look at", intake.num_quarantined
    )
    yield from records.durations.collect()
    yield from DELIVERIES.collect()


def store_metrics(store: Store) -> Iterator[Metric]:
    """How the store answers, and how large its tables are where it does."""
    tables = _table_metrics(store)
    yield _gauge("heedloop_store_up", "1 where the store answers", int(bool(tables)))
    yield from tables
    yield from store.durations.collect()
    yield from store.errors.collect()


def _table_metrics(store: Store) -> list[Metric]:
    """Empty where the store does not answer: what the process knows of itself is told all the same."""
    by_table = ("table",)
    rows = GaugeMetricFamily("heedloop_table_rows", "rows in the store", labels=by_table)
    size = GaugeMetricFamily("heedloop_table_bytes", "bytes of them on the store's disk", labels=by_table)
    parts = GaugeMetricFamily("heedloop_table_parts", "parts that merges have not joined", labels=by_table)
    try:
        tables = table_sizes(store)
    except (Unavailable, StoreError):
        return []
    for table in tables:
        rows.add_metric((table.table,), table.rows)
        size.add_metric((table.table,), table.bytes)
        parts.add_metric((table.table,), table.parts)
    return [rows, size, parts]


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)
