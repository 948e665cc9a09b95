"""All settings of the server in one class: flags of `heedloop serve`, environment (`HEEDLOOP_…`), a file of such lines, defaults, in this order."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from heedloop_server.http.log_lines import LogFormat
from heedloop_server.store.topology import Topology


class Settings(BaseSettings):
    """How one server runs. Each field's description is its `--help`."""

    model_config = SettingsConfigDict(env_prefix="HEEDLOOP_", env_file=".env", extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all, behind a TLS proxy")
    port: int = Field(8321, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    grpc_port: int | None = Field(
        None, ge=1, le=65535, description="port for OTLP/gRPC (4317 is usual); none leaves it closed"
    )
    data: Path = Field(Path(".heedloop/data"), description="folder of the request log and the embedded store")
    store: str = Field(
        "",
        description="clickhouse://user:password@host:8123/heedloop, clickhouses://… (TLS) or chdb:///folder; "
        "empty for an embedded store",
    )
    cluster: str = Field(
        "", description="name of the ClickHouse cluster; empty for one server or the embedded store"
    )
    replicated_database: bool = Field(
        False,
        description="the database repeats statements on its replicas: engine Replicated, or ClickHouse Cloud",
    )
    store_clients: int = Field(8, ge=2, le=64, description="connections to the store")
    store_threads: int = Field(2, ge=1, description="threads that one query of the embedded store may use")
    heavy_questions: int = Field(
        2, ge=1, le=64, description="questions of the quality pages that are counted at once; others wait"
    )
    keep_responses_s: float = Field(
        3.0,
        ge=0,
        description="seconds a page's numbers are shown again, twice that while the next are made",
    )
    jobs_at_once: int = Field(
        4, ge=1, le=64, description="jobs (snapshots, queue fills, clusters, …) that run at once; others wait"
    )
    answer_within_s: float = Field(
        2.0, ge=0, description="seconds for which a request waits for its job before it is answered with 202"
    )
    max_body_bytes: int = Field(
        64 << 20, ge=1 << 10, description="largest request body, counted after decompression"
    )
    body_idle_s: float = Field(
        30.0, gt=0, description="seconds without a byte of its body after which a request is closed"
    )
    max_backlog_bytes: int = Field(
        1 << 30, ge=1 << 20, description="bytes the request log may hold unloaded before it answers 503"
    )
    seal_after_s: float = Field(
        0.3, gt=0, description="seconds after which logged requests go to the store at the latest"
    )
    segment_bytes: int = Field(64 << 20, ge=1 << 16, description="size at which a log segment is closed")
    decoders: int | None = Field(
        None,
        ge=0,
        le=64,
        description="processes that decode spans for the store; none for one less than there are cores, at most 4",
    )
    requests_per_minute: int = Field(
        0, ge=0, description="requests that one key may send a minute; 0 for no limit"
    )
    spans_per_second: int = Field(
        0,
        ge=0,
        description="spans that one project may send a second, with bursts of ten seconds, then 429; 0 for no limit",
    )
    requests_per_minute_per_address: int = Field(
        0, ge=0, description="requests that one address (of IPv6 a /64) may send a minute; 0 for no limit"
    )
    refused_per_minute: int = Field(
        600,
        ge=0,
        description="requests with an unknown key that one address may send a minute, then 429; 0 for no limit",
    )
    retention_days: int = Field(
        0, ge=0, description="days after which calls that nobody judged are dropped; 0 keeps them"
    )
    erased_parts_s: int = Field(
        30, ge=0, description="seconds after which what an erasure rewrote leaves the store's disk"
    )
    alert_every_s: float = Field(
        60.0, ge=1, description="seconds between two looks at alerts and experiments"
    )
    webhook_loopback: bool = Field(
        False,
        description="let alerts' webhooks be on this machine; every other private address stays refused",
    )
    examples_model: str = Field(
        "",
        description="compares questions for examples: a sentence model's folder, or http://…/v1#model; empty compares words",
    )
    examples_key: str = Field("", description="key of that endpoint", repr=False)
    public_url: str = Field(
        "",
        description="where users open the dashboard, such as https://quality.example.com; alerts link to it",
    )
    otlp_endpoint: str = Field(
        "",
        description="where the server's own traces go by OTLP/HTTP, such as http://collector:4318; empty sends none",
    )
    log_format: LogFormat = Field("text", description="text for people, json for one JSON object a line")
    access_log: bool = Field(
        False, description="write a line for each request: id, route, status, duration, client, id of its key"
    )
    metrics_open: bool = Field(False, description="serve /metrics to loopback addresses without a key")
    trusted_proxies: str = Field("127.0.0.1", description="addresses whose X-Forwarded-For is believed")

    @property
    def topology(self) -> Topology:
        """How the store's tables are laid out; raises `ValueError` for two modes at once."""
        return Topology(self.cluster, self.replicated_database)

    @property
    def store_dsn(self) -> str:
        """The store's address: what was set, or the embedded one in the data folder."""
        return self.store or f"chdb://{(self.data / 'clickhouse').absolute()}"

    @property
    def log_folder(self) -> Path:
        """Folder of the request log; it belongs to one server process."""
        return self.data / "log"


_OF_OTHER_PARTS = frozenset(
    ("URL", "API_KEY", "SERVICE", "ENVIRONMENT", "OUTBOX", "DISABLED")  # the SDK
    + ("OIDC_ISSUER", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET", "OIDC_CLAIM")
    + ("SHARED", "SCREENSHOTS", "KILLS", "FUZZ", "ARGILLA", "LABEL_STUDIO")  # tests
)
_OF_KUBERNETES = re.compile(r"SERVICE_(?:HOST|PORT)\w*|PORT_\d+_\w+")
"""What Kubernetes sets in every pod of a namespace with a service called heedloop."""
_ASSIGNED = re.compile(r"^\s*(?:export\s+)?(HEEDLOOP_\w+)\s*=", re.MULTILINE | re.IGNORECASE)
_PREFIXES_OF_OTHER_PARTS = ("DASHBOARD_", "DEMO_", "TRAINER_", "TEST_", "FUZZ_")


def read_settings(flags: Mapping[str, Any], *, file: Path | None = None) -> Settings:
    """Settings from flags (None where not given), the environment, a file of `HEEDLOOP_…` lines and the defaults.

    Args:
        file: instead of `.env`.

    Raises:
        ValueError: a value is wrong, or a name is no setting; says which, what it is, and what would be right.
    """
    path = file or Path(".env")
    _check_names(os.environ, "the environment")
    _check_names(_ASSIGNED.findall(path.read_text()) if path.is_file() else (), str(path))
    try:
        return Settings(_env_file=path, **{n: v for n, v in flags.items() if v is not None})  # pyright: ignore[reportCallIssue]
    except ValidationError as err:
        raise ValueError("; ".join(_in_words(e, flags) for e in err.errors())) from None


def _check_names(names: Iterable[str], where: str) -> None:
    known = [n.upper() for n in Settings.model_fields]
    for name in names:
        prefix, _, setting = name.upper().partition("_")
        if prefix != "HEEDLOOP" or setting in known or setting in _OF_OTHER_PARTS:
            continue
        if setting.startswith(_PREFIXES_OF_OTHER_PARTS) or _OF_KUBERNETES.fullmatch(setting):
            continue
        near = difflib.get_close_matches(setting, known, n=1)
        hint = f"; did you mean HEEDLOOP_{near[0]}?" if near else "; docs/server.md lists them"
        raise ValueError(f"{name} in {where} is no setting of heedloop{hint}")


def _in_words(error: Any, flags: Mapping[str, Any]) -> str:
    name = str(error["loc"][0])
    said = f"--{name.replace('_', '-')}" if flags.get(name) is not None else f"HEEDLOOP_{name.upper()}"
    field = Settings.model_fields.get(name)
    what = f" ({field.description})" if field is not None else ""
    wish = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ").split(",")[0]
    return f"{said} is {str(error['input'])!r} and must be {wish}{what}"
