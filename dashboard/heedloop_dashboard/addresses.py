"""Addresses to listen on."""

from __future__ import annotations

import ipaddress
import socket

__all__ = ["free_port", "is_free", "is_loopback"]


def is_loopback(address: str) -> bool:
    """True where only this machine can reach the address."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


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
