"""How often one key or one address may ask, and how much one project may send: token buckets, in this process."""

from __future__ import annotations

import functools
import ipaddress
import threading
import time
from collections.abc import Callable

from heedloop_server.errors import TooMany

_MAX_BUCKETS = 100_000


class RateLimit:
    """Lets each name pass `per_minute` times a minute, with bursts of a tenth of that (at least 10); 0 lets all pass."""

    def __init__(
        self,
        per_minute: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        burst: float | None = None,
        what: str = "requests",
    ) -> None:
        self._what = what
        self._rate = per_minute / 60
        self._burst = max(10.0, per_minute / 10) if burst is None else burst
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def check(self, name: str) -> None:
        """Take one; raises `TooMany` with the seconds to wait where none is left."""
        with self._lock:
            self._refuse_spent(name)
            self._take(name)

    def spend(self, name: str, amount: int) -> None:
        """Take `amount`; raises `TooMany` where not even one is left. What is more than is left is owed and waited for."""
        with self._lock:
            self._refuse_spent(name)
            self._take(name, amount, least=-float(amount))

    def check_only(self, name: str) -> None:
        """Raises `TooMany` where none is left, and takes none."""
        with self._lock:
            self._refuse_spent(name)

    def take(self, name: str) -> None:
        """Take one, where there is one."""
        with self._lock:
            self._take(name)

    def _refuse_spent(self, name: str) -> None:
        left = self._left(name)
        if self._rate and left < 1:
            wait = (1 - left) / self._rate
            raise TooMany(
                f"more than {self._rate * 60:.0f} {self._what} a minute; wait {wait:.1f} s",
                retry_after_s=wait,
            )

    def _take(self, name: str, amount: int = 1, *, least: float = 0.0) -> None:
        if not self._rate:
            return
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets.clear()
        self._buckets[name] = (max(least, self._left(name) - amount), self._clock())

    def _left(self, name: str) -> float:
        now = self._clock()
        left, at = self._buckets.get(name, (self._burst, now))
        return min(self._burst, left + (now - at) * self._rate)


class AddressLimit:
    """What one address may send: requests of any kind, and requests whose key is none.

    Once an address has spent its refusals, only keys that were good before are still looked at from there: whoever tries
    made-up keys can neither ask the store for each of them nor shut out those who share the address.

    Args:
        per_minute: requests a minute; 0 for no limit.
        refused_per_minute: requests with an unknown key a minute; 0 for no limit.
    """

    def __init__(
        self, per_minute: int, refused_per_minute: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._requests = RateLimit(per_minute, clock)
        self._refused = RateLimit(refused_per_minute, clock, burst=float(refused_per_minute))

    def check(self, address: str) -> None:
        """Count a request; raises `TooMany`."""
        self._requests.check(_network(address))

    def check_refusals(self, address: str) -> None:
        """Raises `TooMany` where too many requests of this address were refused lately."""
        self._refused.check_only(_network(address))

    def count_refusal(self, address: str) -> None:
        """Note a request whose key was none."""
        self._refused.take(_network(address))


@functools.lru_cache(4096)
def _network(address: str) -> str:
    """The address, or of IPv6 its /64: one household or machine has all of that."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed.ipv4_mapped if parsed.version == 6 else parsed)
