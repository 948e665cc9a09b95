"""What is shown, as a file: Parquet, or CSV in which no cell can become a formula of the spreadsheet that opens it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import streamlit as st

from heedloop.responses import Counts


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV with a heading; texts that a spreadsheet would calculate get an apostrophe before them."""
    columns = list(dict.fromkeys(k for row in rows for k in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: _harmless(v) for k, v in row.items()})
    return out.getvalue()


def _harmless(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip(" ").startswith(
        ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
    ):
        return "'" + value
    return value


def rate_row(panel: str, field: str, value: Any, group: Counts) -> dict[str, Any]:
    """One group with its rate, its interval and its coverage."""
    rate, coverage = group.rate, group.coverage
    return {
        "panel": panel,
        "field": field,
        "value": value,
        "num_answers": group.num_answers,
        "num_rated": group.num_rated,
        "num_up": group.num_up,
        "rate": rate and rate.estimate,
        "rate_low": rate and rate.low,
        "rate_high": rate and rate.high,
        "coverage": coverage and coverage.estimate,
    }


def to_parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as Parquet; a column of several types is kept as text. Texts stay as they are: nothing calculates them."""
    columns = list(dict.fromkeys(k for row in rows for k in row))
    table = pa.table({name: _column([row.get(name) for row in rows]) for name in columns})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _column(values: list[Any]) -> Any:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if v is None else str(v) for v in values])


def button(name: str, rows: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
    """A button that saves what the page shows; the file is made when its format is chosen."""
    with st.popover("Export", icon=":material/download:", key=f"export_{name}_formats"):
        st.download_button(
            "CSV",
            data=lambda: to_csv(rows()).encode("utf-8-sig"),
            file_name=f"heedloop-{name}.csv",
            mime="text/csv",
            on_click="ignore",
            key=f"export_{name}",
            help="For a spreadsheet; nothing in it is calculated",
            width="stretch",
        )
        st.download_button(
            "Parquet",
            data=lambda: to_parquet(rows()),
            file_name=f"heedloop-{name}.parquet",
            mime="application/vnd.apache.parquet",
            on_click="ignore",
            key=f"export_{name}_parquet",
            help="For pandas, DuckDB and the like; values as they are",
            width="stretch",
        )
