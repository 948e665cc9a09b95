"""What the engine and its client say went wrong, in our own words."""

from __future__ import annotations

import logging
import re

from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_connect.driver.exceptions import Error as DriverError

from heedloop_server.errors import Unavailable

log = logging.getLogger("heedloop.store")


class StoreError(Exception):
    """The store refused a statement: our SQL or schema is wrong, or its data is damaged."""


class StoreOverloaded(Unavailable):
    """The store answered that it cannot do this now: too many parts, no memory, no space, a timeout."""


class StoreBusy(StoreError):
    """Another process has the embedded folder open."""


def translate(err: DriverError) -> Exception:
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


def translate_open(err: DriverError, *, path: str = "", server: str = "", user: str = "") -> Exception:
    """As `translate`, of an engine that could not be opened: `path` of an embedded one, else `server` and `user`."""
    text = str(err)
    if not server and "EmbeddedServer" in text:
        return StoreBusy(
            f"the store {path or 'in memory'} is open in another process, or in this one under another path. An embedded store "
            "belongs to one server; for several, run a ClickHouse server and start each with "
            "--store clickhouse://user:password@host:8123/heedloop"
        )
    translated = translate(err)
    if server and isinstance(translated, Unavailable) and "Code:" not in text:
        return Unavailable(f"no ClickHouse answers on {server}; is it running, and is --store right?")
    if server and "Code: 516" in text:
        return StoreError(f"the ClickHouse on {server} refuses the user {user!r} or its password")
    return translated
