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

__all__ = ["Refused", "Told", "check_address", "post", "signature"]

TIMEOUT_S = 10.0
_MAX_ANSWER = 1_024
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")


class Refused(Exception):
    """The address must not be told; says why."""


@dataclass(frozen=True, slots=True)
class Told:
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
    ip = _plain(ipaddress.ip_address(address.split("%")[0]))
    if ip.is_loopback and loopback:
        return
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_link_local:
        raise Refused(f"{address} is no public address")


def _plain(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one stands for (mapped, 6to4, NAT64), else itself."""
    if isinstance(ip, ipaddress.IPv4Address) or ip.is_loopback:
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip in _NAT64 or ip in _LOCAL_NAT64 or ip.packed[:12] == bytes(12):
        return ipaddress.IPv4Address(ip.packed[12:])
    return ip


def post(url: str, secret: str, message: dict[str, Any], *, loopback: bool = False) -> Told:
    """Post a message once; never raises for what the other side or the network does."""
    body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    begin = time.perf_counter()
    status: int | None = None
    try:
        status = _send(url, secret, body, message, loopback)
        error = "" if 200 <= status < 300 else _said(status)
    except Refused as err:
        error = f"refused: {err}"
    except (OSError, http.client.HTTPException, ValueError) as err:
        error = f"{type(err).__name__}: {err}"[:300]
    return Told(not error, status, error, 1000 * (time.perf_counter() - begin))


def _said(status: int) -> str:
    return f"answered {status}" + ("; redirects are not followed" if 300 <= status < 400 else "")


def _send(url: str, secret: str, body: bytes, message: dict[str, Any], loopback: bool) -> int:
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
            "X-Heedloop-Delivery": str(message.get("id", "")),
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
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if not found:
        raise Refused(f"{host} has no address")
    for *_, address in found:
        check_address(str(address[0]), loopback=loopback)
    error: OSError | None = None
    for family, kind, protocol, _, address in found[:4]:
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
