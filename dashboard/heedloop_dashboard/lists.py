"""Lists of records: each column says its heading, what stands in a row's cell, and where that leads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from heedloop_dashboard import components, panels
from heedloop_dashboard.fetch import Answer
from heedloop_dashboard.navigation import Open

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """One column.

    Attributes:
        cell: what a record shows in it: text, or a list of texts as tags.
        kind: as in `components.table`.
        open: where the cell leads; None for a record whose cell leads nowhere.
    """

    label: str
    cell: Callable[[T], Any]
    kind: str = ""
    open: Callable[[T], Open | None] | None = None


def show(
    key: str,
    records: Iterable[T],
    columns: Sequence[Column[T]],
    *,
    caption: str,
    open: Callable[[T], Open | None] | None = None,
    row_key: Callable[[T], str] | None = None,
    link: int = 0,
    tall: bool = False,
) -> None:
    """Draw records as a table.

    Args:
        open: where a row leads, by its column `link`.
        row_key: what a test or a script finds a row by.
    """
    heads = [{"key": str(i), "label": c.label, "kind": c.kind} for i, c in enumerate(columns)]
    rows = [_row(r, columns, open, row_key) for r in records]
    components.table(key, heads, rows, caption=caption, link=link if open else -1, tall=tall)


def panel(
    key: str,
    title: str,
    about: str,
    answer: Answer[Any],
    columns: Sequence[Column[Any]],
    *,
    empty_text: str,
    **more: Any,
) -> None:
    """A whole panel with the records of an answer as `show` draws them; its error or `empty_text` in their place."""
    with panels.panel(key):
        panels.header(title, about)
        if answer.error is not None:
            panels.problem(answer.error)
        elif not answer.value:
            panels.empty(empty_text)
        else:
            show(f"{key}_rows", answer.value, columns, caption=title, **more)


def _row(
    record: T,
    columns: Sequence[Column[T]],
    open: Callable[[T], Open | None] | None,
    row_key: Callable[[T], str] | None,
) -> dict[str, Any]:
    places = ((str(i), c.open(record)) for i, c in enumerate(columns) if c.open is not None)
    target = open(record) if open else None
    return {
        "key": row_key(record) if row_key else None,
        "cells": [c.cell(record) for c in columns],
        "open": target and target.to_json(),
        "opens": {column: place.to_json() for column, place in places if place is not None},
    }
