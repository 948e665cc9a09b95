"""`heedloop export SNAPSHOT`: a snapshot's rows as files that trainers read, one per form and split.

`heedloop export calls` and `heedloop export feedback` write what a project holds, in one file (`_commands.export_records`).
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from heedloop.client import Client
from heedloop.schema import DATASET_FORMS, SPLITS, DatasetForm, Snapshot, Split
from heedloop_cli.commands.connection import add_connection, client_of, with_plain_errors
from heedloop_cli.commands.export_records import RECORDS, export_records, export_requests
from heedloop_cli.commands.peer_columns import PEERS, Peer, forms_for, left_out, peer_row
from heedloop_cli.commands.progress import Progress
from heedloop_cli.commands.write_back import WRITERS

HELP = "write a snapshot's rows for TRL, OpenRLHF, verl or anything else; or all calls, or all feedback"

FileType = Literal["jsonl", "parquet"]
ROW_GROUP = 5000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "snapshot",
        help="a snapshot's id, the beginning of one, or its name (the newest of that name); or `calls`, or `feedback`",
    )
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the files (default: here)")
    parser.add_argument(
        "--to",
        choices=(*PEERS, *WRITERS),
        default="heedloop",
        help="whose columns to write (default: heedloop, all there is); for feedback, whose requests",
    )
    parser.add_argument(
        "--send",
        metavar="URL",
        help="with feedback: send the requests there; keys as for `heedloop import --from`",
    )
    parser.add_argument(
        "--file-type",
        choices=("jsonl", "parquet", "arrow"),
        help="default: parquet for verl, else jsonl; arrow for calls and feedback only",
    )
    parser.add_argument(
        "--form", choices=DATASET_FORMS, action="append", help="only this form; may be repeated"
    )
    parser.add_argument("--split", choices=SPLITS, action="append", help="only this split; may be repeated")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="FILTER=VALUE",
        help="for calls and feedback: a filter of docs/api.md, such as model=small or since=2026-01-01T00:00:00Z; may be repeated",
    )
    add_connection(parser)


def run(args: argparse.Namespace) -> int:
    """0 where the files are written."""
    return with_plain_errors(args, _export)


def _export(args: argparse.Namespace) -> int:
    client = client_of(args)
    if args.to in WRITERS:
        if args.snapshot != "feedback":
            raise ValueError(
                f"--to {args.to} is for `export feedback`; a snapshot goes to {', '.join(PEERS)}"
            )
        return export_requests(client, args.to, args.out, args.where, args.send)
    if args.snapshot in RECORDS:
        return export_records(client, args.snapshot, args.out, args.file_type or "jsonl", args.where)
    if args.where or args.file_type == "arrow":
        raise ValueError(
            "--where and --file-type arrow are for `export calls` and `export feedback`; a snapshot is frozen"
        )
    snapshot_id = find_id(client, args.snapshot)
    file_type: FileType = args.file_type or ("parquet" if args.to == "verl" else "jsonl")
    num_rows = export_snapshot(
        client, snapshot_id, args.out, peer=args.to, file_type=file_type, forms=args.form, splits=args.split
    )
    for each in num_rows:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in each.left_out.items())
        left = f"  ({reasons} left out: {args.to} cannot hold them)" if reasons else ""
        print(f"{each.num_rows:>9,} rows  {each.path}{left}")
    if not num_rows:
        print("no rows: nothing was written")
    return 0


def find_id(client: Client, named: str) -> str:
    """The id of the snapshot that is meant; raises `ValueError` where none or several are."""
    snapshots = client.snapshots()
    by_id = [s.id for s in snapshots if s.id.startswith(named)]
    if len(by_id) == 1 or named in by_id:
        return named if named in by_id else by_id[0]
    if len(by_id) > 1:
        raise ValueError(f"{len(by_id)} snapshots have ids that begin with {named!r}; write more of it")
    by_name = [s.id for s in snapshots if s.name == named]
    if not by_name:
        raise ValueError(f"there is no snapshot {named!r}; `heedloop dataset list` shows what there is")
    return by_name[0]


@dataclass(frozen=True, slots=True)
class Written:
    """One file: where it is, how many rows it has, and reason -> how many its columns could not hold."""

    path: Path
    num_rows: int
    left_out: Mapping[str, int]


def export_snapshot(
    client: Client,
    snapshot_id: str,
    folder: Path,
    *,
    peer: Peer = "heedloop",
    file_type: FileType = "jsonl",
    forms: Sequence[DatasetForm] | None = None,
    splits: Sequence[Split] | None = None,
) -> list[Written]:
    """Write `<form>-<split>.<type>` for everything that has rows. A file appears when it is whole, never in part.

    Raises:
        ValueError: the peer has no trainer for a wanted form.
        ModuleNotFoundError: Parquet needs pyarrow, which the `trainer` and `server` extras bring.
    """
    for form in forms or ():
        if form not in forms_for(peer):
            raise ValueError(f"{peer} has no trainer for {form}; it reads {', '.join(forms_for(peer))}")
    snapshot = client.snapshot(snapshot_id)
    folder.mkdir(parents=True, exist_ok=True)
    num_rows: list[Written] = []
    for form in forms or forms_for(peer):
        counts = snapshot.num_rows.get(form, {})
        for split in splits or SPLITS:
            if counts.get(split):
                reasons = Counter[str]()
                rows = _columns(client, snapshot, form, split, peer, reasons)
                path = folder / f"{form}-{split}.{file_type}"
                with Progress(f"writing {path.name}", counts[split], "rows") as progress:
                    num = _write(path, rows, file_type, progress)
                num_rows.append(Written(path, num, dict(reasons)))
    return num_rows


def _columns(
    client: Client,
    snapshot: Snapshot,
    form: DatasetForm,
    split: Split,
    peer: Peer,
    reasons: Counter[str],
) -> Iterator[dict[str, Any]]:
    """The rows in the peer's columns; why rows are left out is counted in `reasons`."""
    for index, row in enumerate(client.snapshot_rows(snapshot.id, form, split)):
        reason = left_out(row, peer)
        columns = None if reason else peer_row(row, peer, index=index, name=snapshot.name)
        if columns is None:
            reasons[reason or "rows"] += 1
        else:
            yield columns


def _write(path: Path, rows: Iterable[dict[str, Any]], file_type: FileType, progress: Progress) -> int:
    part = path.with_name(path.name + ".part")
    try:
        num = (
            _write_parquet(part, rows, progress)
            if file_type == "parquet"
            else _write_lines(part, rows, progress)
        )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return num


def _write_lines(path: Path, rows: Iterable[dict[str, Any]], progress: Progress) -> int:
    num = 0
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for num, row in enumerate(rows, 1):
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            progress.show(num)
    return num


def _write_parquet(path: Path, rows: Iterable[dict[str, Any]], progress: Progress) -> int:
    """All rows are read before the first is written: a column may be there in the last row only."""
    # The SDK needs no pyarrow and never loads it by itself; only this option asks for it.
    pa = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    everything: list[dict[str, Any]] = []
    for row in rows:
        everything.append({k: _flat(v) for k, v in row.items()})
        progress.show(len(everything))
    # A column that is not said in the first row is a column all the same.
    names = dict.fromkeys(name for row in everything for name in row)
    table = pa.table({name: [row.get(name) for row in everything] for name in names})
    parquet.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP)
    return len(everything)


def _flat(value: Any) -> Any:
    """Ratings have other names in every row, which is no Parquet struct: they become a list of name and value."""
    if (
        isinstance(value, dict)
        and value
        and all(isinstance(v, float) for v in cast(dict[str, Any], value).values())
    ):
        return [{"name": k, "value": v} for k, v in cast(dict[str, float], value).items()]
    return _arguments_as_text(value)


def _arguments_as_text(value: Any) -> Any:
    """Tool calls' arguments have other fields in every call, which is no Parquet struct either: they become JSON text."""
    if isinstance(value, list):
        return [_arguments_as_text(v) for v in cast(list[Any], value)]
    if isinstance(value, dict):
        return {
            k: json.dumps(v, ensure_ascii=False)
            if k == "arguments" and not isinstance(v, str)
            else _arguments_as_text(v)
            for k, v in cast(dict[str, Any], value).items()
        }
    return value
