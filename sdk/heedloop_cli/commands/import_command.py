"""`heedloop import FILE…`: feedback of other systems' exports and of judgement files, through the API, into a project."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from heedloop.client import ApiError, Client
from heedloop.responses import Import
from heedloop.schema import THUMB, Feedback, Scale, parse_time, utc_now
from heedloop_cli.commands.connection import add_connection, client_of, with_plain_errors
from heedloop_cli.commands.progress import Progress
from heedloop_cli.importers import FORMATS, BadLine, Line, detect, num_rows, read
from heedloop_cli.importers.network import VENDORS, fetch
from heedloop_cli.importers.sender import OTHER_CONTENT, REFUSED, Balance, import_lines
from heedloop_cli.importers.state import Cursor, default_folder, pseudonym_key

HELP = "read the feedback of another system's export, or a file of judgements, into a project"
EXAMPLES = 3
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
"""Of a folder's files, those that are read; `.gz` may follow."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="files of one source, or the address of its API with --from")
    add("--from", dest="vendor", choices=VENDORS, help="read this system's API; keys are in the environment")
    add("--format", choices=FORMATS, default="auto", help="found out from the files where not given")
    add("--dry-run", action="store_true", help="send nothing: the balance and three examples")
    add(
        "--scale",
        action="append",
        default=[],
        metavar="NAME=LOW..HIGH",
        help="the scale of a rating whose source does not say it: 1..5, 5..1 where low is better, or worst,…,best",
    )
    add("--feedback-key", action="append", default=[], help="OpenAI: the key of metadata that holds a thumb")
    add("--source-project", default="", help="the project in the source, where its files do not name it")
    add("--keep-addresses", action="store_true", help="store e-mail and IP addresses as they are")
    add(
        "--time",
        help="time of what carries none, such as 2026-03-01T00:00:00Z (default: now, marked as assumed)",
    )
    add("--limit", type=int, help="read this many rows of each file only")
    add("--answers", type=Path, help="ukp: the file of arguments that the pairs name")
    add("--project", help="the project it must go into: made if it is new and the key may, else checked")
    add("--state", type=Path, help="folder for the place where a broken import goes on")
    add_connection(parser)


def run(args: argparse.Namespace) -> int:
    """0 where everything is stored or left out by name, 1 where rows were unreadable, 2 where nothing could be done."""
    return with_plain_errors(args, _import)


def _import(args: argparse.Namespace) -> int:
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit {args.limit}: name at least one row")
    folder = args.state or default_folder()
    pages = folder / _pages_name(args.vendor, args.files[0]) if args.vendor else None
    files = _files(map(Path, args.files)) if pages is None else _fetch(args.vendor, args.files[0], pages)
    formats = sorted({detect(f) for f in files} if args.format == "auto" else {args.format})
    options = _options(args)
    if args.dry_run:
        return _dry_run(args, files, formats, options)
    client = _project_client(client_of(args), args)
    project = client.me().project
    if sys.stdin.isatty():
        _ask_scales(args, files, options)
    cursor = Cursor.of(folder, files, client.url, project, args.limit, sorted(args.scale), args.time)
    total = sum(num_rows(f, args.limit) for f in files)
    names = [args.files[0]] if pages else [f.name for f in files]
    record = Import(
        id=cursor.import_id, source=", ".join(formats), names=names, status="running", started_at=cursor.now
    )
    lines = read(files, format=args.format, limit=args.limit, **options, now=cursor.now)
    started = time.monotonic()
    try:
        with Progress("importing", total, "rows") as progress:

            def done(balance: Balance) -> None:
                if not cursor.path.exists():
                    client.save_import(balance.counted(record))
                cursor.save()
                progress.show(balance.rows.total())

            import_lines(client, lines, balance=cursor.balance, import_id=cursor.import_id, done=done)
    except ApiError:
        _print_balance(cursor.balance, files, formats, time.monotonic() - started)
        print("  broken off: run the same command again, it goes on where this one ended")
        raise
    client.save_import(replace(cursor.balance.counted(record), status="finished", finished_at=utc_now()))
    cursor.remove()
    if pages is not None:
        shutil.rmtree(pages)
    _print_balance(cursor.balance, files, formats, time.monotonic() - started)
    return 0 if cursor.balance.is_whole else 1


def _pages_name(vendor: str, url: str) -> str:
    return f"{vendor}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def _fetch(vendor: str, url: str, folder: Path) -> list[Path]:
    """All pages of a vendor's API as files; those that an earlier try left are not asked for again."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"--from {vendor} needs the address of its API, such as https://host, not {url!r}")
    with Progress(f"reading {vendor}", 0, "records") as progress:
        files = fetch(vendor, url, folder, shown=progress.show_of)
    if not files:
        raise ValueError(f"{url} holds no record that this key may read")
    return files


def _files(named: Iterable[Path]) -> list[Path]:
    """The files, and those of the folders, in the order of their names."""
    files = [
        f for p in named for f in (sorted(x for x in p.rglob("*") if _is_read(x)) if p.is_dir() else [p])
    ]
    if not files:
        raise ValueError(f"the folder holds no file that ends with one of {', '.join(SUFFIXES)}")
    return files


def _is_read(path: Path) -> bool:
    return path.is_file() and Path(path.name.removesuffix(".gz")).suffix in SUFFIXES


def _options(args: argparse.Namespace) -> dict[str, Any]:
    scales = [_scale(text) for text in args.scale]
    return {
        "answers": args.answers,
        "default_time": parse_time(args.time, field="--time") if args.time else None,
        "project": args.source_project,
        "scales": {name: scale for name, scale, _ in scales},
        "reversed_scales": frozenset(name for name, _, is_reversed in scales if is_reversed),
        "pseudonym_key": "" if args.keep_addresses else pseudonym_key(args.state or default_folder()),
        "keep_addresses": args.keep_addresses,
        "feedback_keys": tuple(args.feedback_key),
    }


def _scale(text: str) -> tuple[str, Scale, bool]:
    """(name, scale, True where its lowest value is the best) of `NAME=LOW..HIGH`, `NAME=thumb` or `NAME=worst,…,best`."""
    name, equals, limits = text.rpartition("=")
    low, dots, high = limits.partition("..")
    try:
        if name and limits == "thumb":
            return name, THUMB, False
        if name and dots:
            ends = (float(low), float(high))
            return name, Scale(min(ends), max(ends)), ends[0] > ends[1]
        if name and equals and "," in limits:
            return name, Scale(categories=tuple(c.strip() for c in limits.split(","))), False
    except ValueError as err:
        raise ValueError(f"--scale {text!r}: {err}") from None
    raise ValueError(f"--scale {text!r} is not written as NAME=LOW..HIGH, such as csat=1..5")


def _ask_scales(args: argparse.Namespace, files: Sequence[Path], options: dict[str, Any]) -> None:
    """Ask once for every scale that the source does not say."""
    unknown: dict[str, None] = {}
    for _ in read(files, format=args.format, limit=args.limit, **options, unknown_scales=unknown):
        pass
    for name in unknown:
        text = input(f"Scale of {name!r}, such as 1..5 (5..1 where low is better; empty: leave it out): ")
        if text.strip():
            _, options["scales"][name], is_reversed = _scale(f"{name}={text.strip()}")
            options["reversed_scales"] |= {name} if is_reversed else set()


def _project_client(client: Client, args: argparse.Namespace) -> Client:
    """The client whose key belongs to the wanted project; a project that is not there yet is made where the key may."""
    me = client.me()
    if args.project is None or args.project == me.project:
        return client
    if "instance" not in me.scopes or args.project in client.projects():
        raise ValueError(
            f"the key belongs to the project {me.project!r}, not to {args.project!r}; use a key of that project"
        )
    project = client.create_project(args.project)
    print(f"made the project {args.project!r}; its key, shown this once: {project.key}")
    return Client(client.url, project.key, timeout_s=300)


def _dry_run(
    args: argparse.Namespace, files: Sequence[Path], formats: Sequence[str], options: dict[str, Any]
) -> int:
    balance = Balance()
    ids: set[str] = set()
    examples: list[Feedback] = []
    answers: dict[str, str] = {}
    started = time.monotonic()
    for line in read(files, format=args.format, limit=args.limit, **options, now=utc_now()):
        if isinstance(line, BadLine):
            balance.reject(str(line))
            continue
        _count_dry(balance, line, ids)
        examples += itertools.islice(line.feedback, max(0, EXAMPLES - len(examples)))
        if len(answers) < 1000:
            answers.update({c.span_id: c.output_text for c in line.calls})
    print("dry run: nothing is sent")
    _print_balance(balance, files, formats, time.monotonic() - started)
    for one in examples:
        print(f"  example     {_in_words(one, answers)}")
    return 0 if balance.is_whole else 1


def _count_dry(balance: Balance, line: Line, ids: set[str]) -> None:
    """As if the project were empty."""
    for one in line.feedback:
        if balance.is_other(one):
            balance.left_out[OTHER_CONTENT] += 1
            continue
        balance.judgements["known" if one.id in ids else "stored"] += 1
        ids.add(one.id)
    for call in line.calls:
        key = call.trace_id + call.span_id
        balance.calls["stored"] += key not in ids
        ids.add(key)
    balance.note_times(line.calls)
    balance.left_out.update(line.left_out)
    if line.note and line.note not in balance.notes:
        balance.notes.append(line.note)
    kind = "stored" if line.feedback or line.calls else "left_out" if line.left_out else "context"
    balance.rows[kind] += 1


def _in_words(one: Feedback, answers: dict[str, str]) -> str:
    said = one.value if one.value is not None else one.correction or one.category or one.comment
    if one.ranking is not None:
        said = "ranks " + ", ".join(map(str, one.ranking.ranks))
    scale = one.scale
    on = "" if scale is None or scale.categories else f" on {scale.min:g}..{scale.max:g}"
    author = f"{one.author.kind} {one.author.id or '(unnamed)'}"
    about = answers.get(one.target.span_id or "") or one.target.key
    return f"{one.kind} {one.name!r} {str(said)[:60]!r}{on} by {author}, {one.created_at:%Y-%m-%d %H:%M}, of: {about[:60]!r}"


def _print_balance(balance: Balance, files: Sequence[Path], formats: Sequence[str], elapsed_s: float) -> None:
    rows, judged, calls = balance.rows, balance.judgements, balance.calls
    name = files[0].name if len(files) == 1 else f"{len(files)} files"
    for text in balance.errors:
        print(f"heedloop: {name}: {text}", file=sys.stderr)
    more = rows["unreadable"] + balance.left_out[REFUSED] - len(balance.errors)
    if more > 0:
        print(f"heedloop: {name}: and {more:,} more like these", file=sys.stderr)
    context = f" + {rows['context']:,} context of others" if rows["context"] else ""
    instead = f" ({judged['replaced']:,} in place of an earlier one)" if judged["replaced"] else ""
    refused = f" + {calls['refused']:,} refused" if calls["refused"] else ""
    print(f"{name} ({', '.join(formats)}), {elapsed_s:,.1f} s")
    print(
        f"  rows        {rows.total():>9,} read = {rows['stored']:,} stored + {rows['known']:,} known"
        f" + {rows['left_out']:,} left out + {rows['unreadable']:,} unreadable{context}"
    )
    print(
        f"  judgements  {balance.num_read:>9,} read = {judged['stored'] + judged['replaced']:,} stored{instead}"
        f" + {judged['known']:,} known + {balance.left_out.total():,} left out"
    )
    print(
        f"  calls       {calls.total():>9,} read = {calls['stored']:,} stored + {calls['known']:,} known{refused}"
    )
    for reason, count in sorted(balance.left_out.items()):
        print(f"  left out    {count:>9,} {reason}")
    for note in balance.notes:
        print(f"  note        {note}")
    if balance.first_time is not None and balance.last_time is not None:
        days = [f"{t:%Y-%m-%d}" for t in (balance.first_time, balance.last_time)]
        print(f"  answered    {days[0] if days[0] == days[1] else ' to '.join(days)}")
        after = f"{balance.last_time + timedelta(days=1):%Y-%m-%d}"
        print(
            f"  on the page /?since={days[0]}T00:00:00Z&until={after}T00:00:00Z behind the dashboard's address"
        )
