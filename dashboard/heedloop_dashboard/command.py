"""`heedloop dashboard`: serve the pages that read from a heedloop server."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from heedloop.client import DEFAULT_URL
from heedloop_dashboard.addresses import free_port, is_free, is_loopback
from heedloop_dashboard.auth.access import Access, AccessError, KeyMap, OpenIdProvider, networks
from heedloop_dashboard.auth.sessions import SESSIONS
from heedloop_dashboard.server import build, options

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

    env = os.environ.get
    people = parser.add_argument_group(
        "sign-in by somebody else's word", "without these everybody signs in with their own key"
    )
    people.add_argument(
        "--people",
        type=Path,
        default=env("HEEDLOOP_DASHBOARD_PEOPLE") or None,
        help="TOML file that says which key each person works with (HEEDLOOP_DASHBOARD_PEOPLE)",
    )
    people.add_argument(
        "--proxy-header",
        default=env("HEEDLOOP_DASHBOARD_PROXY_HEADER", ""),
        help="header in which a trusted proxy names the person, such as X-Forwarded-User (HEEDLOOP_DASHBOARD_PROXY_HEADER)",
    )
    people.add_argument(
        "--trusted-proxy",
        action="append",
        default=None,
        metavar="ADDRESS",
        help="address or network of a proxy that is believed; may be repeated (HEEDLOOP_DASHBOARD_TRUSTED_PROXIES, by commas)",
    )
    people.add_argument(
        "--oidc-issuer",
        default=env("HEEDLOOP_OIDC_ISSUER", ""),
        help="OpenID provider (HEEDLOOP_OIDC_ISSUER)",
    )
    people.add_argument(
        "--oidc-client-id",
        default=env("HEEDLOOP_OIDC_CLIENT_ID", ""),
        help="our id there (HEEDLOOP_OIDC_CLIENT_ID); the secret comes from HEEDLOOP_OIDC_CLIENT_SECRET alone",
    )
    people.add_argument(
        "--oidc-claim",
        default=env("HEEDLOOP_OIDC_CLAIM", "email"),
        help="claim that names the person (HEEDLOOP_OIDC_CLAIM)",
    )
    people.add_argument(
        "--public-url", default=env("HEEDLOOP_DASHBOARD_URL", ""),
        help="the dashboard's address as browsers see it (HEEDLOOP_DASHBOARD_URL)",
    )  # fmt: skip


def access_of(args: argparse.Namespace) -> Access:
    """The sign-in that the options ask for.

    Raises:
        AccessError: they do not go together.
    """
    given = args.trusted_proxy or os.environ.get("HEEDLOOP_DASHBOARD_TRUSTED_PROXIES", "").split(",")
    provider = None
    if args.oidc_issuer:
        if not args.oidc_client_id:
            raise AccessError("--oidc-issuer needs --oidc-client-id")
        secret = os.environ.get("HEEDLOOP_OIDC_CLIENT_SECRET", "")
        provider = OpenIdProvider(
            args.oidc_issuer, args.oidc_client_id, secret, args.oidc_claim, args.public_url
        )
    access = Access(
        people=KeyMap.read(args.people) if args.people else KeyMap(),
        proxy_header=args.proxy_header,
        proxies=networks(given),
        provider=provider,
    )
    access.check()
    return access


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    if not args.url.startswith(("http://", "https://")):
        print(f"heedloop dashboard: --url {args.url!r} must start with http:// or https://", file=sys.stderr)
        return 2
    try:
        access = access_of(args)
    except AccessError as err:
        print(f"heedloop dashboard: {err}", file=sys.stderr)
        return 2
    port = args.port or free_port(args.address)
    if not is_free(args.address, port):
        print(
            f"heedloop dashboard: port {port} on {args.address} is taken; choose another with --port",
            file=sys.stderr,
        )
        return 1
    _serve(args.url, args.address, port, access)
    return 0


def _serve(url: str, address: str, port: int, access: Access) -> None:
    local = is_loopback(address)
    vouched = bool(access.proxy_header or access.provider)
    # what a proxy says is judged by `proxy.py`, which must see the connection's own address
    os.environ["FORWARDED_ALLOW_IPS"] = ""
    key = os.environ.get("HEEDLOOP_API_KEY") or None
    if key and (vouched or not local):
        why = "people sign in" if vouched else "others can reach this address; everyone signs in"
        print(
            f"heedloop dashboard: HEEDLOOP_API_KEY is not used, because {why}",
            flush=True,
        )
    SESSIONS.configure(url, local_key=key if local and not vouched else None, access=access)
    # a proxy on this machine passes its own host name on
    hosts = ["localhost", "127.0.0.1", "[::1]", "::1"] if local and not access.proxies else None
    print(f"heedloop dashboard: http://{'localhost' if local else address}:{port} reading {url}", flush=True)
    # Streamlit looks for a configuration beside the script that was started: not in whatever folder we happen to be
    with tempfile.TemporaryDirectory(prefix="heedloop-dashboard-") as folder:
        sys.argv = [os.path.join(folder, "dashboard")]  # noqa: PTH118 the launcher's name as Streamlit reads it
        build().run(config=options(address=address, port=port, allowed_hosts=hosts))
