"""Makes the server: store, log, routes. `create_app(settings)` is the one factory; `heedloop serve` and the tests use it."""

from __future__ import annotations

import importlib
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, cast

from fastapi import Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from heedloop_server.alerts.scheduler import Scheduler
from heedloop_server.examples.embeddings import embedder
from heedloop_server.examples.service import ExampleService
from heedloop_server.experiments.upkeep import ExperimentUpkeep
from heedloop_server.http.auth import KeyRing
from heedloop_server.http.error_responses import handle_errors
from heedloop_server.http.limits import BodyLimit, BodyPace
from heedloop_server.http.openapi import describe
from heedloop_server.http.own_traces import NATIVE_TELEMETRY_OFF, RequestSpans, make_provider
from heedloop_server.http.parameters import known_parameters
from heedloop_server.http.rates import AddressLimit, RateLimit
from heedloop_server.http.request_records import RequestRecorder, RequestRecords
from heedloop_server.http.shared_responses import SharedResponses
from heedloop_server.ingest.intake import Intake
from heedloop_server.ingest.token_claims import TokenClaims
from heedloop_server.jobs.runner import JobRunner
from heedloop_server.review.queue_service import ReviewQueueService
from heedloop_server.review.upkeep import QueueUpkeep
from heedloop_server.routes.datasets import SNAPSHOT
from heedloop_server.routes.erasures import ERASURE
from heedloop_server.routes.exports import EXPORT
from heedloop_server.routes.imports import IMPORT_UNDO
from heedloop_server.routes.insights import CLUSTERS
from heedloop_server.routes.operations import BACKUP
from heedloop_server.routes.otlp import OtlpShortcut
from heedloop_server.routes.otlp_grpc import OtlpGrpcServer
from heedloop_server.routes.review.fills import QUEUE_FILL
from heedloop_server.settings import Settings
from heedloop_server.store.admin.erasure import ErasureUpkeep, remove_pending
from heedloop_server.store.admin.keys import insert_key_uses
from heedloop_server.store.connection import Store
from heedloop_server.store.open import open_store

ROUTERS = (
    "otlp",
    "exports",
    "feedback",
    "calls",
    "traces",
    "sessions",
    "search",
    "facets",
    "ledger",
    "keys",
    "audit",
    "projects",
    "erasures",
    "operations",
    "static",
    "quality",
    "health",
    "insights",
    "named_ratings",
    "alerts",
    "datasets",
    "runs",
    "imports",
    "jobs",
    "judges",
    "evaluations",
    "cases",
    "prompts",
    "examples",
    "experiments",
    "review.queues",
    "review.fills",
    "review.team",
    "review.work",
    "review.control",
    "review.items",
    "review.exchange",
)
"""Modules of `heedloop_server.routes`, each with a `router`."""
JOB_KINDS = (SNAPSHOT, QUEUE_FILL, CLUSTERS, ERASURE, IMPORT_UNDO, BACKUP, EXPORT)


def create_app(settings: Settings | None = None, *, store: Store | None = None) -> FastAPI:
    """The server as an ASGI app.

    Args:
        settings: from the environment where not given.
        store: an open store to use instead of opening `settings.store_dsn`; it is not closed at the end.

    Raises:
        RuntimeError: a route names no scope and is not marked open.
    """
    chosen = settings or Settings()  # pyright: ignore[reportCallIssue]

    app = FastAPI(
        title="heedloop",
        version=version("heedloop"),
        lifespan=lambda app: _running(app, store),
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(known_parameters)],
        telemetry=NATIVE_TELEMETRY_OFF,
    )
    app.state.settings = chosen
    app.state.rates = RateLimit(chosen.requests_per_minute)
    app.state.addresses = AddressLimit(chosen.requests_per_minute_per_address, chosen.refused_per_minute)
    app.state.records = RequestRecords(access_log=chosen.access_log)
    app.state.shared = SharedResponses(keep_s=chosen.keep_responses_s, most=chosen.heavy_questions)
    handle_errors(app)
    _add_middleware(app, chosen)
    for name in ROUTERS:
        app.include_router(importlib.import_module(f"heedloop_server.routes.{name}").router)
    app.router.middleware_stack = OtlpShortcut(app.router.middleware_stack)
    _check_closed(app)
    app.state.routes = list(all_routes(app.routes))
    describe(app, app.state.routes, scopes_of)
    return app


@asynccontextmanager
async def _running(app: FastAPI, given: Store | None) -> AsyncGenerator[None]:
    """The server from its start to its end; a store that was `given` is not closed."""
    chosen = cast(Settings, app.state.settings)
    store = given or open_store(
        chosen.store_dsn,
        topology=chosen.topology,
        num_clients=chosen.store_clients,
        threads=chosen.store_threads,
    )
    app.state.store = store
    app.state.keys = KeyRing(store)
    app.state.claims = TokenClaims(store)
    app.state.intake = Intake(store, chosen, housekeeping=lambda: _run_maintenance(app))
    app.state.review = ReviewQueueService(store, app.state.intake.record)
    model = chosen.examples_model
    app.state.examples = ExampleService(store, embedder(model, chosen.examples_key) if model else None)
    app.state.jobs = JobRunner(
        store, app.state, JOB_KINDS, at_once=chosen.jobs_at_once, answer_s=chosen.answer_within_s
    )
    await run_in_threadpool(app.state.intake.start)
    await run_in_threadpool(app.state.jobs.open, is_alone=store.is_embedded and given is None)
    scheduler = Scheduler(
        store,
        alert_every_s=chosen.alert_every_s,
        loopback=chosen.webhook_loopback,
        jobs=[
            QueueUpkeep(store, app.state.review).round,
            ExperimentUpkeep(store, every_s=chosen.alert_every_s).round,
            app.state.jobs.round,
            ErasureUpkeep(store, old_parts_s=chosen.erased_parts_s).round,
        ],
        public_url=chosen.public_url,
    )
    scheduler.start()
    grpc_server = await _open_grpc(app)
    try:
        yield
    finally:
        if grpc_server is not None:
            await grpc_server.stop()
        await run_in_threadpool(scheduler.stop)
        await run_in_threadpool(app.state.jobs.close)
        await run_in_threadpool(app.state.examples.close)
        await run_in_threadpool(app.state.intake.stop)
        _note_key_uses(app)
        if app.state.tracing is not None:
            await run_in_threadpool(app.state.tracing.shutdown)
        if given is None:
            store.close()


def _add_middleware(app: FastAPI, chosen: Settings) -> None:
    """What is around every route; the last one that is added is around all others."""
    app.add_middleware(BodyLimit, limit=chosen.max_body_bytes)
    app.add_middleware(BodyPace, idle_s=chosen.body_idle_s)
    app.state.tracing = None
    if chosen.otlp_endpoint:
        app.state.tracing = make_provider(chosen.otlp_endpoint, version=app.version)
        app.add_middleware(RequestSpans, tracer=app.state.tracing.get_tracer("heedloop.server"))
    # a page of any origin may post with a feedback token; keys go in Authorization, which no page is allowed to send
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["POST"],
        allow_headers=["content-type", "x-heedloop-token", "x-heedloop-proof", "x-heedloop-next"],
        expose_headers=["x-request-id"],
        max_age=86_400,
    )
    app.add_middleware(RequestRecorder, records=app.state.records, on_change=app.state.shared.note_change)


def _run_maintenance(app: FastAPI) -> None:
    remove_pending(app.state.store, old_parts_s=app.state.settings.erased_parts_s)
    _note_key_uses(app)
    app.state.review.run_maintenance()


def _note_key_uses(app: FastAPI) -> None:
    uses = app.state.keys.take_uses()
    if uses:
        insert_key_uses(app.state.store, uses)


async def _open_grpc(app: FastAPI) -> OtlpGrpcServer | None:
    """The gRPC server, where the settings want one."""
    chosen = cast(Settings, app.state.settings)
    if chosen.grpc_port is None:
        return None
    grpc_server = OtlpGrpcServer(
        app, host=chosen.host, port=chosen.grpc_port, max_bytes=chosen.max_body_bytes
    )
    await grpc_server.start()
    return grpc_server


def scopes_of(route: APIRoute) -> frozenset[str]:
    """The scopes that a route's dependencies demand."""
    return frozenset(_scopes(route.dependant))


def _scopes(dependant: Dependant) -> Iterator[str]:
    scope = getattr(dependant.call, "heedloop_scope", ())
    yield from (scope,) if isinstance(scope, str) else scope
    for inner in dependant.dependencies:
        yield from _scopes(inner)


def all_routes(routes: Iterable[Any]) -> Iterator[APIRoute]:
    """Every API route, also those of included routers, which newer FastAPI versions keep as they are instead of copying them.

    Raises:
        RuntimeError: there is a route of another kind, whose scope nobody could see.
    """
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif (router := getattr(route, "original_router", None)) is not None:
            yield from all_routes(router.routes)
        elif getattr(route, "path", "") != "/openapi.json":
            raise RuntimeError(f"{route!r} is no API route; its scope cannot be checked")


def _check_closed(app: FastAPI) -> None:
    """Every route is closed unless it says otherwise; forgetting to say either is a bug that must not start."""
    for route in all_routes(app.routes):
        if not scopes_of(route) and not getattr(route.endpoint, "heedloop_open", False):
            raise RuntimeError(f"{route.path} names no scope; use require(...) or mark it open_route")
