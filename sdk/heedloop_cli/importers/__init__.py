"""Readers of feedback files: other systems' exports, and public or own judgement files, as calls and `Feedback`.

    for line in read(["scores.json", "observations.json"]):
        match line:
            case Line(): ...      # its calls, its feedback, and what of it is left out
            case BadLine(): ...   # its number, and what is wrong with it

Formats (docs/import.md, docs/datasets.md): `jsonl` (ours, and the public preference forms), `tulu`, `oasst`, `ukp`, and one per
system. Ids are made of the source's ids, or of the contents where it has none, so that reading twice gives the same records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from heedloop.schema import SchemaError
from heedloop_cli.importers.argilla import Argilla
from heedloop_cli.importers.braintrust import Braintrust
from heedloop_cli.importers.documents import num_rows, rows
from heedloop_cli.importers.fastchat import FastChat
from heedloop_cli.importers.helicone import Helicone
from heedloop_cli.importers.humanloop import Humanloop
from heedloop_cli.importers.jsonl import Judgements
from heedloop_cli.importers.label_studio import LabelStudio
from heedloop_cli.importers.langfuse import Langfuse
from heedloop_cli.importers.langsmith import LangSmith
from heedloop_cli.importers.librechat import LibreChat
from heedloop_cli.importers.mlflow import Mlflow
from heedloop_cli.importers.oasst import Oasst
from heedloop_cli.importers.openai import OpenAI
from heedloop_cli.importers.openwebui import OpenWebUI
from heedloop_cli.importers.opik import Opik
from heedloop_cli.importers.own import Heedloop
from heedloop_cli.importers.phoenix import Phoenix
from heedloop_cli.importers.record import BadLine, Line, Reader, Source, Wrong
from heedloop_cli.importers.system import System
from heedloop_cli.importers.tensorzero import TensorZero
from heedloop_cli.importers.tulu import Tulu
from heedloop_cli.importers.ukp import Ukp
from heedloop_cli.importers.weave import Weave

__all__ = ["FORMATS", "BadLine", "Line", "Source", "detect", "num_rows", "read"]

_SYSTEMS: tuple[type[System], ...] = (
    Heedloop, Langfuse, LangSmith, Phoenix, Opik, Mlflow, Weave, Helicone, TensorZero, LabelStudio, Argilla, Humanloop,
    OpenAI, OpenWebUI, LibreChat, FastChat, Braintrust,
)  # fmt: skip
_READERS: dict[str, type[Reader]] = {
    "ukp": Ukp,
    "tulu": Tulu,
    "oasst": Oasst,
    **{system.name: system for system in _SYSTEMS},
    "jsonl": Judgements,
}
"""The readers by format; the first that knows a row reads its file."""
FORMATS: tuple[str, ...] = ("auto", *_READERS)
_LOOKED_AT = 100


def read(
    paths: str | Path | Sequence[str | Path],
    *,
    format: str = "auto",
    limit: int | None = None,
    **options: Any,
) -> Iterator[Line | BadLine]:
    """Every row of the files as its calls and feedback, or as what is wrong with it. Blank lines are passed over.

    Args:
        paths: files of one source that belong together, such as scores with their observations (`documents` has the forms).
        format: `auto` finds it out from the first row that shows it, for each file.
        limit: read this many rows of each file only.
        options: fields of `Source`.

    Raises:
        OSError: a file, or the file of `ukp`'s answers, cannot be opened.
        ValueError: no row of a file shows which format it is.
    """
    files = [Path(p) for p in ([paths] if isinstance(paths, (str, Path)) else paths)]
    chosen = [(f, detect(f) if format == "auto" else format) for f in files]
    readers = {name: _READERS[name](Source(path, **options)) for path, name in chosen}
    for path, name in chosen:
        reader = readers[name]
        if isinstance(reader, System) and type(reader).learn is not System.learn:
            for _, row in rows(path, limit):
                if not isinstance(row, BadLine) and reader.knows(row):
                    _learned(reader, row)
    for path, name in chosen:
        for number, row in rows(path, limit):
            for line in _lines(readers[name], name, number, row):
                wrong = isinstance(line, BadLine) and len(files) > 1
                yield replace(line, file=path.name) if wrong else line
    for reader in readers.values():
        yield from _guarded(0, reader.finish)


def _learned(reader: System, row: Mapping[str, Any]) -> None:
    """What is wrong with a row is told when it is read."""
    try:
        reader.learn(row)
    except (KeyError, TypeError, ValueError, AttributeError):
        return


def _lines(reader: Reader, name: str, number: int, row: dict[str, Any] | BadLine) -> Iterator[Line | BadLine]:
    if isinstance(row, BadLine):
        yield row
    elif isinstance(reader, System) and not reader.knows(row):
        fields = ", ".join(sorted(k for k in row if k.isprintable()))[:120]
        yield BadLine(number, "", f"is no record of {name}: it has the fields {fields}")
    else:
        yield from _guarded(number, lambda: reader.take(number, row))


def _guarded(number: int, take: Callable[[], Iterator[Line | BadLine]]) -> Iterator[Line | BadLine]:
    try:
        yield from list(take())
    except (SchemaError, Wrong) as err:
        yield BadLine(number, err.field, err.reason)


def detect(path: str | Path) -> str:
    """The format of a file by its first row that is one's; raises `ValueError` where none is known."""
    fields: set[str] | None = None
    wrong = "it is empty"
    for _, row in rows(Path(path), _LOOKED_AT):
        if isinstance(row, BadLine):
            wrong = str(row) if wrong == "it is empty" else wrong
            continue
        name = next((name for name, reader in _READERS.items() if reader.knows(row)), None)
        if name is not None:
            return name
        fields = fields or {k for k in row if k.isprintable()}
    if fields is None:
        raise ValueError(f"{path}: holds no JSON object ({wrong}); expected JSON, JSON Lines, CSV or Parquet")
    raise ValueError(
        f"{path}: no known format has the fields {', '.join(sorted(fields))}; name one with --format "
        f"({', '.join(FORMATS[1:])}), or write the file as docs/datasets.md shows"
    )
