"""`heedloop keys`: list, make and revoke keys, of a server or without one, such as after the last admin key was lost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from heedloop.client import ApiError, Client
from heedloop.responses import Key
from heedloop.schema import SchemaError
from heedloop_server.commands.store_option import (
    STORE,
    CommandError,
    add_server_arguments,
    add_settings_arguments,
    chosen_settings,
    client_of,
    opened_store,
)
from heedloop_server.errors import ServerError
from heedloop_server.http.auth import make_key, role_of, scopes_of_role
from heedloop_server.store.admin.audit import write_audit
from heedloop_server.store.admin.keys import find_key, list_keys, list_projects, revoke_key
from heedloop_server.store.connection import Store, StoreError

HELP = "list, make and revoke keys, and make sign-in links: of a running server (--url), of a stopped one, or on its ClickHouse"


@dataclass(frozen=True, slots=True)
class _CommandLine:
    """Who acts in the audit log, where nobody's key does."""

    project: str
    key_id: str = "command line"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and where."""
    parser.add_argument("action", choices=("list", "create", "link", "revoke"))
    parser.add_argument("key_id", nargs="?", help="which key to revoke")
    parser.add_argument("--project", help="its project (default; of a running server that of the key)")
    parser.add_argument("--name", default="made by heedloop keys")
    parser.add_argument("--role", help="viewer, annotator, reviewer or admin (everything in the project)")
    parser.add_argument(
        "--scopes",
        help="comma-separated: ingest,feedback,read,annotate,review,train,admin,instance (default: admin)",
    )
    parser.add_argument(
        "--author", default="", help="the person the key is for: what is said with it is theirs"
    )
    add_settings_arguments(parser, STORE)
    add_server_arguments(parser, scope="admin")


def run(args: argparse.Namespace) -> int:
    """Do it; the text of a new key goes to the standard output, once."""
    try:
        if args.url:
            return _ask(client_of(args), args)
        if args.action == "link":
            raise CommandError("a sign-in link is made by a running server: give --url")
        args.project = args.project or "default"
        with opened_store(chosen_settings(args)) as store:
            return _ACTIONS[args.action](store, args)
    except (ApiError, CommandError, SchemaError, ServerError, StoreError, ValueError) as err:
        print(f"heedloop keys: {err}", file=sys.stderr)
        return 1


def _ask(client: Client, args: argparse.Namespace) -> int:
    """Do it through a running server, whose key names the project."""
    if args.project not in (None, project := client.me().project):
        raise CommandError(f"the key belongs to the project {project!r}, not to {args.project!r}")
    if args.action == "list":
        _print_keys(client.keys())
    elif args.action == "link":
        made = client.create_link(args.author, role=args.role or "annotator")
        print(f"/sign-in/link?{urlencode({'token': made.token})}")
        print(f"for {made.author_id}, once, until {made.expires_at:%Y-%m-%d %H:%M} UTC", file=sys.stderr)
    elif args.action == "create":
        scopes = None if args.role else list(_chosen_scopes(args))
        made = client.create_key(args.name, scopes, role=args.role, author_id=args.author or None)
        print(made.key)
    else:
        client.delete_key(args.key_id or "")
        print(f"revoked {args.key_id}")
    return 0


def _list(store: Store, args: argparse.Namespace) -> int:
    rows = list_keys(store.project(args.project))
    _print_keys(Key(**row, role=role_of(row["scopes"])) for row in rows)
    return 0


def _print_keys(keys: Iterable[Key]) -> None:
    """One line a key."""
    for key in keys:
        state = "revoked" if key.revoked_at else "good"
        if key.expires_at and not key.revoked_at:
            state = f"until {key.expires_at:%Y-%m-%d}"
        granted = key.role or ",".join(key.scopes)
        person = f" ({key.author_id})" if key.author_id else ""
        used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never used"
        print(f"{key.key_id}  {state:<16} {used:<17} {granted}  {key.name}{person}")


def _create(store: Store, args: argparse.Namespace) -> int:
    if args.project not in list_projects(store):
        raise CommandError(f"there is no project {args.project!r}")
    text, key = make_key(
        store, args.project, name=args.name, scopes=_chosen_scopes(args), author_id=args.author
    )
    noted = {"name": key.name, "scopes": list(key.scopes), "author_id": key.author_id or None}
    write_audit(store, _CommandLine(args.project), "create_key", key.key_id, noted)
    print(text)
    return 0


def _chosen_scopes(args: argparse.Namespace) -> Sequence[str]:
    if args.role and args.scopes:
        raise CommandError("give either --role or --scopes")
    if args.role:
        return scopes_of_role(args.role)
    return [s.strip() for s in (args.scopes or "admin").split(",") if s.strip()]


def _revoke(store: Store, args: argparse.Namespace) -> int:
    key = find_key(store, args.key_id or "")
    if key is None or key.project_id != args.project:
        raise CommandError(f"there is no key {args.key_id!r} in the project {args.project!r}")
    revoke_key(store, key)
    write_audit(store, _CommandLine(args.project), "revoke_key", key.key_id, {})
    print(f"revoked {key.key_id}; a running server sees it within five seconds")
    return 0


_ACTIONS = {"list": _list, "create": _create, "revoke": _revoke}
