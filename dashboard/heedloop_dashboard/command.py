"""`heedloop dashboard`: serve the pages that read from a heedloop server."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
import sys
import tempfile

from heedloop.client import DEFAULT_URL

HELP = "serve the quality dashboard"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--url",
        default=os.environ.get("HEEDLOOP_URL") or DEFAULT_URL,
        help="the heedloop server (HEEDLOOP_URL)",
    )
    parser.add_argument("--port", type=int, default=8501, help="port of the dashboard; 0 takes a free one")
    parser.add_argument(
        "--address",
        default="127.0.0.1",
        help="address to listen on; anything but loopback asks everyone for a key",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    if not args.url.startswith(("http://", "https://")):
        print(f"heedloop dashboard: --url {args.url!r} must start with http:// or https://", file=sys.stderr)
        return 2
    port = args.port or _free_port(args.address)
    if not _is_free(args.address, port):
        print(
            f"heedloop dashboard: port {port} on {args.address} is taken; choose another with --port",
            file=sys.stderr,
        )
        return 1
    _serve(args.url, args.address, port)
    return 0


def _serve(url: str, address: str, port: int) -> None:
    from heedloop_dashboard.server import build, options
    from heedloop_dashboard.sessions import SESSIONS

    local = is_loopback(address)
    key = os.environ.get("HEEDLOOP_API_KEY") or None
    if key and not local:
        print(
            "heedloop dashboard: HEEDLOOP_API_KEY is not used, because others can reach this address; everyone signs in",
            flush=True,
        )
    SESSIONS.configure(url, local_key=key if local else None)
    hosts = ["localhost", "127.0.0.1", "[::1]", "::1"] if local else None
    print(f"heedloop dashboard: http://{'localhost' if local else address}:{port} reading {url}", flush=True)
    # Streamlit looks for a configuration beside the script that was started: not in whatever folder we happen to be
    with tempfile.TemporaryDirectory(prefix="heedloop-dashboard-") as folder:
        sys.argv = [os.path.join(folder, "dashboard")]  # noqa: PTH118 the launcher's name as Streamlit reads it
        build().run(config=options(address=address, port=port, allowed_hosts=hosts))


def is_loopback(address: str) -> bool:
    """True where only this machine can reach the address."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])


def _is_free(address: str, port: int) -> bool:
    try:
        with socket.create_server((address, port)):
            return True
    except OSError:
        return False
