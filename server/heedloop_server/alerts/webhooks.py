"""Telling a webhook: signed, to a public address that was checked, without redirects, within ten seconds.

A rule's author chooses the address, so the server must not become a way into its own network: the name is resolved once, every
address it has must be public, and the connection goes to the address that was checked. A name that resolves otherwise a moment
later (rebinding) changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import Histogram

TIMEOUT_S = 10.0
_MAX_ANSWER = 1_024
_LOOPBACK = tuple(ipaddress.ip_network(n) for n in ("127.0.0.0/8", "::1/128"))
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
SPECIAL = tuple(
    ipaddress.ip_network(n)
    for n in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared: carriers, and some clouds' metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host, which is public by its number alone
        "169.254.0.0/16",  # link-local: clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        # of IPv6 only 2000::/3 is public at all: the rest (loopback, mapped, NAT64, private, link-local, multicast) is outside
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID, AMT, drones
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: stands for any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the former 6bone
        "3fff::/20",  # documentation
    )
)
"""Every special-purpose range: IANA's registries as of November 2026, not the interpreter's, whose table differs by version.

https://www.iana.org/assignments/iana-ipv4-special-registry, https://www.iana.org/assignments/iana-ipv6-special-registry
"""


DELIVERIES = Histogram(
    "heedloop_webhook_duration_seconds",
    "attempts to tell a webhook, by what came of them, and how long each took",
    ("outcome",),
    registry=None,
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, TIMEOUT_S),
)
"""Of this process; `outcome` is `delivered`, `failed` (worth another attempt) or `refused` (no address that may be told)."""


def check_webhook_url(url: str) -> None:
    """Raise `ValueError` where a text is no address that a webhook may have; who it belongs to is checked when it is told."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https address")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password; the secret signs what is sent")
    if any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise ValueError("must not hold spaces or control characters")
    _ = parts.port  # raises ValueError where it is no port


class Refused(Exception):
    """The address may not be sent to; says why."""


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What came of one attempt; `status` is None where there was no answer."""

    delivered: bool
    status: int | None
    error: str
    took_ms: float


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """`v1=` and the hex HMAC-SHA256 over the timestamp, a dot and the body."""
    mac = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"v1={mac.hexdigest()}"


def check_address(address: str, *, loopback: bool) -> None:
    """Refuse an IP address that is not public; loopback only where it is allowed.

    Raises:
        Refused: private, loopback, link-local, shared, multicast, reserved, or an IPv6 form of such an IPv4 address.
    """
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped  # what sockets of both families call an IPv4 address
    if any(ip in n for n in _LOOPBACK if n.version == ip.version) and loopback:
        return
    if any(ip in n for n in SPECIAL if n.version == ip.version):
        raise Refused(f"{address} is no public address")
    if ip.version == 6 and ip not in _GLOBAL_UNICAST:
        raise Refused(f"{address} is no public address")


def post(
    url: str, secret: str, message: dict[str, Any], delivery_id: str = "", *, loopback: bool = False
) -> DeliveryResult:
    """Post a message once; never raises for what the other side or the network does."""
    body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    begin = time.perf_counter()
    status: int | None = None
    try:
        status = _send(url, secret, body, delivery_id, loopback)
        error = "" if 200 <= status < 300 else _status_text(status)
    except Refused as err:
        error = f"refused: {err}"
    except (OSError, http.client.HTTPException, ValueError) as err:
        error = f"{type(err).__name__}: {err}"[:300]
    took_s = time.perf_counter() - begin
    outcome = "refused" if error.startswith("refused") else "failed" if error else "delivered"
    DELIVERIES.labels(outcome).observe(took_s)
    return DeliveryResult(not error, status, error, 1000 * took_s)


def _status_text(status: int) -> str:
    return f"answered {status}" + ("; redirects are not followed" if 300 <= status < 400 else "")


def _send(url: str, secret: str, body: bytes, delivery_id: str, loopback: bool) -> int:
    parts = urlsplit(url)
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    end = time.monotonic() + TIMEOUT_S
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    sock = _connect(host, port, loopback, end)
    # an answer that comes a byte at a time never lets a socket's own timeout pass
    watchdog = threading.Timer(max(0.1, end - time.monotonic()), _cut, [sock])
    watchdog.start()
    try:
        connection.sock = (
            ssl.create_default_context().wrap_socket(sock, server_hostname=host) if secure else sock
        )
        timestamp = str(int(time.time()))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "heedloop",
            "X-Heedloop-Timestamp": timestamp,
            "X-Heedloop-Signature": signature(secret, timestamp, body),
            "X-Heedloop-Delivery": delivery_id,
        }
        connection.request("POST", target, body=body, headers=headers)
        answer = connection.getresponse()
        answer.read(_MAX_ANSWER)
        return answer.status
    finally:
        watchdog.cancel()
        connection.close()
        sock.close()


def _connect(host: str, port: int, loopback: bool, end: float) -> socket.socket:
    """A connection to the first address of a host that answers, after all of its addresses were found to be public."""
    result = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if not result:
        raise Refused(f"{host} has no address")
    for *_, address in result:
        check_address(str(address[0]), loopback=loopback)
    error: OSError | None = None
    for family, kind, protocol, _, address in result[:4]:
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(max(0.1, end - time.monotonic()))
        try:
            sock.connect(address)
            return sock
        except OSError as err:
            sock.close()
            error = err
    raise error or Refused(f"{host} has no address")


def _cut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        sock.close()
