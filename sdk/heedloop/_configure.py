"""`configure`, `flush`, `shutdown`, `delivery`: where everything starts and ends."""

from __future__ import annotations

import atexit
import math
import os
from collections.abc import Sequence
from typing import Literal

from heedloop import _process
from heedloop import attributes as names
from heedloop._guard import logger, warn
from heedloop._http import check_key, clean_key, clean_url
from heedloop._options import Options, default_outbox, older_names
from heedloop._outbox import Outbox
from heedloop._runtime import Delivery, Runtime, state
from heedloop._threads import carry_into_threads
from heedloop._transport import EVALUATED, HttpTransport, ReadingTransport, Transport


def configure(
    url: str | None = None,
    api_key: str | None = None,
    *,
    service: str | None = None,
    environment: str | None = None,
    sample_rate: float = 1.0,
    capture: bool = True,
    instrument: Literal["auto"] | Sequence[str] | None = None,
    options: Options | None = None,
) -> None:
    """Switch heedloop on. Returns at once, whether or not the server can be reached.

    Args:
        url: the server; `HEEDLOOP_URL`, or `http://127.0.0.1:8321`.
        api_key: a key with the scopes `ingest` and `feedback`; `HEEDLOOP_API_KEY`. Without one heedloop stays off.
        service: `HEEDLOOP_SERVICE`, or OpenTelemetry's `OTEL_SERVICE_NAME`, or the program's name.
        environment: such as `production`; `HEEDLOOP_ENVIRONMENT`.
        sample_rate: share of traces to record, above 0 and up to 1. Traces with feedback, errors or `keep()` come back.
        capture: False keeps prompts and answers out of every span.
        instrument: `"auto"` switches on the installed instrumentations of LLM clients; or a list of their names.
        options: everything else.

    Raises `ValueError` where an argument is wrong. `HEEDLOOP_DISABLED=1` and `OTEL_SDK_DISABLED=true` keep heedloop off.
    """
    if (
        not isinstance(sample_rate, (int, float))
        or not 0 < sample_rate <= 1
        or not math.isfinite(sample_rate)
    ):
        raise ValueError(f"sample_rate: {sample_rate!r} is not a probability above 0 and up to 1")
    url = clean_url(url)
    api_key = clean_key(api_key) or clean_key(os.environ.get("HEEDLOOP_API_KEY"))
    options = options or Options()
    if any(
        os.environ.get(name, "").strip().lower() in ("1", "true", "yes")
        for name in ("HEEDLOOP_DISABLED", "OTEL_SDK_DISABLED")
    ):
        shutdown()
        return
    if not api_key:
        warn("no key", "no api_key and no HEEDLOOP_API_KEY: heedloop is off and records nothing")
        shutdown()
        return
    check_key(api_key)
    evaluated = bool(os.environ.get(EVALUATED))
    transport = ReadingTransport if evaluated else HttpTransport
    outbox = Outbox(
        None if evaluated else default_outbox(api_key, options.outbox),
        max_bytes=options.outbox_max_bytes,
        older_names=older_names(url, api_key),
    )
    start(
        transport(url, api_key, read_timeout_s=options.read_timeout_s),
        outbox,
        options,
        resource=_resource(service, environment, options),
        api_key=api_key,
        sample_rate=float(sample_rate),
        capture=capture,
    )
    if instrument is not None:
        from heedloop._instrument import instrument as switch_on

        logger.info("heedloop: instrumented %s", ", ".join(switch_on(instrument)) or "nothing")


def start(
    transport: Transport,
    outbox: Outbox,
    options: Options,
    *,
    resource: dict[str, str],
    api_key: str,
    sample_rate: float,
    capture: bool,
) -> Runtime:
    """Put a new runtime in place of the one that may be there, which is closed in good order."""
    from heedloop._provider import connect

    shutdown()
    runtime = Runtime(
        transport=transport,
        outbox=outbox,
        options=options,
        resource=resource,
        api_key=api_key,
        sample_rate=sample_rate,
        capture=capture,
    )
    connect(runtime)
    state.runtime = runtime
    _process.watch(options)
    carry_into_threads(always=options.threads)
    if outbox.path is not None and (outbox.num_waiting() != (0, 0) or outbox.others()):
        runtime.courier.wake()
    return runtime


def flush(timeout_s: float = 5.0) -> Delivery:
    """Deliver what waits, for at most `timeout_s` seconds. The result says what was delivered and what still waits."""
    runtime = state.runtime
    return Delivery() if runtime is None else runtime.flush(timeout_s)


def shutdown(timeout_s: float | None = None) -> Delivery:
    """Deliver what can be delivered in the time, keep the rest in the outbox, and switch heedloop off."""
    runtime = state.runtime
    if runtime is None:
        return Delivery()
    state.runtime = None
    return runtime.close(runtime.options.exit_timeout_s if timeout_s is None else timeout_s)


def delivery() -> Delivery:
    """What was sent, what waits, what was dropped and why."""
    runtime = state.runtime
    return Delivery() if runtime is None else runtime.delivery()


def _resource(service: str | None, environment: str | None, options: Options) -> dict[str, str]:
    named = {
        names.SERVICE_NAME: service or os.environ.get("HEEDLOOP_SERVICE"),
        names.ENVIRONMENT: environment or os.environ.get("HEEDLOOP_ENVIRONMENT"),
    }
    return {**options.resource, **{k: v for k, v in named.items() if v}}


_process.at_exit = lambda: shutdown()
atexit.register(shutdown)
