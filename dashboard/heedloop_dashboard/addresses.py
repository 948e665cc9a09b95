"""Addresses to listen on, and those that a browser or a user writes."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit


def is_loopback(address: str) -> bool:
    """True where only this machine can reach the address."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def host_name(url: str) -> str:
    """The name of the host in an address; empty where there is none, also where the text is no address."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # such as "http://["
        return ""


def is_origin_of(origin: str, host: str) -> bool:
    """True where a browser's `Origin` is a page of the host (name and port) that it asks."""
    return origin in (f"http://{host}", f"https://{host}")


def free_port(address: str) -> int:
    """A port of this address that nobody listens on."""
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])


def is_free(address: str, port: int) -> bool:
    """True where a server could listen there now."""
    try:
        with socket.create_server((address, port)):
            return True
    except OSError:
        return False
