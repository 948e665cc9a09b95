"""Rated answers by their attributes, for the search of failure patterns."""

from __future__ import annotations

from typing import Any

from heedloop_server.statistics.patterns import Cell, cells_of
from heedloop_server.store.connection import ProjectStore
from heedloop_server.store.quality.hourly import listed
from heedloop_server.store.quality.rows import Source, View, thumb_source

PATTERN_FIELDS = (
    "model",
    "prompt_name",
    "prompt_version",
    "service",
    "environment",
    "status",
    "answer_chars",
)
MAX_METADATA_KEYS = 10
MAX_VALUES = 100
MAX_CELLS = 50_000


def pattern_cells(project: ProjectStore, view: View) -> list[Cell]:
    """Rated answers by every attribute that patterns are looked for in: fields, tags, and the commonest metadata keys."""
    source = thumb_source(project, view, (*PATTERN_FIELDS, "tags", "metadata"))
    keys = _metadata_keys(project, source)
    # names of their own: an alias that is also a column's name would be taken for it
    groups = {f"field_{f}": f"toString({f})" for f in PATTERN_FIELDS}
    groups |= {"found_tags": "tags", "found": "arrayMap(k -> metadata[k], {keys:Array(String)})"}
    chosen = listed(f"{sql} AS {name}" for name, sql in groups.items())
    rows = project.rows(
        f"""
        SELECT
            {chosen},
            sum(num) AS total,
            sum(num) - sum(num_up) AS total_bad
        FROM (
            {source.sql}
        )
        GROUP BY
            {listed(groups)}
        ORDER BY total DESC
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        {**source.params, "keys": keys, "limit": MAX_CELLS},
    )
    return cells_of(
        (
            {f: r[f"field_{f}"] for f in PATTERN_FIELDS}
            | {"tag": r["found_tags"]}
            | {f"metadata.{k}": v for k, v in zip(keys, r["found"], strict=True)},
            int(r["total"]),
            int(r["total_bad"]),
        )
        for r in rows
    )


def metadata_keys(project: ProjectStore, view: View) -> list[str]:
    """The metadata keys of a view's rated answers that have few enough values to be groups, the commonest first."""
    return _metadata_keys(project, thumb_source(project, view, ("metadata",)))


def _metadata_keys(project: ProjectStore, source: Source) -> list[str]:
    """The metadata keys of rated answers that have few enough values to be groups, the commonest first.

    Of answers counted before, only the keys are known that have few values in their hour: no other is a group.
    """
    params: dict[str, Any] = {**source.params, "limit": MAX_METADATA_KEYS, "most": MAX_VALUES}
    rows = project.rows(
        f"""
        SELECT key
        FROM (
            SELECT
                num,
                arrayJoin(mapKeys(metadata)) AS key,
                metadata[key] AS value
            FROM (
                {source.sql}
            )
        )
        GROUP BY key
        HAVING uniq(value) <= {{most:UInt32}}
        ORDER BY
            sum(num) DESC,
            key
        LIMIT {{limit:UInt32}}
        """,  # noqa: S608
        params,
    )
    return [r["key"] for r in rows]
